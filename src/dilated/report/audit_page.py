"""The page of an audit: the regions whose label is probably wrong, as crops of image, label and prediction.

page = render_audit_page(result, title="my-data")
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from dilated.data.images import ImageArray
from dilated.evaluation.audit import AuditRegion, AuditResult
from dilated.input_config import to_display
from dilated.label_ids import LabelArray
from dilated.report.images import colorize, encode_data_uri, shrink
from dilated.report.page import render

_SIDE = 240
"""Pixels of the longer side of a crop in the page."""
_NUM_SHOWN = 200
_OUTLINE_COLOR = (255, 0, 200)


@dataclass(frozen=True)
class _ShownRegion:
    """A region with its crops, as data URIs by what they show."""

    rank: int
    region: AuditRegion
    panels: dict[str, Markup]


def render_audit_page(result: AuditResult, title: str, num_shown: int = _NUM_SHOWN) -> str:
    """Render the page; it needs no network connection and no other file."""
    classes = result.classes
    shown = [
        _ShownRegion(rank, region, _draw_panels(region, result))
        for rank, region in enumerate(result.regions[:num_shown], 1)
    ]
    return render(
        "audit.html",
        title=title,
        subtitle=f"{result.images:,} images, {len(result.regions):,} regions",
        result=result,
        shown=shown,
        colors=dict(zip(classes.names, classes.colors, strict=True)),
        names=classes.names,
        outline_color=_OUTLINE_COLOR,
    )


def _draw_panels(region: AuditRegion, result: AuditResult) -> dict[str, Markup]:
    """Draw the crop of a region from its image, its label and its prediction, each with the region's outline."""
    image, label = region.sample.read()
    left, top, width, height = region.suspect.crop
    area = slice(top, top + height), slice(left, left + width)
    mask = _place_mask(region, (height, width))
    panels = {
        "image": np.array(to_display(image)[area]),
        "label": colorize(label[area], result.classes),
        "prediction": colorize(region.suspect.read_prediction(), result.classes),
    }
    return {kind: encode_data_uri(_enlarge(pixels, mask), "png") for kind, pixels in panels.items()}


def _place_mask(region: AuditRegion, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The region in its crop, (height, width)."""
    mask = np.zeros(shape, dtype=np.bool_)
    (left, top, width, height), (x0, y0, _, _) = region.suspect.bbox, region.suspect.crop
    mask[top - y0 : top - y0 + height, left - x0 : left - x0 + width] = region.suspect.read_mask()
    return mask


def _enlarge(pixels: ImageArray, mask: NDArray[np.bool_]) -> ImageArray:
    """Scale a crop to what is shown, and draw the outline of the region around it."""
    factor = max(1, _SIDE // max(mask.shape))
    large = shrink(np.repeat(np.repeat(pixels, factor, 0), factor, 1), _SIDE, Image.Resampling.NEAREST)
    inside = np.repeat(np.repeat(mask.astype(np.uint8), factor, 0), factor, 1)
    inside = shrink(inside, _SIDE, Image.Resampling.NEAREST)
    outline = np.zeros(inside.shape, dtype=np.bool_)
    outline[:-1] |= (inside[:-1] != inside[1:]).astype(np.bool_)
    outline[:, :-1] |= (inside[:, :-1] != inside[:, 1:]).astype(np.bool_)
    drawn: LabelArray = np.array(large)
    drawn[outline] = _OUTLINE_COLOR
    return drawn
