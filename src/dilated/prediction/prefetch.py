"""Reading ahead and writing behind in threads, both with bounded queues.

    with closing(prefetch(generator, 4)) as items, AsyncWriter(1, 4) as async_writer:
        for item in items:                               # at most 4 have been made and not been taken
            async_writer.submit(print, item)             # waits while 4 calls have not been done

An error in a thread is raised again where its results are taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import count, islice
from threading import BoundedSemaphore
from types import TracebackType
from typing import Self, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


def prefetch(items: Generator[_T, None, None], depth: int) -> Generator[_T, None, None]:
    """Yield what a generator yields in a thread of its own; it is closed with this one.

    Args:
        depth: how many items may wait to be taken.

    Example:
        >>> list(prefetch((i for i in range(3)), 1))
        [0, 1, 2]
    """
    # A list of the next item, or an empty one at the end: StopIteration cannot be raised through a future.
    chunks = map_ordered(lambda _: list(islice(items, 1)), count(), 1, depth)
    with closing(items), closing(chunks):
        for chunk in chunks:
            if not chunk:
                return
            yield chunk[0]


class AsyncWriter:
    """Runs calls in threads, in their order if there is one thread.

    Leaving the context waits for all calls.

    Args:
        workers: how many threads.
        depth: how many calls may be unfinished.
    """

    def __init__(self, workers: int, depth: int) -> None:
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="writer")
        self.slots = BoundedSemaphore(depth)
        self.pending: set[Future[None]] = set()
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(wait=True)
        if self.error is not None and error is None:
            raise self.error

    def submit(self, function: Callable[..., object], *arguments: object) -> None:
        """Run a call in a thread; waits while too many are unfinished."""
        if self.error is not None:
            raise self.error
        while not self.slots.acquire(timeout=0.5):
            continue
        future = self.pool.submit(self._run, function, arguments)
        self.pending.add(future)
        future.add_done_callback(self.pending.discard)

    def wait(self) -> None:
        """Wait until all calls are done."""
        wait(list(self.pending))
        if self.error is not None:
            raise self.error

    def _run(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        try:
            if self.error is None:
                function(*arguments)
        except BaseException as error:
            self.error = error
        finally:
            self.slots.release()


def map_ordered(
    function: Callable[[_T], _R], items: Iterable[_T], workers: int, depth: int
) -> Generator[_R, None, None]:
    """Yield the results of calls in the order of the items, made by several threads.

    Args:
        depth: how many calls may be unfinished or not taken.

    Example:
        >>> list(map_ordered(abs, [-3, 2, -1], workers=2, depth=2))
        [3, 2, 1]
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="reader") as pool:
        pending: deque[Future[_R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) == depth:
                    yield _wait_for_result(pending.popleft())
            while pending:
                yield _wait_for_result(pending.popleft())
        finally:
            for future in pending:
                future.cancel()


def _wait_for_result(future: Future[_R]) -> _R:
    while not wait([future], timeout=0.5).done:  # so that Ctrl-C is handled on every system
        continue
    return future.result()
