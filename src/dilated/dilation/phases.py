"""Any layer on dense maps: the layer itself, unchanged, on phases of the map.

A dense map of rate d falls apart into d * d maps, one for each offset, and each is a map as the original knew it. So
whatever the layer does, run on the phases it does it to each, and phase (0, 0) is the original. A layer that strides by
s runs on s * s shifted copies as well: the values between those that its stride kept.

    >>> pool, image = nn.LPPool2d(2, 2), torch.rand(1, 3, 8, 8)
    >>> coarse = pool(image)
    >>> run_on_phases(pool, PhaseLayout(rate=(1, 1), shift=(1, 1), outputs=(((2, 2), (2, 3)),), inputs=((2, 3),)))
    >>> pool(image).shape, torch.equal(pool(image)[..., ::2, ::2], coarse)
    (torch.Size([1, 3, 8, 8]), True)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from dilated.dilation.rewrite import RewrittenLayer, rewrite

_SpatialAxes = tuple[int, int]


@dataclass(frozen=True)
class PhaseLayout:
    """How a layer's maps fall apart."""

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
        """How many phases there are of the result, downwards and across."""
        return next((output[0] for output in self.outputs if output), (1, 1))


class Phased(RewrittenLayer):
    """A layer that runs phase by phase, all phases in one batch."""

    phases: PhaseLayout

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        phases = self.phases
        leaves, shape = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if len(tensors) != len(phases.inputs):
            raise RuntimeError(
                f"{type(self).__name__}: found {len(tensors)} tensors among the arguments; expected "
                f"{len(phases.inputs)}, as when the network was dilated"
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
    """Lets a layer run phase by phase, in place."""
    rewrite(layer, Phased, phases=phases)


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
