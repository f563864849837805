"""Data without splits, parted into train and val: by lists beside it, else by the hashes of the stems.

    >>> from dilated.data.auto_split import split_by_hash
    >>> split_by_hash(["dawn", "day", "dusk", "night"], 0.25, 0)["val"]
    ['night']

The hash of a stem says where its image goes, whatever else is there, so images that come later move no other. The
share is therefore met on average; at least one image goes to each side. Frames of one film are alike: where there are
such, lists should part them by film.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dilated.data.sample import Sample
from dilated.errors import InputError

_VAL_FRACTION, _SEED = 0.2, 0
HASH_SPLITS = ("train", "val")


def split_by_hash(stems: Sequence[str], val_fraction: float = _VAL_FRACTION, seed: int = _SEED) -> dict[str, list[str]]:
    """The stems of train and of val, each in the order given.

    Args:
        share: of val, between 0 and 1.
        seed: another one gives another split.

    Raises:
        InputError: fewer than two stems, or a share outside.
    """
    if not 0 < val_fraction < 1:
        raise InputError(
            f"val: found the share {val_fraction:g}; expected one between 0 and 1, such as {_VAL_FRACTION}"
        )
    if len(set(stems)) < 2:
        raise InputError(f"found {len(stems)} labelled images without splits; expected two at least, to part them")
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
    """Those of all pairs that are in a split: by the list file of that name, or where there are no lists, by hash.

    Raises:
        InputError: no such split, a list that names what is not there, or too few pairs.
    """
    by_stem: dict[str, Sample] = {}
    for sample in samples:
        if sample.name in by_stem:
            other_image = by_stem[sample.name].image
            raise InputError(f"{sample.image}: has the stem of {other_image}; expected stems that differ, to part them")
        by_stem[sample.name] = sample
    if not find_split_lists(root):
        if split not in HASH_SPLITS:
            raise InputError(f"{root}: found the split {split!r}; expected train or val")
        try:
            return [by_stem[stem] for stem in split_by_hash(list(by_stem))[split]]
        except InputError as error:
            raise InputError(f"{root}: {error}") from error
    listing = root / f"{split}.txt"
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{listing}: cannot be read ({error}); expected the stems of {split}, one a line") from error
    chosen = []
    for number, line in enumerate(lines, 1):
        name = line.strip()
        stem = name if name in by_stem else Path(name).stem
        if name and stem not in by_stem:
            raise InputError(f"{listing}, line {number}: found {name!r}, which is no labelled image's stem")
        if name:
            chosen.append(by_stem[stem])
    return chosen


def describe_hash_split(root: Path) -> list[str]:
    """What to say of data without splits."""
    if find_split_lists(root):
        return []
    return [
        f"The data has no splits: by the hashes of their stems about {_VAL_FRACTION:.0%} of the images are val, the rest "
        "train. To choose yourself, write train.txt and val.txt, one stem a line, into the data folder, or write a "
        "copy with `dilated convert-data DATA OUT --format folders --val 0.2 --seed 1`."
    ]
