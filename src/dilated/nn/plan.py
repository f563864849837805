"""What is to be done with each layer so that a network's late strides become dilation, decided from its trace.

The order of preference: nothing, where no operation of the layer's own minds; dilation, for a convolution or pooling;
statistics on samples; the layer on phases of its maps. A layer that cannot run on phases alone, since rows and columns
are already mixed up where it begins, takes the layer around it with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from torch import nn

from dilated.nn.attention import ADVICE, described, refuse_attention, refuse_lost_attention
from dilated.nn.dense import fits, make_dense
from dilated.nn.phases import Phases, run_on_phases
from dilated.nn.places import Place
from dilated.nn.sampled import Samples, sample
from dilated.nn.statistics import calls_on_samples
from dilated.nn.strides import Call, Operation, Trace


class UnfitError(ValueError):
    """A layer cannot be rewritten by itself."""


class Plan:
    """What each layer of a traced network needs at an output stride."""

    def __init__(self, trace: Trace, output_stride: int) -> None:
        self.trace = trace
        self.output_stride = output_stride
        self.windows: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}
        """Convolutions and poolings: the rate of the input, and how much of the stride stays."""
        self.phases: dict[str, Phases] = {}
        self.left: list[str] = []
        """Layers whose inside stays as it is."""
        self.sampled: dict[str, set[str]] = {}
        """Layers with statistics: the functions by which they take them."""

    def apply(self, network: nn.Module) -> None:
        """Rewrites the layers of a copy of the network, in place.

        Raises:
            ValueError: a layer cannot be rewritten; the message names it.
        """
        refuse_lost_attention(self.trace, network, self.output_stride)
        if self.trace.deepest() <= self.output_stride:
            return
        self._decide(network)
        layers = dict(network.named_modules())
        for name, (rate, keep) in self.windows.items():
            try:
                make_dense(layers[name], rate, keep)
            except ValueError as error:
                raise self._error(name, layers[name], str(error)) from None
        for name, phases in self.phases.items():
            run_on_phases(layers[name], phases)
        for name, plans in calls_on_samples(self.trace, self.sampled, self._samples):
            if any(plan != plans[0] for plan in plans):
                raise self._error(name, layers[name], f"found that it runs at several strides; expected one. {ADVICE}")
            sample(layers[name], plans[0])

    def _decide(self, network: nn.Module) -> None:
        forced: dict[str, ValueError] = {}  # layers that run on phases for the sake of one inside
        while True:
            self.windows, self.phases, self.sampled, self.left = {}, {}, {}, []
            try:
                self._decide_with(network, forced)
                return
            except _InsideError as inside:
                parent = self._around(inside.layer)
                if not parent or parent in forced:
                    raise inside.error from None
                forced[parent] = inside.error

    def _decide_with(self, network: nn.Module, forced: dict[str, ValueError]) -> None:
        for name, layer in network.named_modules():
            calls = self.trace.calls.get(name, [])
            if self.stays(name):
                continue
            steps = [self._steps(name, layer, call) for call in calls]
            if not any(steps) and name not in forced:
                continue
            own = [step for call in steps for step in call]
            if name not in forced and fits(layer) and [step.kind for step in steps[0]].count("window") == 1:
                self.windows[name] = self._window(name, layer, steps)
                continue
            varies = name in self.trace.varying
            if name not in forced and not varies and all(self._is_sampled(step) for step in own):
                self.sampled[name] = {step.name for step in own}
                continue
            try:
                refuse_attention(self.trace, network, name, self.output_stride)
                phases = self._on_phases(name, layer, calls)
            except UnfitError as error:
                failure = forced.get(name) or self._error(name, layer, str(error))
                raise _InsideError(name, failure) from None
            if phases is not None:
                self.phases[name] = phases
            self.left.append(name)

    def _around(self, name: str) -> str:
        """The innermost layer around one that was called."""
        while name:
            name = name.rpartition(".")[0]
            if name in self.trace.calls:
                return name
        return ""

    def stays(self, name: str) -> bool:
        """Whether a layer is inside one whose inside stays as it is."""
        return any(name != other and name.startswith(_inside(other)) for other in self.left)

    def rate(self, place: Place) -> tuple[int, int]:
        """How far apart the samples of a map are in its dense form."""
        rates = [max(Fraction(1), stride / self.output_stride) for stride in place.stride]
        if any(rate.denominator > 1 for rate in rates):
            raise UnfitError(
                f"found a stride of {described(place)}; expected one that output_stride={self.output_stride} divides. "
                "Choose another output stride."
            )
        return int(rates[0]), int(rates[1])

    def _coarse(self, place: Place | None) -> bool:
        return place is not None and max(place.stride) > self.output_stride

    def _steps(self, name: str, layer: nn.Module, call: Call) -> list[Operation]:
        """The operations of a call that a dense map changes."""
        around = any(self._coarse(place) for place in (*call.inputs, *call.outputs))
        steps = []
        for step in call.operations:
            lost = step.kind == "other" and step.place is None
            coarse = self._coarse(step.source) or self._coarse(step.place) or (around and lost)
            if step.source is not None and step.kind != "pointwise" and coarse:
                steps.append(step)
        return steps

    def _is_sampled(self, step: Operation) -> bool:
        fine = step.kind == "up" and step.place is not None and not self._coarse(step.place)
        return step.kind == "reduce" or fine

    def _window(
        self, name: str, layer: nn.Module, steps: list[list[Operation]]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        windows = {
            (step.source.stride, step.place.stride): (step.source, step.place)
            for call in steps
            for step in call
            if step.kind == "window" and step.source and step.place
        }
        if len(windows) != 1 or not all(steps):
            raise self._error(
                name, layer, "found that it runs at several strides; expected one. Give the network a layer for each."
            )
        ((source, place),) = windows.values()
        try:
            return self.rate(source), self._kept(source, place)
        except UnfitError as error:
            raise self._error(name, layer, str(error)) from None

    def _kept(self, source: Place, place: Place) -> tuple[int, int]:
        """How much of a layer's stride stays."""
        kept = []
        pairs = zip(source.stride, place.stride, self.rate(source), self.rate(place), strict=True)
        for before, after, rate, rate_out in pairs:
            keep = after / before * rate / rate_out
            if keep.denominator > 1 and after > before:
                raise UnfitError(
                    f"found a stride that grows from {before} to {after}; expected one that reaches "
                    f"output_stride={self.output_stride} on the way. Choose another output stride."
                )
            kept.append(max(1, int(keep)))
        return kept[0], kept[1]

    def _on_phases(self, name: str, layer: nn.Module, calls: list[Call]) -> Phases | None:
        """How a layer falls apart; None if it may stay, since it is coarse inside only."""
        plans = {self._phases(call) for call in calls}
        if len(plans) != 1:
            raise self._error(name, layer, f"found that it runs at several strides; expected one. {ADVICE}")
        (plan,) = plans
        if plan.rate != (1, 1) or plan.branches != (1, 1):
            if not name and self._strides_inside(name):
                raise UnfitError(self._foreign(name, layer, calls))
            return plan
        if self._strides_inside(name):
            raise UnfitError(self._foreign(name, layer, calls))
        return None

    def _foreign(self, name: str, layer: nn.Module, calls: list[Call]) -> str:
        steps = [step for call in calls for step in self._steps(name, layer, call)]
        names = ", ".join(dict.fromkeys(step.name for step in steps))
        return (
            f"found operations of its own on maps of a stride above output_stride={self.output_stride} ({names}); "
            "expected them in a layer of their own. Move them into a module, or choose a greater output stride."
        )

    def _strides_inside(self, name: str) -> bool:
        """Whether layers inside one make a map coarser than the output stride."""
        return any(
            step.source is not None and step.place is not None and step.place.stride > step.source.stride
            for inner, calls in self.trace.calls.items()
            if inner != name and inner.startswith(_inside(name))
            for call in calls
            for step in call.operations
            if self._coarse(step.place)
        )

    def _phases(self, call: Call) -> Phases:
        sources = [place for place in call.inputs if place]
        results = [place for place in call.outputs if place]
        strides = {place.stride for place in sources}
        ends = {place.stride for place in results}
        if len(strides) != 1 or len(ends) > 1 or any(place.flat for place in (*sources, *results)):
            raise UnfitError(
                f"found inputs of strides {sorted(map(_pair, strides))} and results of {sorted(map(_pair, ends))}; "
                f"expected maps of one stride each that keep rows and columns apart. {ADVICE}"
            )
        shift = self._kept(sources[0], results[0]) if results else (1, 1)
        return Phases(
            self.rate(sources[0]),
            shift,
            tuple(place.axes if place else None for place in call.inputs),
            tuple((self.rate(place), place.axes) if place else None for place in call.outputs),
        )

    def _samples(self, step: Operation) -> Samples | None:
        if step.source is None or not self._is_sampled(step) or not self._coarse(step.source):
            return None
        return step.source.axes, self.rate(step.source)

    def _error(self, name: str, layer: nn.Module, what: str) -> ValueError:
        return ValueError(f"dilate: {name or 'the network itself'} ({type(layer).__name__}): {what}")


class _InsideError(Exception):
    """A layer that cannot be rewritten unless the one around it is."""

    def __init__(self, layer: str, error: ValueError) -> None:
        super().__init__(layer)
        self.layer, self.error = layer, error


def _inside(name: str) -> str:
    return f"{name}." if name else ""


def _pair(stride: Iterable[Fraction]) -> str:
    return "x".join(dict.fromkeys(map(str, stride)))
