"""What a person sees of a training: by default a line a validation; on a terminal, `RichProgress` draws bars.

The loop calls these methods and knows nothing of terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from dilated.train.stage import Stage


class Progress:
    """Says nothing; the base of those that do."""

    def say(self, line: str) -> None: ...
    def stage(self, number: int, stage: Stage, step: int, length: str) -> None: ...
    def step(self, step: int, progress: float) -> None: ...
    def loss(self, loss: float) -> None: ...
    def score(self, mean_iou: float, improved: bool) -> None: ...

    @contextmanager
    def pictures(self, number: int, what: str = "validation") -> Iterator[Callable[[], object]]:
        """A context for a pass over pictures; what it yields is called after each of them."""
        yield lambda: None


class RichProgress(Progress):
    """Bars with the time left on a terminal, lines in a pipe."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Bars(
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
        self.title, self.last, self.best = "", float("nan"), float("nan")
        self.done, self.whole = 0, ""

    def __enter__(self) -> RichProgress:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False)

    def stage(self, number: int, stage: Stage, step: int, length: str) -> None:
        self.title = f"stage {number}: {stage.kind}, stride {stage.output_stride}"
        steps, unit = length.split()
        self.done, self.whole = step, f"/{steps}" if unit == "steps" else ""
        self.say(f"{self.title}: {length}" + (f", from step {step}" if step else ""))
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.task = self.bars.add_task(self.title, total=1.0)

    def step(self, step: int, progress: float) -> None:
        self.done = step
        if self.task is not None:
            self.bars.update(self.task, completed=progress)

    def loss(self, loss: float) -> None:
        self.last = loss
        if self.task is not None:
            best = "" if self.best != self.best else f", best mIoU {self.best:.3f}"
            self.bars.update(self.task, description=f"{self.title}, loss {loss:.3f}{best}")

    def score(self, mean_iou: float, improved: bool) -> None:
        if improved:
            self.best = mean_iou
        star = "  best so far, saved" if improved else ""
        self.say(f"  step {self.done}{self.whole}: loss {self.last:.4f}, val mean IoU {mean_iou:.4f}{star}")

    @contextmanager
    def pictures(self, number: int, what: str = "validation") -> Iterator[Callable[[], object]]:
        task = self.bars.add_task(f"  {what}", total=number)
        yield lambda: self.bars.update(task, advance=1)
        self.bars.remove_task(task)
