"""Divide data without splits into train and val: by lists beside it, otherwise by the hashes of the groups.

    >>> from dilated.data.auto_split import split_by_hash
    >>> split_by_hash(["dawn", "day", "dusk", "night"], 0.25, 0)["val"]
    ['night']

The hash of a group alone decides where its images go, so images that are added later move no other. The fraction is
therefore met on average; at least one group goes to each side. An image that belongs to none is a group of its own; the
hash is then that of its stem.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from dilated.data.groups import Groups
from dilated.data.list_files import require_finished
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import read_lines

_VAL_FRACTION, _SEED = 0.2, 0
HASH_SPLITS = ("train", "val")
_LIST_NAMES = {
    "train": ("train", "training", "train_list"),
    "val": ("val", "valid", "validation", "val_list"),
    "test": ("test", "testing", "test_list"),
}
_Value = TypeVar("_Value")


def split_by_hash(
    stems: Sequence[str], val_fraction: float = _VAL_FRACTION, seed: int = _SEED, groups: Sequence[str] | None = None
) -> dict[str, list[str]]:
    """The stems of train and of val, each in the order given.

    Args:
        val_fraction: the fraction of val, between 0 and 1.
        seed: another one gives another split.
        groups: the group of each stem, which goes to one side as a whole; by default each is its own. A single group is
            divided all the same.

    Raises:
        InputError: fewer than two stems, or a fraction out of range.

    Example:
        >>> split_by_hash(["f1_1", "f1_2", "f2_1"], 0.25, 0, ["f1", "f1", "f2"])["train"]
        ['f1_1', 'f1_2']
    """
    if not 0 < val_fraction < 1:
        raise InputError(
            f"val: the fraction {val_fraction:g} is not between 0 and 1", hint=f"give one such as {_VAL_FRACTION}"
        )
    if len(set(stems)) < 2:
        raise InputError(f"found {len(stems)} labeled images without splits", hint="add images: two or more divide")
    labels = stems
    if groups is not None and len(set(groups)) > 1:  # an image on its own has its path as group, which may change
        labels = [s if label.rpartition("/")[2] == s else label for s, label in zip(stems, groups, strict=True)]
    fractions = {label: _hash_fraction(label, seed) for label in labels}
    ordered = sorted(fractions, key=lambda label: (fractions[label], label))
    count = min(max(1, sum(value < val_fraction for value in fractions.values())), len(ordered) - 1)
    chosen = set(ordered[:count])
    by_split: dict[str, list[str]] = {"train": [], "val": []}
    for stem, label in zip(stems, labels, strict=True):
        by_split["val" if label in chosen else "train"].append(stem)
    return by_split


def _hash_fraction(stem: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/{stem}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def find_split_lists(root: Path) -> dict[str, Path]:
    """The list files of splits in the data folder: train.txt, val.txt, test.txt, or other names of the splits.

    Raises:
        InputError: two lists of one split, or a division whose lists are not all written.
    """
    require_finished(root)
    lists: dict[str, Path] = {}
    for split, names in _LIST_NAMES.items():
        existing = [path for name in names if (path := root / f"{name}.txt").is_file()]
        if len(existing) > 1:
            raise InputError(f"{existing[1]}: is a second list of {split}, beside {existing[0]}", hint="remove one")
        if existing:
            lists[split] = existing[0]
    return lists


def split_list_path(root: Path, split: str) -> Path:
    """The list file of a split, or where it should be."""
    return find_split_lists(root).get(split, root / f"{split}.txt")


def select_split(root: Path, samples: Sequence[Sample], split: str, groups: Groups | None = None) -> list[Sample]:
    """The samples of a split: by the list file of its name, or where there are no lists, by the hashes of the groups.

    Args:
        groups: of the samples; by default each is its own.

    Raises:
        InputError: no such split, a list that names something else, or too few samples.
    """
    by_stem: dict[str, Sample] = {}
    for sample in samples:
        if sample.name in by_stem:
            raise InputError(
                f"{sample.image}: has the stem of {by_stem[sample.name].image}",
                hint="rename one: data without splits is divided by the images' stems",
            )
        by_stem[sample.name] = sample
    if find_split_lists(root):
        chosen, problems = resolve_list(split_list_path(root, split), by_stem)
        if problems:
            raise InputError(problems[0])
        return chosen
    try:
        labels = groups.labels if groups else None
        return [by_stem[stem] for stem in split_by_hash(list(by_stem), groups=labels)[split]]
    except InputError as error:
        raise InputError(f"{root}: {error.message}", hint=error.hint) from error


def resolve_list(listing: Path, by_stem: Mapping[str, _Value]) -> tuple[list[_Value], list[str]]:
    """What a list file names, in its order: a stem or a file name per line, with or without folders.

    Returns:
        The values of the stems, and a problem for each line that names none.

    Raises:
        InputError: the list is not text.
    """
    values, problems = [], []
    for number, name in read_lines(listing):
        stem = find_stem(name, by_stem)
        if stem in by_stem:
            values.append(by_stem[stem])
        else:
            problems.append(f"{listing}, line {number}: found {name!r}, and no such image")
    return values, problems


def find_stem(name: str, stems: Container[str]) -> str:
    """The stem that a line of a list means: the line itself where that is a stem, else the stem of its file name."""
    return name if name in stems else Path(name.replace("\\", "/")).stem  # as Windows writes paths


def describe_hash_split(groups: Groups | None) -> str:
    """What to say of data without splits, whose samples have these groups."""
    basis, reason = "stems", ""
    if groups and groups.has_groups and len(groups.sizes) > 1:
        basis = "groups"
        reason = f" No group is in both: found {len(groups.sizes):,} by {groups.source}."
    elif groups and groups.has_groups:
        reason = (
            f" All images are of one group, {groups.labels[0]} (by {groups.source}), so val says nothing about others."
        )
    return (
        f"The data has no splits: by the hashes of their {basis} about {_VAL_FRACTION:.0%} of the images are val, the "
        f"rest train.{reason} To choose yourself, write train.txt and val.txt, one stem per line, into the data "
        "folder, or write a copy with `dilated convert-data DATA OUT --format folders --val 0.2 --seed 1`."
    )
