"""The correction of coarse logits by finer features: the skip of FCN-8s and the decoder of DeepLabv3+, at stride 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dilated.models.heads import conv_norm_relu


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
        return logits + self.correct(self.fuse(torch.cat([*features, logits], 1)))
