"""A correction of the scores at stride 4: sub-cell detail that up-sampling alone cannot draw.

At stride 8 a pole of three pixels lies inside one score. The trunk's stride-4 features still see its edges; this small
branch reads them beside the up-sampled scores and adds a correction. The idea of adding finer, shallower evidence to
coarse scores is the skip of FCN-8s (Long et al., CVPR 2015), to which the paper compares.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Detail(nn.Module):
    """Correct scores with finer features; a fresh one corrects nothing.

    Args:
        channels: of the fine features.
        classes: C.
        width: maps inside.

    Shapes:
        scores (N, C, H/4, W/4), features (N, channels, H/4, W/4) -> scores (N, C, H/4, W/4).

    Example:
        >>> detail = Detail(channels=24, classes=3, width=16).eval()
        >>> scores = torch.randn(1, 3, 12, 16)
        >>> torch.equal(detail(scores, torch.randn(1, 24, 12, 16)), scores)
        True
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.read = nn.Sequential(
            nn.Conv2d(channels + classes, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.correct = nn.Conv2d(width, classes, 1)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)  # type: ignore[arg-type]

    def forward(self, scores: Tensor, features: Tensor) -> Tensor:
        return scores + self.correct(self.read(torch.cat([features, scores], 1)))
