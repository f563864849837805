"""Divide data without splits into train and val: by lists beside it, otherwise by the hashes of the stems.

    >>> from dilated.data.auto_split import split_by_hash
    >>> split_by_hash(["dawn", "day", "dusk", "night"], 0.25, 0)["val"]
    ['night']

The hash of a stem alone decides where its image goes, so images that are added later move no other. The fraction is
therefore met on average; at least one image goes to each side. Frames of one video resemble each other: where there are
such, lists should keep each video on one side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

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


def split_by_hash(stems: Sequence[str], val_fraction: float = _VAL_FRACTION, seed: int = _SEED) -> dict[str, list[str]]:
    """The stems of train and of val, each in the order given.

    Args:
        val_fraction: the fraction of val, between 0 and 1.
        seed: another one gives another split.

    Raises:
        InputError: fewer than two stems, or a fraction out of range.
    """
    if not 0 < val_fraction < 1:
        raise InputError(
            f"val: the fraction {val_fraction:g} is not between 0 and 1", hint=f"give one such as {_VAL_FRACTION}"
        )
    if len(set(stems)) < 2:
        raise InputError(f"found {len(stems)} labeled images without splits", hint="add images: two or more divide")
    fractions = {stem: _hash_fraction(stem, seed) for stem in stems}
    ordered = sorted(fractions, key=lambda stem: (fractions[stem], stem))
    count = min(max(1, sum(value < val_fraction for value in fractions.values())), len(ordered) - 1)
    chosen = set(ordered[:count])
    return {"train": [s for s in stems if s not in chosen], "val": [s for s in stems if s in chosen]}


def _hash_fraction(stem: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/{stem}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def find_split_lists(root: Path) -> dict[str, Path]:
    """The list files of splits in the data folder: train.txt, val.txt, test.txt, or other names of the splits.

    Raises:
        InputError: two lists of one split.
    """
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


def select_split(root: Path, samples: Sequence[Sample], split: str) -> list[Sample]:
    """The samples of a split: by the list file of its name, or where there are no lists, by hash.

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
        return [by_stem[stem] for stem in split_by_hash(list(by_stem))[split]]
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


def describe_hash_split(root: Path) -> list[str]:
    """What to say of data without splits."""
    if find_split_lists(root):
        return []
    return [
        f"The data has no splits: by the hashes of their stems about {_VAL_FRACTION:.0%} of the images are val, the "
        "rest train. To choose yourself, write train.txt and val.txt, one stem per line, into the data folder, or "
        "write a copy with `dilated convert-data DATA OUT --format folders --val 0.2 --seed 1`."
    ]
