"""Deep supervision: a second classifier, on the trunk's last level but one, that helps the trunk to learn.

It is there while training only and is in no network file (the auxiliary loss of PSPNet, Zhao et al., CVPR 2017).
"""

from __future__ import annotations

from torch import Tensor, nn

from dilated.errors import InputError
from dilated.nn.base import BaseSegmenter
from dilated.nn.sampling import PIXELS, upsample
from dilated.nn.segmenter import Segmenter


class Deep(nn.Module):
    """A classifier of one of the trunk's maps.

    Args:
        segmenter: a network on a backbone of timm.

    Raises:
        InputError: a network of another kind.
    """

    def __init__(self, segmenter: BaseSegmenter) -> None:
        super().__init__()
        if not isinstance(segmenter, Segmenter):
            raise InputError(
                "recipe.deep: deep supervision reads a level of a timm backbone; expected network.kind = 'timm', or "
                "deep = 0"
            )
        channels = segmenter.trunk.feature_info.channels()
        self.level = max(0, len(channels) - 2)
        self.grid = segmenter.grids[self.level]
        self.classifier = nn.Conv2d(channels[self.level], len(segmenter.classes), 1)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The trunk's maps -> scores (N, C, *size)."""
        return upsample(self.classifier(maps[self.level]), self.grid, PIXELS, size)


def scores(segmenter: Segmenter, deep: Deep, images: Tensor) -> tuple[Tensor, Tensor]:
    """The network's scores and the second classifier's, from one pass through the trunk: (N, C, H, W) each."""
    trunk = segmenter.trunk_maps(images)
    size = images.shape[-2], images.shape[-1]
    finest, places = segmenter.finish(segmenter.read(trunk), segmenter.map_grids)
    return segmenter.zoom(finest, places, PIXELS, size), deep(trunk, size)
