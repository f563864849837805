"""Times of what runs on a GPU, in CUDA graphs and in turns, and a report that is written as it grows."""

from __future__ import annotations

import faulthandler
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

IS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if IS_GPU else "cpu"
DTYPE = torch.bfloat16 if IS_GPU else torch.float16  # Triton's interpreter cannot multiply bf16
SHRINK = 1 if IS_GPU else 32
_BEGAN = float(os.environ.setdefault("GPU_NETWORKS_BEGAN", str(time.time())))  # of all stages
_SILENCE = 12
"""Seconds without a word after which the places where the program is are printed."""


def elapsed() -> float:
    return time.time() - _BEGAN


def show(text: str) -> None:
    """Print at once; what hangs afterwards says where."""
    print(text, flush=True)
    faulthandler.dump_traceback_later(_SILENCE, repeat=True)


def say(text: str) -> None:
    show(f"[{elapsed():5.1f}s] {text}")


def in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


class Report:
    """What has been measured, written to a file whenever it grows."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.content: dict[str, Any] = {"layers": {}, "networks": {}, "labels": {}, "contexts": {}, "errors": []}

    def put(self, section: str, key: str, value: object) -> None:
        self.content[section][key] = value
        self.save()

    def fail(self, place: str, error: BaseException) -> None:
        self.content["errors"].append(f"{place}: {in_one_line(error)}")
        say(f"{place}: {in_one_line(error)}")
        self.save()

    def save(self) -> None:
        if self.path is not None:
            part = self.path.with_suffix(".part")
            part.write_text(json.dumps(self.content, indent=1))
            part.replace(self.path)


def capture(run: Callable[[], object], repeats: int = 1) -> Callable[[], object]:
    """Record some runs in a CUDA graph; what replays it."""
    if not IS_GPU:
        return lambda: [run() for _ in range(repeats)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            kept = run()
    del kept
    return graph.replay


def time_once(run: Callable[[], object]) -> float:
    """Milliseconds."""
    if not IS_GPU:
        began = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - began)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def synchronize() -> None:
    if IS_GPU:
        torch.cuda.synchronize()


def time_all(ways: dict[str, Callable[[], object]], rounds: int, repeats: int = 1) -> dict[str, float]:
    """The median milliseconds of one run of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds if IS_GPU else 1):
        for name, run in ways.items():
            times[name].append(time_once(run) / repeats)
    return {name: median(values) for name, values in times.items()}
