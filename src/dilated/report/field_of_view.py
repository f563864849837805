"""The effective field of the middle of an image, drawn over it.

The theoretical field is what can matter; the effective field, by gradient, what does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from dilated.data.raster.bands import resolve_range
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.fields.effective import effective_field_size
from dilated.input_config import BandArray, to_display
from dilated.models.base import BaseSegmenter
from dilated.models.field_of_view import FieldOfView, measure_field_of_view
from dilated.report.images import encode_data_uri, shrink
from dilated.report.receptive_field import HEAT_DECADES, blend_heat
from dilated.tensors import to_tensor

_MAX_SIDE = 512
"""The longest side that is measured: the gradient takes some 5 kB of memory per pixel."""
_MAX_SHOWN_SIDE = 720


@dataclass(frozen=True)
class ShownField:
    """What the logit nearest the middle of an image depends on; `problem` says why it could not be measured."""

    name: str
    """Of the image."""
    problem: str = ""
    class_name: str = ""
    shape: tuple[int, int] = (0, 0)
    """(H, W) of what was measured: the image, or its middle."""
    is_crop: bool = False
    center: tuple[int, int] = (0, 0)
    """(row, column) of the pixel at which the logit sits."""
    sides: dict[str, int | None] = field(default_factory=dict)
    """Sides in pixels of the squares with `half` and `most` (95%) of the effect and of the theoretical field
    (`theory`), None for the whole image."""
    heat_map: str = ""
    """The effective field over the image, as a data URI."""
    decades: int = HEAT_DECADES


def show_field(segmenter: BaseSegmenter, sample: Sample, device: torch.device) -> ShownField:
    """Measure and draw the field of the winning class's logit in the middle of an image."""
    image = sample.read_image()
    try:
        pixels, view = _measure_center(segmenter, image, device)
    except InputError as error:
        return ShownField(sample.name, str(error))
    half, most = (effective_field_size(view.field, fraction, view.center) for fraction in (0.5, 0.95))
    return ShownField(
        sample.name,
        class_name=view.class_name,
        shape=(pixels.shape[0], pixels.shape[1]),
        is_crop=pixels.shape != image.shape,
        center=view.center,
        sides={"half": half, "most": most, "theory": view.theoretical_size},
        heat_map=encode_data_uri(shrink(blend_heat(view.field, to_display(pixels)), _MAX_SHOWN_SIDE)),
    )


def _measure_center(segmenter: BaseSegmenter, image: BandArray, device: torch.device) -> tuple[BandArray, FieldOfView]:
    """Measure the field in the middle of at most 512x512 pixels of an image; returns those pixels too."""
    top, left = (max(0, (side - _MAX_SIDE) // 2) for side in image.shape[:2])
    pixels = image[top : top + _MAX_SIDE, left : left + _MAX_SIDE]
    images = to_tensor(pixels, device, resolve_range(image, segmenter.input))
    return pixels, measure_field_of_view(segmenter, images)
