"""`dilated evaluate`: how good a network is on a split."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from dilated import api
from dilated.cli import arguments
from dilated.cli.console import ProgressBar, write_line
from dilated.cli.tables import render_comparison, render_evaluation
from dilated.data.splitting import open_divided
from dilated.errors import InputError
from dilated.evaluation.compare import Comparison
from dilated.evaluation.evaluate import MetricsConfig
from dilated.evaluation.result import EvaluationResult, write_csv
from dilated.files import atomic_write
from dilated.prediction.predictor import Predictor
from dilated.prediction.predictor_options import PredictorOptions

_DEFAULT_METRICS = MetricsConfig(boundary=True)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What is measured, and where the figures are written."""

    split: arguments.Name = "val"
    """the part of the data to measure."""
    format: arguments.Format = None
    group_by: arguments.GroupBy = None
    lists: arguments.Lists = None
    fold: arguments.Fold = None
    baseline: arguments.NetworkOption = None
    """another network of the same classes: label the same images with both, and say whether the difference is more
    than chance."""
    worst: arguments.Count = 0
    """list so many images, the worst first."""
    json_file: arguments.JsonFile = None
    """write the figures there too, with those of each image."""
    csv_file: arguments.CsvFile = None
    """write the figures of each image there, one line per image."""

    def __post_init__(self) -> None:
        if self.worst < 0:
            raise InputError(f"worst: {self.worst} is not a number of images", hint="give 0 or more")
        for file in (self.json_file, self.csv_file):
            if file is not None and not file.absolute().parent.is_dir():
                raise InputError(f"{file}: its folder is not there", hint="make the folder first")


def run(
    network: arguments.Network,
    data: arguments.Data,
    /,
    options: arguments.Options[EvaluateOptions],
    predictor_options: arguments.Options[PredictorOptions],
    metrics: arguments.Options[MetricsConfig] = _DEFAULT_METRICS,
) -> None:
    """Measure a network with one confusion matrix over all pixels, at the images' own resolution.

    Figures in brackets are 95% intervals; below the tables it says over what.

    Args:
        data: a data folder with the same class names.
    """
    candidate = predictor_options.make_predictor(network)  # before the images, which may be many
    baseline = predictor_options.make_predictor(options.baseline) if options.baseline is not None else None
    dataset = open_divided(data, options.format, options.group_by, options.lists, options.fold)
    for note in dataset.notes:
        write_line(f"note: {note}", stderr=True)
    comparison = None
    with ProgressBar(options.split) as bar:
        if baseline is not None:
            comparison = api.compare(candidate, baseline, dataset, options.split, metrics, on_progress=bar.update)
            comparison = dataclasses.replace(comparison, names=(network, str(options.baseline)))
            result = comparison.candidate
        else:
            result = api.evaluate(candidate, dataset, options.split, metrics, on_progress=bar.update)
    _print_result(result, comparison, options.worst)
    if (abstention := _describe_abstention(candidate, result)) is not None:
        write_line(abstention)
    if candidate.decoder.decode == "iou":
        write_line("decode iou: labels of each image's greatest expected IoU, not the most probable class of pixels")
    if options.json_file is not None:
        figures = _to_dict(result, comparison) | {"decoding": candidate.decoding}
        atomic_write(options.json_file, json.dumps(figures, indent=2, allow_nan=False) + "\n")
    if options.csv_file is not None:
        write_csv(result.image_results, options.csv_file)


def _describe_abstention(predictor: Predictor, result: EvaluationResult) -> str | None:
    """Say what share was left unknown, and of what was labelled, wrong; None for a predictor that labels all."""
    threshold, confusion = predictor.decoder.threshold, result.confusion
    if threshold is None:
        return None
    unknown, labelled = int(confusion.unpredicted.sum()), int(confusion.counts.sum())
    wrong = labelled - int(confusion.counts.trace())
    return (
        f"risk {threshold.risk:g}: {unknown / max(confusion.pixels, 1):.2%} of the pixels are left unknown, and count "
        f"as wrong above; of the others {wrong / max(labelled, 1):.2%} are wrong"
    )


def _print_result(result: EvaluationResult, comparison: Comparison | None, worst: int) -> None:
    """Print the tables; sentences are not cut at the terminal's width."""
    parts = render_evaluation(result, worst)
    if comparison is not None:
        parts += render_comparison(comparison)
    for part in parts:
        Console(soft_wrap=isinstance(part, Text)).print(part, highlight=False)


def _to_dict(result: EvaluationResult, comparison: Comparison | None) -> dict[str, Any]:
    """The figures, those of each image, and those of the other network."""
    table = result.to_dict(per_image=True)
    if comparison is not None:
        candidate, baseline = comparison.names
        table["comparison"] = {"candidate": candidate, "baseline_network": baseline, **comparison.to_dict()}
    return table
