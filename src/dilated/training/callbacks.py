"""What a training tells code of yours: one small class, of which you override what you want to hear.

    class Print(Callback):
        def on_validation(self, event):
            print(event.step, event.result.confusion.mean_iou)

    dilated.train("my-data", callbacks=[Print()])

Callbacks listen and steer nothing. One that raises while the training runs is left out from then on, which is said with
the error; the training goes on, and its network is the same as without callbacks: the random numbers that they draw are
given back. Only an error in `on_start`, before anything is trained, ends it. In a training of several processes the
first one calls them.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from dilated.data.sample import Sample
from dilated.errors import Interrupted
from dilated.evaluation.result import EvaluationResult
from dilated.prediction.predictor import Predictor
from dilated.training.config import Recipe

TrainingStatus = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class StartEvent:
    """A training begins, or goes on."""

    run: Path
    """The run's folder."""
    recipe: Recipe
    """With every value resolved."""
    step: int
    """Steps that are made already; 0 for a new run."""


@dataclass(frozen=True)
class StepEvent:
    """A tenth step, or the last of a stage."""

    step: int
    """Steps since the beginning of the training, over all stages."""
    stage: int
    """The stage's number, from 0."""
    loss: float
    """Of this step's batch."""
    lr: float
    """The learning rate of the head."""
    seconds: float
    """Duration of this step, without the waiting for data."""


@dataclass(frozen=True)
class ValidationEvent:
    """A validation is done."""

    step: int
    """Steps since the beginning of the training, over all stages."""
    stage: int
    """The stage's number, from 0."""
    result: EvaluationResult
    """On the split `val`; `result.confusion.iou` has the IoU of each class, None where it has no pixel."""
    improved: bool
    """Whether this network is the best so far, and was kept."""
    predictor: Predictor
    """Of the network that was validated; only for the time of the call."""
    samples: Sequence[Sample]
    """The images of the split `val`."""


class Callback:
    """Ignore every event; the base class of callbacks.

    Example:
        >>> class Best(Callback):
        ...     def on_validation(self, event: ValidationEvent) -> None:
        ...         print(event.step, event.result.confusion.mean_iou)
    """

    def on_start(self, event: StartEvent) -> None:
        """Called once before the first step of this process; an error here ends the training."""

    def on_step(self, event: StepEvent) -> None:
        """Called after every tenth step, and after the last of a stage."""

    def on_validation(self, event: ValidationEvent) -> None:
        """Called after each validation, which its time counts to."""

    def on_end(self, status: TrainingStatus) -> None:
        """Called last: `finished`, `interrupted` (a resume is to come) or `failed`."""


class CallbackList:
    """Calls several callbacks, and leaves out those that fail.

    Args:
        callbacks: in the order in which they are called.
        notify: is told of a callback that failed.
    """

    def __init__(self, callbacks: Sequence[Callback], notify: Callable[[str], None]) -> None:
        self.callbacks, self.notify = list(callbacks), notify

    @contextmanager
    def running(self, event: StartEvent) -> Iterator[None]:
        """Call `on_start` and, whatever happens inside, `on_end`."""
        status: TrainingStatus = "failed"
        try:
            with torch.random.fork_rng(devices=_cuda_devices()):
                for callback in self.callbacks:
                    callback.on_start(event)
            yield
            status = "finished"
        except Interrupted:
            status = "interrupted"
            raise
        finally:
            self._call(f"end ({status})", lambda callback: callback.on_end(status))

    def on_step(self, event: StepEvent) -> None:
        self._call(f"step {event.step}", lambda callback: callback.on_step(event))

    def on_validation(self, event: ValidationEvent) -> None:
        self._call(f"validation at step {event.step}", lambda callback: callback.on_validation(event))

    def _call(self, where: str, call: Callable[[Callback], None]) -> None:
        if not self.callbacks:
            return
        with torch.random.fork_rng(devices=_cuda_devices()):
            for callback in list(self.callbacks):
                try:
                    call(callback)
                except Exception as error:
                    self.callbacks.remove(callback)
                    frame = traceback.extract_tb(error.__traceback__)[-1]
                    self.notify(
                        f"callback {type(callback).__name__}: {where}: {type(error).__name__}: {error} "
                        f"({frame.filename}, line {frame.lineno}); it is not called again, the training goes on"
                    )


def _cuda_devices() -> list[int]:
    """The GPU whose random numbers the training draws; none where CUDA was not started."""
    return [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
