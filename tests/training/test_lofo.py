"""benchmarks/lofo.py leaves each film out entirely, and says what its trainings show."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import CLASSES, draw

from dilated import InputError, open_dataset
from dilated.data.dataset import Dataset
from dilated.data.labels import save_classes
from dilated.evaluation.intervals import Interval
from dilated.training.budget import COST_PER_HALVING

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import lofo

SMALL = ["network.backbone=test_efficientnet", "weights=random", "network.features=8", "network.detail=4"]
FILMS = "abc"


@pytest.fixture
def films(tmp_path: Path) -> Dataset:
    """Three films of 20 frames, and a val that may not be read."""
    root = tmp_path / "data"
    names = [("train", f"film{film}_{number:03}") for film in FILMS for number in range(20)]
    for seed, (split, name) in enumerate([*names, ("val", "filmz_000"), ("val", "filmz_001")]):
        for kind, image in zip(("images", "labels"), draw(seed), strict=True):
            folder = root / split / kind
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{name}.png")
    save_classes(CLASSES, root / "classes.toml")
    return open_dataset(root)


def test_a_film_that_is_left_out_is_in_no_split_of_the_training(films: Dataset) -> None:
    divided, left_out = lofo.leave_out(films, "filmb")
    samples = films.samples("train")
    seen = {sample.image for split in ("train", "val") for sample in divided.samples(split)}
    measured = {samples[index].image for index in left_out}
    assert len(measured) == 20
    assert all("filmb" in str(path) for path in measured)
    assert not measured & seen
    assert len(seen) == 40
    assert not any("filmz" in str(path) for path in seen)


def test_a_film_that_is_not_there_is_named(films: Dataset) -> None:
    with pytest.raises(InputError, match="filmx"):
        lofo.leave_out(films, "filmx")


@pytest.mark.parametrize(("steps", "changes"), [(30, []), (400, ["batch=6"]), (4000, ["batch=3"])])
def test_the_plan_in_steps_costs_what_it_was_given(films: Dataset, steps: int, changes: list[str]) -> None:
    recipe = lofo.plan_for_steps(films, steps, ["loss.ohem=0.5", *changes])
    costs = {16: 1.0, 8: COST_PER_HALVING}
    spent = sum(stage.iterations * costs[stage.output_stride] for stage in recipe.stage) * recipe.batch / 8
    assert spent == pytest.approx(steps, rel=0.03)
    assert recipe.loss.ohem == 0.5
    assert recipe.budget == 0


def test_no_change_is_called_better_by_one_training_of_it() -> None:
    assert lofo.verdict(Interval(0.02, 0.01, 0.03), 3) == "better"
    assert lofo.verdict(Interval(-0.02, -0.03, -0.01), 3) == "worse"
    assert lofo.verdict(Interval(0.02, -0.01, 0.05), 3) == "not shown"
    assert "not shown" in lofo.verdict(Interval(0.02, 0.01, 0.03), 1)


@pytest.mark.slow
def test_cells_that_are_done_are_read_and_not_trained_again(
    films: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["lofo.py", str(films.root), "--out", str(tmp_path / "cells"), "--steps", "1", "--seeds", "1"]
    arguments += ["--set", *SMALL, "augment.crop=[32,32]", "--change", "ohem", "loss.ohem=0.3"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--json", str(tmp_path / "a.json")])
    lofo.main()
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [arm["arm"] for arm in written["arms"]] == ["plan", "ohem"]
    assert set(written["arms"][1]["film_less_the_plan"]) == {"filma", "filmb", "filmc"}
    assert "less the plan" in capsys.readouterr().out

    def refuse(*given: object, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(lofo, "train", refuse)
    monkeypatch.setattr(sys, "argv", [*arguments, "--json", str(tmp_path / "b.json")])
    lofo.main()
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8")) == written
    monkeypatch.setattr(sys, "argv", [*arguments, "--set", *SMALL, "--every", "2"])
    with pytest.raises(InputError, match="other settings"):
        lofo.main()
