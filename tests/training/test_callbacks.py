"""What a training tells its callbacks, and that no callback changes or ends it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

import dilated
from dilated.errors import InputError
from dilated.training.callbacks import StartEvent, StepEvent, TrainingStatus, ValidationEvent
from dilated.training.config import Recipe
from dilated.training.progress import TrainingProgress
from dilated.training.stopping import DivergenceMonitor


class Heard(dilated.Callback):
    def __init__(self) -> None:
        self.events: list[object] = []

    def on_start(self, event: StartEvent) -> None:
        self.events.append(event)

    def on_step(self, event: StepEvent) -> None:
        self.events.append(event)

    def on_validation(self, event: ValidationEvent) -> None:
        torch.rand(7)  # what it draws is not missing from the training
        event.predictor(event.samples[0].read_image()).overlay()
        self.events.append(event)

    def on_end(self, status: TrainingStatus) -> None:
        self.events.append(status)


class Raising(dilated.Callback):
    def __init__(self) -> None:
        self.calls = 0

    def on_step(self, event: StepEvent) -> None:
        self.calls += 1
        raise ZeroDivisionError("the disk of the tracker is full")


class Notes(TrainingProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notify(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    return dilated.load_recipe(str(recipe_file), ["workers=0", "stage.0.epochs=1", "stage.2.epochs=1"])


def _train(folder: Path, recipe: Recipe, out: Path, *callbacks: dilated.Callback, **more: object) -> dilated.Run:
    options = dilated.TrainOptions(device="cpu", report=False, progress=more.pop("progress", None))  # type: ignore[arg-type]
    return dilated.train(folder, out, recipe=recipe, callbacks=callbacks, options=options, **more)  # type: ignore[arg-type]


def test_callbacks_hear_all_and_change_no_bit_and_one_that_raises_is_left_out(
    folder: Path, recipe: Recipe, tmp_path: Path
) -> None:
    heard, raising, notes = Heard(), Raising(), Notes()
    silent = _train(folder, recipe, tmp_path / "silent")
    run = _train(folder, recipe, tmp_path / "run", raising, heard, progress=notes)
    before, after = silent.segmenter.state_dict(), run.segmenter.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)

    assert raising.calls == 1
    (note,) = [line for line in notes.lines if "callback" in line]
    assert "callback Raising: step 3: ZeroDivisionError: the disk of the tracker is full" in note
    assert f"{__file__}, line" in note

    start, *_, status = heard.events
    assert start == StartEvent(tmp_path / "run", run.recipe, 0)
    assert status == "finished"
    steps = [event for event in heard.events if isinstance(event, StepEvent)]
    assert [(event.step, event.stage) for event in steps] == [(3, 0), (6, 1), (9, 2)]
    validations = [event for event in heard.events if isinstance(event, ValidationEvent)]
    assert max(event.result.confusion.mean_iou for event in validations) == run.mean_iou
    assert [sample.name for sample in validations[0].samples] == ["p0", "p1"]


def test_an_error_at_the_start_ends_the_training_before_it_trains(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    class Offline(dilated.Callback):
        def on_start(self, event: StartEvent) -> None:
            raise ConnectionError("no tracker at this address")

    with pytest.raises(ConnectionError, match="no tracker"):
        _train(folder, recipe, tmp_path / "run", Offline())
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_an_interrupted_and_a_failed_training_say_so_and_a_resumed_one_its_step(
    folder: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Heard):
        def on_validation(self, event: ValidationEvent) -> None:
            signal.raise_signal(signal.SIGINT)

    stop, out = Stop(), tmp_path / "run"
    with pytest.raises(dilated.Interrupted):
        _train(folder, recipe, out, stop)
    assert stop.events[-1] == "interrupted"

    def diverge(self: DivergenceMonitor, step: int, loss: float) -> None:
        raise InputError("diverged")

    monkeypatch.setattr(DivergenceMonitor, "record_loss", diverge)
    heard = Heard()
    with pytest.raises(InputError, match="diverged"):
        _train(folder, recipe, out, heard, resume=True)
    start = heard.events[0]
    assert isinstance(start, StartEvent)
    assert start.step == 4  # stopped after the step that followed the signal
    assert heard.events[-1] == "failed"
