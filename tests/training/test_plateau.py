"""A timed training whose validations no longer gain gives time back, and says so; no other does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dilated.data.dataset import open_dataset
from dilated.training import budget
from dilated.training import train as loop
from dilated.training.config import load_recipe
from dilated.training.plateau import shorten_on_plateau
from dilated.training.progress import TrainingProgress
from dilated.training.run_options import RunOptions
from dilated.training.step import TrainStep


class Lines(TrainingProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notify(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(("plateau", "steps"), [(4, 36), (0, 60)])
def test_a_training_that_learns_nothing_gives_time_back(
    folder: Path, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plateau: int, steps: int
) -> None:
    """Sixty seconds of a clock that runs one second a step; the rate is so low that no validation gains."""
    now, made = [1000.0], []
    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0])
    for module in (budget, loop):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(loop, "Clock", lambda spent: budget.Clock(spent, started=now[0]))

    def make_step(step: TrainStep, image: Any, *_: Any) -> Any:
        now[0] += 1
        made.append(1)
        return image.sum() * 0 + 1.0

    monkeypatch.setattr(TrainStep, "__call__", make_step)
    recipe, progress = load_recipe(str(recipe_file), ["checkpoint_every=1000", "workers=0"]), Lines()
    stage = dataclasses.replace(recipe.stage[0], epochs=0.0, share=1.0)
    network = dataclasses.replace(recipe.network, context="none")
    recipe = dataclasses.replace(recipe, stage=(stage,), network=network, budget=60.0, plateau=plateau, ema=0.0)
    train = loop.train
    train(open_dataset(folder), recipe, tmp_path / "run", options=RunOptions(device="cpu", progress=progress))
    said = [line for line in progress.lines if line.startswith("plateau: the last 4 validations gained nothing on 0.")]
    assert abs(len(made) - steps) <= 2
    assert len(said) == (1 if plateau else 0)


@pytest.mark.parametrize(
    ("values", "elapsed", "expected"),
    [
        ([0.5, 0.5, 0.5], 50.0, 100.0),  # too few to tell
        ([0.5, 0.5, 0.4, 0.502, 0.5], 50.0, 62.5),
        ([0.5, 0.5, 0.4, 0.504, 0.5], 50.0, 100.0),  # one of them gained
        ([0.5, 0.5, 0.4, 0.5, 0.5], 80.0, 100.0),  # little is left to give back
    ],
)
def test_only_a_clear_plateau_shortens_a_stage(values: list[float], elapsed: float, expected: float) -> None:
    assert shorten_on_plateau(values, 4, elapsed, 100.0) == expected


def test_a_recipe_of_fixed_steps_has_no_plateau(recipe_file: Path) -> None:
    assert load_recipe(str(recipe_file)).plateau == 0
