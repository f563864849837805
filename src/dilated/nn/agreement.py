"""Holds a dilated network against the original: every layer's output, at the samples, with random weights.

Float64, parameters and running statistics drawn anew (what starts at zero would hide faults), pictures whose sides are
multiples of the stride and others. The first layer whose output is not the original's is named.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from dilated.nn.places import Place
from dilated.nn.plan import Plan
from dilated.nn.strides import Trace

TOLERANCE = 1e-6
SIZES = ((96, 64), (75, 107), (128, 192), (149, 171), (224, 224), (251, 299), (320, 384))
"""In turn, until three pictures were small enough to be quick and large enough for the network."""
PICTURES = 2


def check_agreement(original: nn.Module, dense: nn.Module, trace: Trace, plan: Plan) -> None:
    """Compares the two.

    Raises:
        ValueError: the first layer that differs, by how much and where.
    """
    left = copy.deepcopy(original).cpu().double().eval()
    randomise(left)
    right = copy.deepcopy(dense).cpu().double().eval()
    right.load_state_dict(left.state_dict())
    pictures = 0
    for size in (*SIZES, trace.size):
        generator = torch.Generator().manual_seed(size[0])
        picture = torch.rand(1, trace.channels, *size, generator=generator, dtype=torch.float64)
        recorder = _Recorder(left)
        try:
            with torch.no_grad(), recorder:
                left(picture)
        except (RuntimeError, ValueError, AssertionError, IndexError):
            continue  # too small for the network, or not the one size that it takes
        with torch.no_grad(), _Comparer(right, recorder.outputs, trace, plan):
            right(picture)
        pictures += 1
        if pictures == PICTURES:
            return
    if not pictures:
        raise ValueError("dilate: the network ran on none of the pictures that the result is to be checked with")


def randomise(network: nn.Module) -> None:
    """Draws parameters and running statistics anew, in place: nothing is zero, values keep their size from layer to
    layer."""
    generator = torch.Generator().manual_seed(0)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator, dtype=torch.float64) * (high - low) + low

    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.is_floating_point():
                continue
            inputs = math.prod(parameter.shape[1:])
            if inputs > 1:
                bound = math.sqrt(6 / inputs)
                parameter.copy_(uniform(parameter, -bound, bound))
            else:
                parameter.copy_(uniform(parameter, 0.3, 1.2))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(uniform(buffer, -0.5, 0.5))
            elif name.endswith("running_var"):
                buffer.copy_(uniform(buffer, 0.5, 1.5))


class _Hooks:
    """Watches the results of every layer while it is open."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.calls: dict[str, int] = {}

    def __enter__(self) -> _Hooks:
        self.handles = [layer.register_forward_hook(self._hook(name)) for name, layer in self.network.named_modules()]
        return self

    def __exit__(self, *error: Any) -> None:
        for handle in self.handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            call = self.calls.get(name, 0)
            self.calls[name] = call + 1
            self.see(name, layer, call, [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)])

        return hook

    def see(self, name: str, layer: nn.Module, call: int, outputs: Sequence[Tensor]) -> None:
        raise NotImplementedError


class _Recorder(_Hooks):
    """Keeps what the original's layers return, as it is at that moment."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.outputs: dict[tuple[str, int], list[Tensor]] = {}

    def see(self, name: str, layer: nn.Module, call: int, outputs: Sequence[Tensor]) -> None:
        self.outputs[name, call] = [output.clone() for output in outputs]


class _Comparer(_Hooks):
    """Stops at the first layer that returns something else than the original's."""

    def __init__(
        self,
        network: nn.Module,
        expected: Mapping[tuple[str, int], list[Tensor]],
        trace: Trace,
        plan: Plan,
    ) -> None:
        super().__init__(network)
        self.expected, self.plan = expected, plan
        self.places = {name: [called.outputs for called in calls] for name, calls in trace.calls.items()}

    def see(self, name: str, layer: nn.Module, call: int, outputs: Sequence[Tensor]) -> None:
        if self.plan.stays(name):
            return
        title = f"dilate: {name or 'the network'} ({type(layer).__name__.removeprefix('OnPhases')})"
        expected = self.expected.get((name, call))
        if expected is None or len(expected) != len(outputs):
            raise ValueError(f"{title}: found another course of the computation; expected that of the original")
        calls = self.places.get(name, [])
        places = calls[call] if call < len(calls) and len(calls[call]) == len(outputs) else [None] * len(outputs)
        for found, wanted, place in zip(outputs, expected, places, strict=True):
            self._compare(title, found, wanted, place, final=not name)

    def _compare(self, title: str, found: Tensor, wanted: Tensor, place: Place | None, final: bool) -> None:
        if place is not None and not place.flat:
            rates = self.plan.rate(place)
            dense = list(wanted.shape)
            for axis, rate in zip(place.axes, rates, strict=True):
                dense[axis] *= rate
            if list(found.shape) != dense:
                raise ValueError(f"{title}: found an output of {tuple(found.shape)}; expected {tuple(dense)}")
            index = [slice(None)] * found.ndim
            for axis, rate in zip(place.axes, rates, strict=True):
                index[axis] = slice(None, None, rate)
            found = found[tuple(index)]
        elif found.shape != wanted.shape:
            if final:
                raise ValueError(f"{title}: found an output of {tuple(found.shape)}; expected {tuple(wanted.shape)}")
            return  # rows and columns could not be told apart here; the layers after it are compared
        if not wanted.is_floating_point():
            return
        error = _error(found, wanted)
        if error <= TOLERANCE:
            return
        where = ""
        if place is not None and not place.flat and min(place.size) >= 3:
            inner = [slice(None)] * wanted.ndim
            for axis in place.axes:
                inner[axis] = slice(wanted.shape[axis] // 3, -(wanted.shape[axis] // 3) or None)
            if _error(found[tuple(inner)], wanted[tuple(inner)]) <= TOLERANCE:
                where = ", at the border only"
        raise ValueError(
            f"{title}: found an output that is {error:.1e} (relative) off the original's{where}; expected the same at "
            "every sample. Choose a greater output stride or another network."
        )


def _error(found: Tensor, wanted: Tensor) -> float:
    """The greatest difference, relative to the greatest value."""
    if not wanted.numel():
        return 0.0
    scale = wanted.abs().max().item()
    if not math.isfinite(scale):
        return 0.0 if torch.equal(found.nan_to_num(), wanted.nan_to_num()) else math.inf
    return (found - wanted).abs().max().item() / scale if scale else found.abs().max().item()
