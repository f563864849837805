"""At what stride every layer of a network runs: one run on a probe image, every operation followed.

    >>> trace = trace_network(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2)))
    >>> operations = [operation for (call,) in trace.calls.values() for operation in call.operations]
    >>> [(operation.name, int(operation.input_layout.stride[0])) for operation in operations]
    [('conv2d', 1), ('relu', 2), ('max_pool2d', 2)]

Each tensor carries its `SpatialLayout`. An operation is recorded for the innermost module that issued it. What the run
cannot see (scripted functions) is bridged by the sizes of the tensors that go in and come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from dilated.dilation.layout import (
    ATTENTION_FUNCTIONS,
    MATRIX_PRODUCTS,
    OperationKind,
    SpatialLayout,
    axis_after_reduction,
    infer_layout,
    is_strip,
    propagate_layout,
    reduces_axis,
)
from dilated.errors import InputError
from dilated.fields.probing import eval_mode, probe_image, temporary_hooks

_PROBE_SIZES = ((160, 224), (224, 352), (320, 416), (224, 224), (256, 256), (288, 288), (384, 384), (32, 32))
"""Sizes that are tried in turn: rows and columns that differ at every stride, then what networks of one size expect."""
_LARGER_PROBE_SIZE = (288, 352)
FORWARD_ERRORS = (RuntimeError, ValueError, AssertionError, IndexError, TypeError, AttributeError)
"""What networks raise on images that are no input for them."""


class DilationError(InputError):
    """A network that cannot be dilated exactly.

    Args:
        problem: what is wrong.
        hint: one step that mends it.
        layer: the name and the class of the layer at fault.
        only_at_border: whether the layer's values are right but for those near the border.
    """

    def __init__(
        self, problem: str, hint: str = "", layer: tuple[str, type] | None = None, only_at_border: bool = False
    ) -> None:
        where = f"{layer[0] or 'the network itself'} ({layer[1].__name__}): " if layer else ""
        super().__init__(f"dilate: {where}{problem}", hint)
        self.layer = layer[0] if layer else None
        self.only_at_border = only_at_border


@dataclass(frozen=True)
class Operation:
    """One call of a PyTorch function."""

    name: str
    kind: OperationKind
    input_layout: SpatialLayout | None
    """Of its largest argument; None if no argument has a layout."""
    output_layout: SpatialLayout | None
    """Of its result."""


@dataclass
class ModuleCall:
    """A call of a module: the layouts of the tensors among its arguments and results, in the order of their leaves."""

    inputs: list[SpatialLayout | None]
    outputs: list[SpatialLayout | None] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)


@dataclass
class Trace:
    """Everything that happened during one run."""

    size: tuple[int, int]
    channels: int
    calls: dict[str, list[ModuleCall]] = field(default_factory=dict)
    """By module; in the order in which the calls began."""
    size_dependent: set[str] = field(default_factory=set)
    """Modules that run other operations on images of another size."""

    def max_stride(self) -> int:
        """The largest stride of any tensor."""
        calls = [call for calls in self.calls.values() for call in calls]
        layouts = [layout for call in calls for layout in call.outputs]
        layouts += [
            layout for call in calls for op in call.operations for layout in (op.input_layout, op.output_layout)
        ]
        return int(max((max(layout.stride) for layout in layouts if layout), default=1))


def trace_network(module: nn.Module) -> Trace:
    """Run a network on an image of noise, in evaluation mode, and record every operation.

    A second, larger image tells which modules choose their operations by the size. Only shapes are needed, so it runs
    on the meta device where it can, without computing anything.

    Raises:
        DilationError: the network runs on none of the sizes tried.
    """
    failures: list[tuple[str, Exception]] = []
    for size in (*_PROBE_SIZES, *_expected_sizes(module)):
        for channels in _possible_input_channels(module):
            running: list[str] = []
            try:
                trace = _trace_shapes(module, size, channels, running)
            except FORWARD_ERRORS as error:
                failures.append((running[-1] if running else "", error))
                continue
            with suppress(*FORWARD_ERRORS):  # a network of one size cannot depend on it
                trace.size_dependent = _size_dependent_modules(
                    trace, _trace_shapes(module, _LARGER_PROBE_SIZE, channels, [])
                )
            return trace
    name, failure = failures[0]
    raise DilationError(
        f"it failed on every image tried, (1, {_possible_input_channels(module)[0]}, H, W) from "
        f"{_PROBE_SIZES[0][0]}x{_PROBE_SIZES[0][1]} on; the first error was: {failure}",
        hint="give a network that maps one image (N, C, H, W)",
        layer=(name, type(module.get_submodule(name))),
    )


def _expected_sizes(module: Any) -> list[tuple[int, int]]:
    """The single size that a timm network declares."""
    default_cfg = getattr(module, "default_cfg", None)
    size = default_cfg.get("input_size") if isinstance(default_cfg, dict) else None
    return [(size[1], size[2])] if size else []


def _size_dependent_modules(trace: Trace, other: Trace) -> set[str]:
    def signature(calls: list[ModuleCall]) -> list[list[tuple[str, OperationKind]]]:
        return [[(op.name, op.kind) for op in call.operations if op.kind != "pointwise"] for call in calls]

    return {name for name in trace.calls if signature(trace.calls[name]) != signature(other.calls.get(name, []))}


def _trace_shapes(module: nn.Module, size: tuple[int, int], channels: int, running: list[str]) -> Trace:
    """As `trace_network`, on one size: on the meta device, or if that fails where the network is."""
    state = {name: torch.empty_like(x, device="meta") for name, x in network_state(module).items()}
    try:
        return _trace_at_size(module, size, channels, state, [])
    except FORWARD_ERRORS:  # something is computed from values, or a tensor that is no buffer takes part
        return _trace_at_size(module, size, channels, {}, running)


def _trace_at_size(
    module: nn.Module, size: tuple[int, int], channels: int, state: dict[str, Tensor], running: list[str]
) -> Trace:
    image = probe_image(module, 1, channels, *size)
    if state:
        image = torch.empty_like(image, device="meta")
    trace = Trace(size, channels)
    tracker = _LayoutTracker(trace, running)
    handles = (hook for name, layer in module.named_modules() for hook in tracker.register_hooks(name, layer))
    tracker.layouts[image] = SpatialLayout((Fraction(1), Fraction(1)), (2, 3), size)
    with eval_mode(module), temporary_hooks(handles), torch.no_grad(), tracker:
        run_with_state(module, state, image)
    for reduction in tracker.half_reductions:
        reduction.merge()
    return trace


def _possible_input_channels(module: nn.Module) -> list[int]:
    """Numbers of input channels that the network may expect, the most likely first."""
    first_conv = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
    return list(dict.fromkeys([first_conv.in_channels, 3] if first_conv is not None else [3]))


@dataclass
class _HalfReduction:
    """An operation that leaves a map one axis of positions, and those that read what it gives."""

    operation: tuple[ModuleCall, int]
    axis: int
    readers: list[tuple[ModuleCall, int]] = field(default_factory=list)
    only_statistics: bool = True

    def merge(self) -> None:
        """Make it and its readers a statistic over the map, if all of them reduce the axis that it left."""
        if not self.readers or not self.only_statistics:
            return
        call, index = self.operation
        call.operations[index] = replace(call.operations[index], kind="reduce", output_layout=None)
        for call, index in self.readers:
            call.operations[index] = replace(call.operations[index], kind="pointwise", input_layout=None)


class _LayoutTracker(TorchFunctionMode):
    """Keeps the layout of every tensor up to date while a network runs."""

    def __init__(self, trace: Trace, running: list[str]) -> None:
        super().__init__()
        self.trace = trace
        self.running = running
        """Names of the modules that have begun and not ended, the innermost last."""
        self.layouts: Any = WeakTensorKeyDictionary()
        self.non_spatial: Any = WeakTensorKeyDictionary()
        """Tensors known to have no rows and columns, statistics and what is computed from them; of which map."""
        self.strips: Any = WeakTensorKeyDictionary()
        """Tensors with a value per row, or per column, and what is computed from them."""
        self.half_reduced: Any = WeakTensorKeyDictionary()
        """Tensors whose positions lie along one axis, and what made them."""
        self.half_reductions: list[_HalfReduction] = []
        self.untracked: Any = WeakTensorKeyDictionary()
        """Tensors whose rows and columns are cut up, such as windows of a map, and what is computed from them."""
        self.open_calls: list[ModuleCall] = []

    def register_hooks(self, name: str, layer: nn.Module) -> list[RemovableHandle]:
        """Hooks that tell which module is running."""

        def before_forward(layer: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
            call = ModuleCall([self.layouts.get(x) for x in tensor_leaves((args, kwargs))])
            self.open_calls.append(call)
            self.running.append(name)
            self.trace.calls.setdefault(name, []).append(call)

        def after_forward(layer: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
            call = self.open_calls.pop()
            self.running.pop()
            input_layout = next((layout for layout in call.inputs if layout), None)
            for tensor in tensor_leaves(output):
                has_no_layout = tensor not in self.layouts and tensor not in self.non_spatial
                if has_no_layout and input_layout is not None and tensor.ndim > 2:
                    self._set_layout(tensor, infer_layout(tensor, input_layout))
                call.outputs.append(self.layouts.get(tensor))

        return [
            layer.register_forward_pre_hook(before_forward, with_kwargs=True),
            layer.register_forward_hook(after_forward, with_kwargs=True),
        ]

    def _set_layout(self, tensor: Tensor, layout: SpatialLayout | None) -> None:
        if layout is not None:
            self.layouts[tensor] = layout

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = tensor_leaves((args, kwargs))
        # Before the call: operations in place change what their argument is.
        layouts = {i: layout for i, x in enumerate(tensors) if (layout := self.layouts.get(x)) is not None}
        is_statistic = not layouts and any(x in self.non_spatial for x in tensors)
        of_strips = any(x in self.strips for x in tensors)
        source = next((self.non_spatial[x] for x in tensors if x in self.non_spatial), None)
        untracked = [x for i, x in enumerate(tensors) if i not in layouts and x in self.untracked]
        name = getattr(func, "__name__", "")
        # PyTorch finds the shape of a normalized meta tensor by a long way through Python.
        is_quick = name == "batch_norm" and tensors[0].is_meta
        output = torch.empty_like(tensors[0]) if is_quick else func(*args, **kwargs)
        results = tensor_leaves(output)
        if not results or name == "__get__" or not self.open_calls:
            return output
        input_layout = max(layouts.values(), key=lambda p: p.size[0] * p.size[1]) if layouts else None
        self._follow_half_reductions(name, args, kwargs, tensors, input_layout, results[0])
        is_attention = name in ATTENTION_FUNCTIONS or (
            name in MATRIX_PRODUCTS and untracked and len(untracked) + len(layouts) > 1
        )
        kind: OperationKind = "attention" if is_attention else "pointwise"
        layout = None
        for result in results:
            result_layout: SpatialLayout | None = None
            if layouts:
                result_kind, result_layout = propagate_layout(name, args, kwargs, layouts, result)
                kind = result_kind if kind == "pointwise" else kind
                self._set_layout(result, result_layout)
            is_product = bool(layouts) and name in MATRIX_PRODUCTS  # positions summed out: a statistic
            if result_layout is None and (is_statistic or kind == "reduce" or is_product):
                self.non_spatial[result] = input_layout or source
            elif result_layout is None and (untracked or layouts) and result.ndim > 2:
                self.untracked[result] = True
            if not layouts and of_strips:
                self.strips[result] = True
            layout = layout or result_layout
        if layouts and of_strips and kind == "pointwise":
            kind = "other"  # strips have the original's length, the map has not
        if source is not None and not layouts and name == "interpolate" and tuple(args[0].shape[-2:]) != (1, 1):
            kind, input_layout = "other", source  # a map of statistics, such as a pyramid's, laid over the positions
        self.open_calls[-1].operations.append(Operation(name, kind, input_layout, layout))
        return output

    def _follow_half_reductions(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        tensors: list[Tensor],
        input_layout: SpatialLayout | None,
        result: Tensor,
    ) -> None:
        """Note an operation, which is recorded next, that takes one or both axes of positions from a map."""
        place = self.open_calls[-1], len(self.open_calls[-1].operations)
        for tensor in tensors:
            reduction = self.half_reduced.get(tensor)
            if reduction is not None:
                reduction.readers.append(place)
                reduction.only_statistics &= tensor is args[0] and reduces_axis(name, args, kwargs, reduction.axis)
        if input_layout is None:
            return
        axis = axis_after_reduction(name, args, kwargs, input_layout, result)
        if axis is not None:
            self.half_reduced[result] = _HalfReduction(place, axis)
            self.half_reductions.append(self.half_reduced[result])
        if is_strip(name, input_layout, result, axis):
            self.strips[result] = True


def network_state(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a network, by name."""
    return dict((*module.named_parameters(), *module.named_buffers()))


def run_with_state(module: nn.Module, state: dict[str, Tensor], image: Tensor) -> Any:
    """Run a network with other parameters and buffers than its own, which it keeps."""
    return torch.func.functional_call(module, state, (image,)) if state else module(image)


def is_inside(name: str, parent: str) -> bool:
    """Whether a module is inside another one, by their names; all are inside the network, "".

    Example:
        >>> is_inside("layer1.conv", "layer1"), is_inside("layer10.conv", "layer1"), is_inside("layer1", "")
        (True, False, True)
    """
    return name != parent and name.startswith(f"{parent}." if parent else "")


def enclosing_names(name: str) -> Iterator[str]:
    """The name of a module and of those around it, the innermost first, without the network itself.

    Example:
        >>> list(enclosing_names("layer1.0.conv"))
        ['layer1.0.conv', 'layer1.0', 'layer1']
    """
    while name:
        yield name
        name = name.rpartition(".")[0]


def tensor_leaves(tree: Any) -> list[Tensor]:
    """The tensors in nested lists, tuples and mappings."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, bool | int | float | str | None):
        return []
    if type(tree) in (tuple, list):  # by far the most, and much slower by PyTorch's own way
        return [leaf for item in tree for leaf in tensor_leaves(item)]
    if type(tree) is dict:
        return [leaf for item in tree.values() for leaf in tensor_leaves(item)]
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def holds_meta_tensors(module: nn.Module) -> bool:
    """Whether a run on the meta device left tensors in a network, such as a grid that it keeps for the next run."""
    values = [value for layer in module.modules() for value in vars(layer).values()]
    return any(x.is_meta for x in tensor_leaves([x for x in values if type(x) in (Tensor, list, tuple, dict)]))
