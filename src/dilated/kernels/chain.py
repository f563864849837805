"""A wide convolution and the 1x1 layers after it, row band by row band, so that the wide maps are never held whole."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.kernels.layers import FastConv2d

_BAND_BYTES = 80 * 2**20
"""Memory that the widest map of a band may take: it holds the 4096 channels of one tile of the released networks."""


class RowBandChain(nn.Module):
    """A convolution of stride 1 followed by 1x1 convolutions, computed in bands of output rows.

    Shapes:
        (N, C, H, W) -> (N, c_out of the last layer, H', W').
    """

    def __init__(self, layers: list[FastConv2d], band_bytes: int = _BAND_BYTES) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.widest = max(layer.weight.shape[0] for layer in layers[:-1])
        self.band_bytes = band_bytes
        self.geometry = layers[0].geometry
        """That of the first layer, which itself pads no rows."""
        padding, end_padding = self.geometry.padding, self.geometry.end_padding
        layers[0].geometry = replace(self.geometry, padding=(0, padding[1]), end_padding=(0, end_padding[1]))

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.geometry.output_size(x.shape[-2], x.shape[-1])
        x = F.pad(x, (0, 0, self.geometry.padding[0], self.geometry.end_padding[0]))
        rows = max(1, self.band_bytes // max(1, 4 * x.shape[0] * self.widest * width))
        if rows >= height:
            return self.layers(x)
        rows = -(-height // -(-height // rows))  # bands of about equal size
        span = self.geometry.dilation[0] * (self.geometry.kernel[0] - 1)
        bands = [x[:, :, start : start + rows + span] for start in range(0, height, rows)]
        return torch.cat([self.layers(band) for band in bands], 2)


def chain_pointwise(module: nn.Module, band_bytes: int = _BAND_BYTES) -> None:
    """Chain, in place, each wide layer of an `nn.Sequential` and the 1x1 layers after it, down to fewer channels."""
    for parent in list(module.modules()):
        if isinstance(parent, nn.Sequential) and type(parent).forward is nn.Sequential.forward:
            children = [(name, layer) for name, layer in parent.named_children() if not _does_nothing(layer)]
            for start, (name, layer) in enumerate(children):
                run = _chain_from([child for _, child in children[start:]]) if _is_wide(layer) else []
                if len(run) > 1:
                    setattr(parent, name, RowBandChain(run, band_bytes))
                    for other, _ in children[start + 1 : start + len(run)]:
                        setattr(parent, other, nn.Identity())
                    break


def _chain_from(layers: list[nn.Module]) -> list[FastConv2d]:
    """The first layer and the 1x1 layers after it, up to the narrowest."""
    run: list[FastConv2d] = []
    for layer in layers:
        if not isinstance(layer, FastConv2d) or layer.geometry.stride != (1, 1) or layer.geometry.is_same:
            break
        if run and (layer.geometry.kernel, *layer.geometry.padding, *layer.geometry.end_padding) != (
            (1, 1),
            0,
            0,
            0,
            0,
        ):
            break
        run.append(layer)
    while len(run) > 1 and run[-1].weight.shape[0] > run[0].weight.shape[0] // 2:
        run.pop()
    return run


def _is_wide(layer: nn.Module) -> bool:
    return isinstance(layer, FastConv2d) and layer.weight.shape[0] >= 1024


def _does_nothing(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Identity | nn.Dropout)
