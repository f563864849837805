"""Threads that make and write: bounded, ended with what they serve, and in order."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from dilated.prediction.prefetch import AsyncWriter, map_ordered, prefetch


def test_memory_is_bounded_by_the_queues() -> None:
    made, taken = [0], [0]

    def items() -> Any:
        for i in range(50):
            made[0] += 1
            yield i

    prefetcher = prefetch(items(), 3)
    for i in prefetcher:
        assert i == taken[0]
        taken[0] += 1
        time.sleep(0.001)
        assert made[0] - taken[0] <= 4, "three wait, and one may be in the making"
    assert taken[0] == 50

    gate, done = threading.Event(), []
    with AsyncWriter(1, 2) as async_writer:
        async_writer.submit(gate.wait)
        async_writer.submit(done.append, 1)
        late = threading.Thread(target=async_writer.submit, args=(done.append, 2))
        late.start()
        late.join(0.05)
        assert late.is_alive(), "there is no room"
        gate.set()
        late.join()
    assert done == [1, 2]


def test_closing_stops_a_maker_that_waits() -> None:
    closed = threading.Event()

    def items() -> Any:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    prefetcher = prefetch(items(), 1)
    next(prefetcher)
    prefetcher.close()
    assert closed.is_set()


def test_an_error_of_a_maker_is_raised_after_the_items_before_it() -> None:
    def items() -> Any:
        yield 1
        raise KeyError("mine")

    prefetcher = prefetch(items(), 3)
    assert next(prefetcher) == 1
    with pytest.raises(KeyError, match="mine"):
        next(prefetcher)
    assert list(prefetcher) == []
    prefetcher.close()
    assert list(prefetcher) == []


def test_results_come_in_order_whoever_is_first() -> None:
    def slow(i: int) -> int:
        time.sleep(0.002 * (3 - i % 3))
        return i

    assert list(map_ordered(slow, range(12), workers=4, depth=5)) == list(range(12))
