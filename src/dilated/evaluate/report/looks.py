"""What the network looks at in the middle of a picture, drawn over it.

section(segmenter, pair, device)

The theoretical field is what can matter; the effective field, by gradient, what does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dilated.data.formats.pairs import Pair
from dilated.data.images import Pixels
from dilated.evaluate.report.markup import card, count, note, table, term, text
from dilated.evaluate.report.pictures import jpeg, shrunk
from dilated.nn.base import BaseSegmenter
from dilated.nn.effective import extent
from dilated.nn.look import Look, look

MOST = 512
"""The longest side that is looked at: the gradient takes some 5 kB of memory a pixel."""
HEAT = ((255, 214, 102), (245, 130, 32), (200, 30, 80))
DECADES = 3


@dataclass(frozen=True)
class Shown:
    """A picture, or its middle, and what the score nearest the middle of that depends on."""

    pixels: Pixels
    look: Look
    cut: bool


def middle(segmenter: BaseSegmenter, image: Pixels, device: torch.device) -> Shown:
    """Measure the field of the winning class's score, in the middle of at most 512x512 pixels of a picture.

    Args:
        segmenter: in evaluation mode, on the device.
        image: (H, W, 3) uint8.

    Raises:
        ValueError: a gradient that is zero everywhere or not finite.
    """
    top, left = (max(0, (side - MOST) // 2) for side in image.shape[:2])
    pixels = image[top : top + MOST, left : left + MOST]
    images = torch.tensor(pixels, device=device).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
    return Shown(pixels, look(segmenter, images), pixels.shape != image.shape)


def section(segmenter: BaseSegmenter, pair: Pair, device: torch.device) -> str:
    """The picture with the field over it, and its sizes."""
    image = pair.read_image()
    try:
        picture = middle(segmenter, image, device)
    except ValueError as error:
        return card(f"<p>The field cannot be measured on {text(pair.name)}: {text(error)}</p>")
    one = picture.look
    squares = {
        "half": extent(one.field, 0.5, one.centre),
        "most": extent(one.field, 0.95, one.centre),
    }
    whole = "the whole picture" if one.theoretical is None else f"{count(one.theoretical)} px"
    beyond = one.theoretical is not None and one.theoretical > max(picture.pixels.shape[:2])
    rows = [
        [
            '<span class="key half"></span>' + term("effective field", "half of the effect"),
            f"{count(squares['half'])} px",
        ],
        [
            '<span class="key most"></span>' + term("effective field", "95% of the effect"),
            f"{count(squares['most'])} px",
        ],
        [
            '<span class="key theory"></span>' + term("theoretical field", "theoretically"),
            whole + (" <small>(beyond the picture)</small>" if beyond else ""),
        ],
    ]
    shown = f"{jpeg(overlay(picture))}"
    height, width = picture.pixels.shape[:2]
    drawn = [_square(one.centre, side, kind) for kind, side in squares.items()]
    drawn += [_square(one.centre, one.theoretical, "theory")] if one.theoretical is not None else []
    y, x = one.centre
    label = f"The picture {pair.name} with what the score in its middle depends on"
    figure = (
        f'<figure class="field"><div><img src="{shown}" alt="{text(label)}">'
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{"".join(drawn)}'
        f'<circle class="dot" cx="{x + 0.5}" cy="{y + 0.5}" r="{max(width, height) / 130:.1f}"/></svg></div>'
        f"<figcaption>{text(pair.name)}{', its middle' if picture.cut else ''}, {width}x{height} px. Yellow to red: "
        f"the effect of each pixel, each of {DECADES} shades ten times the one before.</figcaption></figure>"
    )
    said = (
        f'<p class="lead">The label in the middle, <b class="name">{text(one.winner)}</b>, depends mostly on a square '
        f"of {count(squares['most'])} pixels a side.</p>"
    )
    remark = note("Of one picture and one place in it; elsewhere it differs. Sides of squares around the dot.")
    sizes = table(["square that holds", "side"], rows)
    return card(f'<div class="beside">{figure}<div>{said}{sizes}{remark}</div></div>')


def overlay(picture: Shown) -> Pixels:
    """The picture in pale grey under the field's heat, reduced to what the page shows."""
    grey = picture.pixels.mean(axis=2, keepdims=True) * 0.5 + 115
    share = (picture.look.field / picture.look.field.max()).numpy()
    heat = (np.log10(np.maximum(share, 10.0**-DECADES)) / DECADES + 1)[..., None]  # 0 to 1
    stops = np.linspace(0, 1, len(HEAT))
    color = np.concatenate([np.interp(heat, stops, [c[k] for c in HEAT]) for k in range(3)], axis=2)
    opacity = np.where(heat > 0, 0.35 + 0.55 * heat, 0.0)
    mixed = ((1 - opacity) * grey + opacity * color).round().astype(np.uint8)
    height, width = mixed.shape[:2]
    scale = min(1.0, 720 / max(height, width))
    return shrunk(mixed, (max(1, round(width * scale)), max(1, round(height * scale))))


def _square(centre: tuple[int, int], side: int, kind: str) -> str:
    y, x = (place + 0.5 - side / 2 for place in centre)
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{side}" height="{side}"/>'
