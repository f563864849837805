"""A correction of the logits at stride 4: sub-cell detail that up-sampling alone cannot draw.

At stride 8 a pole of three pixels lies inside one logit. The backbone's stride-4 features still see its edges; this small
branch reads them beside the up-sampled logits and adds a correction. The idea of adding finer, shallower evidence to
coarse logits is the skip of FCN-8s (Long et al., CVPR 2015), to which the paper compares; reading the deep features
too is the decoder of DeepLabv3+ (Chen et al., ECCV 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DetailHead(nn.Module):
    """Correct logits with finer features; a fresh one corrects nothing.

    Args:
        channels: of the fine features.
        classes: C.
        width: maps inside.
        deep: deep features F that are read too, reduced to `width`; 0 for the logits alone.
        layers: 3x3 convolutions, one or two.

    Shapes:
        logits (N, C, H/4, W/4), features (N, channels + width, H/4, W/4) -> logits (N, C, H/4, W/4). The reduced deep
        features come last; without `deep`, there are none.

    Example:
        >>> detail = DetailHead(channels=24, classes=3, width=16).eval()
        >>> logits = torch.randn(1, 3, 12, 16)
        >>> torch.equal(detail(logits, torch.randn(1, 24, 12, 16)), logits)
        True
    """

    def __init__(self, channels: int, classes: int, width: int, feature_channels: int = 0, layers: int = 1) -> None:
        super().__init__()
        # Reduced before they are up-sampled: a 1x1 convolution is the same on either side, and cheaper on the coarse.
        self.reduce = nn.Sequential(_conv_norm_relu(feature_channels, width, 1)) if feature_channels else None
        inner = [_conv_norm_relu(channels + classes + (width if feature_channels else 0), width, 3)]
        inner += [_conv_norm_relu(width, width, 3) for _ in range(layers - 1)]
        self.fuse = nn.Sequential(*[module for layer in inner for module in layer])
        self.correct = nn.Conv2d(width, classes, 1)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)  # type: ignore[arg-type]

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        return logits + self.correct(self.fuse(torch.cat([features, logits], 1)))


def _conv_norm_relu(channels: int, width: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())
