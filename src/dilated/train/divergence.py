"""A training that has gone astray is stopped, with what to change.

The trouble most often reported of the authors' code: the loss jumps from 3 to 50 or 80 and stays there. A network that
knows nothing and says so has a loss of ln C, 3.0 for 19 classes; one whose loss stays at several times that is surely
wrong nearly everywhere, and does not come back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import nn

from dilated.errors import InputError
from dilated.train.stage import Stage

TIMES = 4
"""A loss above so many times ln C, or above 10 where there are few classes, ..."""
PATIENCE = 3
"""... so often in a row, is divergence."""


@dataclass
class Watch:
    """Watches the losses of one stage.

    Example:
        >>> watch = Watch(classes=19, number=0, stage=Stage("frontend", iterations=100, lr=1e-3, momentum=0.99))
        >>> for step, loss in enumerate((2.9, 3.1, 55.0, 61.0, 2.8)):  # it came back
        ...     watch.see(step, loss)
    """

    classes: int
    number: int
    stage: Stage
    high: list[float] = field(default_factory=list)

    def see(self, step: int, loss: float) -> None:
        """Take note of a loss.

        Raises:
            InputError: it is no number, or has been too high too often; with what to change.
        """
        guess = math.log(max(self.classes, 2))
        if not math.isfinite(loss):
            raise InputError(f"step {step}: the loss is {loss}. {self._advice()}")
        self.high = [*self.high, loss] if loss > max(TIMES * guess, 10) else []
        if len(self.high) >= PATIENCE:
            last = ", ".join(f"{value:.1f}" for value in self.high)
            raise InputError(
                f"step {step}: the training has diverged: the last losses are {last}, and a network that knows "
                f"nothing has {guess:.1f} (ln {self.classes}). {self._advice()}"
            )

    def weigh(self, step: int, network: nn.Module) -> None:
        """Look at the weights before they are kept.

        Raises:
            InputError: some are no numbers; what was kept before is sound.
        """
        if not all(bool(p.isfinite().all()) for p in network.parameters()):
            raise InputError(f"step {step}: the weights are no numbers any more. {self._advice()}")

    def _advice(self) -> str:
        stage, key = self.stage, f"stage.{self.number}"
        advice = [f"Lower {key}.lr, now {stage.lr:g}, tenfold and start anew"]
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
        return "; ".join(advice) + "."
