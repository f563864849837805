"""A function on a GPU, recorded as a CUDA graph per shape of its input: its kernels start without the processor.

label = GraphCache(network.label_pixels)
labels = label(images)                               # recorded at the second image of a size, if that is faster
"""

from __future__ import annotations

import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_MOST_RECORDINGS = 4
"""Each keeps the memory of its maps."""
_MARGIN = 0.97
"""The fraction of the plain run's time that a replay must take to be used."""


@dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    images: Tensor
    result: Tensor

    def replay(self, images: Tensor) -> Tensor:
        self.images.copy_(images)
        self.graph.replay()
        return self.result.clone()


class GraphCache:
    """A function of one tensor, which it does not change, on a GPU or elsewhere; recorded only on a GPU."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function
        self._recordings: OrderedDict[tuple[torch.Size, torch.dtype], _Recording | None] = OrderedDict()
        self._seen: set[tuple[torch.Size, torch.dtype]] = set()

    def __call__(self, images: Tensor) -> Tensor:
        key = images.shape, images.dtype
        if not images.is_cuda or key not in self._seen:
            self._seen.add(key)  # the first run of a shape times its layers' kernels
            return self.function(images)
        if key not in self._recordings:
            self._recordings[key] = self._record(images)
            if len(self._recordings) > _MOST_RECORDINGS:
                self._recordings.popitem(last=False)
        recording = self._recordings[key]
        self._recordings.move_to_end(key)
        return self.function(images) if recording is None else recording.replay(images)

    def _record(self, images: Tensor) -> _Recording | None:
        """Record a run; None where that fails or is no faster."""
        static = images.clone()
        try:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self.function(static)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = self.function(static)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            warnings.warn(f"the network cannot be recorded as a CUDA graph ({reason}); it runs plainly", stacklevel=2)
            return None
        recording = _Recording(graph, static, result)
        plain, replayed = (_time(run, static) for run in (self.function, recording.replay))
        return recording if replayed < _MARGIN * plain else None


def _time(run: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """Seconds, the processor's part included: the lesser of two runs."""
    seconds = []
    for _ in range(2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        run(images)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
