"""Compare a dilated network with the original: the output of every layer, at the samples, with random weights.

In float64, with parameters and running statistics drawn anew (what starts at zero would hide faults), on images whose
sides are multiples of the stride and on others. The first layer whose output is not the original's is named.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dilated.dilation.layout import SpatialLayout
from dilated.dilation.plan import DilationPlan
from dilated.dilation.rewrite import original_type
from dilated.dilation.trace import DilationError, Trace, tensor_leaves
from dilated.fields.probing import temporary_hooks

_TOLERANCE = 1e-6
_SIZES = ((96, 64), (75, 107), (128, 192), (149, 171), (224, 224), (251, 299), (320, 384))
"""Tried in turn until the network has run on enough images."""
_IMAGE_COUNT = 2


def verify_dilation(original: nn.Module, dilated: nn.Module, trace: Trace, plan: DilationPlan) -> None:
    """Compare a network with its dilated copy.

    Raises:
        DilationError: the first layer that differs, by how much and where.
    """
    reference_network = copy.deepcopy(original).cpu().double().eval()
    randomize_weights(reference_network)
    dilated_network = copy.deepcopy(dilated).cpu().double().eval()
    dilated_network.load_state_dict(reference_network.state_dict())
    image_count = 0
    for size in (*_SIZES, trace.size):
        generator = torch.Generator().manual_seed(size[0])
        image = torch.rand(1, trace.channels, *size, generator=generator, dtype=torch.float64)
        recorder = _OutputRecorder(reference_network)
        try:
            with torch.no_grad(), recorder:
                reference_network(image)
        except (RuntimeError, ValueError, AssertionError, IndexError):
            continue  # too small for the network, or not the only size that it takes
        with torch.no_grad(), _OutputComparer(dilated_network, recorder.outputs, trace, plan):
            dilated_network(image)
        image_count += 1
        if image_count == _IMAGE_COUNT:
            return
    if not image_count:
        raise DilationError("the network ran on none of the images that the result is checked with")


def randomize_weights(network: nn.Module) -> None:
    """Draw parameters and running statistics anew, in place: none is zero, and activations neither grow nor fade."""
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


class _OutputHooks:
    """Call `on_output` with the results of every layer within a `with` block."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.calls: dict[str, int] = {}

    def __enter__(self) -> _OutputHooks:
        layers = self.network.named_modules()
        self._hooks = temporary_hooks(layer.register_forward_hook(self._hook(name)) for name, layer in layers)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)

    def _hook(self, name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            call = self.calls.get(name, 0)
            self.calls[name] = call + 1
            self.on_output(name, layer, call, tensor_leaves(output))

        return hook

    def on_output(self, name: str, layer: nn.Module, call: int, outputs: Sequence[Tensor]) -> None:
        raise NotImplementedError


class _OutputRecorder(_OutputHooks):
    """Keep what the layers of the original return, as it is at that moment."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.outputs: dict[tuple[str, int], list[Tensor]] = {}

    def on_output(self, name: str, layer: nn.Module, call: int, outputs: Sequence[Tensor]) -> None:
        self.outputs[name, call] = [output.clone() for output in outputs]


class _OutputComparer(_OutputHooks):
    """Stop at the first layer that does not return what the original's returns."""

    def __init__(
        self,
        network: nn.Module,
        expected: Mapping[tuple[str, int], list[Tensor]],
        trace: Trace,
        plan: DilationPlan,
    ) -> None:
        super().__init__(network)
        self.expected, self.plan = expected, plan
        self.layouts = {name: [module_call.outputs for module_call in calls] for name, calls in trace.calls.items()}

    def on_output(self, name: str, layer: nn.Module, call: int, outputs: Sequence[Tensor]) -> None:
        if self.plan.is_inside_opaque(name):
            return
        where = name, original_type(layer)
        expected = self.expected.get((name, call))
        if expected is None or len(expected) != len(outputs):
            raise DilationError(
                "it runs in another order, or returns another number of tensors, than in the original", layer=where
            )
        calls = self.layouts.get(name, [])
        layouts = calls[call] if call < len(calls) and len(calls[call]) == len(outputs) else [None] * len(outputs)
        for actual, reference, layout in zip(outputs, expected, layouts, strict=True):
            self._compare(where, actual, reference, layout)

    def _compare(
        self, where: tuple[str, type], actual: Tensor, reference: Tensor, layout: SpatialLayout | None
    ) -> None:
        if layout is not None and not layout.is_flattened:
            rates = self.plan.rate(layout)
            dense_shape = list(reference.shape)
            for axis, rate in zip(layout.axes, rates, strict=True):
                dense_shape[axis] *= rate
            if list(actual.shape) != dense_shape:
                message = f"found an output of {tuple(actual.shape)}; expected {tuple(dense_shape)}"
                raise DilationError(message, layer=where)
            index = [slice(None)] * actual.ndim
            for axis, rate in zip(layout.axes, rates, strict=True):
                index[axis] = slice(None, None, rate)
            actual = actual[tuple(index)]
        elif actual.shape != reference.shape:
            if not where[0]:  # the network's own output
                message = f"found an output of {tuple(actual.shape)}; expected {tuple(reference.shape)}"
                raise DilationError(message, layer=where)
            return  # rows and columns could not be told apart here; the layers after it are compared
        if not reference.is_floating_point():
            return
        error = _relative_error(actual, reference)
        if error <= _TOLERANCE:
            return
        only_at_border = False
        if layout is not None and not layout.is_flattened and min(layout.size) >= 3:
            interior = [slice(None)] * reference.ndim
            for axis in layout.axes:
                interior[axis] = slice(reference.shape[axis] // 3, -(reference.shape[axis] // 3) or None)
            only_at_border = _relative_error(actual[tuple(interior)], reference[tuple(interior)]) <= _TOLERANCE
        raise DilationError(
            f"its output differs from the original's by {error:.1e} (relative)"
            f"{', at the border only' if only_at_border else ''}; expected the same at every sample",
            hint="choose a greater output stride or another network",
            layer=where,
            only_at_border=only_at_border,
        )


def _relative_error(actual: Tensor, reference: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    if not reference.numel():
        return 0.0
    scale = reference.abs().max().item()
    if not math.isfinite(scale):
        return 0.0 if torch.equal(actual.nan_to_num(), reference.nan_to_num()) else math.inf
    return (actual - reference).abs().max().item() / scale if scale else actual.abs().max().item()
