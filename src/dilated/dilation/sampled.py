"""Statistics over a dense map, taken on its samples: squeeze-and-excitation, response norms, a classifier's pooling.

A mean over a dense map is not the original's mean. Over the samples X[::d, ::d] it is, and what follows from it, a
gate for every channel, serves all positions.

    >>> pool, image = nn.AdaptiveAvgPool2d(1), torch.rand(1, 3, 8, 8)
    >>> coarse = pool(image[..., ::2, ::2])
    >>> run_on_samples(pool, {"adaptive_avg_pool2d": (((2, 3), (2, 2)),)})
    >>> torch.equal(pool(image), coarse)
    True
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dilated.dilation.rewrite import RewrittenLayer, rewrite

SampleGrid = tuple[tuple[int, int], tuple[int, int]]
"""Where the rows and columns lie, and the map's rate."""
SampledCalls = Mapping[str, tuple[SampleGrid | None, ...]]
"""By a function's name, what to do at each call of it; None: nothing."""


class Sampled(RewrittenLayer):
    """A layer some of whose operations see the samples of their first argument only."""

    sampled_calls: SampledCalls

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _SamplingMode(type(self).__name__, self.sampled_calls):
            return super().forward(*args, **kwargs)  # type: ignore[misc]


class _SamplingMode(TorchFunctionMode):
    def __init__(self, layer: str, calls: SampledCalls) -> None:
        super().__init__()
        self.layer = layer
        self.calls = calls
        self.call_counts = dict.fromkeys(calls, 0)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in self.calls:
            return func(*args, **kwargs)
        grids = self.calls[name]
        call_index = self.call_counts[name]
        self.call_counts[name] += 1
        if call_index >= len(grids):
            raise RuntimeError(
                f"{self.layer}: found call {call_index + 1} of {name}; expected {len(grids)}, as when the network was dilated"
            )
        grid = grids[call_index]
        if grid is not None:
            args = [_subsample(args[0], grid), *args[1:]]
        with torch._C.DisableTorchFunction():  # a layer around this one counts its own calls only
            return func(*args, **kwargs)


def run_on_samples(layer: nn.Module, calls: SampledCalls) -> None:
    """Lets the named calls of functions that a layer makes see samples only, in place."""
    rewrite(layer, Sampled, sampled_calls=dict(calls))


def _subsample(x: Tensor, grid: SampleGrid) -> Tensor:
    """X[::d, ::d] along the rows and columns."""
    (rows, columns), rate = grid
    index = [slice(None)] * x.ndim
    index[rows], index[columns] = slice(None, None, rate[0]), slice(None, None, rate[1])
    return x[tuple(index)]
