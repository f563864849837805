"""What a training is at, told across a kill: `MOMENT.read()` is "stage 1", "checkpoint", "report", ..."""

from __future__ import annotations

import mmap
from pathlib import Path

from dilated.training import checkpoint
from dilated.training.budget import StageLimit
from dilated.training.config import StageConfig
from dilated.training.progress import TrainingProgress


class Moment(TrainingProgress):
    """What the job is at, in memory that this process shares with its forks, so that a kill leaves it."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 64)
        self.save_checkpoint = checkpoint.save_checkpoint
        checkpoint.save_checkpoint = self.save  # type: ignore[assignment]

    def read(self) -> str:
        return self.memory[:].rstrip(b"\0").decode()

    def note(self, text: str) -> str:
        """Note what is begun, and return what was before."""
        before = self.read()
        self.memory[:] = text.encode().ljust(64, b"\0")
        return before

    def on_stage_start(self, stage_index: int, stage: StageConfig, step: int, limit: StageLimit) -> None:
        self.note(f"stage {stage_index}")

    def on_training_end(self, mean_iou: float, run: Path) -> None:
        self.note("report")

    def save(self, path: Path, state: dict[str, object]) -> None:
        before = self.note("checkpoint")
        self.save_checkpoint(path, state)
        self.note(before)


MOMENT = Moment()
MOMENTS = ("stage 0", "stage 1", "checkpoint", "report")
