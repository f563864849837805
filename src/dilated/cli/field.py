"""`dilated field`: draw receptive fields."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table

from dilated.cli import info
from dilated.data.images import pictures_in, read_image
from dilated.draw import field as draw
from dilated.errors import InputError
from dilated.nn.effective import extent
from dilated.nn.look import Look, look
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
