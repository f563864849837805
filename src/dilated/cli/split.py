"""`dilated split`: divide a data set by group into train and val, or into folds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, make_table, write_line, write_table
from dilated.data.dataset import open_dataset
from dilated.data.groups import describe_groups
from dilated.data.list_files import remove_unfinished
from dilated.data.splitting import Division, SplitOptions, split


@dataclass(frozen=True, kw_only=True)
class _Options:
    out: arguments.OptionalFolder = None
    """the folder of the lists; by default the data folder, where that has no splits of its own."""
    format: arguments.Format = None
    group_by: arguments.GroupBy = None


_DEFAULTS = SplitOptions()


def run(
    data: arguments.Data,
    /,
    options: arguments.Options[_Options],
    split_options: arguments.Options[SplitOptions] = _DEFAULTS,
) -> None:
    """Divide a data set so that no group is on two sides and every class is on each, and write lists of it.

    A group is what is not independent of each other: a film, a patient, a site. `dilated train DATA --lists FOLDER`
    trains on the lists of a folder; in a data folder without splits they are found.

    Args:
        data: a data folder. A split `test` of its own stays apart.
    """
    remove_unfinished(options.out or Path(data))
    dataset = open_dataset(data, options.format, options.group_by)
    with ProgressBar("reading labels") as bar:
        division = split(dataset, split_options, options.out, progress=bar.update)
    write_line(f"{describe_groups(division.groups)} Seed {division.seed}.")
    write_table(make_table(("", *division.parts), _rows(division)))
    for path in division.files:
        write_line(f"{path}")


def _rows(division: Division) -> list[list[str] | None]:
    """The images, groups and fractions of the classes, a column for each part."""
    groups, counts = division.group_counts, division.counts
    labeled = counts[:, :-1].sum(1).clip(1)
    total = counts.sum(1).clip(1)
    rows: list[list[str] | None] = [
        ["images", *(f"{len(names):,}" for names in division.parts.values())],
        ["groups", *(f"{groups[part]:,}" for part in division.parts)],
        None,
    ]
    for i, name in enumerate(division.classes):
        rows.append([name, *(f"{fraction:.2%}" for fraction in counts[:, i] / labeled)])
    return [*rows, ["ignored", *(f"{fraction:.2%}" for fraction in counts[:, -1] / total)]]
