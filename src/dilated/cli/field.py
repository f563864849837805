"""`dilated field`: draw receptive fields."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from dilated.cli import arguments, info
from dilated.cli.console import make_table, write_line, write_table
from dilated.data.images import list_image_files
from dilated.data.raster.bands import read_input, resolve_range
from dilated.errors import InputError
from dilated.fields.effective import effective_field_size
from dilated.input_config import to_display
from dilated.models.field_of_view import FieldOfView, measure_field_of_view
from dilated.report import receptive_field as draw
from dilated.tensors import to_tensor
from dilated.weights.bundled import load

_MAX_PIXELS = 2**21  # pixels; the bundled network's gradient takes some 5 GB for each million of them


def run(
    network: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NETWORK]", help_behavior_hint="")
    ] = None,
    /,
    *,
    out: arguments.RequiredPath,
    dilations: arguments.OptionalCounts = None,
    image: arguments.OptionalPath = None,
) -> None:
    """Draw how receptive fields grow (the paper's Figure 1), or the effective receptive field of a network.

    The effective receptive field (the gradient of the winning class's logit in the middle) is drawn over an image and
    measured, also for the same backbone without the context module.

    Args:
        network: a network file, a run's folder, or a bundled name; by default Figure 1 is drawn.
        out: the figure's file, .svg, .png or .pdf.
        dilations: the dilations of Figure 1, one per layer; by default 1 2 4.
        image: the input of the network; by default a sample photograph.
    """
    if network is None and image is not None:
        raise InputError(
            f"--image: {image} given without a network", hint="give the network: dilated field NETWORK ..."
        )
    if network is not None and dilations is not None:
        raise InputError("--dilations: given with a network, which has its own", hint="give one of the two")
    draw.check_figure_path(out)
    if network is None:
        figure = draw.draw_field_growth((1, 2, 4) if dilations is None else dilations)
    else:
        segmenter = load(network)
        image_path = image or sample_image()
        pixels = read_input(image_path, segmenter.input)
        height, width = pixels.shape[:2]
        if height * width > _MAX_PIXELS:
            raise InputError(
                f"{image_path}: {width}x{height} pixels, and the gradient takes too much memory above {_MAX_PIXELS:,}",
                hint="crop the image; resizing it would change what is measured",
            )
        images = to_tensor(pixels, None, resolve_range(pixels, segmenter.input))  # (1, n, H, W)
        field_of_view = measure_field_of_view(segmenter, images)
        fields_of_view = {"whole network": field_of_view}
        if segmenter.context is not None:
            write_table(info.context_table(segmenter))
            fields_of_view["without context"] = measure_field_of_view(segmenter.rebuild(context="none"), images)
        write_table(_make_table(fields_of_view, f"the logit nearest the middle of {image_path.name}, {width}x{height}"))
        if segmenter.context is not None:
            write_line("without context: the same backbone and weights without the context module")
        title = f"What the logit of {field_of_view.class_name} in the middle depends on"
        figure = draw.draw_effective_field(
            field_of_view.field, field_of_view.theoretical_size, to_display(pixels), title, field_of_view.center
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    draw.save_figure(figure, out)
    write_line(f"The figure is {out}")


def _make_table(fields_of_view: dict[str, FieldOfView], title: str) -> Table:
    """The fields' sizes, one network a row."""
    rows = []
    for name, view in fields_of_view.items():
        extents = (effective_field_size(view.field, fraction, view.center) for fraction in (0.5, 0.95))
        rows.append((name, view.class_name, view.theoretical_size or "whole image", *extents))
    return make_table(
        ("network", "winner", "theoretical", "50% of the gradient", "95%"),
        rows,
        title=f"{title}: its field in pixels a side",
        left=(0, 1),
    )


def sample_image() -> Path:
    """The first of the sample photographs."""
    return list_image_files(Path(str(resources.files("dilated") / "samples")))[0]
