"""`dilated convert-data`: a data set from one format to another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, make_table, write_line, write_table
from dilated.data.convert import ConvertOptions, convert
from dilated.data.dataset import open_dataset
from dilated.errors import InputError


@dataclass(frozen=True, kw_only=True)
class _Options:
    target: Annotated[str, arg(name="format", metavar="NAME")]
    """the format to write: folders, voc, coco_json, yolo, labelme, cvat, colors, ..."""
    source: Annotated[str | None, arg(name="from", metavar="NAME", help_behavior_hint="")] = None
    """the format of the data, where it is not recognized."""
    splits: arguments.Names = ()
    """the splits to write; by default train, val and test."""
    val: arguments.OptionalFraction = None
    """the fraction of val, for data without splits; by default 0.2."""
    seed: arguments.OptionalCount = None
    """the seed that chooses val; another seed chooses other images."""
    ignore_as_class: Annotated[str | None, arg(metavar="CLASS", help_behavior_hint="")] = None
    """the class that ignored pixels become, for formats that cannot ignore."""


def run(
    data: arguments.Data,
    out: Annotated[Path, Positional, arg(metavar="OUT")],
    /,
    options: arguments.Options[_Options],
) -> None:
    """Write a data set in another format, and read every label back to see that it is the same.

    Args:
        data: a data folder.
        out: a folder that is empty or does not exist.
    """
    val = options.val
    if options.seed is not None and val is None:
        raise InputError("--seed: given without --val", hint="give the fraction of val too, such as --val 0.2")
    if val is not None and options.splits:
        raise InputError("--splits: given beside --val, which makes train and val", hint="give one of the two")
    dataset = open_dataset(data, options.source)
    write_line(f"{data}: {dataset.format}, {len(dataset.classes)} classes")
    for note in dataset.notes if val is None else ():
        write_line(f"note: {note}")
    conversion = ConvertOptions(options.splits, val, options.seed or 0, options.ignore_as_class)
    with ProgressBar("converting") as bar:
        converted = convert(dataset, out, options.target, conversion, bar.update)
    for note in converted.notes:
        write_line(f"note: {note}")
    rows = [(split, f"{count:,}") for split, count in converted.images.items()]
    write_table(make_table(("split", "images"), rows))
    write_line(f"{out}: {options.target}, every label read back as it was")
