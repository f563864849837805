"""At what stride every layer of a network runs: one run on a probe picture, every operation followed.

    >>> trace = trace_of(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2)))
    >>> [(operation.module, operation.name, operation.source.stride[0]) for operation in trace.operations]
    [('0', 'conv2d', Fraction(1, 1)), ('1', 'relu', Fraction(2, 1)), ('2', 'max_pool2d', Fraction(2, 1))]

Each tensor carries its `Place`. An operation is booked on the innermost module that issued it. What the run cannot see
(scripted functions) is bridged by the sizes of the tensors that go in and come out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from dilated.nn.places import ATTENTION, PRODUCTS, Kind, Place, follow, locate

PROBES = ((160, 224), (224, 352), (320, 416), (224, 224), (256, 256), (288, 288), (384, 384), (32, 32))
"""Sizes that are tried in turn: rows and columns that differ at every stride, then what networks of one size expect."""


LARGER = (288, 352)
FAILURES = (RuntimeError, ValueError, AssertionError, IndexError, TypeError, AttributeError)


@dataclass(frozen=True)
class Operation:
    """A call of a PyTorch function."""

    module: str
    """The innermost module that issued it."""
    name: str
    kind: Kind
    source: Place | None
    """Of its greatest argument; None if no argument has a place."""
    place: Place | None
    """Of its result."""
    index: int
    """How many calls of the same function the module made before, in the same call of its own."""


@dataclass
class Call:
    """A call of a module: the places of the tensors among its arguments and results, in the order of their leaves."""

    module: str
    inputs: list[Place | None]
    outputs: list[Place | None] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)


@dataclass
class Trace:
    """Everything that happened during one run."""

    size: tuple[int, int]
    channels: int
    operations: list[Operation] = field(default_factory=list)
    calls: dict[str, list[Call]] = field(default_factory=dict)
    """By module; in the order in which the calls began."""
    varying: set[str] = field(default_factory=set)
    """Modules that do other things on pictures of another size."""

    def deepest(self) -> int:
        """The greatest stride anywhere."""
        places = [place for op in self.operations for place in (op.source, op.place)]
        places += [place for calls in self.calls.values() for call in calls for place in call.outputs]
        return int(max((max(place.stride) for place in places if place), default=1))


def trace_of(module: nn.Module) -> Trace:
    """Runs a copy of a network on a picture of noise and books every operation.

    A second, larger picture tells which modules decide by the size what to do.

    Raises:
        ValueError: the network runs on none of the sizes tried.
    """
    errors: list[Exception] = []
    for size in (*PROBES, *_own_size(module)):
        for channels in input_channels(module):
            try:
                trace = trace_at(module, size, channels)
            except FAILURES as error:
                errors.append(error)
                continue
            with suppress(*FAILURES):  # a network of one size does one thing
                trace.varying = _differences(trace, trace_at(module, LARGER, channels))
            return trace
    raise ValueError(
        f"dilate: the network failed on every picture tried, (1, {input_channels(module)[0]}, H, W) from "
        f"{PROBES[0][0]}x{PROBES[0][1]} on; expected a network that maps one picture. First error: {errors[0]}"
    )


def _own_size(module: Any) -> list[tuple[int, int]]:
    """The one size that a network of timm says it takes."""
    own = getattr(module, "default_cfg", None)
    size = own.get("input_size") if isinstance(own, dict) else None
    return [(size[1], size[2])] if size else []


def _differences(trace: Trace, other: Trace) -> set[str]:
    def course(calls: list[Call]) -> list[list[tuple[str, Kind]]]:
        return [[(op.name, op.kind) for op in call.operations if op.kind != "pointwise"] for call in calls]

    return {name for name in trace.calls if course(trace.calls[name]) != course(other.calls.get(name, []))}


def trace_at(module: nn.Module, size: tuple[int, int], channels: int) -> Trace:
    """As `trace_of`, on one size."""
    network = copy.deepcopy(module).eval()
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    picture = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0)).to(like)
    trace = Trace(size, channels)
    follower = _Follower(trace)
    handles = [hook for name, layer in network.named_modules() for hook in follower.watch(name, layer)]
    follower.places[picture] = Place((Fraction(1), Fraction(1)), (2, 3), size)
    try:
        with torch.no_grad(), follower:
            network(picture)
    finally:
        for handle in handles:
            handle.remove()
    return trace


def input_channels(module: nn.Module) -> list[int]:
    """Numbers of input maps that the network may expect, the likeliest first."""
    first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
    return list(dict.fromkeys([first.in_channels, 3] if first is not None else [3]))


def seen_globally(module: nn.Module) -> list[str]:
    """The layers inside a network that take a statistic over the whole map, so that a value sees the whole picture.

    The pooling of a classifier's head, after which no map follows, does not count.

    Example:
        >>> from timm.layers import SEModule
        >>> seen_globally(nn.Sequential(nn.Conv2d(3, 8, 3), SEModule(8), nn.AdaptiveAvgPool2d(1)))
        ['1']
    """
    operations = trace_of(module).operations
    last = max((i for i, operation in enumerate(operations) if operation.place), default=-1)
    return list(dict.fromkeys(operation.module for operation in operations[:last] if operation.kind == "reduce"))


class _Follower(TorchFunctionMode):
    """Keeps the place of every tensor up to date while a network runs."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.places: Any = WeakTensorKeyDictionary()
        self.settled: Any = WeakTensorKeyDictionary()
        """Tensors that are known to have no rows and columns: statistics and what follows from them."""
        self.lost: Any = WeakTensorKeyDictionary()
        """Tensors whose rows and columns are cut up, such as windows of a map, and what follows from them."""
        self.stack: list[Call] = []

    def watch(self, name: str, layer: nn.Module) -> list[Any]:
        """Hooks that tell which module is running."""

        def enter(layer: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
            call = Call(name, [self.places.get(x) for x in _tensors((args, kwargs))])
            self.stack.append(call)
            self.trace.calls.setdefault(name, []).append(call)

        def leave(layer: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
            call = self.stack.pop()
            source = next((place for place in call.inputs if place), None)
            for tensor in _tensors(output):
                unknown = tensor not in self.places and tensor not in self.settled
                if unknown and source is not None and tensor.ndim > 2:
                    self._note(tensor, locate(tensor, source))
                call.outputs.append(self.places.get(tensor))

        return [
            layer.register_forward_pre_hook(enter, with_kwargs=True),
            layer.register_forward_hook(leave, with_kwargs=True),
        ]

    def _note(self, tensor: Tensor, place: Place | None) -> None:
        if place is not None:
            self.places[tensor] = place

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = _tensors((args, kwargs))
        # Before the call: operations in place change what their argument is.
        places = {i: place for i, x in enumerate(tensors) if (place := self.places.get(x)) is not None}
        settled = not places and any(x in self.settled for x in tensors)
        lost = [x for i, x in enumerate(tensors) if i not in places and x in self.lost]
        output = func(*args, **kwargs)
        results = _tensors(output)
        name = getattr(func, "__name__", "")
        if not results or name == "__get__" or not self.stack:
            return output
        attends = name in ATTENTION or (name in PRODUCTS and lost and len(lost) + len(places) > 1)
        kind: Kind = "attention" if attends else "pointwise"
        place = None
        for result in results:
            found: Place | None = None
            if places:
                how, found = follow(name, args, kwargs, places, result)
                kind = how if kind == "pointwise" else kind
                self._note(result, found)
            product = bool(places) and name in PRODUCTS  # positions summed out: a statistic
            if found is None and (settled or kind == "reduce" or product):
                self.settled[result] = True
            elif found is None and (lost or places) and result.ndim > 2:
                self.lost[result] = True
            place = place or found
        call = self.stack[-1]
        source = max(places.values(), key=lambda p: p.size[0] * p.size[1]) if places else None
        index = sum(operation.name == name for operation in call.operations)
        operation = Operation(call.module, name, kind, source, place, index)
        call.operations.append(operation)
        if source is not None or kind == "attention":
            self.trace.operations.append(operation)
        return output


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
