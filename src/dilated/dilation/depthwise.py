"""Dilated depthwise convolution by phases: the same sums, taken in an order for which CPUs have a fast kernel.

With dilation d, output row y reads input rows y - d, y, y + d: only rows of its own phase, y mod d. So the image
falls apart into d * d smaller ones, each of which an undilated convolution treats (space to batch). Ordinary
convolutions gain nothing by that on a CPU, whose dilated kernels are already fast; depthwise ones with a wide dilation
run on slow kernels otherwise. `benchmarks/depthwise.py` measures both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PolyphaseConv2d(nn.Conv2d):
    """A depthwise convolution of stride 1 and full padding that runs phase by phase on a CPU.

    Parameters, their names and the result are those of the `nn.Conv2d` that it replaces.

    Shapes:
        (N, C, H, W) -> (N, C, H, W).
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.jit.is_tracing():  # type: ignore[attr-defined]  # runtimes have kernels
            return super().forward(x)
        d = self.dilation[0]
        n, c, height, width = x.shape
        h, w = -(-height // d), -(-width // d)
        # Zeros to a whole number of phases are the zeros that the padding would have supplied.
        x = F.pad(x, (0, w * d - width, 0, h * d - height))
        x = x.reshape(n, c, h, d, w, d).permute(0, 3, 5, 1, 2, 4).reshape(n * d * d, c, h, w)
        x = F.conv2d(x, self.weight, self.bias, padding=self.kernel_size[0] // 2, groups=c)
        x = x.reshape(n, d, d, c, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c, h * d, w * d)
        return x[..., :height, :width]


def use_polyphase(module: nn.Module) -> nn.Module:
    """Let every dilated depthwise convolution inside run by phases, in place; the module is returned.

    Example:
        >>> conv = nn.Sequential(nn.Conv2d(8, 8, 3, padding=4, dilation=4, groups=8))
        >>> type(use_polyphase(conv)[0]).__name__
        'PolyphaseConv2d'
    """
    for layer in module.modules():
        if type(layer) is nn.Conv2d and _is_supported(layer):
            layer.__class__ = PolyphaseConv2d  # same parameters and settings, another forward
    return module


def _is_supported(conv: nn.Conv2d) -> bool:
    kernel, dilation = conv.kernel_size[0], conv.dilation[0]
    return (
        conv.groups == conv.in_channels == conv.out_channels
        and conv.kernel_size == (kernel, kernel)
        and kernel % 2 == 1
        and conv.dilation == (dilation, dilation)
        and dilation > 1
        and conv.stride == (1, 1)
        and conv.padding == (dilation * (kernel // 2),) * 2
        and conv.padding_mode == "zeros"
    )
