"""`dilated compare`: whether one network, or one way of training, is better than another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional, arg

from dilated import api
from dilated.api import make_predictor
from dilated.cli import arguments
from dilated.cli.console import ProgressBar, plain
from dilated.cli.tables import render_comparison
from dilated.data.dataset import open_dataset
from dilated.errors import InputError
from dilated.evaluation.evaluate import MetricsConfig
from dilated.files import atomic_write
from dilated.report.differing_images import render_comparison_page
from dilated.run_folder import find_seed_runs

_Side = Annotated[str, Positional, arg(metavar="NETWORK")]
_DEFAULT_METRICS = MetricsConfig(boundary=True)


@dataclass(frozen=True, kw_only=True)
class _Options:
    """What is measured, and where the figures are written."""

    split: arguments.Name = "val"
    """the part of the data to measure."""
    format: arguments.Format = None
    group_by: arguments.GroupBy = None
    json_file: arguments.JsonFile = None
    """write the figures there too."""
    page: arguments.OptionalPath = None
    """write a page there too: the images on which the two differ most, with both predictions beside the truth."""
    device: arguments.Device = None

    def __post_init__(self) -> None:
        for path in (self.json_file, self.page):
            if path is not None and not path.absolute().parent.is_dir():
                raise InputError(f"{path}: its folder is not there", hint="make the folder first")


def run(
    candidate: _Side,
    baseline: _Side,
    data: arguments.Data,
    /,
    options: arguments.Options[_Options],
    metrics: arguments.Options[MetricsConfig] = _DEFAULT_METRICS,
) -> None:
    """Measure two networks, or several trainings of each, on the same images.

    "Better" is said only where an interval over groups leaves out 0 and each side has three trainings or more.

    Args:
        candidate: a network file, a run's folder, a bundled name, or a folder that `train --seeds` made.
        baseline: what it is compared with.
        data: a data folder with the same class names.
    """
    dataset = open_dataset(data, options.format, options.group_by)
    with ProgressBar(options.split) as bar:
        compared = api.compare(candidate, baseline, dataset, options.split, metrics, options.device, bar.update)
    for part in [plain(str(compared).splitlines()[1]), *render_comparison(compared)]:
        Console(soft_wrap=isinstance(part, Text)).print(part, highlight=False)
    if options.json_file is not None:
        figures = {"candidate": compared.candidate.to_dict(), **compared.to_dict()}
        atomic_write(options.json_file, json.dumps(figures, indent=2, allow_nan=False) + "\n")
    if options.page is not None:
        first, second = (
            make_predictor(next(iter(find_seed_runs(Path(side))), side), options.device)
            for side in (candidate, baseline)
        )
        samples = dataset.samples(options.split)
        atomic_write(options.page, render_comparison_page(compared, samples, dataset.classes, (first, second)))
