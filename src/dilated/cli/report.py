"""`dilated report`: one page about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, write_line
from dilated.report import write_report


def run(
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    data: arguments.Data,
    /,
    out: arguments.OptionalPath = None,
    split: arguments.Name = "val",
    format: arguments.Format = None,
    device: arguments.Device = None,
) -> None:
    """Write a page about a run: figures with intervals, curves, confusions, best and worst images, recipe, commands.

    The page is one HTML file that needs no network connection and no other file.

    Args:
        folder: a run's folder, as `dilated train` makes it.
        data: a data folder with the same class names.
        out: the page's file; by default report.html in the run's folder.
        split: the part of the data to measure.
    """
    with ProgressBar(split) as bar:
        page = write_report(folder, data, out, split, device, bar.update, format)
    write_line(f"The page is {page}")
