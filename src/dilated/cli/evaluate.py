"""`dilated evaluate`: how good a network is on a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from dilated.cli.bar import counting
from dilated.data.dataset import open_dataset
from dilated.errors import InputError
from dilated.evaluate.boundary import WIDTH
from dilated.evaluate.compare import Comparison, compare
from dilated.evaluate.evaluate import Evaluation, evaluate
from dilated.evaluate.pictures import write_csv
from dilated.evaluate.sheets import comparison, report
from dilated.evaluate.tally import Measures
from dilated.predict.predictor import Predictor
from dilated.weights.bundled import load


def run(
    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")],
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")],
    /,
    split: str = "val",
    layout: Annotated[str | None, tyro.conf.arg(name="format", metavar="NAME")] = None,
    against: Annotated[str | None, tyro.conf.arg(metavar="NETWORK")] = None,
    boundary: bool = True,
    boundary_width: float = WIDTH,
    trimap: tuple[int, ...] = (),
    calibration: bool = False,
    worst: int = 0,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
    csv_file: Annotated[Path | None, tyro.conf.arg(name="csv", metavar="FILE")] = None,
    tile: int | None = None,
    flips: bool = False,
    scales: tuple[float, ...] = (1.0,),
    device: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> None:
    """Measure a network with one confusion matrix over all pixels, at the pictures' own resolution.

    Figures in brackets are 95% intervals over the pictures.

    Args:
        network: a network file, a run's folder, or a bundled name.
        data: a data folder with the same class names.
        split: which part of it.
        layout: the data's layout, where it is not recognised.
        against: another network of the same classes: label the same pictures with both, and say whether the
            difference is more than chance.
        boundary: measure boundary IoU too: IoU of the bands inside the outlines of truth and prediction.
        boundary_width: of those bands: below 1 a share of the picture's diagonal, else pixels.
        trimap: measure mean IoU within these pixels of a true border too, such as 1 2 4 8.
        calibration: measure how true the probabilities are too.
        worst: list so many pictures, the worst first.
        json_file: write the figures there too, with those of each picture.
        csv_file: write the figures of each picture there, a line a picture.
        tile: pixels along a side that are labelled at a time. Memory is bounded, the figures are the same.
        flips: look at the mirror image too; the probabilities are averaged.
        scales: look at the picture in these sizes, such as 0.75 1 1.25; the probabilities are averaged.
        device: cpu or cuda; CUDA where there is one if not given.
        precision: fp32, or bf16, which is faster on some machines and changes a few pixels.
    """
    if worst < 0:
        raise InputError(f"worst: found {worst}; expected a number of pictures")
    for file in (json_file, csv_file):
        if file is not None and not file.absolute().parent.is_dir():
            raise InputError(f"{file}: its folder is not there; expected one to write the figures to. Make it first.")
    measures = Measures(boundary, boundary_width, trimap, calibration)
    found = open_dataset(data, layout)
    for note in found.notes:
        Console(stderr=True).print(f"note: {note}", highlight=False)
    pairs = found.pairs(split)

    def predictor(name: str) -> Predictor:
        return Predictor(load(name), tile=tile, device=device, precision=precision, flips=flips, scales=scales)

    ours, theirs = predictor(network), predictor(against) if against is not None else None
    both: Comparison | None = None
    with counting(len(pairs), split) as tick:
        if theirs is not None:
            both = compare(ours, theirs, pairs, found.classes, tick, measures)
            result = both.ours
        else:
            result = evaluate(ours, pairs, found.classes, tick, measures=measures)
    show(result, both, worst, network, against or "")
    if json_file is not None:
        figures = as_json(network, result, both, against)
        json_file.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if csv_file is not None:
        write_csv(result.pictures, csv_file)


def show(result: Evaluation, both: Comparison | None, worst: int, network: str, against: str) -> None:
    """Print the tables; sentences are not cut at the terminal's width."""
    parts = report(result, worst)
    if both is not None:
        parts += comparison(both, network, against)
    for part in parts:
        Console(soft_wrap=isinstance(part, str)).print(part, highlight=False)


def as_json(network: str, result: Evaluation, both: Comparison | None, against: str | None) -> dict[str, Any]:
    """The figures, those of each picture, and those of the other network."""
    table = result.to_dict(per_picture=True)
    if both is not None:
        table["against"] = {"ours": network, "network": against, **both.to_dict()}
    return table
