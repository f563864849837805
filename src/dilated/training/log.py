"""The log of a training, `log.jsonl`: one JSON object per line, written as it goes and read back for the report.

log = Log(Path("runs/mine"))
log.write(10, stage=0, loss=2.0, lr=1e-3, seconds=0.5)
history = read_history(Path("runs/mine"))
history.loss, history.lr                             # [(step, value), ...]
history.validations[-1].iou["road"]
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dilated.errors import InputError
from dilated.files import plural
from dilated.run_folder import LOG_FILE

Point = tuple[float, float]
"""A step and a value."""


class Log:
    """Appends to the run's log.

    Args:
        out: the run's folder.
        size: where the log ended at the checkpoint that is resumed; what was written after it is cut off, since those
            steps are made again.

    Attributes:
        lost_bytes: of the log before the checkpoint, how many a loss of power took.
    """

    def __init__(self, out: Path, size: int = 0) -> None:
        self.file = (out / LOG_FILE).open("ab")
        self.lost_bytes = _cut(out / LOG_FILE, size)

    def write(self, step: int, **values: Any) -> None:
        """Append a line, with null for a number that is not finite."""
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self.file.write((json.dumps({"step": step, **values}) + "\n").encode())
        self.file.flush()

    def read_validations(self, stage: int) -> list[float]:
        """The mean IoU of each validation of a stage so far."""
        history = read_history(Path(self.file.name).parent)
        return [v.mean_iou or 0.0 for v in history.validations if v.stage == stage] if history else []

    def sync(self) -> int:
        """Bring the log to the disk, so that a checkpoint never counts on lines that are not; return its bytes."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.file.seek(0, 2)

    def close(self) -> None:
        self.file.close()


class NullLog:
    """The log of the processes that write none."""

    lost_bytes = 0

    def read_validations(self, stage: int) -> list[float]:
        return []

    def sync(self) -> int:
        return 0

    def write(self, step: int, **values: Any) -> None: ...
    def close(self) -> None: ...


def describe_loss(out: Path, num_bytes: int) -> str:
    """Say what is lost of a run's log."""
    return (
        f"{out / LOG_FILE}: {plural(num_bytes, 'byte')} before the checkpoint are lost, as after a loss of power: the "
        "report's curves have a gap, the network has not"
    )


def _cut(path: Path, size: int) -> int:
    """Cut the log to its whole lines in the first `size` bytes; return how many of those bytes are gone.

    A file system that lost its power may have cut the end of a file off or filled it with zeros.
    """
    with path.open("rb+") as file:
        text = file.read(size)
        end = text.find(b"\0") if b"\0" in text else len(text)
        end = text.rfind(b"\n", 0, end) + 1
        file.truncate(end)
    return size - end


@dataclass(frozen=True)
class Validation:
    """The result of one validation."""

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
    """Duration of all steps, from those that were timed; without validations and the waiting for data."""
    steps: int = 0
    damaged_lines: int = 0
    """Lines that a loss of power or a full disk made unreadable; they are left out."""

    @property
    def best(self) -> Validation | None:
        """The validation of the greatest mean IoU, the first of equals: the one whose network is kept."""
        measured = [validation for validation in self.validations if validation.mean_iou is not None]
        return max(measured, key=lambda validation: validation.mean_iou or 0.0, default=None)


def read_history(run: Path) -> History | None:
    """Read the log of a run; None where it has none. What is no whole line of JSON is left out and counted.

    Raises:
        InputError: a line of JSON that is no log entry.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> entry = '{"step": 10, "stage": 0, "loss": 2.0, "lr": 0.1, "seconds": 0.5}\\n'
        >>> _ = (folder / LOG_FILE).write_text(entry + '{"step": 2')
        >>> history = read_history(folder)
        >>> history.loss, history.seconds, history.damaged_lines
        ([(10, 2.0)], 5.0, 1)
    """
    path = run / LOG_FILE
    if not path.is_file():
        return None
    history = History()
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            history.damaged_lines += 1
            continue
        try:
            _append_entry(history, entry)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{path}: line {number}: {line[:60]!r} is not a log entry, JSON with step and stage",
                hint="correct or delete the line",
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
