"""Which images are not independent of each other: frames of one film, tiles of one mosaic, slices of one patient.

    >>> groups = find_groups(["0001TP_006690", "0001TP_006720", "0016E5_07959"])
    >>> groups.labels, groups.positions
    (('0001TP', '0001TP', '0016E5'), (6690, 6720, 7959))
    >>> groups.source
    'file names: stem and running number'

Names say much, but not all: a film whose frames are called IMG_0001 and so on is not told from photographs. What was
found is a proposal with its reason, and a rule replaces it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from statistics import median
from typing import Any

from dilated.data.name_parts import (
    FILM_WORDS,
    find_common_ending,
    find_folder,
    find_tile_sources,
    remove_export_suffix,
    remove_generic_words,
    remove_running_number,
    split_running_number,
)
from dilated.errors import InputError
from dilated.files import plural

SINGLE_IMAGES = "image"
"""The rule that makes each image a group of its own."""
_MAX_SINGLETONS = 0.5  # of the groups; where more have one image only, the number before the last one is running too


@dataclass(frozen=True)
class Groups:
    """Samples divided into groups: within a group they are not independent of each other, between groups they are.

    Args:
        labels: the name of each sample's group, in the samples' order.
        positions: each sample's running number within its group, as a frame's in its film; None where it has none.
        source: where the grouping came from, in words.

    Raises:
        ValueError: not one position for each label.
    """

    labels: tuple[str, ...]
    positions: tuple[int | None, ...]
    source: str

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.positions):
            raise ValueError(f"groups: found {len(self.labels)} labels and {len(self.positions)} positions")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def indices(self) -> dict[str, tuple[int, ...]]:
        """The samples of each group, as indices; groups in the order of their first sample.

        Example:
            >>> Groups(("a", "b", "a"), (None,) * 3, "given").indices
            {'a': (0, 2), 'b': (1,)}
        """
        indices: dict[str, list[int]] = {}
        for index, label in enumerate(self.labels):
            indices.setdefault(label, []).append(index)
        return {label: tuple(members) for label, members in indices.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """The number of samples of each group, in the order of their first sample."""
        return {label: len(members) for label, members in self.indices.items()}

    @property
    def effective_number(self) -> float:
        """How many groups of equal size weigh as much as these: (sum of sizes)² / sum of squared sizes.

        Example:
            >>> Groups(("a", "a", "a", "b"), (None,) * 4, "given").effective_number
            1.6
        """
        sizes = self.sizes.values()
        return sum(sizes) ** 2 / sum(size * size for size in sizes) if sizes else 0.0

    @property
    def has_groups(self) -> bool:
        """Whether any group has more than one sample."""
        return len(self.indices) < len(self.labels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; sizes by group only where there are groups."""
        return {
            "source": self.source,
            "groups": len(self.indices),
            "effective_number": self.effective_number,
            "sizes": self.sizes if self.has_groups else {},
        }

    def select(self, indices: Sequence[int]) -> Groups:
        """The groups of some of the samples, in the order given, as those of one split.

        Example:
            >>> Groups(("a", "b", "a"), (1, None, 2), "given").select([2, 1])
            Groups(labels=('a', 'b'), positions=(2, None), source='given')
        """
        return Groups(
            tuple(self.labels[index] for index in indices),
            tuple(self.positions[index] for index in indices),
            self.source,
        )


def find_groups(names: Sequence[str], rule: str | None = None) -> Groups:
    r"""Find the groups of samples by their names.

    Without a rule the first of these that finds two images in one group counts: folders other than `images`, `train`
    and the like; copies that a labelling service exported; positions of tiles; a common stem before a running number.
    A stem that says nothing (`IMG`, a year), or that all names share and that is a mere word, makes no group. Where
    nothing is found each image is its own group.

    Args:
        names: of all samples of all splits, with folders where they say something (`site 3/a.png`), with or without
            suffix.
        rule: a regular expression that is searched in each name: its group is what `(?P<group>...)` matches, or else
            the first parentheses, or else the match; `(?P<position>\d+)` gives the running number. Or `image`: each
            image is its own group.

    Returns:
        One label per name; names of images that are their own group are their labels.

    Raises:
        InputError: a rule that is no regular expression, or a name in which it finds nothing.

    Example:
        >>> find_groups(["p1_a.png", "p1_b.png", "p2_a.png"], r"^(p\d+)_").labels
        ('p1', 'p1', 'p2')
        >>> find_groups(["000000000110", "000000000149"]).source
        'each image on its own: nothing in the file names tells groups'
    """
    if rule == SINGLE_IMAGES:
        return _make_single_images(names, "each image on its own, as given")
    if rule is not None:
        return _match_rule(names, rule)
    stems = [_remove_suffix(PurePosixPath(name).name) for name in names]
    ending = find_common_ending(stems)
    stems = [stem.removesuffix(ending) for stem in stems]
    folders = [find_folder(name) for name in names]
    if len(set(folders)) > 1:
        labels = [folder or name for folder, name in zip(folders, names, strict=True)]
        if len(set(labels)) < len(labels):
            return Groups(tuple(labels), _find_positions(labels, stems), "folders")
    originals = [remove_export_suffix(stem) for stem in stems]
    has_exports = len(set(originals)) < len(set(stems))
    if sources := find_tile_sources(originals):
        return Groups(tuple(sources), (None,) * len(names), "file names: tiles with their positions")
    labels, positions = _find_series(originals)
    if len(set(labels)) < len(set(originals)):
        return Groups(tuple(labels), positions, "file names: stem and running number")
    if has_exports:
        return Groups(tuple(originals), (None,) * len(names), "file names: copies that a labelling service exported")
    return _make_single_images(names, "each image on its own: nothing in the file names tells groups")


def describe_groups(groups: Groups) -> str:
    """What was found, with its reason, in one sentence.

    Example:
        >>> describe_groups(find_groups(["film7_1", "film7_2", "film7_3", "film8_1"]))
        '4 images in 2 groups (film7 has 3, the median 2), by file names: stem and running number.'
    """
    if not groups.has_groups:
        return f"Groups: {groups.source}."
    sizes = groups.sizes
    largest = max(sizes, key=lambda label: sizes[label])
    return (
        f"{plural(len(groups), 'image')} in {plural(len(sizes), 'group')} ({largest} has {sizes[largest]:,}, the "
        f"median {median(sizes.values()):g}), by {groups.source}."
    )


def _make_single_images(names: Sequence[str], source: str) -> Groups:
    return Groups(tuple(names), (None,) * len(names), source)


def _match_rule(names: Sequence[str], rule: str) -> Groups:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise InputError(
            f"groups: {rule!r} is no regular expression ({error})", hint=r"give one such as '^(.*)_\d+'"
        ) from error
    labels, positions = [], []
    for name in names:
        match = pattern.search(name)
        label = match and match["group" if "group" in pattern.groupindex else min(pattern.groups, 1)]
        if match is None or label is None:
            raise InputError(
                f"groups: {rule!r} finds no group in the name {name!r}", hint="give a rule that fits every image's name"
            )
        number = match["position"] if "position" in pattern.groupindex else None
        if number is not None and not number.isdecimal():
            raise InputError(
                f"groups: the position {number!r} of {name!r} is no number", hint=r"write (?P<position>\d+) in the rule"
            )
        labels.append(label)
        positions.append(None if number is None else int(number))
    return Groups(tuple(labels), tuple(positions), f"the rule {rule!r}")


def _remove_suffix(file_name: str) -> str:
    """A file's name without its suffix; a dot before a digit or in a long word starts none."""
    return re.sub(r"\.[A-Za-z][A-Za-z0-9]{1,4}$", "", file_name)


def _find_series(stems: Sequence[str]) -> tuple[list[str], tuple[int | None, ...]]:
    """The series of each stem, or the stem where it has none, and the running numbers."""
    parts = [split_running_number(stem) for stem in stems]
    series = [name for name, _ in parts]
    if any(len(name) == 1 and number is not None for name, number in parts):
        # Beside cameras a and b, c is one too, though alone it would say what the number counts.
        letters = [remove_running_number(stem) for stem in stems]
        series = [
            letter if not name and len(letter) == 1 else name for name, letter in zip(series, letters, strict=True)
        ]
    sizes = Counter(series)
    singletons = sum(size == 1 for size in sizes.values())
    coarse = [split_running_number(name)[0] for name in series]
    if singletons > _MAX_SINGLETONS * len(sizes) and _count_named(coarse) > 1:
        series = coarse
    cleaned = [remove_generic_words(name) for name in series]
    if len(set(cleaned)) == 1 and not _names_one_thing(series[0]):
        cleaned = [""] * len(stems)
    labels = [
        label if label and split_running_number(stem)[1] is not None else stem
        for label, stem in zip(cleaned, stems, strict=True)
    ]
    return labels, _find_positions(labels, stems)


def _count_named(series: Sequence[str]) -> int:
    """How many series have a name that can be one's and more than one member."""
    return sum(size > 1 for name, size in Counter(map(remove_generic_words, series)).items() if name)


def _names_one_thing(series: str) -> bool:
    """Whether the only series of all names is one thing, such as the film 0016E5, rather than a collection, as ISIC."""
    has_both = re.search(r"\d", series) and re.search(r"[^\W\d_]", series)
    return bool(has_both) or series.lower() in FILM_WORDS


def _find_positions(labels: Sequence[str], stems: Sequence[str]) -> tuple[int | None, ...]:
    """The running numbers in the groups whose stems differ in nothing else; None for all other names."""
    parts = [split_running_number(stem) for stem in stems]
    series_by_label: dict[str, set[str]] = {}
    for label, (series, _) in zip(labels, parts, strict=True):
        series_by_label.setdefault(label, set()).add(series)
    return tuple(
        number if label != stem and len(series_by_label[label]) == 1 else None
        for label, stem, (_, number) in zip(labels, stems, parts, strict=True)
    )
