"""The time of a study: how many steps each training makes, so that all end in time, and the clock that says so.

    costs = [ArmCost(step_seconds=0.1, evaluation_seconds=2.0)] * 3
    length = split_budget(600.0, costs, trainings=2)     # the same number of steps for each arm and seed

Equal steps, not equal time: what an arm costs is a figure beside its mean IoU. A study that is stopped and goes on
makes the steps that were planned, so it ends with the same weights; the seconds of all its processes count.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dilated.errors import InputError
from dilated.files import atomic_write, read_json

FRONT_SHARE = 0.25
"""Of a budget, for the front ends."""
PAGE_SECONDS = 10.0
"""For the page, and for each arm on it half of that."""
START_SECONDS = 2.0
"""For a training to begin and to end, without reading the data."""
_SLACK = 0.75
"""Of the time for steps that is planned: a machine may become slower."""
_VALIDATION_SHARE = 0.15
_MANY_VALIDATIONS = 4
MIN_STEPS = 10


@dataclass(frozen=True)
class ArmCost:
    """What one training of an arm takes, in seconds."""

    step_seconds: float
    """Of a step, the reading of its batch included; 0 for an arm that trains nothing."""
    evaluation_seconds: float
    """Of a pass over the validation images, from reading them to counting their pixels."""


@dataclass(frozen=True)
class Split:
    """What each training gets."""

    steps: int
    validations: int


def page_seconds(arms: int) -> float:
    """The seconds that are kept for the page.

    Example:
        >>> page_seconds(4)
        30.0
    """
    return PAGE_SECONDS * (1 + arms / 2)


def split_budget(
    seconds: float, costs: Sequence[ArmCost], trainings: int, start_seconds: float = START_SECONDS
) -> Split:
    """Split what is left of a budget into trainings of equally many steps.

    Args:
        seconds: left for all trainings, evaluations and the page.
        costs: of each arm.
        trainings: of each arm: seeds times folds.
        start_seconds: that a training takes to begin and to end.

    Raises:
        InputError: too little time for ten steps each.

    Example:
        >>> split_budget(415.0, [ArmCost(0.1, 1.0), ArmCost(0.2, 1.0), ArmCost(0.0, 2.0)], trainings=2)
        Split(steps=442, validations=4)
    """
    left = seconds - page_seconds(len(costs))
    steps_cost = trainings * sum(cost.step_seconds for cost in costs)
    fixed = trainings * sum(start_seconds + cost.evaluation_seconds for cost in costs)
    validation = trainings * sum(cost.evaluation_seconds for cost in costs if cost.step_seconds)
    validations = _MANY_VALIDATIONS if _MANY_VALIDATIONS * validation <= _VALIDATION_SHARE * left else 1
    time_for_steps = _SLACK * (left - fixed - validations * validation)
    steps = math.floor(time_for_steps / max(steps_cost, 1e-9))
    if steps < MIN_STEPS:
        needed = fixed + validation + MIN_STEPS * steps_cost / _SLACK
        raise InputError(
            f"--budget: {seconds:.0f} s are left for {len(costs)} arms of {trainings} trainings each, and {MIN_STEPS} "
            f"steps of each take {needed + page_seconds(len(costs)):.0f} s with their evaluation",
            hint="give more time, fewer --arms or fewer --seeds",
        )
    return Split(steps, validations)


@dataclass
class StudyClock:
    """Seconds spent on a study so far, those of processes that were killed included, but for the last second of each.

    Args:
        path: the file that keeps them.
        budget: the seconds that there are; infinite for none.
    """

    path: Path
    budget: float = math.inf
    previous: float = 0.0
    started: float = field(default_factory=time.monotonic)
    _saved: float = -math.inf
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def open(cls, path: Path, budget: float = math.inf) -> StudyClock:
        """Go on with the clock of a file, or begin a new one.

        Raises:
            InputError: a damaged file.
        """
        if not path.is_file():
            return cls(path, budget)
        table = read_json(path)
        seconds = table.get("seconds") if isinstance(table, dict) else None
        if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            raise InputError(f"{path}: not the clock of a study", hint="remove it: the time spent so far is forgotten")
        return cls(path, budget, float(seconds))

    @property
    def seconds(self) -> float:
        return self.previous + time.monotonic() - self.started

    @property
    def left(self) -> float:
        return self.budget - self.seconds

    def tick(self) -> None:
        """Write the seconds down, once a second at most."""
        if self.seconds - self._saved >= 1:
            self.save()

    def save(self) -> None:
        with self._lock:
            self._saved = self.seconds
            atomic_write(self.path, json.dumps({"seconds": round(self._saved, 2)}) + "\n")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Write the seconds down every second, also while images are measured for minutes without a tick."""
        stop = threading.Event()

        def keep() -> None:
            while not stop.wait(1.0):
                with suppress(OSError):  # the next tick says what is wrong with the folder
                    self.save()

        thread = threading.Thread(target=keep, name="study clock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
