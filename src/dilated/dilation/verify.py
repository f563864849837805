"""Compare a dilated network with the original: the output of every layer, at the samples, with random weights.

In float64, with parameters and running statistics drawn anew (what starts at zero would hide faults), on images whose
sides are multiples of the stride and on others. The first layer whose output is not the original's is named.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dilated.dilation.layout import SpatialLayout
from dilated.dilation.plan import DilationPlan
from dilated.dilation.rewrite import original_type, subsample
from dilated.dilation.trace import FORWARD_ERRORS, DilationError, Trace, tensor_leaves
from dilated.environment import require_memory
from dilated.errors import InputError
from dilated.fields.probing import temporary_hooks

_OnOutput = Callable[[str, nn.Module, int, list[Tensor]], None]
"""Called with a layer's name, the layer, how often it ran before, and the tensors that it returned."""

_TOLERANCE = 1e-6
_SIZES = ((96, 64), (75, 107), (128, 192), (149, 171), (224, 224), (251, 299), (320, 384))
"""Tried in turn until the network has run on enough images."""
_IMAGE_COUNT = 2


def verify_dilation(original: nn.Module, dilated: nn.Module, trace: Trace, plan: DilationPlan) -> None:
    """Compare a network with its dilated copy.

    Raises:
        DilationError: the first layer that differs, by how much and where; or that fails.
    """
    reference_network = copy.deepcopy(original).cpu().double().eval()
    _randomize_weights(reference_network)
    dilated_network = copy.deepcopy(dilated).cpu().double().eval()
    dilated_network.load_state_dict(reference_network.state_dict())
    references: dict[tuple[str, int], list[Tensor]] = {}

    def record(name: str, layer: nn.Module, call: int, outputs: list[Tensor]) -> None:
        references[name, call] = [output.clone() for output in outputs]

    def compare(name: str, layer: nn.Module, call: int, outputs: list[Tensor]) -> None:
        if plan.is_inside_opaque(name):
            return
        where, reference = (name, original_type(layer)), references.get((name, call))
        if reference is None or len(reference) != len(outputs):
            raise DilationError(
                "it runs in another order, or returns another number of tensors, than in the original", layer=where
            )
        calls = trace.calls.get(name, [])
        layouts = calls[call].outputs if call < len(calls) else []
        if len(layouts) != len(outputs):
            layouts = [None] * len(outputs)
        for actual, expected, layout in zip(outputs, reference, layouts, strict=True):
            _compare_output(where, actual, expected, layout, plan)

    image_count = 0
    for size in (*_SIZES, trace.size):
        generator = torch.Generator().manual_seed(size[0])
        image = torch.rand(1, trace.channels, *size, generator=generator, dtype=torch.float64)
        references.clear()
        try:
            with torch.no_grad(), _output_hooks(reference_network, record):
                reference_network(image)
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            require_memory(error, f"dilation: an image of {size[0]}x{size[1]}")
            continue  # too small for the network, or not the only size that it takes
        running: list[str] = []
        with torch.no_grad(), _output_hooks(dilated_network, compare), _name_running(dilated_network, running):
            try:
                dilated_network(image)
            except InputError:  # what `compare` found
                raise
            except FORWARD_ERRORS as error:
                require_memory(error, f"dilation: an image of {size[0]}x{size[1]}")
                name = running[-1] if running else ""
                raise DilationError(
                    f"it does not take the map of more values that it is given ({str(error) or type(error).__name__})",
                    hint="choose a greater output stride, or let the layer find sizes and shapes from its input",
                    layer=(name, original_type(dilated_network.get_submodule(name))),
                ) from error
        image_count += 1
        if image_count == _IMAGE_COUNT:
            return
    if not image_count:
        raise DilationError("the network ran on none of the images that the result is checked with")


def _randomize_weights(network: nn.Module) -> None:
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


def _output_hooks(network: nn.Module, on_output: _OnOutput) -> AbstractContextManager[None]:
    """Within a `with` block, call `on_output` with the results of every layer."""
    calls: Counter[str] = Counter()

    def register(name: str, layer: nn.Module) -> RemovableHandle:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] += 1
            on_output(name, layer, calls[name] - 1, tensor_leaves(output))

        return layer.register_forward_hook(hook)

    return temporary_hooks(register(name, layer) for name, layer in network.named_modules())


def _name_running(network: nn.Module, running: list[str]) -> AbstractContextManager[None]:
    """Within a `with` block, keep the names of the layers that have begun and not ended, the innermost last."""

    def register(name: str, layer: nn.Module) -> Iterator[RemovableHandle]:
        yield layer.register_forward_pre_hook(lambda layer, inputs: running.append(name))
        yield layer.register_forward_hook(lambda layer, inputs, output: running.remove(name))

    return temporary_hooks(handle for name, layer in network.named_modules() for handle in register(name, layer))


def _compare_output(
    where: tuple[str, type], actual: Tensor, reference: Tensor, layout: SpatialLayout | None, plan: DilationPlan
) -> None:
    layout = None if layout is not None and layout.is_flattened else layout
    rates = plan.rate(layout) if layout is not None else (1, 1)
    dense_shape = list(reference.shape)
    for axis, rate in zip(layout.axes if layout is not None else (), rates, strict=False):
        dense_shape[axis] *= rate
    if list(actual.shape) != dense_shape:
        if layout is None and where[0]:
            return  # rows and columns could not be told apart here; the layers after it are compared
        raise DilationError(f"its output is {tuple(actual.shape)}, not {tuple(dense_shape)}", layer=where)
    if not reference.is_floating_point():
        return
    if layout is not None:
        actual = subsample(actual, (layout.axes, rates))
    error = _relative_error(actual, reference)
    if error <= _TOLERANCE:
        return
    only_at_border = False
    if layout is not None and min(layout.size) >= 3:
        interior = [slice(None)] * reference.ndim
        for axis in layout.axes:
            interior[axis] = slice(reference.shape[axis] // 3, -(reference.shape[axis] // 3) or None)
        only_at_border = _relative_error(actual[tuple(interior)], reference[tuple(interior)]) <= _TOLERANCE
    raise DilationError(
        f"its output differs from the original's by {error:.1e} (relative)"
        f"{', at the border only' if only_at_border else ''}",
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
