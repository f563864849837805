"""What a segmentation network looks at: the field of one of its logits on an image, measured and by theory.

one = look(segmenter, images)                        # images: (1, 3, H, W), RGB in 0..1
one.field, one.centre, one.theoretical, one.winner
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dilated.fields.arithmetic import receptive_field
from dilated.fields.effective import backbone_field, effective_field
from dilated.fields.measured import measure_margin
from dilated.models.base import BaseSegmenter
from dilated.models.paper import VGGSegmenter
from dilated.models.segmenter import Segmenter


@dataclass(frozen=True)
class FieldOfView:
    """What the logit nearest an image's middle depends on."""

    field: Tensor
    """(H, W), the effective field."""
    center: tuple[int, int]
    """(row, column) of the pixel at which the logit sits."""
    theoretical_size: int | None
    """How many pixels along an axis it can depend on; None for all."""
    class_name: str
    """The class whose logit it is."""


class _GridLogits(nn.Module):
    """A segmenter's logits on its own grid, before they are spread over the pixels."""

    def __init__(self, segmenter: BaseSegmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> Tensor:
        return self.segmenter.logits(images)


def measure_field_of_view(segmenter: BaseSegmenter, images: Tensor) -> FieldOfView:
    """Measure what the winning class's logit in the middle of an image depends on.

    Args:
        segmenter: in evaluation mode.
        images: (1, 3, H, W) on its device.

    Raises:
        ValueError: a gradient that is zero everywhere or not finite.
    """
    network, grid = _GridLogits(segmenter), segmenter.grid
    with torch.no_grad():
        logits = network(images)[0]
    sides = images.shape[-2:]
    row, column = (
        min(max(round((side // 2 - grid.start) / grid.stride), 0), count - 1)
        for side, count in zip(sides, logits.shape[1:], strict=True)
    )
    y, x = (min(round(grid.start + grid.stride * k), side - 1) for k, side in zip((row, column), sides, strict=True))
    field = effective_field(network, images, reduce="max", position=(row, column))
    return FieldOfView(
        field, (y, x), theoretical_field(segmenter), segmenter.classes[int(logits[:, row, column].argmax())]
    )


def theoretical_field(segmenter: BaseSegmenter) -> int | None:
    """How many pixels along an axis a logit can depend on, at most; None for all."""
    if isinstance(segmenter, VGGSegmenter):
        side: int | None = receptive_field(segmenter.frontend)[-1].field
    elif isinstance(segmenter, Segmenter):
        side = backbone_field(segmenter.backbone)
    else:  # of another library, whose layers are not known: measured
        stride = int(max(grid.stride for grid in segmenter.feature_grids))
        margin = measure_margin(
            segmenter.extract_features, stride, segmenter.alignment, next(segmenter.parameters()).device
        )
        side = None if margin is None else 2 * margin + segmenter.alignment
    if side is None or segmenter.context is None:
        return side
    return side + (receptive_field(segmenter.context)[-1].field - 1) * segmenter.output_stride
