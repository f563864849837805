"""What a person sees of a training: by default a line a validation; on a terminal, `RichTrainingProgress` draws bars.

The loop calls these methods and knows nothing of terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dilated.training.stage import StageConfig


class TrainingProgress:
    """Says nothing; the base of those that do."""

    def notify(self, line: str) -> None: ...
    def on_stage_start(self, stage_index: int, stage: StageConfig, step: int, length: str) -> None: ...
    def on_step_end(self, step: int, progress: float) -> None: ...
    def on_loss(self, loss: float) -> None: ...
    def on_validation_end(self, mean_iou: float, improved: bool) -> None: ...

    @contextmanager
    def track(self, number: int, what: str = "validation") -> Iterator[Callable[[], object]]:
        """A context for a pass over images; what it yields is called after each of them."""
        yield lambda: None


class RichTrainingProgress(TrainingProgress):
    """Bars with the time left on a terminal, lines in a pipe."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = rich.progress.Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task: TaskID | None = None
        self.title, self.last_loss, self.best = "", float("nan"), float("nan")
        self.last_step, self.step_total = 0, ""

    def __enter__(self) -> RichTrainingProgress:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def notify(self, line: str) -> None:
        self.console.print(line, highlight=False)

    def on_stage_start(self, stage_index: int, stage: StageConfig, step: int, length: str) -> None:
        self.title = f"stage {stage_index}: {stage.kind}, stride {stage.output_stride}"
        steps, unit = length.split()
        self.last_step, self.step_total = step, f"/{steps}" if unit == "steps" else ""
        self.notify(f"{self.title}: {length}" + (f", from step {step}" if step else ""))
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.task = self.bars.add_task(self.title, total=1.0)

    def on_step_end(self, step: int, progress: float) -> None:
        self.last_step = step
        if self.task is not None:
            self.bars.update(self.task, completed=progress)

    def on_loss(self, loss: float) -> None:
        self.last_loss = loss
        if self.task is not None:
            best = "" if self.best != self.best else f", best mIoU {self.best:.3f}"
            self.bars.update(self.task, description=f"{self.title}, loss {loss:.3f}{best}")

    def on_validation_end(self, mean_iou: float, improved: bool) -> None:
        if improved:
            self.best = mean_iou
        star = "  best so far, saved" if improved else ""
        self.notify(
            f"  step {self.last_step}{self.step_total}: loss {self.last_loss:.4f}, val mean IoU {mean_iou:.4f}{star}"
        )

    @contextmanager
    def track(self, number: int, what: str = "validation") -> Iterator[Callable[[], object]]:
        task = self.bars.add_task(f"  {what}", total=number)
        yield lambda: self.bars.update(task, advance=1)
        self.bars.remove_task(task)
