"""A function applied to many items, in order, by several processes that all know the same state.

    with open_pool(samples, workers=2, num_items=100_000) as pool:
        for result in pool.map(inspect, items): ...      # inspect(samples, item)

The state is sent to each process once, so that what samples share, such as the file that describes them all, is not
sent with each. Processes are started as programs of their own and not by `multiprocessing`, whose children run the
caller's script again where it lacks an `if __name__ == "__main__"`.
"""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from queue import SimpleQueue
from typing import IO, Any, Generic, TypeVar

from PIL import Image

from dilated.errors import InputError
from dilated.files import plural

_State = TypeVar("_State")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

MIN_ITEMS = 400
"""The fewest items for which processes are started, which takes two seconds; threads read fewer."""
_MAX_STATE_BYTES = 256 << 20  # a state of more would fill the memory once for each process; threads share it
_BLOCK = 16  # items that a process is sent at once
_PENDING_BLOCKS = 4  # for each process
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LENGTH = struct.Struct("<Q")


class WorkerPool(Generic[_State]):
    """Applies functions to items in threads, all in this process."""

    def __init__(self, state: _State, workers: int) -> None:
        self._state, self._workers = state, workers

    def map(self, function: Callable[[_State, _Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
        """Yield `function(state, item)` of each item, in order."""
        blocks = [items[start : start + _BLOCK] for start in range(0, len(items), _BLOCK)]
        with ThreadPoolExecutor(self._workers) as threads:
            pending: deque[Future[list[_Result]]] = deque()
            try:
                for block in blocks:
                    pending.append(threads.submit(self._apply, function, block))
                    if len(pending) >= _PENDING_BLOCKS * self._workers:
                        yield from pending.popleft().result()
                yield from chain.from_iterable(future.result() for future in pending)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise

    def _apply(self, function: Callable[[_State, _Item], _Result], block: Sequence[_Item]) -> list[_Result]:
        return [function(self._state, item) for item in block]

    def close(self) -> None:
        """End the processes, also those that are at work."""


class _ProcessPool(WorkerPool[_State]):
    """Applies functions to items in processes, each of which a thread waits for."""

    def __init__(self, state: bytes, workers: int) -> None:
        self._workers = workers
        self._processes = [_start() for _ in range(workers)]
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._is_closed = False
        with suppress(OSError):  # of one that has ended already, which is said once its answer is asked for
            for process in self._processes:
                _send(process.stdin, state)
        for process in self._processes:
            self._idle.put(process)

    def _apply(self, function: Callable[[_State, _Item], _Result], block: Sequence[_Item]) -> list[_Result]:
        process = self._idle.get()
        try:
            _send(process.stdin, pickle.dumps((function, block)))
            results, error = pickle.loads(_receive(process.stdout))
        except (EOFError, OSError) as failure:
            if self._is_closed:
                raise
            raise self._make_ended_error(process) from failure
        finally:
            self._idle.put(process)
        if error is not None:
            raise error
        return list(results)

    def _make_ended_error(self, process: subprocess.Popen[bytes]) -> InputError:
        status = process.wait()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return InputError(
            f"reading images: one of {plural(self._workers, 'worker process')} ended early ({how})",
            hint=f"give fewer --workers, such as {self._workers // 2 or 1}, if the system ended it for want of memory",
        )

    def close(self) -> None:
        self._is_closed = True
        for process in self._processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):  # what was not sent yet
                    stream.close()  # type: ignore[union-attr]


@contextmanager
def open_pool(state: _State, workers: int, num_items: int) -> Iterator[WorkerPool[_State]]:
    """Start processes, or threads where those cost more than they save; the results are the same.

    Args:
        state: what all calls are given first.
        workers: how many calls run at once.
        num_items: about how many there will be.

    Example:
        >>> with open_pool({"a": 1, "b": 2}, workers=2, num_items=2) as pool:
        ...     list(pool.map(dict.get, ["b", "a"]))
        [2, 1]
    """
    _keep_freed_memory()
    sent = _dump(state) if workers > 1 and num_items >= MIN_ITEMS and sys.executable else None
    pool = WorkerPool(state, workers) if sent is None else _ProcessPool[_State](sent, workers)
    try:
        yield pool
    finally:
        pool.close()


def _keep_freed_memory() -> None:
    """Let glibc keep what arrays leave for the next: it would map and unmap each, half of the time here."""
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, size in ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 128 << 20)):
            mallopt(parameter, size)


class _BoundedBytes(io.BytesIO):
    def write(self, data: Any, /) -> int:
        if self.tell() + memoryview(data).nbytes > _MAX_STATE_BYTES:
            raise OverflowError
        return super().write(data)


def _dump(state: object) -> bytes | None:
    """The state and what this process has set, to be sent; None where it is too large, or bound to this process."""
    file = _BoundedBytes()
    try:
        pickle.dump((Image.MAX_IMAGE_PIXELS, state), file)
    except (OverflowError, pickle.PicklingError, AttributeError, TypeError):
        return None
    data = file.getvalue()
    return None if b"__main__" in data else data  # a reader of the caller's script, which other processes do not run


def _start() -> subprocess.Popen[bytes]:
    """Start a process that serves; in a session of its own, so that Ctrl-C reaches this one alone, which ends it."""
    main = _serve.__name__
    code = f"import sys; sys.path[:] = {sys.path!r}; from {_serve.__module__} import {main}; {main}()"
    command = [sys.executable, "-c", code]
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **os.environ}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=environment
    )


def _send(stream: IO[bytes] | None, data: bytes) -> None:
    assert stream is not None
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _receive(stream: IO[bytes] | None) -> bytes:
    """One message.

    Raises:
        EOFError: the other process has ended.
    """
    assert stream is not None
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(head)
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _serve() -> None:
    """Answer the process that started this one until it ends or closes the pipe: the main function of a worker."""
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_freed_memory()
    with suppress(EOFError, BrokenPipeError):
        Image.MAX_IMAGE_PIXELS, state = pickle.loads(_receive(source))
        while True:
            function, block = pickle.loads(_receive(source))
            try:
                answer = pickle.dumps(([function(state, item) for item in block], None))
            except Exception as error:
                answer = pickle.dumps((None, error))
            _send(target, answer)
