"""Compare a dilated network with the original: the output of every layer, at the samples, with random weights.

In float64, with parameters and running statistics drawn anew (what starts at zero would hide faults), on images whose
sides are multiples of the stride and on others. The first layer whose output is not the original's is named.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dilated.dilation.layout import SpatialLayout
from dilated.dilation.output_size import cropped_length
from dilated.dilation.plan import DilationPlan
from dilated.dilation.rewrite import original_type, subsample
from dilated.dilation.trace import FORWARD_ERRORS, DilationError, Trace, run_with_state, tensor_leaves
from dilated.environment import require_memory
from dilated.errors import InputError
from dilated.fields.probing import eval_mode, temporary_hooks
from dilated.progress import ProgressCallback

_OnOutput = Callable[[str, nn.Module, int, list[Tensor]], None]
"""Called with a layer's name, the layer, how often it ran before, and the tensors that it returned."""

_TOLERANCE = 1e-6
_SIZES = ((64, 96), (75, 43), (128, 192), (149, 171), (224, 224), (251, 299), (320, 384))
"""Tried in turn until the network has run on enough images."""
_IMAGE_COUNT = 2


def verify_dilation(
    original: nn.Module,
    dilated: nn.Module,
    trace: Trace,
    plan: DilationPlan,
    progress: ProgressCallback | None = None,
) -> None:
    """Compare a network with its dilated copy.

    Both run with the same new weights in float64, which are not kept: theirs stay, as do their types and devices.

    Args:
        original: the network.
        dilated: its dilated copy.
        trace: of the original.
        plan: that made the copy.
        progress: called with how many layers have been compared, and how many there are, on all images together.

    Raises:
        DilationError: the first layer that differs, by how much and where; or that fails.
    """
    state = _random_state(original)
    rewritten = {"", *plan.windows, *plan.phases, *plan.samples}
    try:
        _compare_networks(original, dilated, state, trace, plan, rewritten, progress)
    except DilationError:  # once more with every layer, for the first that differs
        _compare_networks(original, dilated, state, trace, plan, set(trace.calls), None)
        raise


def _compare_networks(
    original: nn.Module,
    dilated: nn.Module,
    state: dict[str, Tensor],
    trace: Trace,
    plan: DilationPlan,
    names: Set[str],
    progress: ProgressCallback | None,
) -> None:
    """Compare the outputs of the named layers; they alone, since hooks on every layer take as long as the layers."""
    call_count = sum(len(trace.calls.get(name, [])) for name in names)
    references: dict[tuple[str, int], list[Tensor]] = {}
    image_count = compared = 0
    image_size = trace.size

    def record(name: str, layer: nn.Module, call: int, outputs: list[Tensor]) -> None:
        references[name, call] = [output.clone() for output in outputs]

    def compare(name: str, layer: nn.Module, call: int, outputs: list[Tensor]) -> None:
        nonlocal compared
        compared += 1
        if progress is not None:
            progress(min(compared, (image_count + 1) * call_count), _IMAGE_COUNT * call_count)
        if plan.is_inside_opaque(name):
            return
        where, reference = (name, original_type(layer)), references.get((name, call))
        if reference is None or len(reference) != len(outputs):
            raise DilationError(
                "it runs in another order, or returns another number of tensors, than in the original",
                hint="give the network layers that run in one order",
                layer=where,
            )
        calls = trace.calls.get(name, [])
        layouts = calls[call].outputs if call < len(calls) else []
        if len(layouts) != len(outputs):
            layouts = [None] * len(outputs)
        for actual, expected, layout in zip(outputs, reference, layouts, strict=True):
            _compare_output(where, actual, expected, layout, plan, image_size if not name else None)

    for size in (*_SIZES, trace.size):
        image_size = size
        generator = torch.Generator().manual_seed(size[0])
        image = torch.rand(1, trace.channels, *size, generator=generator, dtype=torch.float64)
        references.clear()
        try:
            with eval_mode(original), torch.no_grad(), _output_hooks(original, names, record):
                run_with_state(original, state, image)
        except FORWARD_ERRORS as error:
            require_memory(error, f"dilation: an image of {size[0]}x{size[1]}")
            continue  # too small for the network, or not the only size that it takes
        running: list[str] = []
        hooks = _output_hooks(dilated, names, compare), _name_running(dilated, names, running)
        with eval_mode(dilated), torch.no_grad(), hooks[0], hooks[1]:
            try:
                run_with_state(dilated, state, image)
            except InputError:  # what `compare` found
                raise
            except FORWARD_ERRORS as error:
                require_memory(error, f"dilation: an image of {size[0]}x{size[1]}")
                name = running[-1] if running else ""
                raise DilationError(
                    f"it does not take the map of more values that it is given ({str(error) or type(error).__name__})",
                    hint="choose a greater output stride, or let the layer find sizes and shapes from its input",
                    layer=(name, original_type(dilated.get_submodule(name))),
                ) from error
        image_count += 1
        if image_count == _IMAGE_COUNT:
            return
    if not image_count:
        raise DilationError(
            "the network ran on none of the images that the result is checked with",
            hint="give check=False, and compare the result with the original on your own images",
        )


def _random_state(network: nn.Module) -> dict[str, Tensor]:
    """Other parameters and running statistics, in float64 on the CPU: none is zero, activations neither grow nor fade.

    Tensors that the network uses under several names stay one.
    """
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not parameter.is_floating_point():  # a table, such as one of indices
                state[name] = parameter.detach().to("cpu", copy=True)
                continue
            state[name] = value = parameter.detach().to("cpu", torch.float64, copy=True)
            inputs = math.prod(value.shape[1:])
            bound = math.sqrt(6 / inputs) if inputs > 1 else 0.0
            value.uniform_(-bound or 0.3, bound or 1.2, generator=generator)
        for name, buffer in network.named_buffers():
            state[name] = value = buffer.to("cpu", torch.float64 if buffer.is_floating_point() else None, copy=True)
            if name.endswith("running_mean"):
                value.uniform_(-0.5, 0.5, generator=generator)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
    return state


def _output_hooks(network: nn.Module, names: Set[str], on_output: _OnOutput) -> AbstractContextManager[None]:
    """Within a `with` block, call `on_output` with the results of the named layers."""
    calls: Counter[str] = Counter()

    def register(name: str, layer: nn.Module) -> RemovableHandle:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] += 1
            on_output(name, layer, calls[name] - 1, tensor_leaves(output))

        return layer.register_forward_hook(hook)

    return temporary_hooks(register(name, layer) for name, layer in network.named_modules() if name in names)


def _name_running(network: nn.Module, names: Set[str], running: list[str]) -> AbstractContextManager[None]:
    """Within a `with` block, keep which of the named layers have begun and not ended, the innermost last."""

    def register(name: str, layer: nn.Module) -> Iterator[RemovableHandle]:
        yield layer.register_forward_pre_hook(lambda layer, inputs: running.append(name))
        yield layer.register_forward_hook(lambda layer, inputs, output: running.remove(name))

    layers = ((name, layer) for name, layer in network.named_modules() if name in names)
    return temporary_hooks(handle for name, layer in layers for handle in register(name, layer))


def _compare_output(
    where: tuple[str, type],
    actual: Tensor,
    reference: Tensor,
    layout: SpatialLayout | None,
    plan: DilationPlan,
    image_size: tuple[int, int] | None,
) -> None:
    layout = None if layout is not None and layout.is_flattened else layout
    rates = plan.rate(layout) if layout is not None else (1, 1)
    dense_shape = list(reference.shape)
    for i, axis in enumerate(layout.axes if layout is not None else ()):
        dense_shape[axis] *= rates[i]
        if image_size is not None and rates[i] > 1:  # what leaves the network is cropped
            dense_shape[axis] = cropped_length(dense_shape[axis], rates[i], image_size[i], plan.output_stride)
    if list(actual.shape) != dense_shape:
        if layout is None and where[0]:
            return  # rows and columns could not be told apart here; the layers after it are compared
        raise DilationError(
            f"its output is {tuple(actual.shape)}, not {tuple(dense_shape)}",
            hint="move what it does with sizes and positions into a module of its own",
            layer=where,
        )
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


def output_rate(layout: SpatialLayout | None, plan: DilationPlan) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The rate of a map that a dilated network gives, and where its rows and columns lie; None if it has none."""
    return None if layout is None or layout.is_flattened else (plan.rate(layout), layout.axes)


def _relative_error(actual: Tensor, reference: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    if not reference.numel():
        return 0.0
    scale = reference.abs().max().item()
    if not math.isfinite(scale):
        return 0.0 if torch.equal(actual.nan_to_num(), reference.nan_to_num()) else math.inf
    return (actual - reference).abs().max().item() / scale if scale else actual.abs().max().item()
