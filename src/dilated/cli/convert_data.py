"""`dilated convert-data`: a data set from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, make_table, write_line, write_table
from dilated.data.convert import ConvertOptions, convert
from dilated.data.dataset import open_dataset
from dilated.errors import InputError


def run(
    data: arguments.Data,
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    /,
    target: Annotated[str, tyro.conf.arg(name="format", metavar="NAME")],
    source: Annotated[str | None, tyro.conf.arg(name="from", metavar="NAME", help_behavior_hint="")] = None,
    splits: arguments.Names = (),
    val: arguments.OptionalFraction = None,
    seed: arguments.OptionalCount = None,
    ignore_as_class: Annotated[str | None, tyro.conf.arg(metavar="CLASS", help_behavior_hint="")] = None,
) -> None:
    """Write a data set in another format, and read every label back to see that it is the same.

    Args:
        data: a data folder.
        out: a folder that is empty or not there.
        target: the format to write: folders, voc, coco_json, yolo, labelme, cvat, colors, ...
        source: the format of the data, where it is not recognised.
        splits: those to write, if not train, val and test.
        val: the share of val, for data without splits; 0.2 if not given.
        seed: of the choice of val; another gives other images.
        ignore_as_class: the class that ignored pixels become, for formats that cannot ignore.
    """
    if seed is not None and val is None:
        raise InputError("--seed: found it without --val; expected --val with the share for val, such as --val 0.2")
    if val is not None and splits:
        raise InputError("--splits: found it beside --val, which makes train and val; expected one of the two")
    dataset = open_dataset(data, source)
    write_line(f"{data}: {dataset.format}, {len(dataset.classes)} classes")
    for note in dataset.notes if val is None else ():
        write_line(f"note: {note}")
    with ProgressBar("converting") as bar:
        converted = convert(
            dataset,
            out,
            target,
            ConvertOptions(splits, val, seed or 0, ignore_as_class),
            progress=bar.update,
        )
    for note in converted.notes:
        write_line(f"note: {note}")
    rows = [(split, f"{count:,}") for split, count in converted.images.items()]
    write_table(make_table(("split", "images"), rows))
    write_line(f"{out}: {target}, every label read back as it was")
