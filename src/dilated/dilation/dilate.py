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

import copy
from contextlib import suppress
from typing import Any, TypeVar

import torch
from torch import nn

from dilated.dilation.plan import plan_dilation
from dilated.dilation.trace import FORWARD_ERRORS, DilationError, Trace, trace_network
from dilated.dilation.verify import verify_dilation
from dilated.fields.probing import probe_image

_M = TypeVar("_M", bound=nn.Module)


def dilate(module: _M, output_stride: int = 8, *, check: bool = True) -> _M:
    """Copy a network so that it gives a value for every `output_stride` pixels: late strides become dilation.

    `dilate(m)(x)[..., ::k, ::k] == m(x)` at every position, borders included, where k is the network's own stride
    divided by `output_stride`. A classifier that ends in global pooling gives the same logits as before.

    Args:
        module: any convolutional network that maps one image (N, C, H, W): timm's, torchvision's or your own; a
            classifier, or one that returns feature maps. It is left as it is.
        output_stride: pixels per value along each axis, at most, from here on to the end of the network.
        check: compare the result with the original before it is returned (some seconds for a large network).

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
    trace = trace_network(module)
    dilated = copy.deepcopy(module)
    _refuse_training_only_layers(module, trace)
    plan = plan_dilation(trace, dilated, output_stride)
    plan.apply(dilated)
    _update_feature_info(dilated, output_stride)
    if check and trace.max_stride() > output_stride:
        verify_dilation(module, dilated, trace, plan)
    return dilated


def _refuse_training_only_layers(module: nn.Module, trace: Trace) -> None:
    """Refuse layers that run in training only, such as auxiliary heads: they would read dense maps unchecked."""
    network = copy.deepcopy(module).train()
    training_only: dict[str, str] = {}
    for name, layer in network.named_modules():
        if name not in trace.calls and isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            layer.register_forward_pre_hook(lambda layer, inputs, name=name: training_only.setdefault(name, ""))
    with torch.no_grad(), suppress(*FORWARD_ERRORS):  # what cannot be trained has no such layers
        network(probe_image(network, 2, trace.channels, *trace.size))
    if training_only:
        raise DilationError(
            f"{next(iter(training_only))} runs in training only",
            hint="build it without its auxiliary heads, for example with aux_logits=False",
        )


def _update_feature_info(network: Any, output_stride: int) -> None:
    """Correct how many pixels each value of a level stands for, which timm's networks say."""
    info = getattr(network, "feature_info", None)
    for level in getattr(info, "info", info) or []:
        if isinstance(level, dict) and "reduction" in level:
            level["reduction"] = min(level["reduction"], output_stride)
