"""What a training writes down as it goes: `log.jsonl`, one JSON object a line, and TensorBoard where asked for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from dilated.errors import InputError
from dilated.run_folder import LOG_FILE


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
        """One line, null for what is no finite number; numbers go to TensorBoard too."""
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self.file.write((json.dumps({"step": step, **values}) + "\n").encode())
        self.file.flush()
        if self.tensorboard is not None:
            for key, value in values.items():
                if isinstance(value, int | float):
                    self.tensorboard.add_scalar(key, value, step)

    @property
    def size(self) -> int:
        """Bytes so far."""
        self.file.seek(0, 2)
        return self.file.tell()

    def close(self) -> None:
        self.file.close()
        if self.tensorboard is not None:
            self.tensorboard.close()


class NullLog:
    """Of the processes that write none."""

    size = 0

    def write(self, step: int, **values: Any) -> None: ...
    def close(self) -> None: ...


def _open_tensorboard(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("--tensorboard: the package tensorboard is missing; pip install 'dilated[log]'") from error
    return SummaryWriter(str(out / "tensorboard"))
