"""A time budget is kept where every step takes a large part of it; the machine and its clock are simulated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import dilated
from dilated import api
from dilated.prediction.predictor import Predictor
from dilated.training import budget
from dilated.training import train as loop
from dilated.training.autoplan import measure
from dilated.training.autoplan import plan as planning
from dilated.training.step import TrainStep

SMALL = ("network.backbone=test_efficientnet", "weights=random", "network.features=8", "network.detail=4", "workers=0")


class SlowMachine:
    """A clock in place of `time`, which runs only while a step or a prediction is computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_seconds: float, prediction_seconds: float) -> None:
        self.now, self.steps = 1000.0, 0
        for module in (api, budget, loop, measure, planning):
            monkeypatch.setattr(module, "time", self)
        monkeypatch.setattr(loop, "Clock", lambda spent: budget.Clock(spent, started=self.now))
        step, predict = TrainStep.__call__, Predictor.__call__

        def slow_step(step_object: TrainStep, *arguments: Any) -> Any:
            self.now, self.steps = self.now + step_seconds, self.steps + 1
            return step(step_object, *arguments)

        def slow_prediction(predictor: Predictor, *arguments: Any, **options: Any) -> Any:
            self.now += prediction_seconds
            return predict(predictor, *arguments, **options)

        monkeypatch.setattr(TrainStep, "__call__", slow_step)
        monkeypatch.setattr(Predictor, "__call__", slow_prediction)

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic


def train(folder: Path, out: Path) -> dilated.Run:
    return dilated.train(
        folder, out, budget="3m", options=dilated.TrainOptions(device="cpu", report=False, overrides=SMALL)
    )


@pytest.mark.parametrize("step_seconds", [5.0, 20.0, 34.0, 50.0])
def test_three_minutes_are_kept_however_slow_a_step_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_seconds: float
) -> None:
    machine = SlowMachine(monkeypatch, step_seconds, prediction_seconds=step_seconds / 10)
    began = machine.now
    run = train(folder, tmp_path / "run")
    assert 180 - 3 * step_seconds < machine.now - began <= 180  # kept, and used
    entries = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert "val_mean_iou" in entries[-1]


@pytest.mark.parametrize(("step_seconds", "steps"), [(20.0, 1), (50.0, 1), (8.0, 4)])
def test_planning_takes_the_steps_that_fit_into_its_fifth_of_the_time_and_one_at_least(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step_seconds: float, steps: int
) -> None:
    machine = SlowMachine(monkeypatch, step_seconds, prediction_seconds=1.0)
    options = dilated.TrainOptions(device="cpu", report=False, overrides=(*SMALL, "batch=2"))
    plan = dilated.plan(folder, budget="3m", options=options)
    assert machine.steps <= steps
    reason = next(choice.reason for choice in plan.choices if choice.choice == "step")
    assert reason.startswith("measured in part")


def test_three_minutes_are_too_short_for_steps_of_two(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SlowMachine(monkeypatch, step_seconds=120.0, prediction_seconds=1.0)
    message = r"--budget: 180 s is too short: planning took 12\d s, one step takes 120\.0 s .* Give \d+s or more"
    with pytest.raises(dilated.InputError, match=message):
        train(folder, tmp_path / "run")
    assert not (tmp_path / "run" / "log.jsonl").exists()
