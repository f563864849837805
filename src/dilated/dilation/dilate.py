"""Late strides of any convolutional network into dilation, exactly.

    >>> import torch
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1))
    >>> fine = dilate(network, output_stride=2)
    >>> image = torch.rand(1, 3, 37, 50)
    >>> network(image).shape, fine(image).shape
    (torch.Size([1, 8, 9, 12]), torch.Size([1, 8, 18, 24]))
    >>> torch.allclose(fine(image)[..., ::2, ::2], network(image), atol=1e-6)
    True

A stride discards all but every s-th value. Without it every value is kept, and each later layer must reach s times as
far to read the values that it read before (paper, Section 4). Dilation does that; the values between the samples are
new.

1. One run on a probe image tells at which stride every layer works (`trace.py`), and so what it needs (`plan.py`).
2. Convolutions and poolings get dilation (`windows.py`); statistics over the whole map are taken on the samples, and
   whatever else reads more than one position runs on the phases of the map (`rewrite.py`).
3. The result is compared with the original, layer by layer, on images of several sizes (`verify.py`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypeVar

import torch
from torch import nn

from dilated.dilation.copying import copy_network
from dilated.dilation.output_size import crop_outputs
from dilated.dilation.plan import DilationPlan, plan_dilation
from dilated.dilation.trace import (
    FORWARD_ERRORS,
    DilationError,
    Trace,
    holds_meta_tensors,
    network_state,
    run_with_state,
    trace_network,
)
from dilated.dilation.verify import output_rate, verify_dilation
from dilated.fields.probing import probe_image, temporary_hooks
from dilated.progress import ProgressCallback

_M = TypeVar("_M", bound=nn.Module)


def dilate(module: _M, output_stride: int = 8, *, check: bool = True, progress: ProgressCallback | None = None) -> _M:
    """Copy a network so that it gives a value for every `output_stride` pixels: late strides become dilation.

    `dilate(m)(x)[..., ::k, ::k] == m(x)` at every position, borders included, where k is the network's own stride
    divided by `output_stride`. A classifier that ends in global pooling gives the same logits as before. Maps of one
    stride r have one size, ceil(H/r) x ceil(W/r), if the network pads its layers as usual: what a dense map has beyond
    the image is cropped.

    Args:
        module: any convolutional network that maps one image (N, C, H, W): timm's, torchvision's or your own; a
            classifier, or one that returns feature maps. It is left as it is.
        output_stride: pixels per value along each axis, at most, from here on to the end of the network.
        check: compare the result with the original before it is returned (about as long as all else takes: a second
            or two for a network of 10 million parameters). Without it, a layer that differs is not found, and none
            is put on phases for its sake.
        progress: called with the number of layers compared, and that of all, during the check.

    Returns:
        A network of the same type, with the same parameters under the same names, in the same mode. Weights may be
        loaded before or after. A network whose strides multiply to no more than `output_stride` is copied unchanged.

    Raises:
        InputError: the definition cannot hold. The message names the layer, and why.

    Example:
        >>> import torchvision
        >>> network = torchvision.models.resnet18().eval()
        >>> fine = dilate(network, output_stride=8, check=False)
        >>> fine.layer4[0].conv1.dilation, fine.layer4[0].conv2.dilation, fine.layer4[1].conv1.dilation
        ((2, 2), (4, 4), (4, 4))
        >>> fine.layer4[0].conv1.stride
        (1, 1)
    """
    if output_stride < 1:
        raise DilationError(f"output_stride={output_stride}", hint="give at least 1")
    probe = copy_network(module, share_weights=True)
    trace = trace_network(probe)
    if holds_meta_tensors(probe):
        probe = copy_network(module, share_weights=True)
    _refuse_training_only_layers(probe, trace)
    on_phases: dict[str, DilationError] = {}
    while True:
        dilated = copy_network(module)
        plan = plan_dilation(trace, dilated, output_stride, on_phases)
        plan.apply(dilated)
        _crop_outputs(dilated, trace, plan)
        _update_feature_info(dilated, output_stride)
        if not check or trace.max_stride() <= output_stride:
            return dilated
        try:
            # A copy, since layers may keep what a run computes for the next one.
            verify_dilation(probe, copy_network(dilated, share_weights=True), trace, plan, progress)
            return dilated
        except DilationError as refusal:  # what a layer does may still be exact on phases of the map around it
            layer = plan.layer_to_run_on_phases(refusal.layer, trace) if refusal.layer else ""
            if not layer or layer in on_phases:
                raise next(iter(on_phases.values()), refusal) from None
            on_phases[layer] = next(iter(on_phases.values()), refusal)


def _refuse_training_only_layers(network: nn.Module, trace: Trace) -> None:
    """Refuse layers that run in training only, such as auxiliary heads: they would read dense maps unchecked."""
    uncalled = {
        name: layer
        for name, layer in network.named_modules()
        if name not in trace.calls and isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)
    }
    if not uncalled:
        return
    training_only: list[str] = []
    handles = (
        layer.register_forward_pre_hook(lambda layer, inputs, name=name: training_only.append(name))
        for name, layer in uncalled.items()
    )
    state = {name: x.clone() for name, x in network_state(network).items()}  # running statistics change
    image = probe_image(network, 2, trace.channels, *trace.size)
    with temporary_hooks(handles), torch.no_grad(), suppress(*FORWARD_ERRORS):  # what cannot be trained has none
        run_with_state(network.train(), state, image)
    network.eval()
    if training_only:
        raise DilationError(
            f"{training_only[0]} runs in training only",
            hint="build it without its auxiliary heads, for example with aux_logits=False",
        )


def _crop_outputs(dilated: nn.Module, trace: Trace, plan: DilationPlan) -> None:
    """Take off what the maps of a dilated network have beyond the image."""
    (call, *_) = trace.calls[""]
    outputs = tuple(output_rate(layout, plan) for layout in call.outputs)
    image = next((i for i, layout in enumerate(call.inputs) if layout), None)
    layout = call.inputs[image] if image is not None else None
    if image is not None and layout is not None and any(output and max(output[0]) > 1 for output in outputs):
        crop_outputs(dilated, image, layout.axes, outputs, plan.output_stride)


def _update_feature_info(network: Any, output_stride: int) -> None:
    """Correct how many pixels each value of a level stands for, which timm's networks say."""
    info = getattr(network, "feature_info", None)
    for level in getattr(info, "info", info) or []:
        if isinstance(level, dict) and "reduction" in level:
            level["reduction"] = min(level["reduction"], output_stride)
