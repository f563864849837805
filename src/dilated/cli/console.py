"""A bar on a terminal while images are gone through; nothing in a pipe.

with counting(len(pairs), "val") as tick:
    evaluate(predictor, pairs, classes, tick)        # calls tick() after each image
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


@contextmanager
def progress_bar(total: int, description: str) -> Iterator[Callable[[], None]]:
    """A context for a pass over so many images; what it yields is called after each of them.

    The bar is gone when the context ends, also by an error, which is told on the same stream.
    """
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=total)
        yield lambda: progress.advance(task)
