"""What each layer of a network needs so that its late strides become dilation, decided from its trace.

The order of preference: nothing, where the layer has no operation of its own that a dense map changes; dilation, for a
convolution or pooling; statistics on samples; the layer on phases of its maps. A layer that cannot run on phases alone,
since rows and columns are already mixed where it begins, makes the layer around it run on phases.

Attention between positions cannot be dilated, so networks with it on coarse maps are refused. An attention whose
products sum the positions out (between channels, or a weighted mean over the map) is a statistic and does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from torch import nn

from dilated.dilation.layout import SpatialLayout, format_stride
from dilated.dilation.rewrite import PhaseLayout, SampledCalls, SampleGrid, run_on_phases, run_on_samples
from dilated.dilation.trace import DilationError, ModuleCall, Operation, Trace, enclosing_names, is_inside
from dilated.dilation.windows import dilate_layer, is_dilatable
from dilated.errors import InputError

_HINT = "choose a greater output stride, or a network that is convolutional there"


@dataclass(frozen=True)
class DilationPlan:
    """What is done with each layer of a traced network at an output stride."""

    output_stride: int
    windows: Mapping[str, tuple[tuple[int, int], tuple[int, int]]]
    """Convolutions and poolings: the rate of the input, and how much of the stride stays."""
    phases: Mapping[str, PhaseLayout]
    """Layers that run on phases of their maps."""
    samples: Mapping[str, SampledCalls]
    """Layers that take statistics on samples."""
    opaque: tuple[str, ...]
    """Layers whose inside stays as it is."""

    def is_inside_opaque(self, name: str) -> bool:
        """Whether a layer is inside one whose inside stays as it is."""
        return any(is_inside(name, other) for other in self.opaque)

    def layer_to_run_on_phases(self, name: str, trace: Trace) -> str:
        """The layer that might be exact on phases if one is not as it is planned: itself, or one around it; or ""."""
        around = [outer for outer in self.opaque if outer == name or is_inside(name, outer)]
        start = around[0].rpartition(".")[0] if around else name
        return next((outer for outer in enclosing_names(start) if outer in trace.calls), "")

    def rate(self, layout: SpatialLayout) -> tuple[int, int]:
        """How far apart the samples of a map are in its dense form, along rows and columns."""
        return _sample_rate(layout, self.output_stride)

    def apply(self, network: nn.Module) -> None:
        """Rewrite the layers of a copy of the network, in place.

        Raises:
            DilationError: a layer cannot be rewritten; the message names it.
        """
        layers = dict(network.named_modules())
        for name, (rate, kept_stride) in self.windows.items():
            try:
                dilate_layer(layers[name], rate, kept_stride)
            except InputError as error:
                raise DilationError(error.message, error.hint, layer=(name, type(layers[name]))) from None
        for name, phases in self.phases.items():
            run_on_phases(layers[name], phases)
        for name, calls in self.samples.items():
            run_on_samples(layers[name], calls)


def plan_dilation(
    trace: Trace, network: nn.Module, output_stride: int, on_phases: Mapping[str, DilationError] | None = None
) -> DilationPlan:
    """Decide what each layer of a traced network needs.

    Args:
        trace: of the network.
        network: its layers.
        output_stride: pixels per value.
        on_phases: layers that must run on phases, and what to raise if one cannot.

    Raises:
        DilationError: a layer cannot be rewritten; the message names it.
    """
    _refuse_untracked_attention(trace, network)
    forced_on_phases = dict(on_phases or {})  # layers that run on phases for the sake of one inside
    while trace.max_stride() > output_stride:
        try:
            return _Planner(trace, network, output_stride, forced_on_phases).plan()
        except _EnclosingLayerNeededError as refusal:
            around = [name for name in enclosing_names(refusal.layer) if name != refusal.layer]
            parent = next((name for name in around if name in trace.calls), "")
            if not parent or parent in forced_on_phases:
                raise refusal.error from None
            forced_on_phases[parent] = refusal.error
    return DilationPlan(output_stride, {}, {}, {}, ())


class _Planner:
    """One pass over the layers, with the layers that must run on phases given."""

    def __init__(
        self, trace: Trace, network: nn.Module, output_stride: int, forced_on_phases: Mapping[str, DilationError]
    ) -> None:
        self.trace, self.network, self.output_stride = trace, network, output_stride
        self.forced_on_phases = forced_on_phases

    def plan(self) -> DilationPlan:
        windows: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}
        phases: dict[str, PhaseLayout] = {}
        functions_by_layer: dict[str, set[str]] = {}  # by which layers take statistics
        opaque: list[str] = []
        for name, layer in self.network.named_modules():
            if any(is_inside(name, other) for other in opaque):
                continue
            calls = self.trace.calls.get(name, [])
            operations = [self._affected_operations(call) for call in calls]
            own_operations = [operation for call in operations for operation in call]
            if any(operation.name.startswith("fractional_max_pool2d") for operation in own_operations):
                raise DilationError(
                    "it chooses its windows at random, others for every map",
                    hint="use a pooling of fixed windows there, such as nn.MaxPool2d",
                    layer=(name, type(layer)),
                )
            if name not in self.forced_on_phases:
                if not own_operations:
                    continue
                if is_dilatable(layer) and [operation.kind for operation in operations[0]].count("window") == 1:
                    windows[name] = self._plan_window(name, layer, operations)
                    continue
                if name not in self.trace.size_dependent and all(map(self._uses_samples, own_operations)):
                    functions_by_layer[name] = {operation.name for operation in own_operations}
                    continue
            try:
                self._refuse_attention(name)
                layout = self._plan_phases(name, layer, calls)
            except _UnsupportedLayerError as error:
                failure = self.forced_on_phases.get(name) or self._layer_error(name, layer, error)
                raise _EnclosingLayerNeededError(name, failure) from None
            if layout is not None:
                phases[name] = layout
            opaque.append(name)
        return DilationPlan(self.output_stride, windows, phases, self._plan_samples(functions_by_layer), tuple(opaque))

    def _rate(self, layout: SpatialLayout) -> tuple[int, int]:
        return _sample_rate(layout, self.output_stride)

    def _is_coarse(self, layout: SpatialLayout | None) -> bool:
        return layout is not None and max(layout.stride) > self.output_stride

    def _affected_operations(self, call: ModuleCall) -> list[Operation]:
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
        """Whether an operation needs nothing but the samples: a statistic, or an upsampling to a fine enough map."""
        is_fine = operation.output_layout is not None and not self._is_coarse(operation.output_layout)
        return operation.kind == "reduce" or (operation.kind == "upsample" and is_fine)

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
            error = DilationError(
                "it runs at several strides", "give the network a layer for each", layer=(name, type(layer))
            )
            raise _EnclosingLayerNeededError(name, error)
        ((input_layout, layout),) = windows.values()
        try:
            return self._rate(input_layout), self._kept_stride(input_layout, layout)
        except _UnsupportedLayerError as error:
            raise self._layer_error(name, layer, error) from None

    def _kept_stride(self, input_layout: SpatialLayout, layout: SpatialLayout) -> tuple[int, int]:
        """How much of a layer's stride stays, along rows and columns."""
        kept_strides = []
        axes = zip(input_layout.stride, layout.stride, self._rate(input_layout), self._rate(layout), strict=True)
        for input_stride, output_stride_here, rate, output_rate in axes:
            kept_stride = output_stride_here / input_stride * rate / output_rate
            if kept_stride.denominator > 1 and output_stride_here > input_stride:
                raise _UnsupportedLayerError(
                    f"its stride grows from {input_stride} to {output_stride_here} and passes over "
                    f"output_stride={self.output_stride} on the way",
                    "choose another output stride",
                )
            kept_strides.append(max(1, int(kept_stride)))
        return kept_strides[0], kept_strides[1]

    def _plan_samples(self, functions_by_layer: Mapping[str, set[str]]) -> dict[str, SampledCalls]:
        """For each layer that takes statistics, at which calls of which functions it does.

        A layer takes a statistic by a function, `mean` for example, that it may also call for another purpose, and that
        layers inside it may call. So each layer counts its own calls, and those inside one that counts get a count of
        their own.
        """
        functions_by_module: dict[str, set[str]] = {}
        for name, functions in functions_by_layer.items():
            for inner in self.trace.calls:
                if inner == name or is_inside(inner, name):
                    functions_by_module.setdefault(inner, set()).update(functions)
        samples = {}
        for name, functions in functions_by_module.items():
            sampled_calls: list[SampledCalls] = [
                {
                    function: grids
                    for function in sorted(functions)
                    if (grids := tuple(self._sample_grid(op) for op in call.operations if op.name == function))
                }
                for call in self.trace.calls[name]
            ]
            if any(calls != sampled_calls[0] for calls in sampled_calls):
                layer = type(self.network.get_submodule(name))
                error = DilationError("it runs at several strides", _HINT, layer=(name, layer))
                raise _EnclosingLayerNeededError(name, error)
            if sampled_calls[0]:
                samples[name] = sampled_calls[0]
        return samples

    def _sample_grid(self, operation: Operation) -> SampleGrid | None:
        layout = operation.input_layout
        if layout is None or not self._uses_samples(operation) or not self._is_coarse(layout):
            return None
        return layout.axes, self._rate(layout)

    def _plan_phases(self, name: str, layer: nn.Module, calls: list[ModuleCall]) -> PhaseLayout | None:
        """How a layer's maps fall apart; None if it may stay, since it is coarse inside only."""
        layouts = {self._phase_layout(call) for call in calls}
        if len(layouts) != 1:
            raise _UnsupportedLayerError("it runs at several strides", _HINT)
        (layout,) = layouts
        has_phases = layout.rate != (1, 1) or layout.phase_counts != (1, 1)
        if (not has_phases or not name) and self._contains_strides(name):
            operations = [operation for call in calls for operation in self._affected_operations(call)]
            names = ", ".join(dict.fromkeys(operation.name for operation in operations))
            raise _UnsupportedLayerError(
                f"it has operations of its own on maps of a stride above output_stride={self.output_stride} ({names})",
                "move them into a module of their own, or choose a greater output stride",
            )
        return layout if has_phases else None

    def _contains_strides(self, name: str) -> bool:
        """Whether layers inside one make a map coarser than the output stride."""
        return any(
            operation.input_layout is not None
            and operation.output_layout is not None
            and operation.output_layout.stride > operation.input_layout.stride
            for inner, calls in self.trace.calls.items()
            if is_inside(inner, name)
            for call in calls
            for operation in call.operations
            if self._is_coarse(operation.output_layout)
        )

    def _phase_layout(self, call: ModuleCall) -> PhaseLayout:
        input_layouts = [layout for layout in call.inputs if layout]
        output_layouts = [layout for layout in call.outputs if layout]
        strides = {layout.stride for layout in input_layouts}
        output_strides = {layout.stride for layout in output_layouts}
        is_flattened = any(layout.is_flattened for layout in (*input_layouts, *output_layouts))
        if len(strides) != 1 or len(output_strides) > 1 or is_flattened:
            raise _UnsupportedLayerError(
                f"its inputs have strides {sorted(map(format_stride, strides))} and its results "
                f"{sorted(map(format_stride, output_strides))}, or mix rows and columns",
                _HINT,
            )
        shift = self._kept_stride(input_layouts[0], output_layouts[0]) if output_layouts else (1, 1)
        return PhaseLayout(
            self._rate(input_layouts[0]),
            shift,
            tuple(layout.axes if layout else None for layout in call.inputs),
            tuple((self._rate(layout), layout.axes) if layout else None for layout in call.outputs),
        )

    def _refuse_attention(self, name: str) -> None:
        """Raise DilationError if a layer, or one inside it, attends on maps coarser than the output stride."""
        for inner, operation in _attention_operations(self.trace):
            if inner != name and not is_inside(inner, name):
                continue
            if operation.input_layout is None or self._is_coarse(operation.input_layout):
                stride = f" at stride {format_stride(operation.input_layout.stride)}" if operation.input_layout else ""
                raise DilationError(
                    f"attention between positions ({operation.name}){stride}, above output_stride={self.output_stride}",
                    _HINT,
                    layer=(inner, type(self.network.get_submodule(inner))),
                )

    def _layer_error(self, name: str, layer: nn.Module, error: InputError) -> DilationError:
        return DilationError(error.message, error.hint, layer=(name, type(layer)))


def _refuse_untracked_attention(trace: Trace, network: nn.Module) -> None:
    """Raise DilationError if a layer attends to positions whose stride is not known (any more).

    Windows that are cut from a map and put back in the same layer do no harm.
    """
    for inner, operation in _attention_operations(trace):
        if operation.input_layout is None and not any(_keeps_layout(trace, name) for name in enclosing_names(inner)):
            raise DilationError(
                f"attention between positions ({operation.name}) of which the stride is unknown, since rows and "
                "columns were given up before",
                _HINT,
                layer=(inner, type(network.get_submodule(inner))),
            )


def _attention_operations(trace: Trace) -> Iterator[tuple[str, Operation]]:
    for inner, calls in trace.calls.items():
        for call in calls:
            yield from ((inner, operation) for operation in call.operations if operation.kind == "attention")


def _keeps_layout(trace: Trace, name: str) -> bool:
    """Whether each call of a module takes maps and returns maps."""
    return all(any(call.inputs) and any(call.outputs) for call in trace.calls.get(name, [])) and name in trace.calls


class _UnsupportedLayerError(InputError):
    """A layer cannot be rewritten by itself."""


class _EnclosingLayerNeededError(Exception):
    """A layer that cannot be rewritten unless the one around it is."""

    def __init__(self, layer: str, error: DilationError) -> None:
        super().__init__(layer)
        self.layer, self.error = layer, error


def _sample_rate(layout: SpatialLayout, output_stride: int) -> tuple[int, int]:
    """How far apart the samples of a map are in its dense form, along rows and columns."""
    rates = [max(Fraction(1), stride / output_stride) for stride in layout.stride]
    if any(rate.denominator > 1 for rate in rates):
        raise _UnsupportedLayerError(
            f"output_stride={output_stride} does not divide its stride of {format_stride(layout.stride)}",
            "choose another output stride",
        )
    return int(rates[0]), int(rates[1])
