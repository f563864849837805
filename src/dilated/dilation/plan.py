"""What is to be done with each layer so that a network's late strides become dilation, decided from its trace.

The order of preference: nothing, where no operation of the layer's own minds; dilation, for a convolution or pooling;
statistics on samples; the layer on phases of its maps. A layer that cannot run on phases alone, since rows and columns
are already mixed up where it begins, takes the layer around it with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from torch import nn

from dilated.dilation.attention import HINT, format_stride, refuse_attention, refuse_untracked_attention
from dilated.dilation.layout import SpatialLayout
from dilated.dilation.phases import PhaseLayout, run_on_phases
from dilated.dilation.sampled import SampleGrid, run_on_samples
from dilated.dilation.statistics import find_sampled_calls
from dilated.dilation.trace import ModuleCall, Operation, Trace
from dilated.dilation.windows import dilate_layer, is_dilatable


class _UnsupportedLayerError(ValueError):
    """A layer cannot be rewritten by itself."""


class DilationPlan:
    """What each layer of a traced network needs at an output stride."""

    def __init__(self, trace: Trace, output_stride: int) -> None:
        self.trace = trace
        self.output_stride = output_stride
        self.windows: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}
        """Convolutions and poolings: the rate of the input, and how much of the stride stays."""
        self.phases: dict[str, PhaseLayout] = {}
        self.opaque: list[str] = []
        """Layers whose inside stays as it is."""
        self.sampled_layers: dict[str, set[str]] = {}
        """Layers with statistics: the functions by which they take them."""

    def apply(self, network: nn.Module) -> None:
        """Rewrites the layers of a copy of the network, in place.

        Raises:
            ValueError: a layer cannot be rewritten; the message names it.
        """
        refuse_untracked_attention(self.trace, network, self.output_stride)
        if self.trace.max_stride() <= self.output_stride:
            return
        self._plan_layers(network)
        layers = dict(network.named_modules())
        for name, (rate, kept_stride) in self.windows.items():
            try:
                dilate_layer(layers[name], rate, kept_stride)
            except ValueError as error:
                raise self._layer_error(name, layers[name], str(error)) from None
        for name, phases in self.phases.items():
            run_on_phases(layers[name], phases)
        for name, plans in find_sampled_calls(self.trace, self.sampled_layers, self._sample_grid):
            if any(plan != plans[0] for plan in plans):
                raise self._layer_error(
                    name, layers[name], f"found that it runs at several strides; expected one. {HINT}"
                )
            run_on_samples(layers[name], plans[0])

    def _plan_layers(self, network: nn.Module) -> None:
        forced_on_phases: dict[str, ValueError] = {}  # layers that run on phases for the sake of one inside
        while True:
            self.windows, self.phases, self.sampled_layers, self.opaque = {}, {}, {}, []
            try:
                self._plan_layers_given(network, forced_on_phases)
                return
            except _EnclosingLayerNeededError as refusal:
                parent = self._enclosing_module(refusal.layer)
                if not parent or parent in forced_on_phases:
                    raise refusal.error from None
                forced_on_phases[parent] = refusal.error

    def _plan_layers_given(self, network: nn.Module, forced_on_phases: dict[str, ValueError]) -> None:
        for name, layer in network.named_modules():
            calls = self.trace.calls.get(name, [])
            if self.is_inside_opaque(name):
                continue
            operations = [self._affected_operations(name, layer, call) for call in calls]
            if not any(operations) and name not in forced_on_phases:
                continue
            own_operations = [operation for call in operations for operation in call]
            if (
                name not in forced_on_phases
                and is_dilatable(layer)
                and [operation.kind for operation in operations[0]].count("window") == 1
            ):
                self.windows[name] = self._plan_window(name, layer, operations)
                continue
            is_size_dependent = name in self.trace.size_dependent
            if (
                name not in forced_on_phases
                and not is_size_dependent
                and all(self._uses_samples(operation) for operation in own_operations)
            ):
                self.sampled_layers[name] = {operation.name for operation in own_operations}
                continue
            try:
                refuse_attention(self.trace, network, name, self.output_stride)
                phases = self._plan_phases(name, layer, calls)
            except _UnsupportedLayerError as error:
                failure = forced_on_phases.get(name) or self._layer_error(name, layer, str(error))
                raise _EnclosingLayerNeededError(name, failure) from None
            if phases is not None:
                self.phases[name] = phases
            self.opaque.append(name)

    def _enclosing_module(self, name: str) -> str:
        """The innermost layer around one that was called."""
        while name:
            name = name.rpartition(".")[0]
            if name in self.trace.calls:
                return name
        return ""

    def is_inside_opaque(self, name: str) -> bool:
        """Whether a layer is inside one whose inside stays as it is."""
        return any(name != other and name.startswith(_child_prefix(other)) for other in self.opaque)

    def rate(self, layout: SpatialLayout) -> tuple[int, int]:
        """How far apart the samples of a map are in its dense form."""
        rates = [max(Fraction(1), stride / self.output_stride) for stride in layout.stride]
        if any(rate.denominator > 1 for rate in rates):
            raise _UnsupportedLayerError(
                f"found a stride of {format_stride(layout)}; expected one that output_stride={self.output_stride} divides. "
                "Choose another output stride."
            )
        return int(rates[0]), int(rates[1])

    def _is_coarse(self, layout: SpatialLayout | None) -> bool:
        return layout is not None and max(layout.stride) > self.output_stride

    def _affected_operations(self, name: str, layer: nn.Module, call: ModuleCall) -> list[Operation]:
        """The operations of a call that a dense map changes."""
        touches_coarse_maps = any(self._is_coarse(layout) for layout in (*call.inputs, *call.outputs))
        operations = []
        for operation in call.operations:
            untracked = operation.kind == "other" and operation.output_layout is None
            coarse = (
                self._is_coarse(operation.input_layout)
                or self._is_coarse(operation.output_layout)
                or (touches_coarse_maps and untracked)
            )
            if operation.input_layout is not None and operation.kind != "pointwise" and coarse:
                operations.append(operation)
        return operations

    def _uses_samples(self, operation: Operation) -> bool:
        fine = (
            operation.kind == "upsample"
            and operation.output_layout is not None
            and not self._is_coarse(operation.output_layout)
        )
        return operation.kind == "reduce" or fine

    def _plan_window(
        self, name: str, layer: nn.Module, operations: list[list[Operation]]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        windows = {
            (operation.input_layout.stride, operation.output_layout.stride): (
                operation.input_layout,
                operation.output_layout,
            )
            for call in operations
            for operation in call
            if operation.kind == "window" and operation.input_layout and operation.output_layout
        }
        if len(windows) != 1 or not all(operations):
            raise self._layer_error(
                name, layer, "found that it runs at several strides; expected one. Give the network a layer for each."
            )
        ((input_layout, layout),) = windows.values()
        try:
            return self.rate(input_layout), self._kept_stride(input_layout, layout)
        except _UnsupportedLayerError as error:
            raise self._layer_error(name, layer, str(error)) from None

    def _kept_stride(self, input_layout: SpatialLayout, layout: SpatialLayout) -> tuple[int, int]:
        """How much of a layer's stride stays."""
        kept_strides = []
        axes = zip(input_layout.stride, layout.stride, self.rate(input_layout), self.rate(layout), strict=True)
        for input_stride, output_stride_here, rate, output_rate in axes:
            kept_stride = output_stride_here / input_stride * rate / output_rate
            if kept_stride.denominator > 1 and output_stride_here > input_stride:
                raise _UnsupportedLayerError(
                    f"found a stride that grows from {input_stride} to {output_stride_here}; expected one that reaches "
                    f"output_stride={self.output_stride} on the way. Choose another output stride."
                )
            kept_strides.append(max(1, int(kept_stride)))
        return kept_strides[0], kept_strides[1]

    def _plan_phases(self, name: str, layer: nn.Module, calls: list[ModuleCall]) -> PhaseLayout | None:
        """How a layer falls apart; None if it may stay, since it is coarse inside only."""
        plans = {self._phase_layout(call) for call in calls}
        if len(plans) != 1:
            raise self._layer_error(name, layer, f"found that it runs at several strides; expected one. {HINT}")
        (plan,) = plans
        if plan.rate != (1, 1) or plan.phase_counts != (1, 1):
            if not name and self._contains_strides(name):
                raise _UnsupportedLayerError(self._describe_operations(name, layer, calls))
            return plan
        if self._contains_strides(name):
            raise _UnsupportedLayerError(self._describe_operations(name, layer, calls))
        return None

    def _describe_operations(self, name: str, layer: nn.Module, calls: list[ModuleCall]) -> str:
        operations = [operation for call in calls for operation in self._affected_operations(name, layer, call)]
        names = ", ".join(dict.fromkeys(operation.name for operation in operations))
        return (
            f"found operations of its own on maps of a stride above output_stride={self.output_stride} ({names}); "
            "expected them in a layer of their own. Move them into a module, or choose a greater output stride."
        )

    def _contains_strides(self, name: str) -> bool:
        """Whether layers inside one make a map coarser than the output stride."""
        return any(
            operation.input_layout is not None
            and operation.output_layout is not None
            and operation.output_layout.stride > operation.input_layout.stride
            for inner, calls in self.trace.calls.items()
            if inner != name and inner.startswith(_child_prefix(name))
            for call in calls
            for operation in call.operations
            if self._is_coarse(operation.output_layout)
        )

    def _phase_layout(self, call: ModuleCall) -> PhaseLayout:
        input_layouts = [layout for layout in call.inputs if layout]
        output_layouts = [layout for layout in call.outputs if layout]
        strides = {layout.stride for layout in input_layouts}
        output_strides = {layout.stride for layout in output_layouts}
        if (
            len(strides) != 1
            or len(output_strides) > 1
            or any(layout.is_flattened for layout in (*input_layouts, *output_layouts))
        ):
            raise _UnsupportedLayerError(
                f"found inputs of strides {sorted(map(_format_stride, strides))} and results of {sorted(map(_format_stride, output_strides))}; "
                f"expected maps of one stride each that keep rows and columns apart. {HINT}"
            )
        shift = self._kept_stride(input_layouts[0], output_layouts[0]) if output_layouts else (1, 1)
        return PhaseLayout(
            self.rate(input_layouts[0]),
            shift,
            tuple(layout.axes if layout else None for layout in call.inputs),
            tuple((self.rate(layout), layout.axes) if layout else None for layout in call.outputs),
        )

    def _sample_grid(self, operation: Operation) -> SampleGrid | None:
        if (
            operation.input_layout is None
            or not self._uses_samples(operation)
            or not self._is_coarse(operation.input_layout)
        ):
            return None
        return operation.input_layout.axes, self.rate(operation.input_layout)

    def _layer_error(self, name: str, layer: nn.Module, message: str) -> ValueError:
        return ValueError(f"dilate: {name or 'the network itself'} ({type(layer).__name__}): {message}")


class _EnclosingLayerNeededError(Exception):
    """A layer that cannot be rewritten unless the one around it is."""

    def __init__(self, layer: str, error: ValueError) -> None:
        super().__init__(layer)
        self.layer, self.error = layer, error


def _child_prefix(name: str) -> str:
    return f"{name}." if name else ""


def _format_stride(stride: Iterable[Fraction]) -> str:
    return "x".join(dict.fromkeys(map(str, stride)))
