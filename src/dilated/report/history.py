"""What a training wrote down as it went, read back from `log.jsonl`.

history = read_history(Path("runs/mine"))
history.loss, history.rate                           # [(step, value), ...]
history.validations[-1].iou["road"]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dilated.errors import InputError
from dilated.report.charts import Point
from dilated.run_folder import LOG_FILE


@dataclass(frozen=True)
class Validation:
    """One look at the validation images."""

    step: int
    stage: int
    mean_iou: float | None
    iou: dict[str, float | None]


@dataclass
class History:
    """The curves of a training, in order of the steps."""

    loss: list[Point] = field(default_factory=list)
    lr: list[Point] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    stages: list[tuple[int, int]] = field(default_factory=list)
    """(step, stage) where each begins."""
    seconds: float = 0.0
    """Of all steps by those that were timed; without validations and the waiting for data."""
    steps: int = 0

    @property
    def best(self) -> Validation | None:
        """The validation of the greatest mean IoU, the first of equals: the one whose network is kept."""
        measured = [one for one in self.validations if one.mean_iou is not None]
        return max(measured, key=lambda one: one.mean_iou or 0.0, default=None)


def read_history(run: Path) -> History | None:
    """The log of a run; None where it has none. A last line that was cut off is left out.

    Raises:
        InputError: a line that is no log entry.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / LOG_FILE).write_text('{"step": 10, "stage": 0, "loss": 2.0, "lr": 0.1, "seconds": 0.5}\\n')
        >>> read_history(folder).loss, read_history(folder).seconds
        ([(10, 2.0)], 5.0)
    """
    path = run / LOG_FILE
    if not path.is_file():
        return None
    history = History()
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip() or number == len(lines):  # what no line end follows was cut off
            continue
        try:
            entry = json.loads(line)
            _append_entry(history, entry)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{path}: line {number}: found {line[:60]!r}; expected a log entry, JSON with step and stage. Mend or "
                "delete the line."
            ) from error
    return history


def _append_entry(history: History, entry: dict[str, Any]) -> None:
    step, stage = int(entry["step"]), int(entry["stage"])
    if not history.stages or history.stages[-1][1] != stage:
        history.stages.append((history.steps, stage))
    if "val_mean_iou" in entry:
        history.validations.append(Validation(step, stage, entry["val_mean_iou"], entry.get("val_iou") or {}))
    if entry.get("loss") is not None:
        history.loss.append((step, float(entry["loss"])))
    if entry.get("lr") is not None:
        history.lr.append((step, float(entry["lr"])))
    history.seconds += float(entry.get("seconds") or 0.0) * (step - history.steps)
    history.steps = step


def smooth_points(points: Sequence[Point]) -> list[Point]:
    """The mean over the nearest twentieth of the points, fewer at the ends.

    Example:
        >>> smooth_points([(0, 1.0), (1, 2.0), (2, 6.0)])
        [(0, 1.5), (1, 3.0), (2, 4.0)]
    """
    half_window = max(1, len(points) // 40)
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    result = []
    for i, (step, _) in enumerate(points):
        first, last = max(0, i - half_window), min(len(points), i + half_window + 1)
        result.append((step, (sums[last] - sums[first]) / (last - first)))
    return result


def thin_points(points: Sequence[Point], max_points: int = 600) -> list[Point]:
    """Few enough points to draw, two at least: of each run of them, the least and the greatest.

    Example:
        >>> thin_points([(i, float(i % 10)) for i in range(40)], max_points=4)
        [(0, 0.0), (9, 9.0), (20, 0.0), (29, 9.0)]
    """
    if len(points) <= max_points:
        return list(points)
    size = -(-len(points) // (max_points // 2))
    result: list[Point] = []
    for start in range(0, len(points), size):
        chunk = points[start : start + size]
        ends = {min(chunk, key=lambda one: one[1]), max(chunk, key=lambda one: one[1])}
        result += sorted(ends)
    return result
