"""Multi-scale inputs: one network on an image at several sizes, its logits averaged or weighed by a learned attention.

    network = MultiScale(segmenter, scales=(1.0, 0.75, 0.5), fusion="attention")
    logits, by_scale = network.forward_with_scales(images)       # (N, C, H, W), and those of each scale
    loss = F.cross_entropy(logits, target) + sum(F.cross_entropy(x, target) for x in by_scale)

The same weights read every size. Their logits are brought to the grid of the largest size; attention is a softmax over
the sizes at each of its places, made of the features of all of them by a 3x3 and a 1x1. A fresh one is the average.

Source: Chen et al., "Attention to Scale: Scale-aware Semantic Image Segmentation", CVPR 2016; its loss has a term for
each scale too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.fields.probing import eval_mode
from dilated.models.base import BaseSegmenter
from dilated.models.sampling import PIXEL_GRID, AxisGrids, Grid, split_axes, upsample

Fusion = Literal["average", "attention"]
_MOST_SCALES, _LARGEST_SCALE = 8, 4.0


class _ScaleOutput(NamedTuple):
    """Of an image at one size: features, logits, and where they sit in the image at its own size."""

    features: Tensor
    feature_grids: AxisGrids
    logits: Tensor
    grids: AxisGrids


class MultiScale(nn.Module):
    """A segmenter that reads each image at several sizes.

    Args:
        segmenter: whose weights every size shares; one that is trained on the labels of every pixel, without a CRF-RNN.
        scales: factors of the image's sides; the paper has 1, 0.75 and 0.5.
        fusion: the mean of the logits, or their sum weighed by the attention.
        width: channels inside the attention; the paper has 512.

    Shapes:
        images (N, 3, H, W), RGB in 0..1 -> logits (N, C, H, W), before the softmax.

    Raises:
        InputError: scales out of range or twice the same, an unknown fusion, or a segmenter of another kind.

    Example:
        >>> from dilated import Segmenter, SegmenterConfig
        >>> segmenter = Segmenter(["sky", "road"], config=SegmenterConfig("test_efficientnet", features=8))
        >>> MultiScale(segmenter, (1.0, 0.5), "attention", width=16)(torch.rand(1, 3, 40, 56)).shape
        torch.Size([1, 2, 40, 56])
    """

    def __init__(
        self,
        segmenter: BaseSegmenter,
        scales: Sequence[float] = (1.0, 0.75, 0.5),
        fusion: Fusion = "average",
        width: int = 512,
    ) -> None:
        super().__init__()
        _require_valid(segmenter, scales, fusion, width)
        self.segmenter, self.scales = segmenter, tuple(scales)
        self.attention: nn.Sequential | None = None
        if fusion == "attention":
            channels = _count_features(segmenter)
            last = nn.Conv2d(width, len(self.scales), 1)
            for parameter in last.parameters():
                nn.init.zeros_(parameter)  # every scale weighs the same
            first = nn.Conv2d(len(self.scales) * channels, width, 3, padding=1)
            self.attention = nn.Sequential(first, nn.ReLU(), nn.Dropout(0.5), last)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_with_scales(images)[0]

    def forward_with_scales(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the merged logits and those of each scale, all (N, C, H, W)."""
        outputs = [self._run(images, scale) for scale in self.scales]
        finest = outputs[self.scales.index(max(self.scales))]
        size = finest.logits.shape[-2], finest.logits.shape[-1]
        logits = torch.stack([upsample(x.logits, x.grids, finest.grids, size) for x in outputs])  # (S, N, C, h, w)
        merged = (logits * self._weigh_scales(outputs, finest)).sum(0)
        pixels = images.shape[-2], images.shape[-1]
        by_scale = [upsample(x.logits, x.grids, PIXEL_GRID, pixels) for x in outputs]
        return upsample(merged, finest.grids, PIXEL_GRID, pixels), by_scale

    def _run(self, images: Tensor, scale: float) -> _ScaleOutput:
        size = [max(1, round(side * scale)) for side in images.shape[-2:]]
        if size != list(images.shape[-2:]):
            ratios = [new / old for new, old in zip(size, images.shape[-2:], strict=True)]
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        else:
            ratios = [1.0, 1.0]
        maps = self.segmenter.extract_features(images)
        logits, grids = self.segmenter.decode(maps, self.segmenter.feature_grids)
        return _ScaleOutput(maps[0], _rescale(self.segmenter.feature_grids[0], ratios), logits, _rescale(grids, ratios))

    def _weigh_scales(self, outputs: Sequence[_ScaleOutput], finest: _ScaleOutput) -> Tensor:
        """The weight of each scale at each place of the finest logits, (S, N, 1, h, w) or S's inverse."""
        if self.attention is None:
            return finest.logits.new_tensor(1 / len(outputs))
        target, size = finest.feature_grids, (finest.features.shape[-2], finest.features.shape[-1])
        features = [upsample(x.features, x.feature_grids, target, size) for x in outputs]
        weights = self.attention(torch.cat(features, 1)).softmax(1)  # (N, S, h, w)
        logit_size = finest.logits.shape[-2], finest.logits.shape[-1]
        return upsample(weights, target, finest.grids, logit_size).transpose(0, 1)[:, :, None]


def _rescale(grids: AxisGrids, ratios: Sequence[float]) -> tuple[Grid, Grid]:
    """Where the samples of a resized image sit in the image at its own size, whose pixels are squares."""
    rows, columns = (
        Grid(grid.stride / ratio, (grid.start + 0.5) / ratio - 0.5)
        for grid, ratio in zip(split_axes(grids), ratios, strict=True)
    )
    return rows, columns


def _count_features(segmenter: BaseSegmenter) -> int:
    side, parameter = segmenter.alignment, next(segmenter.parameters())
    with eval_mode(segmenter), torch.no_grad():
        return segmenter.extract_features(parameter.new_zeros(1, segmenter.num_bands, side, side))[0].shape[1]


def _require_valid(segmenter: BaseSegmenter, scales: Sequence[float], fusion: str, width: int) -> None:
    in_range = all(math.isfinite(scale) and 0 < scale <= _LARGEST_SCALE for scale in scales)
    if not in_range or not 1 <= len(scales) <= _MOST_SCALES or len(set(scales)) < len(scales):
        raise InputError(
            f"multi-scale: scales: found {list(scales)[:20]}",
            hint=f"give 1 to {_MOST_SCALES} different numbers above 0, up to {_LARGEST_SCALE:g}",
        )
    if fusion not in get_args(Fusion) or not 1 <= width <= 8_192:
        raise InputError(
            f"multi-scale: fusion={fusion!r}, width={width}",
            hint=f"give {' or '.join(map(repr, get_args(Fusion)))}, and a width of 1 to 8,192",
        )
    if not (segmenter.is_tileable and segmenter.runs_in_torch) or segmenter.required_label_grid is not None:
        raise InputError(
            f"multi-scale: a segmenter of kind {segmenter.config.kind!r} with labels of its own grid, a CRF-RNN, tiles "
            "of its own or a runtime of its own has no logits that can be merged",
            hint="use a Segmenter, with crf = 'none'",
        )
