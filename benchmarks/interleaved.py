"""Times of several ways to compute the same, taken in turns, so that other load on the machine meets all of them.

wall, processor = time_interleaved({"a": run_a, "b": run_b}, rounds=5)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def time_interleaved(
    ways: Mapping[str, Callable[[], object]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Run each way once a round; the seconds by the wall, and those of the processor over all threads."""
    wall: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            began, used = time.perf_counter(), time.process_time()
            run()
            wall[way].append(time.perf_counter() - began)
            processor[way].append(time.process_time() - used)
    return wall, processor
