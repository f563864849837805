"""An iterator run ahead in a thread, and calls run behind in threads, both with bounded queues.

    with closing(Ahead(iterator, 4)) as items, Behind(1, 4) as behind:
        for item in items:                               # at most 4 have been made and not been taken
            behind.put(print, item)                      # waits while 4 calls have not been done

What goes wrong in a thread is raised again where its results are taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import Empty, Full, Queue
from threading import BoundedSemaphore, Event, Thread
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


class Prefetcher(Generic[_T]):
    """An iterator over what a generator yields in a thread of its own.

    Args:
        items: closed in that thread when all is taken or this is closed.
        depth: how many items may wait to be taken.

    Example:
        >>> list(Prefetcher((i for i in range(3)), 1))
        [0, 1, 2]
    """

    def __init__(self, items: Generator[_T, None, None] | Iterator[_T], depth: int) -> None:
        self.items = items
        self.queue: Queue[tuple[str, Any]] = Queue(depth)
        self.stopped = Event()
        self.thread = Thread(target=self._run, name="prefetcher", daemon=True)
        self.thread.start()

    def __iter__(self) -> Iterator[_T]:
        return self

    def __next__(self) -> _T:
        if self.stopped.is_set():
            raise StopIteration
        while True:
            try:
                kind, value = self.queue.get(timeout=0.5)  # so that Ctrl-C is heard wherever Python runs
                break
            except Empty:
                continue
        if kind == "item":
            return value
        self.stopped.set()
        if kind == "error":
            raise value
        raise StopIteration

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self.stopped.set()
        self.thread.join()

    def _run(self) -> None:
        try:
            for item in self.items:
                if not self._put("item", item):
                    break
        except BaseException as error:
            self._put("error", error)
        else:
            self._put("end", None)
        finally:
            if isinstance(self.items, Generator):
                self.items.close()

    def _put(self, kind: str, value: Any) -> bool:
        while not self.stopped.is_set():
            try:
                self.queue.put((kind, value), timeout=0.1)
                return True
            except Full:
                continue
        return False


class AsyncWriter:
    """Calls done in threads, in their order if there is one thread.

    Leaving the context waits for all calls.

    Args:
        workers: how many threads.
        depth: how many calls may not be done yet.
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

    def put(self, function: Callable[..., object], *arguments: object) -> None:
        """Have something done, once there is room."""
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


def map_ordered(function: Callable[[_T], _R], items: Iterable[_T], workers: int, depth: int) -> Iterator[_R]:
    """The results of calls in the order of the items, made by several threads if `workers` is above 1.

    Args:
        depth: how many results may be under way.

    Example:
        >>> list(map_ordered(abs, [-3, 2, -1], workers=2, depth=2))
        [3, 2, 1]
    """
    if workers == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="reader") as pool:
        pending: deque[Future[_R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) == depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
