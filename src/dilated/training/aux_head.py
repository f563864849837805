"""Deep supervision: a second classifier, on the backbone's last level but one, that helps the backbone to learn.

It is there while training only and is in no network file (the auxiliary loss of PSPNet, Zhao et al., CVPR 2017).
"""

from __future__ import annotations

from torch import Tensor, nn

from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.models.sampling import PIXEL_GRID, upsample
from dilated.models.segmenter import Segmenter


class AuxiliaryHead(nn.Module):
    """A classifier of one of the backbone's maps.

    Args:
        segmenter: a network on a backbone of timm.

    Raises:
        InputError: a network of another kind.
    """

    def __init__(self, segmenter: BaseSegmenter) -> None:
        super().__init__()
        if not isinstance(segmenter, Segmenter):
            raise InputError(
                "recipe.aux_loss_weight: deep supervision reads a level of a timm backbone; expected network.kind = 'timm', or "
                "aux_loss_weight = 0"
            )
        channels = segmenter.backbone.feature_info.channels()
        self.level = max(0, len(channels) - 2)
        self.grid = segmenter.backbone_grids[self.level]
        self.classifier = nn.Conv2d(channels[self.level], len(segmenter.classes), 1)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The backbone's maps -> logits (N, C, *size)."""
        return upsample(self.classifier(features[self.level]), self.grid, PIXEL_GRID, size)


def forward_with_aux(segmenter: Segmenter, aux_head: AuxiliaryHead, images: Tensor) -> tuple[Tensor, Tensor]:
    """The network's logits and the second classifier's, from one pass through the backbone: (N, C, H, W) each."""
    features = segmenter.extract_backbone_features(images)
    size = images.shape[-2], images.shape[-1]
    logits, grid = segmenter.decode(segmenter.forward_neck(features), segmenter.feature_grids)
    return segmenter.upsample(logits, grid, PIXEL_GRID, size), aux_head(features, size)
