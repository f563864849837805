"""Layers that cannot be dilated are refused by name, whatever they raise; and those that can are exact."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated import InputError, dilate


class Positions(nn.Module):
    """A number per position of maps of one size."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(1, 4, 10, 14))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.values


class PyramidPooling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + F.interpolate(F.adaptive_avg_pool2d(x, 3), x.shape[2:], mode="bilinear")


class UnfoldView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        return F.unfold(x, 3, padding=1).view(n, channels * 9, height, width)


class CoordinateAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.rows, self.columns = (nn.Conv2d(4, 4, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        both = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)], 2)
        rows, columns = self.mix(both).relu().split([height, width], 2)
        return x * self.rows(rows).sigmoid() * self.columns(columns).permute(0, 1, 3, 2).sigmoid()


class FlatStatistic(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.flatten(2).mean(-1)[..., None, None].sigmoid()


class Crop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[..., 1:, 1:]


def around(layer: nn.Module) -> nn.Module:
    """A network of stride 16 with a layer at its end."""
    strided = [nn.Conv2d(channels, 4, 3, stride=2, padding=1) for channels in (3, 4, 4, 4)]
    return nn.Sequential(*strided, layer).eval()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Sequential(nn.Flatten(2), nn.Linear(140, 140)), r"4.1 \(Linear\): it does not take the map of more values"),
        (nn.FractionalMaxPool2d(2, output_ratio=0.5), r"4 \(FractionalMaxPool2d\): it chooses its windows at random"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_dilated_is_refused_by_the_layers_name(layer: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=f"dilate: {message}"):
        dilate(around(layer), 8)


@pytest.mark.parametrize("layer", [UnfoldView(), CoordinateAttention(), FlatStatistic(), Crop()], ids=type)
def test_layers_that_read_many_positions_are_exact(layer: nn.Module) -> None:
    network, image = around(layer).double(), torch.rand(1, 3, 96, 128, dtype=torch.float64)
    with torch.no_grad():
        coarse, fine = network(image), dilate(network, 8)(image)
    assert fine.shape[-1] > coarse.shape[-1]
    torch.testing.assert_close(fine[..., ::2, ::2], coarse)
