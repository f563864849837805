"""Listeners of a training: the loop calls their methods and knows nothing of terminals.

    train(data, recipe, out, options=RunOptions(progress=LineProgress()))

`TrainingProgress` ignores every event, `LineProgress` prints a line for most of them. A listener of your own derives
from either and overrides the events that it shows; `dilated.cli.training_progress.RichTrainingProgress` draws bars, in
notebooks too.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dilated.data.dataset import Dataset
from dilated.files import printable
from dilated.progress import ProgressCallback
from dilated.run_folder import BEST_FILE
from dilated.training.budget import StageLimit
from dilated.training.config import StageConfig

if TYPE_CHECKING:
    from dilated.training.autoplan.plan import TrainingPlan


class TrainingProgress:
    """Ignore every event; the base class of all listeners."""

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(self, *_: object) -> None: ...
    def notify(self, line: str) -> None: ...
    def on_dataset(self, data: Dataset) -> None: ...
    def on_plan(self, plan: TrainingPlan) -> None: ...
    def on_stage_start(self, stage_index: int, stage: StageConfig, step: int, limit: StageLimit) -> None: ...
    def on_step_end(self, step: int, progress: float) -> None: ...
    def on_loss(self, loss: float) -> None: ...
    def on_validation_end(self, mean_iou: float, improved: bool) -> None: ...
    def on_interrupt(self, run: Path, data: Dataset) -> None: ...
    def on_training_end(self, mean_iou: float, run: Path) -> None: ...
    def on_report(self, page: Path) -> None: ...

    @contextmanager
    def track(self, count: int, description: str = "validation") -> Iterator[ProgressCallback]:
        """Open a context for a pass over images; the function that it yields is called after each of them."""
        yield lambda done, total: None


class LineProgress(TrainingProgress):
    """Print a line for each stage and each validation."""

    def __init__(self) -> None:
        self.last_loss: float | None = None
        self.last_step, self.step_total = 0, ""

    def notify(self, line: str) -> None:
        print(printable(line), flush=True)

    def on_dataset(self, data: Dataset) -> None:
        self.notify(f"{data.root}: {data.format}, {len(data.classes)} classes, splits {', '.join(data.splits)}")
        for note in data.notes:
            self.notify(f"note: {note}")

    def on_plan(self, plan: TrainingPlan) -> None:
        for line in str(plan).splitlines():
            self.notify(line)

    def on_stage_start(self, stage_index: int, stage: StageConfig, step: int, limit: StageLimit) -> None:
        self.last_loss, self.last_step = None, step
        self.step_total = f"/{limit.total_steps}" if limit.total_steps else ""
        title = f"stage {stage_index}: {stage.kind}, stride {stage.output_stride}"
        self.notify(f"{title}: {limit}" + (f", from step {step}" if step else ""))

    def on_step_end(self, step: int, progress: float) -> None:
        self.last_step = step

    def on_loss(self, loss: float) -> None:
        self.last_loss = loss

    def on_validation_end(self, mean_iou: float, improved: bool) -> None:
        loss = "" if self.last_loss is None else f"loss {self.last_loss:.4f}, "
        star = "  best so far, saved" if improved else ""
        self.notify(f"  step {self.last_step}{self.step_total}: {loss}val mean IoU {mean_iou:.4f}{star}")

    def on_interrupt(self, run: Path, data: Dataset) -> None:
        command = shlex.join(["dilated", "train", str(data.root), "--out", str(run), "--resume"])
        self.notify(f"Stopped after a whole step; `{command}` continues.")

    def on_training_end(self, mean_iou: float, run: Path) -> None:
        self.notify(f"best val mean IoU {mean_iou:.4f}: {run / BEST_FILE}")

    def on_report(self, page: Path) -> None:
        self.notify(f"report: {page}")
