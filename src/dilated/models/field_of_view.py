"""What the logit in the middle of an image depends on, measured on a segmenter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dilated.fields.effective import effective_field
from dilated.fields.probing import eval_mode
from dilated.models.base import BaseSegmenter


@dataclass(frozen=True)
class FieldOfView:
    """What the logit nearest an image's middle depends on."""

    field: Tensor
    """(H, W), the effective field."""
    center: tuple[int, int]
    """(row, column) of the pixel at which the logit sits."""
    theoretical_size: int | None
    """The span of pixels along an axis on which the logit can depend; None for the whole image."""
    class_name: str
    """The class whose logit it is."""


def measure_field_of_view(segmenter: BaseSegmenter, images: Tensor) -> FieldOfView:
    """Measure what the winning class's logit in the middle of an image depends on, in evaluation mode.

    Args:
        images: (1, 3, H, W) on the network's device.

    Raises:
        InputError: a gradient that is zero everywhere or not finite.
    """
    with eval_mode(segmenter), torch.no_grad():
        logits = segmenter.logits(images)[0]
    sides, grid = images.shape[-2:], segmenter.grid
    row, column = (
        min(max(round((side // 2 - grid.start) / grid.stride), 0), count - 1)
        for side, count in zip(sides, logits.shape[1:], strict=True)
    )
    y, x = (min(round(grid.start + grid.stride * k), side - 1) for k, side in zip((row, column), sides, strict=True))
    field = effective_field(segmenter.logits, images, reduce="max", position=(row, column))
    class_name = segmenter.classes[int(logits[:, row, column].argmax())]
    return FieldOfView(field, (y, x), segmenter.theoretical_field(), class_name)
