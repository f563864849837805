"""`dilated info`: what a network is."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from dilated.nn.field import receptive_field
from dilated.nn.segmenter import Segmenter
from dilated.weights.bundled import load


def run(network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")], /) -> None:
    """Show a network's classes, architecture, parameters, its context module's receptive field, and its card.

    Args:
        network: a network file, a run's folder, or a bundled name.
    """
    console = Console()
    segmenter = load(network)
    console.print(facts(segmenter))
    if segmenter.context is not None:
        console.print(context(segmenter))


def facts(segmenter: Segmenter) -> Table:
    table = Table(show_header=False)
    table.add_row("classes", ", ".join(segmenter.classes))
    for key, value in dataclasses.asdict(segmenter.network).items():
        table.add_row(key, str(value))
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in segmenter.named_children()}
    split = ", ".join(f"{name} {count:,}" for name, count in parts.items() if count)
    table.add_row("parameters", f"{sum(parts.values()):,} ({split})")
    table.add_row("a score sits at pixel", f"{segmenter.grid.start:g} + {segmenter.grid.stride} k")
    card: dict[str, Any] = segmenter.card
    for key, value in card.items():
        if isinstance(value, str | int | float):
            table.add_row(key, str(value))
    if "val" in card:
        table.add_row("val mean IoU", f"{card['val']['mean_iou']:.4f}")
    return table


def context(segmenter: Segmenter) -> Table:
    assert segmenter.context is not None
    stride = segmenter.output_stride
    table = Table(title="context module, in scores and in pixels", title_justify="left")
    for column in ("layer", "kernel", "dilation", "field", "pixels"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for row in receptive_field(segmenter.context):
        pixels = (row.field - 1) * stride + 1
        table.add_row(row.name, str(row.kernel), str(row.dilation), str(row.field), str(pixels))
    return table
