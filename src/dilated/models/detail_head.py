"""The correction of coarse logits by finer features: the skip of FCN-8s and the decoder of DeepLabv3+.

The first correction brings logits to stride 4. A second one may bring them to stride 2, where a pole two pixels wide is
a sample of its own; it reads what the first has found beside the backbone's features at stride 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dilated.models.heads import conv_norm_relu
from dilated.models.sampling import AxisGrids, upsample
from dilated.models.timm_backbone import BackboneLayout


class DetailHead(nn.Module):
    """Correct logits with finer features; a fresh one corrects nothing.

    Args:
        channels: of the fine features.
        classes: C.
        width: channels inside.
        feature_channels: F, of the deep features that are read too, reduced to `width`; 0 for the logits alone.
        layers: 3x3 convolutions, one or two.

    Shapes:
        logits (N, C, H/4, W/4), features (N, channels, H/4, W/4), reduced deep features (N, width, H/4, W/4) -> logits
        (N, C, H/4, W/4). With `feature_channels = 0` there are no deep ones.

    Example:
        >>> detail = DetailHead(channels=24, classes=3, width=16).eval()
        >>> logits = torch.randn(1, 3, 12, 16)
        >>> torch.equal(detail(logits, torch.randn(1, 24, 12, 16)), logits)
        True
    """

    def __init__(self, channels: int, classes: int, width: int, feature_channels: int = 0, layers: int = 1) -> None:
        super().__init__()
        # Reduced before they are up-sampled: a 1x1 convolution gives the same before and after, and is cheaper before.
        self.reduce = nn.Sequential(conv_norm_relu(feature_channels, width, 1)) if feature_channels else None
        inner = [conv_norm_relu(channels + classes + (width if feature_channels else 0), width, 3)]
        inner += [conv_norm_relu(width, width, 3) for _ in range(layers - 1)]
        self.fuse = nn.Sequential(*[module for layer in inner for module in layer])
        self.correct = nn.Conv2d(width, classes, 1)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)  # type: ignore[arg-type]

    def forward(self, logits: Tensor, *features: Tensor) -> Tensor:
        return logits + self.correct(self.find(logits, *features))

    def find(self, logits: Tensor, *features: Tensor) -> Tensor:
        """What the correction is made of: (N, width, H/4, W/4)."""
        features_inside: Tensor = self.fuse(torch.cat([*features, logits], 1))
        return features_inside


def build_details(config: Any, layout: BackboneLayout, classes: int, width: int) -> list[DetailHead | None]:
    """Build the corrections at strides 4 and 2 that the settings of a segmenter name; None for one that they do not.

    Args:
        config: the `SegmenterConfig`.
        width: of the deep features.
    """
    reads_features = config.detail_reads == "features"
    heads: list[DetailHead | None] = [None, None]
    if config.detail:
        channels, deep = layout.channels[layout.fine_level], width if reads_features else 0
        heads[0] = DetailHead(channels, classes, config.detail, deep, config.detail_layers)
    if config.detail_fine:
        channels, deep = layout.channels[layout.finest_level], config.detail if reads_features else 0
        heads[1] = DetailHead(channels, classes, config.detail_fine, deep)
    return heads


def correct_logits(
    logits: Tensor, heads: Sequence[DetailHead], feature_maps: Sequence[Tensor], grids: Sequence[AxisGrids]
) -> tuple[Tensor, AxisGrids]:
    """Bring logits to one finer grid after another.

    Args:
        logits: (N, C, h, w) on the first grid.
        heads: one for each of the finer maps.
        feature_maps: the deep features (N, F, h, w), then finer and finer ones.
        grids: where the values of each map sit.

    Returns:
        (N, C, H, W) logits on the last grid, and that grid.
    """
    deep, classes = feature_maps[0], logits.shape[1]
    for i, (head, fine) in enumerate(zip(heads, feature_maps[1:], strict=True)):
        coarse = logits if head.reduce is None else torch.cat([logits, head.reduce(deep)], 1)
        upsampled = upsample(coarse, grids[i], grids[i + 1], (fine.shape[-2], fine.shape[-1]))
        parts = [fine] if head.reduce is None else [fine, upsampled[:, classes:]]
        logits = upsampled[:, :classes]
        if i + 1 == len(heads):
            logits = head(logits, *parts)
        else:
            deep = head.find(logits, *parts)
            logits = logits + head.correct(deep)
    return logits, grids[len(heads)]
