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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dilated.errors import InputError
from dilated.run_folder import LOG_FILE

Point = tuple[float, float]
"""A step and a value."""


class Log:
    """Appends to the run's log.

    Args:
        out: the run's folder.
        size: where the log ended at the checkpoint that is resumed; what was written after it is cut off, since those
            steps are made again.
        tensorboard: write event files too.
    """

    def __init__(self, out: Path, size: int = 0, tensorboard: bool = False) -> None:
        self.file = (out / LOG_FILE).open("ab")
        self.file.truncate(size)
        self.tensorboard = _open_tensorboard(out) if tensorboard else None

    def write(self, step: int, **values: Any) -> None:
        """Append a line, with null for a number that is not finite; numbers go to TensorBoard too."""
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self.file.write((json.dumps({"step": step, **values}) + "\n").encode())
        self.file.flush()
        if self.tensorboard is not None:
            for key, value in values.items():
                if isinstance(value, int | float):
                    self.tensorboard.add_scalar(key, value, step)

    @property
    def size(self) -> int:
        """Return the bytes so far."""
        self.file.seek(0, 2)
        return self.file.tell()

    def close(self) -> None:
        self.file.close()
        if self.tensorboard is not None:
            self.tensorboard.close()


class NullLog:
    """The log of the processes that write none."""

    size = 0

    def write(self, step: int, **values: Any) -> None: ...
    def close(self) -> None: ...


def _open_tensorboard(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("--tensorboard: the package tensorboard is missing; pip install 'dilated[log]'") from error
    return SummaryWriter(str(out / "tensorboard"))


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

    @property
    def best(self) -> Validation | None:
        """The validation of the greatest mean IoU, the first of equals: the one whose network is kept."""
        measured = [validation for validation in self.validations if validation.mean_iou is not None]
        return max(measured, key=lambda validation: validation.mean_iou or 0.0, default=None)


def read_history(run: Path) -> History | None:
    """Read the log of a run; None where it has none. A last line that was cut off is left out.

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
