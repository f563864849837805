"""`dilated field`: draw receptive fields."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from dilated.cli import info
from dilated.data.images import pictures_in, read_image
from dilated.draw import field as draw
from dilated.errors import InputError
from dilated.nn.base import BaseSegmenter
from dilated.nn.effective import effective_field, extent, trunk_field
from dilated.nn.field import receptive_field
from dilated.nn.paper import VGGSegmenter
from dilated.weights.bundled import load

LARGEST = 2**21  # pixels; the bundled network's gradient takes some 5 GB for each million of them


def run(
    network: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NETWORK]")] = None,
    /,
    *,
    out: Path,
    dilations: tuple[int, ...] | None = None,
    image: Path | None = None,
) -> None:
    """Draw how fields grow (the paper's Figure 1), or, with a network, what it looks at in the middle of a picture.

    With a network, its effective receptive field (the gradient of the winning class's score) is drawn over the picture
    and measured, also for the same trunk without the context module.

    Args:
        network: a network file, a run's folder, or a bundled name; Figure 1 if not given.
        out: the figure's file, .svg, .png or .pdf.
        dilations: of Figure 1, one per layer; 1 2 4 if not given.
        image: the picture that the network looks at; a sample photograph if not given.
    """
    if network is None and image is not None:
        raise InputError(f"--image: found {image}, but no network to look at it; expected `dilated field NETWORK ...`")
    if network is not None and dilations is not None:
        raise InputError("--dilations: found a network too, which has its own; expected one of the two")
    draw.check(out)
    console = Console(soft_wrap=True)
    if network is None:
        figure = draw.growth((1, 2, 4) if dilations is None else dilations)
    else:
        picture = image or sample()
        pixels = read_image(picture)
        height, width = pixels.shape[:2]
        if height * width > LARGEST:
            raise InputError(
                f"{picture}: found {width}x{height}; expected at most {LARGEST:,} pixels, as the gradient takes much "
                "memory for each. Crop the picture; scaled down it would be seen otherwise."
            )
        segmenter = load(network)
        images = torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
        one = look(segmenter, images)
        looks = {"whole network": one}
        if segmenter.context is not None:
            console.print(info.context(segmenter))
            looks["without context"] = look(segmenter.rebuild(context="none"), images)
        console.print(table(looks, f"the score nearest the middle of {picture.name}, {width}x{height}"))
        title = f"What the score of {one.winner} in the middle depends on"
        figure = draw.effective(one.field, one.theoretical, pixels, title, one.centre)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw.save(figure, out)
    console.print(f"drawn in {out}", highlight=False)


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
    """Measure what a segmenter in evaluation mode looks at in the middle of a picture, (1, 3, H, W)."""
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
    """How many pixels along an axis a score can depend on; None for all."""
    if isinstance(segmenter, VGGSegmenter):
        side: int | None = receptive_field(segmenter.frontend)[-1].field
    else:
        side = trunk_field(segmenter.get_submodule("trunk"))
    if side is None or segmenter.context is None:
        return side
    return side + (receptive_field(segmenter.context)[-1].field - 1) * segmenter.output_stride


def table(looks: dict[str, Look], title: str) -> Table:
    """The fields' sizes, one network a row."""
    shown = Table(title=f"{title}: its field in pixels a side", title_justify="left")
    if len(looks) > 1:
        shown.caption = "without context: the same trunk and weights, the context module left out"
    for column in ("network", "winner", "theoretical", "50% of the gradient", "95%"):
        shown.add_column(column, justify="left" if column in ("network", "winner") else "right")
    for name, one in looks.items():
        extents = [str(extent(one.field, share, one.centre)) for share in (0.5, 0.95)]
        shown.add_row(name, one.winner, str(one.theoretical or "whole picture"), *extents)
    return shown


def sample() -> Path:
    """The first of the sample photographs."""
    return pictures_in(Path(str(resources.files("dilated") / "samples")))[0]
