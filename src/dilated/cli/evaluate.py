"""`dilated evaluate`: how good a network is on a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dilated.data.dataset import open_dataset
from dilated.evaluate.bootstrap import interval
from dilated.evaluate.evaluate import Evaluation, evaluate
from dilated.predict.predictor import Predictor
from dilated.weights.bundled import load


def run(
    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")],
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")],
    /,
    split: str = "val",
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    tile: int | None = None,
    flips: bool = False,
    scales: tuple[float, ...] = (1.0,),
    device: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> None:
    """Measure a network with one confusion matrix over all pixels, at the pictures' own resolution.

    Args:
        network: a network file, a run's folder, or a bundled name.
        data: a data folder with the same class names.
        split: which part of it.
        json_file: write the figures there too.
        tile: pixels along a side that are labelled at a time. Memory is bounded, the figures are the same.
        flips: look at the mirror image too; the probabilities are averaged.
        scales: look at the picture in these sizes, such as 0.75 1 1.25; the probabilities are averaged.
        device: cpu or cuda; CUDA where there is one if not given.
        precision: fp32, or bf16, which is faster on some machines and changes a few pixels.
    """
    found = open_dataset(data)
    pairs = found.pairs(split)
    predictor = Predictor(load(network), tile=tile, device=device, precision=precision, flips=flips, scales=scales)
    bar = iter(track(range(len(pairs) + 1), description=split, console=Console(stderr=True), transient=True))
    next(bar)
    result = evaluate(predictor, pairs, found.classes, lambda: next(bar, None))
    Console().print(table(result))
    if json_file is not None:
        json_file.write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")


def table(result: Evaluation) -> Table:
    """IoU by class, then the means."""
    confusion = result.confusion
    shares = confusion.counts.sum(1) / max(confusion.pixels, 1)
    sheet = Table(title=f"{len(result.names)} pictures, {confusion.pixels:,} labelled pixels", title_justify="left")
    sheet.add_column("class")
    sheet.add_column("pixels", justify="right")
    sheet.add_column("IoU", justify="right")
    for (name, value), share in zip(confusion.iou.items(), shares, strict=True):
        sheet.add_row(name, f"{share:.2%}", "-" if value != value else f"{value:.4f}")
    sheet.add_section()
    bounds = interval(result.per_picture)
    sheet.add_row("mean IoU", "", f"{confusion.mean_iou:.4f}")
    sheet.add_row("  95% interval over pictures", "", f"{bounds.low:.4f} - {bounds.high:.4f}")
    sheet.add_row("pixel accuracy", "", f"{confusion.pixel_accuracy:.4f}")
    return sheet
