"""The groups of a data set's samples: as given, otherwise as found in names, folders and files' headers.

    groups = group_samples(samples, root, group_by=r"^(p\\d+)_")

What is given comes first: `group_by`, then `groups.csv` in the data folder, then `groups = "..."` in its classes.toml.
Otherwise names and folders are tried, then what cameras and rasters write into files.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from dilated.data.acquisition import group_by_acquisition, read_acquisition
from dilated.data.groups import SINGLE_IMAGES, Groups, find_groups
from dilated.data.sample import Sample, name_from_root
from dilated.errors import InputError, suggest
from dilated.files import atomic_path, read_lines

GROUPS_FILE = "groups.csv"
"""The table in a data folder that gives the groups: `name,group` and, where known, `position`."""
NAMES, FILE_HEADERS = "name", "exif"
"""Rules that look at names and folders alone, and at what cameras and rasters wrote into the files alone."""
_COLUMNS = ("name", "group", "position")


def group_samples(
    samples: Sequence[Sample], root: Path, group_by: str | None = None, rule: str | None = None
) -> Groups:
    r"""Group the samples of all splits.

    Args:
        samples: each once.
        root: the data folder; names are paths from there, without suffix.
        group_by: a CSV file with a line `name,group` for each image; `name`, `exif` or `image`; or a regular expression
            for `find_groups`. What the data folder gives, or what is found, if not given.
        rule: the regular expression of the folder's classes.toml.

    Raises:
        InputError: a table or a rule that lacks an image.

    Example:
        >>> samples = [Sample(Path(f"d/{name}.png"), Path(f"d/{name}_L.png")) for name in ("f1_1", "f1_2", "f2_1")]
        >>> group_samples(samples, Path("d")).sizes
        {'f1': 2, 'f2': 1}
        >>> group_samples(samples, Path("d"), r"(\d)$").sizes
        {'1': 2, '2': 1}
    """
    names = [name_from_root(sample, root) for sample in samples]
    if group_by is not None:
        return _group_as_asked(samples, names, group_by)
    if (root / GROUPS_FILE).is_file():
        return _read_groups(root / GROUPS_FILE, names)
    if rule is not None:
        groups = find_groups(names, rule)
        return groups if rule == SINGLE_IMAGES else replace(groups, source=f"{groups.source} of classes.toml")
    groups = find_groups(names)
    if groups.has_groups:
        return groups
    return _group_by_headers(samples, names) or groups


def are_groups_given(root: Path, group_by: str | None = None, rule: str | None = None) -> bool:
    """Whether `group_samples` takes the groups as somebody gave them, rather than to look for them.

    Example:
        >>> are_groups_given(Path("d")), are_groups_given(Path("d"), "image"), are_groups_given(Path("d"), "exif")
        (False, True, False)
    """
    if group_by is not None:
        return group_by not in (NAMES, FILE_HEADERS)
    return (root / GROUPS_FILE).is_file() or rule is not None


def write_groups(groups: Groups, names: Sequence[str], path: Path) -> None:
    """Write a table that `group_samples` reads back, for people to correct.

    Args:
        names: of the samples, from the data folder.

    Raises:
        OSError: the folder cannot be written to.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for name, label, position in zip(names, groups.labels, groups.positions, strict=True):
            writer.writerow((name, label, "" if position is None else position))


def _group_as_asked(samples: Sequence[Sample], names: Sequence[str], group_by: str) -> Groups:
    path = Path(group_by)
    if path.suffix.lower() == ".csv":
        return _read_groups(path, names)
    if group_by == NAMES:
        return find_groups(names)
    if group_by == FILE_HEADERS:
        groups = _group_by_headers(samples, names)
        if groups is None:
            raise InputError(
                "groups: the files say nothing of camera, time or place that puts two images together",
                hint="give a CSV file or a regular expression",
            )
        return groups
    if group_by.isidentifier() and len(group_by) > 1 and group_by != SINGLE_IMAGES:
        words = (NAMES, FILE_HEADERS, SINGLE_IMAGES)
        raise InputError(
            f"groups: {group_by!r} is no known rule",
            hint=suggest(group_by, words, f"give {', '.join(words)}, a CSV file or a regular expression"),
        )
    return find_groups(names, group_by)


def _group_by_headers(samples: Sequence[Sample], names: Sequence[str]) -> Groups | None:
    return group_by_acquisition(names, [read_acquisition(sample.image) for sample in samples])


def _read_groups(path: Path, names: Sequence[str]) -> Groups:
    """Read a table of groups; it may name an image by its path from the data folder, its file name or its stem.

    Raises:
        InputError: a damaged table, or one that lacks an image.
    """
    rows: dict[str, tuple[str, int | None]] = {}
    lines = read_lines(path)
    header = [column.strip().lower() for column in next(csv.reader([lines[0][1]]))] if lines else []
    if tuple(header) not in (_COLUMNS, _COLUMNS[:2]):
        raise InputError(
            f"{path}: the first line is {lines[0][1] if lines else ''!r:.60}", hint="write name,group there"
        )
    for number, line in lines[1:]:
        values = [value.strip() for value in next(csv.reader([line]))]
        if len(values) != len(header) or not all(values[:2]):
            raise InputError(f"{path}, line {number}: found {line!r:.80}", hint=f"write {','.join(header)}")
        position = values[2] if values[2:] and values[2] else None
        if position is not None and not position.removeprefix("-").isdecimal():
            raise InputError(f"{path}, line {number}: the position {position!r} is no whole number")
        entry = values[1], None if position is None else int(position)
        name = PurePosixPath(values[0]).as_posix()
        if rows.setdefault(name, entry) != entry:
            raise InputError(f"{path}, line {number}: {name!r} has two groups", hint="name each image once")
    without_suffix = {str(PurePosixPath(name).with_suffix("")): entry for name, entry in rows.items()}
    entries = []
    for name in names:
        stem = PurePosixPath(name).name
        entry_of_name = next(
            (table[key] for key in (name, stem) for table in (rows, without_suffix) if key in table), None
        )
        if entry_of_name is None:
            raise InputError(f"{path}: has no line for the image {name!r}", hint=f"add a line {stem},GROUP")
        entries.append(entry_of_name)
    return Groups(tuple(label for label, _ in entries), tuple(position for _, position in entries), f"the table {path}")
