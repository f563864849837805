"""How far a stage is: by its steps, or by the time that it was given.

    limit = StepLimit(4600)
    limit = TimeLimit(clock, seconds=300.0, began=clock.seconds)
    limit.progress(step)                                  # 0 at the start, 1 at the end

With a time budget the learning rate falls with the clock and not with the steps, so that training ends when the time
does, whatever a step turns out to cost.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from dilated.training.stage import StageConfig


@dataclass
class Clock:
    """Seconds spent on a training so far, those before an interruption among them.

    Args:
        spent: before this process took over.
    """

    previous_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.previous_seconds + time.monotonic() - self.started


@dataclass(frozen=True)
class StepLimit:
    """A stage of so many steps."""

    steps: int

    def __str__(self) -> str:
        return f"{self.steps} steps"

    def progress(self, step: int) -> float:
        """
        Example:
            >>> StepLimit(100).progress(25)
            0.25
        """
        return step / self.steps


@dataclass(frozen=True)
class TimeLimit:
    """A stage of so many seconds, from `began` on the clock; one step at least."""

    clock: Clock
    seconds: float
    started: float

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s"

    def progress(self, step: int) -> float:
        if step == 0:
            return 0.0
        return min(1.0, (self.clock.seconds - self.started) / self.seconds) if self.seconds > 0 else 1.0


def allocate_stage_seconds(
    stages: tuple[StageConfig, ...], stage_index: int, remaining: float, validation_seconds: float
) -> float:
    """Seconds of a stage: its share of what is left before the validation at the very end.

    Example:
        >>> allocate_stage_seconds((StageConfig("frontend", share=3), StageConfig("joint", share=1)), 0, remaining=100.0, validation_seconds=20.0)
        60.0
    """
    remaining_stages = stages[stage_index:]
    return (
        max(0.0, remaining - validation_seconds)
        * remaining_stages[0].share
        / sum(stage.share for stage in remaining_stages)
    )


def timed_validation_points(seconds: float, validation_seconds: float, is_last_stage: bool) -> list[float]:
    """How far a stage of so many seconds is where it is validated: a twentieth of its time at most goes there.

    Args:
        validation: seconds that one takes.
        last: the stage is the last one, which ends with one of its own.

    Example:
        >>> timed_validation_points(200, 4, is_last_stage=False), timed_validation_points(200, 4, is_last_stage=True), timed_validation_points(200, 30, is_last_stage=False)
        ([0.5, 1.0], [0.3333333333333333, 0.6666666666666666, 1.0], [])
    """
    count = min(10, int(0.05 * seconds / max(validation_seconds, 1e-3))) + is_last_stage
    return [(i + 1) / count for i in range(count)]
