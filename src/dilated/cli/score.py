"""`dilated score`: how good the label images of any tool are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, make_table, plain, write_line
from dilated.cli.tables import render_comparison, render_evaluation
from dilated.errors import InputError
from dilated.evaluation.evaluate import MetricsConfig
from dilated.evaluation.label_files import Values
from dilated.evaluation.result import write_csv
from dilated.evaluation.score import Score, ScoreOptions, score
from dilated.files import atomic_write
from dilated.report.score_page import render_score_page

_DEFAULT_METRICS = MetricsConfig(boundary=True)
_Folder = Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class _Options:
    """What the files are, and where the figures are written."""

    split: arguments.Name = "val"
    """the part of the data to measure."""
    format: arguments.Format = None
    classes: Annotated[str | None, arg(metavar="N|FILE", help_behavior_hint="")] = None
    """read TRUTH as a plain folder of label images: the number of classes, or their classes.toml."""
    values: Annotated[Values, arg(metavar="file|ids")] = "file"
    """what predictions hold: the values of the truth's files, or class ids from 0."""
    group_by: arguments.GroupBy = None
    categories: arguments.OptionalPath = None
    """a .toml with the classes of each category; Cityscapes' classes have theirs."""
    baseline: _Folder = None
    """another tool's label images: measure both on the same images, and say whether the difference is more than
    chance."""
    worst: arguments.Count = 0
    """list so many images, the worst first."""
    page: arguments.OptionalPath = None
    """write an HTML page there, with the figures and the worst images."""
    json_file: arguments.JsonFile = None
    """write the figures there too, with those of each image."""
    csv_file: arguments.CsvFile = None
    """write the figures of each image there, one line per image."""

    def __post_init__(self) -> None:
        if self.worst < 0:
            raise InputError(f"worst: {self.worst} is not a number of images", hint="give 0 or more")
        for file in (self.json_file, self.csv_file, self.page):
            if file is not None and not file.absolute().parent.is_dir():
                raise InputError(f"{file}: its folder is not there", hint="make the folder first")


def run(
    predictions: Annotated[Path, Positional, arg(metavar="PREDICTIONS")],
    truth: Annotated[Path, Positional, arg(metavar="TRUTH")],
    /,
    options: arguments.Options[_Options],
    metrics: arguments.Options[MetricsConfig] = _DEFAULT_METRICS,
) -> None:
    """Measure the label images of any tool with one confusion matrix over all pixels, at their own resolution.

    Figures in brackets are 95% intervals; below the tables it says over what.

    Args:
        predictions: a folder of label images, named as the images of the split are.
        truth: a data folder; with --classes a plain folder of label images.
    """
    settings = ScoreOptions(
        options.split, options.format, options.classes, options.values, options.categories, options.group_by, metrics
    )
    with ProgressBar(options.split) as bar:
        scored = score(predictions, truth, options.baseline, settings, bar.update)
    for note in scored.notes:
        write_line(f"note: {note}", stderr=True)
    for part in _render(scored, options.worst):
        Console(soft_wrap=isinstance(part, Text)).print(part, highlight=False)
    if options.json_file is not None:
        atomic_write(options.json_file, json.dumps(scored.to_dict(per_image=True), indent=2, allow_nan=False) + "\n")
    if options.csv_file is not None:
        write_csv(scored.result.image_results, options.csv_file)
    if options.page is not None:
        atomic_write(options.page, render_score_page(scored, title=predictions.resolve().name))


def _render(scored: Score, worst: int) -> list[Text | Table]:
    """Render the tables of an evaluation, the categories, what others would print, and the comparison."""
    parts = render_evaluation(scored.result, worst)
    if scored.categories is not None:
        metric = scored.categories.format_metric
        rows = [(name, metric("iou", i)) for i, name in enumerate(scored.categories.classes)]
        table = make_table(("category", "IoU [95%]"), [*rows, None, ("mean", metric("mean_iou"))], "", compact=True)
        parts.insert(-1, table)
    lines = [f"  {_format(variant.value)}  {variant.who}: {variant.what}" for variant in scored.variants]
    parts[-1:-1] = [plain(line) for line in ("what others would print:", *lines)]
    if scored.comparison is not None:
        parts += render_comparison(scored.comparison)
    return parts


def _format(value: float) -> str:
    return "   -  " if np.isnan(value) else f"{value:.4f}"
