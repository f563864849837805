"""A study whole: what it writes, that an interruption changes no number, what it refuses and what it names."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, command, draw, environment
from safetensors.torch import load_file

from dilated import InputError, Recipe, Segmenter, SegmenterConfig, StudyOptions, study
from dilated.cli.main import main
from dilated.data.labels import save_classes
from dilated.errors import Interrupted
from dilated.evaluation.study import NetworkCost, StudyResult
from dilated.studies import trainings

ARMS = ("none", "basic", "none-crf")
SETTINGS = ("network.backbone=test_efficientnet", "weights=random", "batch=2", "workers=0", "augment.crop=[32,48]")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "data"
    for split, number in (("train", 4), ("val", 3)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(number):
            for kind, image in zip(("images", "labels"), draw(i + 100 * (split == "val")), strict=True):
                image.save(root / kind / split / f"{split}{i}.png")
    save_classes(CLASSES, root / "classes.toml")
    return root


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = SegmenterConfig(backbone="test_efficientnet", features=8)
    path = tmp_path_factory.mktemp("front") / "front.safetensors"
    Segmenter(CLASSES.names, CLASSES.colors, config).save(path)
    return str(path)


def run(data: Path, out: Path, front: str, notify: Callable[[str], object] = str, **changes: object) -> StudyResult:
    values: dict[str, object] = {"arms": ARMS, "seeds": 2, "budget": None} | changes
    options = StudyOptions(steps=6, init_from=front, overrides=SETTINGS, device="cpu")
    return study(data, out, options=options, notify=notify, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(data: Path, front: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResult]:
    """A study that was never stopped."""
    out = tmp_path_factory.mktemp("whole") / "study"
    return out, run(data, out, front)


def require_same(out: Path, whole: Path) -> None:
    """Require the weights and counts of two studies to be the same to the last bit."""
    for path in whole.glob("*/seed-*/stage-0.safetensors"):
        ours, theirs = load_file(out / path.relative_to(whole)), load_file(path)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), path
    paths = list(whole.glob("*/seed-*/result.npz"))
    assert len(paths) == 6
    for path in paths:
        with np.load(out / path.relative_to(whole)) as ours, np.load(path) as theirs:
            assert np.array_equal(ours["class_counts"], theirs["class_counts"]), path


def test_a_study_writes_a_page_a_table_and_figures_that_agree(whole: tuple[Path, StudyResult]) -> None:
    out, result = whole
    assert result.is_complete
    table = json.loads((out / "results.json").read_text())
    assert [arm["name"] for arm in table["arms"]] == list(ARMS)
    assert table["baseline"] == "none"
    assert [len(arm["runs"]) for arm in table["arms"]] == [2, 2, 2]
    assert table["arms"][1]["difference"]["value"] == pytest.approx(result.differences["basic"].value)
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["seed"]) for row in rows] == [(arm, seed) for arm in ARMS for seed in "12"]
    assert float(rows[2]["mean_iou"]) == pytest.approx(table["arms"][1]["runs"][0]["mean_iou"])
    page = (out / "study.html").read_text()
    for words in (
        "Does the context module add to the front end (basic)?",
        "Not shown",
        "for the same 6 steps",
        "one in",
    ):
        assert words in page
    assert page.count("data:image/png") > 3  # images on which the arms differ


def test_settings_of_the_network_that_a_given_front_end_decides_are_named(whole: tuple[Path, StudyResult]) -> None:
    (note,) = whole[1].notes
    assert note.startswith("network.backbone=test_efficientnet: without effect")


def test_the_costs_are_those_of_the_networks(whole: tuple[Path, StudyResult]) -> None:
    arms = {arm.name: arm for arm in whole[1].arms}
    none, basic = arms["none"].cost, arms["basic"].cost
    assert none is not None
    assert basic is not None
    assert basic.parameters - none.parameters == 7 * 9 * 8 * 8 + 8 * 8 + 8 * 8
    assert none.macs is not None
    assert basic.macs is not None
    assert basic.macs - none.macs == 5 * 7 * (7 * 9 + 1) * 8 * 8  # on 5x7 features of 40x56 pixels
    assert none.notes == ()


def test_arms_share_front_end_and_views_and_differ_in_seeds(whole: tuple[Path, StudyResult]) -> None:
    out = whole[0]
    states = {
        (arm, seed): load_file(out / arm / f"seed-{seed}" / "stage-0.safetensors")
        for arm in ARMS[:2]
        for seed in (1, 2)
    }
    backbone = [key for key in states["none", 1] if key.startswith("backbone.")]
    assert all(torch.equal(state[key], states["none", 1][key]) for state in states.values() for key in backbone)
    assert not torch.equal(states["none", 1]["classifier.weight"], states["none", 2]["classifier.weight"])
    assert json.loads((out / "plan.json").read_text())["views"] == 4
    assert not (out / "features").exists()  # removed when all was done
    assert not list(out.glob("*/seed-*/features"))


class Killed(BaseException):
    """What no handler expects, as a kill is."""


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks whose costs are made up, where they are not what a test is about."""
    monkeypatch.setattr(trainings, "measure_network", lambda *arguments: NetworkCost(1))


@pytest.mark.usefixtures("unmeasured")
def test_killed_stopped_and_out_of_time_a_study_ends_bit_equal(
    data: Path, front: str, whole: tuple[Path, StudyResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, steps, lines = tmp_path / "study", list[int](), list[str]()

    def die(self: object, step: int, progress: float) -> None:
        steps.append(step)
        if len(steps) == 9:  # in the middle of the second training
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trainings._Progress, "on_step_end", die)
        with pytest.raises(Killed):
            run(data, out, front)
    assert not (out / "study.html").exists()
    assert not (out / "basic" / "seed-1" / "stage-0.safetensors").exists()

    result = run(data, out, front, lines.append, budget=1.0)
    assert not result.is_complete
    assert "the time is over: the page says what is not done" in lines
    page = (out / "study.html").read_text()
    assert "Nothing is compared: one arm was measured." in page
    assert "basic: not done with 2 of 2 seeds" in page

    def stop(line: str) -> None:
        if line.startswith("basic, seed 1"):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run(data, out, front, stop)
    assert len(list((out / "features").iterdir())) == 1  # one for all arms
    page = (out / "study.html").read_text()
    assert "none: not done with 1 of 2 seeds" in page
    assert "none-crf: not done with 2 of 2 seeds" in page

    result = run(data, out, front)
    require_same(out, whole[0])
    assert str(result) == str(whole[1])


@pytest.mark.usefixtures("unmeasured")
def test_time_that_is_over_while_features_are_computed_ends_in_a_page(data: Path, front: str, tmp_path: Path) -> None:
    out, lines = tmp_path / "study", list[str]()
    result = run(data, out, front, lines.append, budget=1.0)
    assert not result.is_complete
    assert "the time is over: the page says what is not done" in lines
    assert not (out / "plan.json").exists()
    assert f"for the same {result.settings.steps} steps" in (out / "study.html").read_text()
    assert "not planned yet" in replace(result.settings, steps=0).describe()
    assert "none: not done with 2 of 2 seeds" in (out / "study.html").read_text()
    assert json.loads((out / "clock.json").read_text())["seconds"] > 0


@pytest.mark.usefixtures("unmeasured")
def test_arms_that_cannot_run_are_named_with_the_reason(
    data: Path, front: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "heads_of_a_study.py").write_text(
        "from torch import nn\n\ndef wide(channels, output_stride):\n    return nn.Conv2d(channels, 9, 1)\n\n"
        "def narrowing(channels, output_stride, widths=[5]):\n    widths[0] += 1\n"
        "    return nn.Conv2d(channels, widths[0], 1)\n\n"
        "def small(channels, output_stride):\n    return nn.MaxPool2d(2)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DILATED_TRUST", "heads_of_a_study")
    arms = ("none", *(f"heads_of_a_study:{name}" for name in ("wide", "narrowing", "small")))
    result = run(data, tmp_path / "study", front, arms=arms, seeds=1)
    assert [len(arm.runs) for arm in result.arms] == [1, 1, 0, 0]
    changing, small = result.problems
    assert changing.startswith(("heads_of_a_study:narrowing: cannot run", "heads_of_a_study:narrowing: failed with"))
    assert "makes (1, 8, 8, 9) of features (1, 8, 17, 19)" in small
    assert "of features (1, 8, 17, 19)" in (tmp_path / "study" / "study.html").read_text()
    assert result.is_complete


@pytest.mark.usefixtures("unmeasured")
def test_a_training_that_fails_is_named_and_the_others_go_on(
    data: Path, front: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, lines = trainings.StudyTrainings._train, list[str]()

    def fail(self: trainings.StudyTrainings, samples: object, folder: Path, *rest: object) -> None:
        if folder.parent.name == "basic" and folder.name == "seed-2":
            raise InputError("step 40 of stage 0: the loss is nan", hint="give a lower rate")
        if folder.parent.name == "large":
            raise RuntimeError("a module\nof mine")
        train(self, samples, folder, *rest)  # type: ignore[arg-type]

    out, arms = tmp_path / "study", ("none", "basic", "large", "large-crf")
    with monkeypatch.context() as patch:
        patch.setattr(trainings.StudyTrainings, "_train", fail)
        result = run(data, out, front, lines.append, arms=arms)
    assert [len(arm.runs) for arm in result.arms] == [2, 1, 0, 0]
    problems = dict(problem.split(": ", 1) for problem in result.problems)
    assert problems["basic"].startswith("failed with seed 2: step 40 of stage 0: the loss is nan")
    assert "failed with seed 1: RuntimeError: a module of mine; failed with seed 2" in problems["large"]
    assert problems["large-crf"] == problems["large"]
    assert result.is_complete
    assert not (out / "features").exists()
    page = (out / "study.html").read_text()
    assert "basic: failed with seed 2: step 40 of stage 0: the loss is nan" in page
    assert any(line.startswith("basic, seed 2: failed: step 40") for line in lines)
    again = run(data, out, front, arms=arms)  # nothing is trained: `_train` would not fail now
    assert again.problems == result.problems


@pytest.mark.usefixtures("unmeasured")
def test_folds_measure_each_image_once_by_networks_that_have_not_seen_it(
    data: Path, front: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    words = ["study", str(data), "--out", str(out), "--arms", "none", "--seeds", "1", "--steps", "2", "--folds", "2"]
    main([*words, "--group-by", "image", "--init-from", front, "--device", "cpu", "--joint", "--set", *SETTINGS])
    (arm,) = json.loads((out / "results.json").read_text())["arms"]
    assert arm["runs"][0]["images"] == 7
    assert arm["runs"][0]["groups"] == 7
    assert not (out / "fold1" / "features").exists()  # whole networks are trained
    printed = capsys.readouterr().out
    assert "was given as the front end of all folds" in printed.replace("\n", " ")


def test_steps_are_measured_where_arms_are_trained(
    data: Path, front: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[str] = []
    front_recipe = trainings.StudyTrainings._front_recipe

    def train_elsewhere(self: trainings.StudyTrainings) -> Recipe:
        recipe = front_recipe(self)
        self.device = torch.device("meta")
        return recipe

    def plan(front: Segmenter, *arguments: object) -> None:
        devices.append(next(front.parameters()).device.type)
        raise InputError("enough")

    monkeypatch.setattr(trainings.StudyTrainings, "_front_recipe", train_elsewhere)
    monkeypatch.setattr(trainings, "make_study_plan", plan)
    with pytest.raises(InputError, match="enough"):
        run(data, tmp_path / "study", front)
    assert devices == ["meta"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ("none", "bsic")}, "arms: 'bsic' is unknown.*did you mean basic"),
        ({"arms": ("none", "large-crf")}, "large-crf refines the networks of large.*Give large too"),
        ({"seeds": 0}, "found seeds=0"),
        ({"arms": ("none", "stranger:head")}, "arms: 'stranger:head' would run code.*DILATED_TRUST=stranger"),
    ],
)
def test_what_cannot_be_studied_is_refused(
    changes: dict[str, object], message: str, data: Path, front: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"(?is){message}"):
        run(data, tmp_path / "study", front, **changes)


def test_another_study_or_anything_else_in_the_folder_is_refused(
    data: Path, front: str, whole: tuple[Path, StudyResult], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="its study was asked for other arms, seeds"):
        run(data, whole[0], front, arms=("none",), seeds=1)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty, and holds no study"):
        run(data, tmp_path, front)
    with pytest.raises(InputError, match="neither a time nor a number of steps"):
        study(data, tmp_path / "new", options=StudyOptions(init_from=front))


def test_a_study_that_was_refused_before_it_trained_may_be_asked_for_something_else(
    data: Path, front: str, tmp_path: Path
) -> None:
    options = StudyOptions(steps=1, overrides=(*SETTINGS, "network.weights=random"), device="cpu")
    with pytest.raises(InputError, match=r"a recipe has no key 'network\.weights'"):
        study(data, tmp_path, budget=60, arms=("none",), seeds=1, options=options)
    result = run(data, tmp_path, front, arms=("none",), seeds=1)
    assert result.is_complete
    with pytest.raises(InputError, match="its study was asked for other seeds"):
        run(data, tmp_path, front, arms=("none",), seeds=2)


@pytest.mark.slow
def test_a_study_killed_by_the_system_ends_bit_equal(
    data: Path, front: str, whole: tuple[Path, StudyResult], tmp_path: Path
) -> None:
    for name in ("none/seed-1/checkpoint.pt", "plan.json", "basic/seed-2/recipe.toml"):
        out = tmp_path / name.replace("/", "-")
        words = ["study", data, "--out", out, "--arms", *ARMS, "--seeds", 2, "--steps", 6, "--init-from", front]
        words += ["--device", "cpu", "--set", *SETTINGS]
        process = subprocess.Popen(command(*words), env=environment(), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 240
        while not (out / name).exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        subprocess.run(command(*words), env=environment(), check=True, timeout=240, stdout=subprocess.DEVNULL)
        require_same(out, whole[0])
