"""`dilated convert-data`: a data set from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dilated.data.convert import convert
from dilated.data.dataset import open_dataset
from dilated.errors import InputError


def run(
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    /,
    target: Annotated[str, tyro.conf.arg(name="format", metavar="NAME")],
    source: Annotated[str | None, tyro.conf.arg(name="from", metavar="NAME")] = None,
    splits: tuple[str, ...] = (),
    val: float | None = None,
    seed: int | None = None,
    ignore_as_class: Annotated[str | None, tyro.conf.arg(metavar="CLASS")] = None,
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
    console = Console(soft_wrap=True)
    console.print(f"{data}: {dataset.format}, {len(dataset.classes)} classes", highlight=False, markup=False)
    for note in dataset.notes if val is None else ():
        console.print(f"note: {note}", highlight=False, markup=False)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("converting", total=None)
        converted = convert(
            dataset,
            out,
            target,
            splits=splits,
            val_fraction=val,
            seed=seed or 0,
            ignore_as_class=ignore_as_class,
            progress=lambda steps, total: bar.update(task, completed=steps, total=total),
        )
    for note in converted.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    table = Table()
    for name in ("split", "images"):
        table.add_column(name, justify="right" if name == "images" else "left")
    for split, count in converted.images.items():
        table.add_row(split, f"{count:,}")
    Console().print(table)
    console.print(f"{out}: {target}, every label read back as it was", highlight=False, markup=False)
