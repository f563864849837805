"""`dilated info`: what a network is."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from dilated.fields.arithmetic import ReceptiveField, receptive_field
from dilated.models.base import BaseSegmenter
from dilated.models.paper import VGGSegmenter
from dilated.weights.bundled import load


def run(network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")], /) -> None:
    """Show a network's classes, architecture, parameters, receptive field layer by layer, and its card.

    Args:
        network: a network file, a run's folder, or a bundled name.
    """
    console = Console()
    segmenter = load(network)
    console.print(network_table(segmenter))
    if isinstance(segmenter, VGGSegmenter):
        console.print(field_table("front end, in pixels", receptive_field(segmenter.frontend), 1))
    if segmenter.context is not None:
        console.print(context_table(segmenter))


def network_table(segmenter: BaseSegmenter) -> Table:
    table = Table(show_header=False)
    table.add_row("classes", ", ".join(segmenter.classes))
    for key, value in dataclasses.asdict(segmenter.config).items():
        table.add_row(key, str(value))
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in segmenter.named_children()}
    by_part = ", ".join(f"{name} {count:,}" for name, count in parts.items() if count)
    table.add_row("parameters", f"{sum(parts.values()):,} ({by_part})")
    table.add_row("a logit sits at pixel", f"{segmenter.grid.start:g} + {segmenter.grid.stride} k")
    card: dict[str, Any] = segmenter.card
    for key, value in card.items():
        if isinstance(value, str | int | float):
            table.add_row(key, str(value))
    if "val" in card and card["val"]["mean_iou"] is not None:  # None where no pixel was labelled
        table.add_row("val mean IoU", f"{card['val']['mean_iou']:.4f}")
    return table


def context_table(segmenter: BaseSegmenter) -> Table:
    """The context module's fields, on top of one logit's where that is known."""
    assert segmenter.context is not None
    first_pixels = receptive_field(segmenter.frontend)[-1].field if isinstance(segmenter, VGGSegmenter) else 1
    rows = receptive_field(segmenter.context)
    return field_table("context module, in logits and in pixels", rows, segmenter.output_stride, first_pixels)


def field_table(title: str, rows: list[ReceptiveField], stride: int, first_pixels: int = 1) -> Table:
    """The field of each layer, in its own input and in pixels: `inside` for the first, `stride` for each other."""
    table = Table(title=title, title_justify="left")
    for column in ("layer", "kernel", "dilation", "field", "pixels"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for row in rows:
        pixels = (row.field - 1) * stride + first_pixels
        table.add_row(row.name, str(row.kernel), str(row.dilation), str(row.field), str(pixels))
    return table
