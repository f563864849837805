"""Blocks in which some warnings are not shown, in any number of threads at once.

    with without_warnings(UserWarning): ...

`warnings.catch_warnings` keeps the filters of the whole process: of two threads, the one that leaves first brings the
warnings of the other back, and the one that leaves last restores what the first had set.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
_filters: list[warnings.catch_warnings[None]] = []
"""What restores the filters, while some block runs."""
_blocks = 0


@contextmanager
def without_warnings(category: type[Warning]) -> Iterator[None]:
    """Ignore warnings of a category until this block, and all that overlap with it in other threads, have ended.

    Example:
        >>> with without_warnings(UserWarning):
        ...     warnings.warn("not shown")
    """
    global _blocks
    with _lock:
        if _blocks == 0:
            _filters.append(warnings.catch_warnings())
            _filters[0].__enter__()
        warnings.simplefilter("ignore", category)
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0:
                _filters.pop().__exit__(None, None, None)
