"""How a long pass over images tells how far it is: one kind of callback for the whole package."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_T = TypeVar("_T")

ProgressCallback = Callable[[int, int], object]
"""Called after each step with the number of steps done and that of all steps."""


def track(items: Iterable[_T], total: int, progress: ProgressCallback | None) -> Iterator[_T]:
    """Yield items, and report each when the next is asked for, so when the body of the loop is done with it.

    Example:
        >>> for name in track("ab", 2, lambda done, total: print(f"{done}/{total}")):
        ...     print(name)
        a
        1/2
        b
        2/2
    """
    for done, item in enumerate(items, 1):
        yield item
        if progress is not None:
            progress(done, total)
