"""What a segmentation network looks at: the field of one of its scores on a picture, measured and by theory.

one = look(segmenter, images)                        # images: (1, 3, H, W), RGB in 0..1
one.field, one.centre, one.theoretical, one.winner
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dilated.nn.base import BaseSegmenter
from dilated.nn.effective import effective_field, trunk_field
from dilated.nn.field import receptive_field
from dilated.nn.paper import VGGSegmenter
from dilated.nn.reach import reach
from dilated.nn.segmenter import Segmenter


@dataclass(frozen=True)
class Look:
    """What the score nearest a picture's middle depends on."""

    field: Tensor
    """(H, W), the effective field."""
    centre: tuple[int, int]
    """(row, column) of the pixel at which the score sits."""
    theoretical: int | None
    """How many pixels along an axis it can depend on; None for all."""
    winner: str
    """The class whose score it is."""


class Scores(nn.Module):
    """A segmenter's scores on its own grid, before they are spread over the pixels."""

    def __init__(self, segmenter: BaseSegmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> Tensor:
        return self.segmenter.scores(images)


def look(segmenter: BaseSegmenter, images: Tensor) -> Look:
    """Measure what the winning class's score in the middle of a picture depends on.

    Args:
        segmenter: in evaluation mode.
        images: (1, 3, H, W) on its device.

    Raises:
        ValueError: a gradient that is zero everywhere or not finite.
    """
    network, grid = Scores(segmenter), segmenter.grid
    with torch.no_grad():
        scores = network(images)[0]
    sides = images.shape[-2:]
    row, column = (
        min(max(round((side // 2 - grid.start) / grid.stride), 0), count - 1)
        for side, count in zip(sides, scores.shape[1:], strict=True)
    )
    y, x = (min(round(grid.start + grid.stride * k), side - 1) for k, side in zip((row, column), sides, strict=True))
    field = effective_field(network, images, of="winner", at=(row, column))
    return Look(field, (y, x), theory(segmenter), segmenter.classes[int(scores[:, row, column].argmax())])


def theory(segmenter: BaseSegmenter) -> int | None:
    """How many pixels along an axis a score can depend on, at most; None for all."""
    if isinstance(segmenter, VGGSegmenter):
        side: int | None = receptive_field(segmenter.frontend)[-1].field
    elif isinstance(segmenter, Segmenter):
        side = trunk_field(segmenter.trunk)
    else:  # of another library, whose layers are not known: measured
        stride = int(max(grid.stride for grid in segmenter.map_grids))
        beyond = reach(segmenter.maps, stride, segmenter.alignment, next(segmenter.parameters()).device)
        side = None if beyond is None else 2 * beyond + segmenter.alignment
    if side is None or segmenter.context is None:
        return side
    return side + (receptive_field(segmenter.context)[-1].field - 1) * segmenter.output_stride
