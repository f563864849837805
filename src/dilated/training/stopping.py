"""What stops a training before its end: a signal, or a loss that has diverged.

A training that is asked to stop does so after a whole step, with a checkpoint; one that has diverged says what to
change.

The trouble most often reported of the authors' code: the loss jumps from 3 to 50 or 80 and stays there. A network that
knows nothing and says so has a loss of ln C, 3.0 for 19 classes; one whose loss stays at several times that is surely
wrong nearly everywhere, and does not come back.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

from dilated.errors import InputError, Interrupted
from dilated.progress import ProgressCallback
from dilated.training.config import StageConfig

_MAX_CHANCE_RATIO = 4
"""A loss above so many times ln C, or above 10 where there are few classes, ..."""
_PATIENCE = 3
"""... so often in a row, is divergence."""


@contextmanager
def catch_stop_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, instead of ending the process in the middle of a step."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous_handlers = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signal_number, handler in previous_handlers.items():
            signal.signal(signal_number, handler)


def report_or_interrupt(stop: threading.Event, report: ProgressCallback, done: int, total: int) -> None:
    """Report how far a long pass is; raise Interrupted where the process has been asked to stop."""
    report(done, total)
    if stop.is_set():
        raise Interrupted


@dataclass
class DivergenceMonitor:
    """Watch the losses of one stage.

    Example:
        >>> stage = StageConfig("frontend", iterations=100, lr=1e-3, momentum=0.99)
        >>> monitor = DivergenceMonitor(classes=19, stage_index=0, stage=stage)
        >>> for step, loss in enumerate((2.9, 3.1, 55.0, 61.0, 2.8)):  # it came back
        ...     monitor.record_loss(step, loss)
    """

    classes: int
    stage_index: int
    stage: StageConfig
    high_losses: list[float] = field(default_factory=list)

    def record_loss(self, step: int, loss: float) -> None:
        """Take note of a loss.

        Raises:
            InputError: it is not finite, or has been too high too often; with what to change.
        """
        chance_loss = math.log(max(self.classes, 2))
        if not math.isfinite(loss):
            raise InputError(f"step {step}: the loss is {loss}", hint=self._advice())
        self.high_losses = [*self.high_losses, loss] if loss > max(_MAX_CHANCE_RATIO * chance_loss, 10) else []
        if len(self.high_losses) >= _PATIENCE:
            last = ", ".join(f"{value:.1f}" for value in self.high_losses)
            raise InputError(
                f"step {step}: the training has diverged: the last losses are {last}, and a network that knows "
                f"nothing has {chance_loss:.1f} (ln {self.classes})",
                hint=self._advice(),
            )

    def assert_weights_finite(self, step: int, network: nn.Module) -> None:
        """Check the weights before they are kept.

        Raises:
            InputError: some are not finite; what was kept before is sound.
        """
        if not all(bool(p.isfinite().all()) for p in network.parameters()):
            raise InputError(f"step {step}: the weights are not finite", hint=self._advice())

    def _advice(self) -> str:
        stage, key = self.stage, f"stage.{self.stage_index}"
        advice = [f"lower {key}.lr, now {stage.lr:g}, tenfold and start a new run"]
        if stage.optimizer == "sgd" and stage.momentum > 0.9:
            advice.append(
                f"momentum {stage.momentum:g} makes steps {1 / max(1 - stage.momentum, 1e-6):.0f} times as long: the "
                "paper has 0.99 with a rate of 1e-4 at most, and 0.9 with 1e-3"
            )
        if not stage.clip:
            advice.append(f"{key}.clip = 10 bounds a single bad step")
        if not stage.warmup:
            advice.append(f"{key}.warmup = 100 starts gently")
        advice.append("check that the front end's weights were loaded and that `dilated check` finds the labels right")
        return "; ".join(advice)
