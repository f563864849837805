"""The bars of a training. Not in `console`, which does not import PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dilated.cli.console import make_table, plain
from dilated.progress import ProgressCallback
from dilated.training.autoplan.plan import TrainingPlan
from dilated.training.budget import StageLimit
from dilated.training.config import StageConfig
from dilated.training.progress import LineProgress


class RichTrainingProgress(LineProgress):
    """Show a training with bars and the time left, on a terminal and in notebooks with ipywidgets; else lines."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or Console()
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not _can_show_bars(self.console),
        )
        self.task: TaskID | None = None
        self.title, self.best_mean_iou = "", -1.0

    def __enter__(self) -> RichTrainingProgress:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end_bars()

    def _end_bars(self) -> None:
        if not self.bars.disable:  # before rich 14.3 the end of bars that are not shown is an empty line
            self.bars.stop()

    def notify(self, line: str) -> None:
        self.console.print(plain(line), highlight=False, soft_wrap=True)

    def on_plan(self, plan: TrainingPlan) -> None:
        print_plan(plan, self.console)

    def on_stage_start(self, stage_index: int, stage: StageConfig, step: int, limit: StageLimit) -> None:
        super().on_stage_start(stage_index, stage, step, limit)
        self.title = f"stage {stage_index}: {stage.kind}, stride {stage.output_stride}"
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.task = self.bars.add_task(self.title, total=1.0)

    def on_step_end(self, step: int, progress: float) -> None:
        super().on_step_end(step, progress)
        if self.task is not None:
            self.bars.update(self.task, completed=progress)

    def on_loss(self, loss: float) -> None:
        super().on_loss(loss)
        if self.task is not None:
            best = "" if self.best_mean_iou < 0 else f", best mIoU {self.best_mean_iou:.3f}"
            self.bars.update(self.task, description=f"{self.title}, loss {loss:.3f}{best}")

    def on_validation_end(self, mean_iou: float, improved: bool) -> None:
        super().on_validation_end(mean_iou, improved)
        if improved:
            self.best_mean_iou = mean_iou

    def on_training_end(self, mean_iou: float, run: Path) -> None:
        self._end_bars()
        super().on_training_end(mean_iou, run)

    @contextmanager
    def track(self, count: int, description: str = "validation") -> Iterator[ProgressCallback]:
        task = self.bars.add_task(f"  {description}", total=count)
        yield lambda done, total: self.bars.update(task, completed=done)
        self.bars.remove_task(task)


def _can_show_bars(console: Console) -> bool:
    # In a notebook without ipywidgets rich warns at every refresh instead.
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def print_plan(plan: TrainingPlan, console: Console) -> None:
    """Print the choices of a plan, a row each."""
    rows = [(choice.choice, choice.value, choice.reason) for choice in plan.choices]
    console.print(make_table(("choice", "value", "because"), rows, left=range(3)))
