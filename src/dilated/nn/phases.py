"""Any layer on dense maps: the layer itself, unchanged, on phases of the map.

A dense map of rate d falls apart into d * d maps, one for each offset, and each is a map as the original knew it. So
whatever the layer does, run on the phases it does it to each, and phase (0, 0) is the original. A layer that strides by
s runs on s * s shifted copies as well: the values between those that its stride kept.

    >>> pool, picture = nn.LPPool2d(2, 2), torch.rand(1, 3, 8, 8)
    >>> coarse = pool(picture)
    >>> run_on_phases(pool, Phases(rate=(1, 1), shift=(1, 1), outputs=(((2, 2), (2, 3)),), inputs=((2, 3),)))
    >>> pool(picture).shape, torch.equal(pool(picture)[..., ::2, ::2], coarse)
    (torch.Size([1, 3, 8, 8]), True)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from dilated.nn.rewritten import Rewritten, rewrite

Axes = tuple[int, int]


@dataclass(frozen=True)
class Phases:
    """How a layer's maps fall apart."""

    rate: tuple[int, int]
    """Of the inputs."""
    shift: tuple[int, int]
    """By how many of the original's samples the copies are shifted against each other."""
    inputs: tuple[Axes | None, ...]
    """For each tensor among the arguments, where its rows and columns lie; None if it has none."""
    outputs: tuple[tuple[tuple[int, int], Axes] | None, ...]
    """For each tensor of the result, its rate and where its rows and columns lie; None if it has none."""

    @property
    def branches(self) -> tuple[int, int]:
        """How many phases there are of the result, downwards and across."""
        return next((output[0] for output in self.outputs if output), (1, 1))


class OnPhases(Rewritten):
    """A layer that runs phase by phase, all phases in one batch."""

    phases: Phases

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        plan = self.phases
        leaves, shape = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if len(tensors) != len(plan.inputs):
            raise RuntimeError(
                f"{type(self).__name__}: found {len(tensors)} tensors among the arguments; expected "
                f"{len(plan.inputs)}, as when the network was dilated"
            )
        where = iter(plan.inputs)
        leaves = [split(leaf, plan, next(where)) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        args, kwargs = tree_unflatten(leaves, shape)
        results, shape = tree_flatten(super().forward(*args, **kwargs))  # type: ignore[misc]
        to = iter(plan.outputs)
        return tree_unflatten([join(x, plan, next(to)) if isinstance(x, Tensor) else x for x in results], shape)


def run_on_phases(layer: nn.Module, phases: Phases) -> None:
    """Lets a layer run phase by phase, in place."""
    rewrite(layer, OnPhases, phases=phases)


def split(x: Tensor, plan: Phases, axes: Axes | None) -> Tensor:
    """All phases of a map in one batch, those of the first row of offsets first."""
    down, across = plan.branches
    if axes is None:
        return x.repeat(down * across, *[1] * (x.ndim - 1)) if x.ndim else x
    rows = [_phase(x, offset, plan.rate[0], plan.shift[0], axes[0]) for offset in range(down)]
    return torch.cat([_phase(row, o, plan.rate[1], plan.shift[1], axes[1]) for row in rows for o in range(across)])


def _phase(x: Tensor, offset: int, rate: int, shift: int, axis: int) -> Tensor:
    """One phase along one axis; shifted ones are filled up with zeros at the end."""
    start = offset % rate + rate * (offset // rate * shift)
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, None, rate)
    part = x[tuple(index)]
    missing = x.shape[axis] // rate - part.shape[axis]
    return F.pad(part, [0, 0] * (x.ndim - 1 - axis) + [0, missing]) if missing else part


def join(x: Tensor, plan: Phases, output: tuple[tuple[int, int], Axes] | None) -> Tensor:
    """The phases of a result, interleaved; of one without rows and columns, that of the original."""
    down, across = plan.branches
    if down * across == 1:
        return x
    x = x.unflatten(0, (down, across, -1))
    if output is None:
        return x[0, 0]
    rows, columns = output[1][0] + 2, output[1][1] + 2
    rest = list(range(2, x.ndim))
    order: list[int] = []
    for axis in rest:  # each offset goes behind its axis
        order += [axis, 0] if axis == rows else [axis, 1] if axis == columns else [axis]
    x = x.permute(order)
    at = order.index(rows)
    x = x.flatten(at, at + 1)
    return x.flatten(at + 1, at + 2)
