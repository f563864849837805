"""The files of a study's folder: the data that it was begun with, and what is damaged, by its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, draw

from dilated import InputError, open_dataset
from dilated.data.dataset import Dataset
from dilated.data.labels import save_classes
from dilated.evaluation.evaluate import EvaluationAccumulator
from dilated.evaluation.study import NetworkCost
from dilated.studies.planning import read_study_plan
from dilated.studies.records import (
    read_cost,
    read_failure,
    read_result,
    record_study_data,
    save_cost,
    save_failure,
    save_result,
)
from dilated.training.study_arms import choose_warmup, find_arm, require_factory


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    root = tmp_path / "data"
    for split in ("train", "val"):
        for i in range(2):
            for kind, image in zip(("images", "labels"), draw(i + 100 * (split == "val")), strict=True):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
                image.save(root / kind / split / f"{split}{i}.png")
    save_classes(CLASSES, root / "classes.toml")
    return open_dataset(root)


def test_a_study_goes_on_with_the_data_that_it_was_begun_with_alone(data: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "study"
    out.mkdir()
    record_study_data(data, out)
    record_study_data(data, out)
    _, label = draw(7)
    label.save(data.root / "labels" / "train" / "train1.png")  # of the same shape
    with pytest.raises(InputError, match=r"not what the study was begun with: labels/train/train1\.png"):
        record_study_data(data, out)
    (out / "data.json").write_text("{")
    with pytest.raises(InputError, match=r"data\.json: does not say what data"):
        record_study_data(data, out)


def make_counts(data: Dataset, folder: Path) -> Path:
    folder.mkdir()
    samples = data.samples("val")
    accumulator = EvaluationAccumulator(data.classes.names, len(samples))
    for i, sample in enumerate(samples):
        _, label = sample.read()
        accumulator.add(i, np.where(label == 255, 0, label), label)
    indices = list(range(len(samples)))
    save_result(folder, accumulator.result([s.name for s in samples], indices, data.groups("val")))
    return folder / "result.npz"


def test_results_come_back_as_they_were_saved(data: Dataset, tmp_path: Path) -> None:
    make_counts(data, tmp_path / "run")
    result = read_result(tmp_path / "run", data)
    assert result is not None
    assert result.value("mean_iou") == 1
    assert read_result(tmp_path, data) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all"])
def test_a_damaged_result_is_named(data: Dataset, tmp_path: Path, content: bytes) -> None:
    path = make_counts(data, tmp_path / "run")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"result\.npz: not the result of a training. Remove it"):
        read_result(tmp_path / "run", data)


def test_counts_that_cannot_be_are_no_result(data: Dataset, tmp_path: Path) -> None:
    path = make_counts(data, tmp_path / "run")
    with np.load(path) as arrays:
        pooled, counts = arrays["pooled"], arrays["class_counts"]
    for changed in ({"pooled": pooled}, {"pooled": pooled, "class_counts": counts - 10**6}):
        np.savez(path, **changed)
        with pytest.raises(InputError, match="not the result of a training"):
            read_result(path.parent, data)
    np.savez(path, pooled=pooled, class_counts=counts[:1])
    with pytest.raises(InputError, match="not of the images of"):
        read_result(path.parent, data)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"parameters": "many"}', '{"parameters": 1, "macs_size": 3}'])
def test_a_damaged_cost_is_named(tmp_path: Path, text: str) -> None:
    save_cost(tmp_path, NetworkCost(7, 8, (9, 10), notes=("no memory",)))
    assert read_cost(tmp_path / "cost.json") == NetworkCost(7, 8, (9, 10), notes=("no memory",))
    (tmp_path / "cost.json").write_text(text)
    with pytest.raises(InputError, match=r"cost\.json: not the cost of a network. Remove it"):
        read_cost(tmp_path / "cost.json")


@pytest.mark.parametrize("text", ["{}", '{"reason": ""}', '{"reason": 3}', "[]"])
def test_a_damaged_reason_is_named(tmp_path: Path, text: str) -> None:
    save_failure(tmp_path / "run", "the loss is nan")
    assert read_failure(tmp_path / "run") == "the loss is nan"
    assert not read_failure(tmp_path)
    (tmp_path / "run" / "failed.json").write_text(text)
    with pytest.raises(InputError, match=r"failed\.json: does not say why"):
        read_failure(tmp_path / "run")


@pytest.mark.parametrize(
    "text",
    [
        '{"steps": "6", "validations": 1, "views": 1, "costs": {}, "refused": {}}',
        '{"steps": 0, "validations": 1, "views": 1, "costs": {}, "refused": {}}',
        '{"steps": 6, "validations": 1, "views": 1, "costs": {"none": {"step_seconds": "a"}}, "refused": {}}',
        '{"steps": 6, "validations": 1, "views": 1, "costs": {}, "refused": 3}',
    ],
)
def test_a_damaged_plan_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputError, match=r"plan\.json: not the plan of a study"):
        read_study_plan(tmp_path)


def test_a_module_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heads_that_fail.py").write_text("raise OSError('no such disk')\n")
    (tmp_path / "heads_that_load.py").write_text("def wide():\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DILATED_TRUST", "heads_that_fail,heads_that_load,heads_of_nobody")
    require_factory(find_arm("heads_that_load:wide"))
    for name, message in (
        ("heads_that_load:other", "cannot be imported.*Name a function or class of heads_that_load"),
        ("heads_that_fail:wide", "fails while it is imported.*no such disk"),
        ("heads_of_nobody:wide", "cannot be imported.*PYTHONPATH"),
    ):
        with pytest.raises(InputError, match=f"^arms: (?s:.*){message}"):
            require_factory(find_arm(name))


def test_short_trainings_warm_up_too() -> None:
    assert [choose_warmup(steps) for steps in (1, 10, 40, 80, 4000)] == [1, 2, 10, 20, 20]
