"""The effective field of the middle of an image, drawn over it.

The theoretical field is what can matter; the effective field, by gradient, what does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dilated.data.images import ImageArray
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.fields.effective import effective_field_size
from dilated.models.base import BaseSegmenter, FieldOfView
from dilated.report.images import encode_jpeg, resize_image
from dilated.report.markup import escape_text, format_count, render_card, render_note, render_table, render_term
from dilated.report.receptive_field import HEAT_DECADES, blend_heat
from dilated.tensors import to_tensor

_MAX_SIDE = 512
"""The longest side that is measured: the gradient takes some 5 kB of memory per pixel."""


@dataclass(frozen=True)
class MeasuredCrop:
    """An image, or its middle, and what the logit nearest the middle of that depends on."""

    pixels: ImageArray
    field_of_view: FieldOfView
    is_crop: bool


def measure_center(segmenter: BaseSegmenter, image: ImageArray, device: torch.device) -> MeasuredCrop:
    """Measure the field of the winning class's logit, in the middle of at most 512x512 pixels of an image.

    Args:
        segmenter: in evaluation mode, on the device.
        image: (H, W, 3) uint8.

    Raises:
        InputError: a gradient that is zero everywhere or not finite.
    """
    top, left = (max(0, (side - _MAX_SIDE) // 2) for side in image.shape[:2])
    pixels = image[top : top + _MAX_SIDE, left : left + _MAX_SIDE]
    images = to_tensor(pixels, device)  # (1, 3, H, W)
    return MeasuredCrop(pixels, segmenter.measure_field_of_view(images), pixels.shape != image.shape)


def render_field_of_view(segmenter: BaseSegmenter, sample: Sample, device: torch.device) -> str:
    """Render the image with the field over it, and the field's sizes."""
    image = sample.read_image()
    try:
        crop = measure_center(segmenter, image, device)
    except InputError as error:
        return render_card(f"<p>The field cannot be measured on {escape_text(sample.name)}: {escape_text(error)}</p>")
    field_of_view = crop.field_of_view
    squares = {
        "half": effective_field_size(field_of_view.field, 0.5, field_of_view.center),
        "most": effective_field_size(field_of_view.field, 0.95, field_of_view.center),
    }
    theoretical_size = (
        "the whole image"
        if field_of_view.theoretical_size is None
        else f"{format_count(field_of_view.theoretical_size)} px"
    )
    exceeds_image = field_of_view.theoretical_size is not None and field_of_view.theoretical_size > max(
        crop.pixels.shape[:2]
    )
    rows = [
        [
            '<span class="key half"></span>' + render_term("effective field", "half of the effect"),
            f"{format_count(squares['half'])} px",
        ],
        [
            '<span class="key most"></span>' + render_term("effective field", "95% of the effect"),
            f"{format_count(squares['most'])} px",
        ],
        [
            '<span class="key theory"></span>' + render_term("theoretical field", "theoretically"),
            theoretical_size + (" <small>(beyond the image)</small>" if exceeds_image else ""),
        ],
    ]
    image_uri = f"{encode_jpeg(_draw_heat_map(crop))}"
    height, width = crop.pixels.shape[:2]
    squares_svg = [_render_square(field_of_view.center, side, css_class) for css_class, side in squares.items()]
    squares_svg += (
        [_render_square(field_of_view.center, field_of_view.theoretical_size, "theory")]
        if field_of_view.theoretical_size is not None
        else []
    )
    y, x = field_of_view.center
    label = f"The image {sample.name} with what the logit in its middle depends on"
    figure = (
        f'<figure class="field"><div><img src="{image_uri}" alt="{escape_text(label)}">'
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{"".join(squares_svg)}'
        f'<circle class="dot" cx="{x + 0.5}" cy="{y + 0.5}" r="{max(width, height) / 130:.1f}"/></svg></div>'
        f"<figcaption>{escape_text(sample.name)}{', its middle' if crop.is_crop else ''}, {width}x{height} px. Yellow "
        f"to red: the effect of each pixel, each of {HEAT_DECADES} shades ten times the last.</figcaption></figure>"
    )
    lead = (
        f'<p class="lead">The label in the middle, <b class="name">{escape_text(field_of_view.class_name)}</b>, '
        f"depends mostly on a square of {format_count(squares['most'])} pixels a side.</p>"
    )
    footnote = render_note("Of one image and one place in it; elsewhere it differs. Sides of squares around the dot.")
    sizes = render_table(["square that holds", "side"], rows)
    return render_card(f'<div class="beside">{figure}<div>{lead}{sizes}{footnote}</div></div>')


def _draw_heat_map(crop: MeasuredCrop) -> ImageArray:
    """Draw the heat map at the size that the page shows."""
    blended = blend_heat(crop.field_of_view.field, crop.pixels)
    height, width = blended.shape[:2]
    scale = min(1.0, 720 / max(height, width))
    return resize_image(blended, (max(1, round(width * scale)), max(1, round(height * scale))))


def _render_square(center: tuple[int, int], side: int, css_class: str) -> str:
    y, x = (coordinate + 0.5 - side / 2 for coordinate in center)
    return f'<rect class="{css_class}" x="{x}" y="{y}" width="{side}" height="{side}"/>'
