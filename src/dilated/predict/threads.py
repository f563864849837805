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

T = TypeVar("T")
R = TypeVar("R")


class Ahead(Generic[T]):
    """An iterator over what a generator yields in a thread of its own.

    Args:
        items: closed in that thread when all is taken or this is closed.
        depth: how many items may wait to be taken.

    Example:
        >>> list(Ahead((i for i in range(3)), 1))
        [0, 1, 2]
    """

    def __init__(self, items: Generator[T, None, None] | Iterator[T], depth: int) -> None:
        self.items = items
        self.queue: Queue[tuple[str, Any]] = Queue(depth)
        self.stopped = Event()
        self.thread = Thread(target=self._run, name="ahead", daemon=True)
        self.thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self.stopped.is_set():
            raise StopIteration
        while True:
            try:
                what, value = self.queue.get(timeout=0.5)  # so that Ctrl-C is heard wherever Python runs
                break
            except Empty:
                continue
        if what == "item":
            return value
        self.stopped.set()
        if what == "error":
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

    def _put(self, what: str, value: Any) -> bool:
        while not self.stopped.is_set():
            try:
                self.queue.put((what, value), timeout=0.1)
                return True
            except Full:
                continue
        return False


class Behind:
    """Calls done in threads, in their order if there is one thread.

    Leaving the context waits for all calls.

    Args:
        workers: how many threads.
        depth: how many calls may not be done yet.
    """

    def __init__(self, workers: int, depth: int) -> None:
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="behind")
        self.room = BoundedSemaphore(depth)
        self.under_way: set[Future[None]] = set()
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(wait=True)
        if self.error is not None and error is None:
            raise self.error

    def put(self, call: Callable[..., object], *arguments: object) -> None:
        """Have something done, once there is room."""
        if self.error is not None:
            raise self.error
        while not self.room.acquire(timeout=0.5):
            continue
        future = self.pool.submit(self._run, call, arguments)
        self.under_way.add(future)
        future.add_done_callback(self.under_way.discard)

    def wait(self) -> None:
        """Wait until all calls are done."""
        wait(list(self.under_way))
        if self.error is not None:
            raise self.error

    def _run(self, call: Callable[..., object], arguments: tuple[object, ...]) -> None:
        try:
            if self.error is None:
                call(*arguments)
        except BaseException as error:
            self.error = error
        finally:
            self.room.release()


def in_order(call: Callable[[T], R], items: Iterable[T], workers: int, depth: int) -> Iterator[R]:
    """The results of calls in the order of the items, made by several threads if `workers` is above 1.

    Args:
        depth: how many results may be under way.

    Example:
        >>> list(in_order(abs, [-3, 2, -1], workers=2, depth=2))
        [3, 2, 1]
    """
    if workers == 1:
        yield from map(call, items)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="reader") as pool:
        under_way: deque[Future[R]] = deque()
        try:
            for item in items:
                under_way.append(pool.submit(call, item))
                if len(under_way) == depth:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
