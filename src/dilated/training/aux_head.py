"""Deep supervision: a second classifier, on the backbone's last level but one, that helps the backbone to learn.

It is there while training only and is in no network file (the auxiliary loss of PSPNet, Zhao et al., CVPR 2017).
"""

from __future__ import annotations

from torch import Tensor, nn

from dilated.models.base import BaseSegmenter
from dilated.models.sampling import PIXEL_GRID, upsample


class AuxiliaryHead(nn.Module):
    """A classifier of one of the backbone's feature maps.

    Args:
        segmenter: a network that has a level for it.

    Raises:
        InputError: a network without one.
    """

    def __init__(self, segmenter: BaseSegmenter) -> None:
        super().__init__()
        channels, self.grid = segmenter.auxiliary_level()
        self.classifier = nn.Conv2d(channels, len(segmenter.classes), 1)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """The feature map of `BaseSegmenter.forward_with_auxiliary` -> logits (N, C, *size)."""
        return upsample(self.classifier(features), self.grid, PIXEL_GRID, size)
