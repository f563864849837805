"""Layers that stay themselves with another forward: on the phases of their maps, or with statistics on samples.

A layer's class is exchanged for a subclass made of a mixin and the class; nothing else is touched. Parameters, buffers,
hooks and children keep their names, so weights may be loaded before or after.

`Phased` treats any layer. A dense map of rate d falls apart into d * d maps, one for each offset, and each is a map as
the original knew it. So whatever the layer does, run on the phases it does it to each, and phase (0, 0) is the
original. A layer that strides by s runs on s * s shifted copies as well: the values between those that its stride kept.

    >>> pool, image = nn.LPPool2d(2, 2), torch.rand(1, 3, 8, 8)
    >>> coarse = pool(image)
    >>> run_on_phases(pool, PhaseLayout(rate=(1, 1), shift=(1, 1), outputs=(((2, 2), (2, 3)),), inputs=((2, 3),)))
    >>> pool(image).shape, torch.equal(pool(image)[..., ::2, ::2], coarse)
    (torch.Size([1, 3, 8, 8]), True)

`Sampled` treats squeeze-and-excitation, response norms, a classifier's pooling. A mean over a dense map is not the
original's mean. Over the samples X[::d, ::d] it is, and what follows from it, a gate for every channel, serves all
positions.

    >>> pool, image = nn.AdaptiveAvgPool2d(1), torch.rand(1, 3, 8, 8)
    >>> coarse = pool(image[..., ::2, ::2])
    >>> run_on_samples(pool, {"adaptive_avg_pool2d": (((2, 3), (2, 2)),)})
    >>> torch.equal(pool(image), coarse)
    True
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from dilated.errors import InputError

_SpatialAxes = tuple[int, int]


class RewrittenLayer:
    """Base of the mixins that give a layer another forward; `super().forward` is the layer's own."""

    def __reduce__(self) -> Any:
        # The class is made at run time, so copies and pickles name its two parents.
        mixin, base = type(self).__mro__[1], type(self).__bases__[1]
        return _new_instance, (mixin, base), self.__dict__


def rewrite(layer: nn.Module, mixin: Any, **attributes: Any) -> None:
    """Give a layer the forward of `mixin` and the attributes that it reads, in place."""
    for name, value in attributes.items():
        setattr(layer, name, value)
    base: Any = type(layer)
    layer.__class__ = _make_subclass(mixin, base)


def original_type(layer: nn.Module | RewrittenLayer) -> type:
    """The class of a layer before it was rewritten."""
    return type(layer).__bases__[1] if isinstance(layer, RewrittenLayer) else type(layer)


def _new_instance(mixin: Any, base: Any) -> nn.Module:
    cls = _make_subclass(mixin, base)
    return cls.__new__(cls)


@cache
def _make_subclass(mixin: Any, base: Any) -> Any:
    return type(f"{mixin.__name__.lstrip('_')}{base.__name__}", (mixin, base), {"__module__": base.__module__})


@dataclass(frozen=True)
class PhaseLayout:
    """How the maps of a layer fall apart into phases."""

    rate: tuple[int, int]
    """Of the inputs."""
    shift: tuple[int, int]
    """By how many of the original's samples the copies are shifted against each other."""
    inputs: tuple[_SpatialAxes | None, ...]
    """For each tensor among the arguments, where its rows and columns lie; None if it has none."""
    outputs: tuple[tuple[tuple[int, int], _SpatialAxes] | None, ...]
    """For each tensor of the result, its rate and where its rows and columns lie; None if it has none."""

    @property
    def phase_counts(self) -> tuple[int, int]:
        """How many phases the result has along rows and along columns."""
        return next((output[0] for output in self.outputs if output), (1, 1))


class _Phased(RewrittenLayer):
    """A layer that runs phase by phase, all phases in one batch."""

    phases: PhaseLayout

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        phases = self.phases
        leaves, shape = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if len(tensors) != len(phases.inputs):
            raise InputError(
                f"dilated layer ({original_type(self).__name__}): {len(tensors)} tensors among the arguments, and "
                f"{len(phases.inputs)} when the network was dilated"
            )
        input_axes = iter(phases.inputs)
        leaves = [
            _split_phases(leaf, phases, next(input_axes)) if isinstance(leaf, Tensor) else leaf for leaf in leaves
        ]
        args, kwargs = tree_unflatten(leaves, shape)
        results, shape = tree_flatten(super().forward(*args, **kwargs))  # type: ignore[misc]
        output_phases = iter(phases.outputs)
        return tree_unflatten(
            [_merge_phases(x, phases, next(output_phases)) if isinstance(x, Tensor) else x for x in results], shape
        )


def run_on_phases(layer: nn.Module, phases: PhaseLayout) -> None:
    """Let a layer run phase by phase, in place."""
    rewrite(layer, _Phased, phases=phases)


def _split_phases(x: Tensor, phases: PhaseLayout, axes: _SpatialAxes | None) -> Tensor:
    """All phases of a map in one batch, those of the first row of offsets first."""
    row_phases, column_phases = phases.phase_counts
    if axes is None:
        return x.repeat(row_phases * column_phases, *[1] * (x.ndim - 1)) if x.ndim else x
    rows = [_extract_phase(x, offset, phases.rate[0], phases.shift[0], axes[0]) for offset in range(row_phases)]
    return torch.cat(
        [
            _extract_phase(row, column_offset, phases.rate[1], phases.shift[1], axes[1])
            for row in rows
            for column_offset in range(column_phases)
        ]
    )


def _extract_phase(x: Tensor, offset: int, rate: int, shift: int, axis: int) -> Tensor:
    """One phase along one axis; shifted ones are filled up with zeros at the end."""
    start = offset % rate + rate * (offset // rate * shift)
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, None, rate)
    phase = x[tuple(index)]
    padding = x.shape[axis] // rate - phase.shape[axis]
    return F.pad(phase, [0, 0] * (x.ndim - 1 - axis) + [0, padding]) if padding else phase


def _merge_phases(x: Tensor, phases: PhaseLayout, output: tuple[tuple[int, int], _SpatialAxes] | None) -> Tensor:
    """The phases of a result, interleaved; of one without rows and columns, that of the original."""
    row_phases, column_phases = phases.phase_counts
    if row_phases * column_phases == 1:
        return x
    x = x.unflatten(0, (row_phases, column_phases, -1))
    if output is None:
        return x[0, 0]
    rows, columns = output[1][0] + 2, output[1][1] + 2
    dims = list(range(2, x.ndim))
    order: list[int] = []
    for axis in dims:  # each offset goes behind its axis
        order += [axis, 0] if axis == rows else [axis, 1] if axis == columns else [axis]
    x = x.permute(order)
    row_dim = order.index(rows)
    x = x.flatten(row_dim, row_dim + 1)
    return x.flatten(row_dim + 1, row_dim + 2)


SampleGrid = tuple[tuple[int, int], tuple[int, int]]
"""Where the rows and columns lie, and the map's rate."""
SampledCalls = Mapping[str, tuple[SampleGrid | None, ...]]
"""By a function's name, what to do at each call of it; None: nothing."""


class _Sampled(RewrittenLayer):
    """A layer some of whose operations see the samples of their first argument only."""

    sampled_calls: SampledCalls

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _SamplingMode(original_type(self).__name__, self.sampled_calls):
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
            raise InputError(
                f"dilated layer ({self.layer}): call {call_index + 1} of {name}, and {len(grids)} when the network was "
                "dilated"
            )
        grid = grids[call_index]
        if grid is not None:
            samples = subsample(args[0], grid)
            args = [samples.contiguous() if name == "view" else samples, *args[1:]]
        with torch._C.DisableTorchFunction():  # an enclosing layer counts only its own calls
            return func(*args, **kwargs)


def run_on_samples(layer: nn.Module, calls: SampledCalls) -> None:
    """Let the named calls of functions that a layer makes see samples only, in place."""
    rewrite(layer, _Sampled, sampled_calls=dict(calls))


def subsample(x: Tensor, grid: SampleGrid) -> Tensor:
    """Take X[::d, ::d] along the rows and columns of a map."""
    (rows, columns), rate = grid
    index = [slice(None)] * x.ndim
    index[rows], index[columns] = slice(None, None, rate[0]), slice(None, None, rate[1])
    return x[tuple(index)]
