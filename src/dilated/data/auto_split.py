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
from collections.abc import Sequence
from pathlib import Path

from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import read_lines

_VAL_FRACTION, _SEED = 0.2, 0
HASH_SPLITS = ("train", "val")


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
            f"val: found the fraction {val_fraction:g}; expected one between 0 and 1, such as {_VAL_FRACTION}"
        )
    if len(set(stems)) < 2:
        raise InputError(f"found {len(stems)} labeled images without splits; expected at least two, to split them")
    fractions = {stem: _hash_fraction(stem, seed) for stem in stems}
    ordered = sorted(fractions, key=lambda stem: (fractions[stem], stem))
    count = min(max(1, sum(value < val_fraction for value in fractions.values())), len(ordered) - 1)
    chosen = set(ordered[:count])
    return {"train": [s for s in stems if s not in chosen], "val": [s for s in stems if s in chosen]}


def _hash_fraction(stem: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/{stem}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def find_split_lists(root: Path) -> list[str]:
    """The splits that list files in the data folder name: train.txt, val.txt, test.txt."""
    return [split for split in (*HASH_SPLITS, "test") if (root / f"{split}.txt").is_file()]


def list_splits(root: Path) -> list[str]:
    """The splits of data without folders for them."""
    return find_split_lists(root) or list(HASH_SPLITS)


def select_split(root: Path, samples: Sequence[Sample], split: str) -> list[Sample]:
    """The samples of a split: by the list file of its name, or where there are no lists, by hash.

    Raises:
        InputError: no such split, a list that names something else, or too few samples.
    """
    by_stem: dict[str, Sample] = {}
    for sample in samples:
        if sample.name in by_stem:
            other_image = by_stem[sample.name].image
            raise InputError(f"{sample.image}: has the stem of {other_image}; expected distinct stems, to split them")
        by_stem[sample.name] = sample
    if not find_split_lists(root):
        if split not in HASH_SPLITS:
            raise InputError(f"{root}: found the split {split!r}; expected train or val")
        try:
            return [by_stem[stem] for stem in split_by_hash(list(by_stem))[split]]
        except InputError as error:
            raise InputError(f"{root}: {error}") from error
    chosen = []
    for number, name in read_lines(root / f"{split}.txt"):
        stem = name if name in by_stem else Path(name).stem
        if stem not in by_stem:
            raise InputError(f"{root / split}.txt, line {number}: found {name!r}, which is no labeled image's stem")
        chosen.append(by_stem[stem])
    return chosen


def describe_hash_split(root: Path) -> list[str]:
    """What to say of data without splits."""
    if find_split_lists(root):
        return []
    return [
        f"The data has no splits: by the hashes of their stems about {_VAL_FRACTION:.0%} of the images are val, the "
        "rest train. To choose yourself, write train.txt and val.txt, one stem per line, into the data folder, or write "
        "a copy with `dilated convert-data DATA OUT --format folders --val 0.2 --seed 1`."
    ]
