"""How far a stage is: by its steps, or by the time that it was given.

    pace = Steps(4600)
    pace = Timed(clock, seconds=300.0, began=clock.seconds)
    pace.progress(step)                                  # 0 at the start, 1 at the end

With a time budget the learning rate falls with the clock and not with the steps, so that training ends when the time
does, whatever a step turns out to cost.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from dilated.train.stage import Stage


@dataclass
class Clock:
    """Seconds spent on a training so far, those before an interruption among them.

    Args:
        spent: before this process took over.
    """

    spent: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.began


@dataclass(frozen=True)
class Steps:
    """A stage of so many steps."""

    steps: int

    def __str__(self) -> str:
        return f"{self.steps} steps"

    def progress(self, step: int) -> float:
        """
        Example:
            >>> Steps(100).progress(25)
            0.25
        """
        return step / self.steps


@dataclass(frozen=True)
class Timed:
    """A stage of so many seconds, from `began` on the clock; one step at least."""

    clock: Clock
    seconds: float
    began: float

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s"

    def progress(self, step: int) -> float:
        if step == 0:
            return 0.0
        return min(1.0, (self.clock.seconds - self.began) / self.seconds) if self.seconds > 0 else 1.0


def seconds_of(stages: tuple[Stage, ...], number: int, left: float, validation: float) -> float:
    """Seconds of a stage: its share of what is left before the validation at the very end.

    Example:
        >>> seconds_of((Stage("frontend", share=3), Stage("joint", share=1)), 0, left=100.0, validation=20.0)
        60.0
    """
    to_come = stages[number:]
    return max(0.0, left - validation) * to_come[0].share / sum(stage.share for stage in to_come)


def validations(seconds: float, validation: float, last: bool) -> list[float]:
    """How far a stage of so many seconds is where it is validated: a twentieth of its time at most goes there.

    Args:
        validation: seconds that one takes.
        last: the stage is the last one, which ends with one of its own.

    Example:
        >>> validations(200, 4, last=False), validations(200, 4, last=True), validations(200, 30, last=False)
        ([0.5, 1.0], [0.3333333333333333, 0.6666666666666666, 1.0], [])
    """
    number = min(10, int(0.05 * seconds / max(validation, 1e-3))) + last
    return [(i + 1) / number for i in range(number)]
