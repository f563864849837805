"""Statistics over a dense map, taken on its samples: squeeze-and-excitation, response norms, a classifier's pooling.

A mean over a dense map is not the original's mean. Over the samples X[::d, ::d] it is, and what follows from it, a
gate for every channel, serves all positions.

    >>> pool, picture = nn.AdaptiveAvgPool2d(1), torch.rand(1, 3, 8, 8)
    >>> coarse = pool(picture[..., ::2, ::2])
    >>> sample(pool, {"adaptive_avg_pool2d": (((2, 3), (2, 2)),)})
    >>> torch.equal(pool(picture), coarse)
    True
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dilated.nn.rewritten import Rewritten, rewrite

Samples = tuple[tuple[int, int], tuple[int, int]]
"""Where the rows and columns lie, and the map's rate."""
Calls = Mapping[str, tuple[Samples | None, ...]]
"""By a function's name, what to do at each call of it; None: nothing."""


class Sampled(Rewritten):
    """A layer some of whose operations see the samples of their first argument only."""

    sampled: Calls

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _Sampling(type(self).__name__, self.sampled):
            return super().forward(*args, **kwargs)  # type: ignore[misc]


class _Sampling(TorchFunctionMode):
    def __init__(self, layer: str, calls: Calls) -> None:
        super().__init__()
        self.layer = layer
        self.calls = calls
        self.counts = dict.fromkeys(calls, 0)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in self.calls:
            return func(*args, **kwargs)
        plan = self.calls[name]
        count = self.counts[name]
        self.counts[name] += 1
        if count >= len(plan):
            raise RuntimeError(
                f"{self.layer}: found call {count + 1} of {name}; expected {len(plan)}, as when the network was dilated"
            )
        samples = plan[count]
        if samples is not None:
            args = [sampled(args[0], samples), *args[1:]]
        with torch._C.DisableTorchFunction():  # a layer around this one counts its own calls only
            return func(*args, **kwargs)


def sample(layer: nn.Module, calls: Calls) -> None:
    """Lets the named calls of functions that a layer makes see samples only, in place."""
    rewrite(layer, Sampled, sampled=dict(calls))


def sampled(x: Tensor, samples: Samples) -> Tensor:
    """X[::d, ::d] along the rows and columns."""
    (rows, columns), rate = samples
    index = [slice(None)] * x.ndim
    index[rows], index[columns] = slice(None, None, rate[0]), slice(None, None, rate[1])
    return x[tuple(index)]
