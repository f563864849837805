"""`dilated evaluate`: how good a network is on a split."""

from __future__ import annotations

import json
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, write_line
from dilated.cli.tables import render_comparison, render_evaluation
from dilated.data.dataset import open_dataset
from dilated.errors import InputError
from dilated.evaluation.boundary import DEFAULT_BOUNDARY_WIDTH
from dilated.evaluation.compare import Comparison, compare
from dilated.evaluation.evaluate import MetricsConfig, evaluate
from dilated.evaluation.per_image import write_csv
from dilated.evaluation.result import EvaluationResult
from dilated.files import atomic_write
from dilated.prediction.predictor import Predictor
from dilated.weights.bundled import load


def run(
    network: arguments.Network,
    data: arguments.Data,
    /,
    split: arguments.Name = "val",
    layout: arguments.Format = None,
    baseline: arguments.NetworkOption = None,
    boundary: bool = True,
    boundary_width: arguments.Number = DEFAULT_BOUNDARY_WIDTH,
    trimap: arguments.Counts = (),
    calibration: bool = False,
    worst: arguments.Count = 0,
    json_file: arguments.JsonFile = None,
    csv_file: arguments.CsvFile = None,
    tile: arguments.OptionalCount = None,
    flips: bool = False,
    scales: arguments.Numbers = (1.0,),
    device: arguments.Device = None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> None:
    """Measure a network with one confusion matrix over all pixels, at the images' own resolution.

    Figures in brackets are 95% intervals over the images.

    Args:
        data: a data folder with the same class names.
        split: which part of it.
        baseline: another network of the same classes: label the same images with both, and say whether the
            difference is more than chance.
        boundary: measure boundary IoU too: IoU of the bands inside the outlines of truth and prediction.
        boundary_width: of those bands: below 1 a share of the image's diagonal, else pixels.
        trimap: measure mean IoU within these pixels of a true border too, such as 1 2 4 8.
        calibration: measure how true the probabilities are too.
        worst: list so many images, the worst first.
        json_file: write the figures there too, with those of each image.
        csv_file: write the figures of each image there, a line an image.
        tile: pixels along a side that are labelled at a time. Memory is bounded, the figures are the same.
        flips: look at the mirror image too; the probabilities are averaged.
        scales: look at the image in these sizes, such as 0.75 1 1.25; the probabilities are averaged.
        precision: fp32, or bf16, which is faster on some machines and changes a few pixels.
    """
    if worst < 0:
        raise InputError(f"worst: found {worst}; expected a number of images")
    for file in (json_file, csv_file):
        if file is not None and not file.absolute().parent.is_dir():
            raise InputError(f"{file}: its folder is not there; expected one to write the figures to. Make it first.")
    metrics = MetricsConfig(boundary, boundary_width, trimap, calibration)
    dataset = open_dataset(data, layout)
    for note in dataset.notes:
        write_line(f"note: {note}", stderr=True)
    samples = dataset.samples(split)

    def make_predictor(name: str) -> Predictor:
        return Predictor(load(name), tile=tile, device=device, precision=precision, flips=flips, scales=scales)

    candidate = make_predictor(network)
    baseline_predictor = make_predictor(baseline) if baseline is not None else None
    paired_result: Comparison | None = None
    with ProgressBar(split, len(samples)) as bar:
        if baseline_predictor is not None:
            paired_result = compare(
                candidate, baseline_predictor, samples, dataset.classes, metrics, bar.update, (network, str(baseline))
            )
            result = paired_result.candidate
        else:
            result = evaluate(candidate, samples, dataset.classes, metrics, bar.update)
    _print_result(result, paired_result, worst)
    if json_file is not None:
        metrics_table = _to_dict(network, result, paired_result, baseline)
        atomic_write(json_file, json.dumps(metrics_table, indent=2, allow_nan=False) + "\n")
    if csv_file is not None:
        write_csv(result.image_results, csv_file)


def _print_result(result: EvaluationResult, paired_result: Comparison | None, worst: arguments.Count) -> None:
    """Print the tables; sentences are not cut at the terminal's width."""
    parts = render_evaluation(result, worst)
    if paired_result is not None:
        parts += render_comparison(paired_result)
    for part in parts:
        Console(soft_wrap=isinstance(part, Text)).print(part, highlight=False)


def _to_dict(
    network: str, result: EvaluationResult, paired_result: Comparison | None, baseline: str | None
) -> dict[str, Any]:
    """The figures, those of each image, and those of the other network."""
    table = result.to_dict(per_image=True)
    if paired_result is not None:
        table["comparison"] = {"candidate": network, "baseline_network": baseline, **paired_result.to_dict()}
    return table
