"""Time and length of a training: a budget, the clock that it runs on, and how far a stage is.

With a time budget the learning rate falls with the clock and not with the steps, so that training ends when the time
does, whatever a step turns out to cost.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field, replace

from dilated.errors import InputError
from dilated.training.config import Recipe, StageConfig

_SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}
COST_PER_HALVING = 2.6
"""Factor by which a step costs more at half the output stride; measured on EfficientNet-lite0."""


def parse_duration(text: str, option: str = "--budget") -> float:
    """Convert a duration such as `90s`, `30m` or `1h30m` to seconds.

    Args:
        option: that it was given by, for the message.

    Raises:
        InputError: any other text, or a duration of 0.

    Example:
        >>> parse_duration("1h30m"), parse_duration("90s"), parse_duration("1.5h")
        (5400.0, 90.0, 5400.0)
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    seconds = sum(float(number) * _SECONDS_PER_UNIT[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text.strip() or not 0 < seconds < math.inf:
        raise InputError(f"{option}: {text[:40]!r} is not a duration", hint="give a time such as 90s, 30m, 2h or 1h30m")
    return seconds


def with_budget(recipe: Recipe, seconds: float, images: int) -> Recipe:
    """Return a recipe with the same stages in a given time: each gets the share that its steps would have taken.

    Args:
        images: number of training images.

    Example:
        >>> from dilated.training.config import load_recipe
        >>> [round(stage.share, 2) for stage in with_budget(load_recipe("quick"), 600, images=100).stage]
        [...]
    """
    if recipe.budget:
        return replace(recipe, budget=seconds)
    costs = [_relative_cost(stage, recipe, images) for stage in recipe.stage]
    stages = tuple(
        replace(stage, epochs=0.0, iterations=0, share=cost / sum(costs), val_interval=0.0)
        for stage, cost in zip(recipe.stage, costs, strict=True)
    )
    return replace(recipe, stage=stages, budget=seconds)


def _relative_cost(stage: StageConfig, recipe: Recipe, images: int) -> float:
    """Return the samples of a stage, weighted by what one costs at its output stride: comparable between stages."""
    samples = stage.epochs * images or float(stage.iterations * (stage.batch or recipe.batch))
    forward_only = 0.5 if stage.kind == "context" else 1.0
    halvings = {32: 0, 16: 1, 8: 2}[stage.output_stride]
    return samples * forward_only * COST_PER_HALVING**halvings


@dataclass
class Clock:
    """Seconds spent on a training so far, those before an interruption included."""

    previous_seconds: float = 0.0
    """Seconds spent before this process took over."""
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.previous_seconds + time.monotonic() - self.started


@dataclass(frozen=True)
class Deadline:
    """A moment after which optional work is skipped; never, by default."""

    moment: float = math.inf

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    @property
    def expired(self) -> bool:
        return not self.leaves(0.0)

    def leaves(self, seconds: float) -> bool:
        """Return whether so many seconds are left."""
        return time.monotonic() + seconds < self.moment


@dataclass(frozen=True)
class StepLimit:
    """A stage of so many steps; as text its length, as that of `TimeLimit` is.

    Example:
        >>> limit = StepLimit(183, validations=2)
        >>> [round(point * 183) for point in limit.validation_points()], limit.progress(183)
        ([92, 183], 1.0)
    """

    steps: int
    validations: int = 1
    """Number of validations, evenly spaced; the last one is at the end."""

    def __str__(self) -> str:
        return f"{self.steps} steps"

    @property
    def total_steps(self) -> int | None:
        return self.steps

    def progress(self, step: int, step_seconds: float = 0.0) -> float:
        """Return how far the stage is, 0 to 1, after so many steps, the last of which took so many seconds."""
        return step / self.steps

    def validation_points(self) -> list[float]:
        """Return the progress at which the network is validated, ascending."""
        steps = {round(self.steps * (i + 1) / self.validations) for i in range(self.validations)} - {0}
        return [step / self.steps for step in sorted(steps)]


@dataclass(frozen=True)
class TimeLimit:
    """A stage of so many seconds, one step at least; no step begins that would end after them.

    Example:
        >>> cases = (4.0, False), (4.0, True), (30.0, False)
        >>> [TimeLimit(Clock(), 200, 0, *case).validation_points() for case in cases]
        [[0.5, 1.0], [0.3333333333333333, 0.6666666666666666, 1.0], []]
    """

    clock: Clock
    seconds: float
    started: float
    """Seconds on the clock when the stage began."""
    validation_seconds: float = 0.0
    """Seconds that a validation takes; a twentieth of the stage's time at most goes there."""
    is_last_stage: bool = False
    """Whether one more validation ends the stage, for which time has been kept."""

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s"

    @property
    def total_steps(self) -> int | None:
        return None

    def progress(self, step: int, step_seconds: float = 0.0) -> float:
        if step == 0:
            return 0.0
        elapsed = self.clock.seconds - self.started
        has_time_for_a_step = elapsed < self.seconds and elapsed + step_seconds <= self.seconds
        return elapsed / self.seconds if has_time_for_a_step else 1.0

    def validation_points(self) -> list[float]:
        count = min(10, int(0.05 * self.seconds / max(self.validation_seconds, 1e-3))) + self.is_last_stage
        return [(i + 1) / count for i in range(count)]


StageLimit = StepLimit | TimeLimit
"""What ends a stage."""


def allocate_stage_seconds(
    stages: tuple[StageConfig, ...], stage_index: int, remaining: float, validation_seconds: float
) -> float:
    """Return the seconds of a stage: its share of what is left before the validation at the very end.

    Example:
        >>> stages = StageConfig("frontend", share=3), StageConfig("joint", share=1)
        >>> allocate_stage_seconds(stages, 0, remaining=100.0, validation_seconds=20.0)
        60.0
    """
    fraction = stages[stage_index].share / sum(stage.share for stage in stages[stage_index:])
    return max(0.0, remaining - validation_seconds) * fraction
