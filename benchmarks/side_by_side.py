"""Many pieces of work in several processes, until the time is up: whatever has been done by then is kept.

    for task, outcome in run_side_by_side(work, tasks, jobs=16, seconds=250):  # in the order in which they end
        print(task, outcome)                                                   # what work(task) gave, or a Failure

For machines that are lent for minutes. A piece of work that fails, or whose process is killed, is told of and the
others go on; at the end of the time all processes are killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
_PRELOADED = ["dilated.api"]
"""Imported once, before the processes are forked: torch alone takes seconds. It starts no device."""


@dataclass(frozen=True)
class Failure:
    """A piece of work that was not done."""

    reason: str


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    connection: Connection


def run_side_by_side(
    work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, seconds: float | None = None
) -> Iterator[tuple[Task, Result | Failure]]:
    """Yield each task with its outcome as soon as it is done.

    Args:
        work: a function of a module, or a `functools.partial` of one; what it prints is dropped.
        tasks: begun in their order; each can be pickled.
        jobs: processes.
        seconds: after which what is being done is killed and what waits is left; no limit if not given.
    """
    end = None if seconds is None else time.monotonic() + seconds
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    waiting, workers, busy = deque(tasks), list[_Worker](), dict[Connection, tuple[_Worker, Task]]()

    def begin(worker: _Worker) -> None:
        if waiting:
            task = waiting.popleft()
            worker.connection.send(task)
            busy[worker.connection] = worker, task

    def start() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        process.start()
        theirs.close()
        workers.append(_Worker(process, ours))
        begin(workers[-1])

    try:
        for _ in range(min(jobs, len(tasks))):
            start()
        while busy:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            for connection in wait(list(busy), left):
                assert isinstance(connection, Connection)
                worker, task = busy.pop(connection)
                try:
                    outcome = connection.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    outcome = Failure(f"its process ended with {worker.process.exitcode}")
                    if waiting:
                        start()
                else:
                    begin(worker)
                yield task, outcome
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.connection.close()


def _serve(connection: Connection, work: Callable[[Task], Result]) -> None:
    """Do one task after the other, in a process of its own."""
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        while True:
            try:
                task = connection.recv()
            except EOFError:
                return
            try:
                outcome: Result | Failure = work(task)
            except Exception as error:  # whatever it is, the other tasks are done
                lines = str(error).strip().splitlines() or [""]
                outcome = Failure(f"{type(error).__name__}: {lines[-1][:300]}")
            try:
                connection.send(outcome)
            except OSError:  # nobody waits for it any more
                return
