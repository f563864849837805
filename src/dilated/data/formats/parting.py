"""Data without splits, parted into train and val: by lists beside it, else by the hashes of the stems.

    >>> from dilated.data.formats.parting import share_out
    >>> share_out(["dawn", "day", "dusk", "night"], 0.25, 0)["val"]
    ['night']

The hash of a stem says where its picture goes, whatever else is there, so pictures that come later move no other. The
share is therefore met on average; at least one picture goes to each side. Frames of one film are alike: where there are
such, lists should part them by film.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dilated.data.formats.pairs import Pair
from dilated.errors import InputError

SHARE, SEED = 0.2, 0
SPLITS = ("train", "val")


def share_out(stems: Sequence[str], share: float = SHARE, seed: int = SEED) -> dict[str, list[str]]:
    """The stems of train and of val, each in the order given.

    Args:
        share: of val, between 0 and 1.
        seed: another one gives another split.

    Raises:
        InputError: fewer than two stems, or a share outside.
    """
    if not 0 < share < 1:
        raise InputError(f"val: found the share {share:g}; expected one between 0 and 1, such as {SHARE}")
    if len(set(stems)) < 2:
        raise InputError(f"found {len(stems)} labelled pictures without splits; expected two at least, to part them")
    place = {stem: _place(stem, seed) for stem in stems}
    order = sorted(place, key=lambda stem: (place[stem], stem))
    count = min(max(1, sum(value < share for value in place.values())), len(order) - 1)
    chosen = set(order[:count])
    return {"train": [s for s in stems if s not in chosen], "val": [s for s in stems if s in chosen]}


def _place(stem: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/{stem}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def listed(root: Path) -> list[str]:
    """The splits that list files in the data folder name: train.txt, val.txt, test.txt."""
    return [split for split in (*SPLITS, "test") if (root / f"{split}.txt").is_file()]


def splits(root: Path) -> list[str]:
    """The splits of data without folders for them."""
    return listed(root) or list(SPLITS)


def part(root: Path, pairs: Sequence[Pair], split: str) -> list[Pair]:
    """Those of all pairs that are in a split: by the list file of that name, or where there are no lists, by hash.

    Raises:
        InputError: no such split, a list that names what is not there, or too few pairs.
    """
    by_stem: dict[str, Pair] = {}
    for pair in pairs:
        if pair.name in by_stem:
            first = by_stem[pair.name].image
            raise InputError(f"{pair.image}: has the stem of {first}; expected stems that differ, to part them")
        by_stem[pair.name] = pair
    if not listed(root):
        if split not in SPLITS:
            raise InputError(f"{root}: found the split {split!r}; expected train or val")
        try:
            return [by_stem[stem] for stem in share_out(list(by_stem))[split]]
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
            raise InputError(f"{listing}, line {number}: found {name!r}, which is no labelled picture's stem")
        if name:
            chosen.append(by_stem[stem])
    return chosen


def note(root: Path) -> list[str]:
    """What to say of data without splits."""
    if listed(root):
        return []
    return [
        f"The data has no splits: by the hashes of their stems about {SHARE:.0%} of the pictures are val, the rest "
        "train. To choose yourself, write train.txt and val.txt, one stem a line, into the data folder, or write a "
        "copy with `dilated convert-data DATA OUT --format folders --val 0.2 --seed 1`."
    ]
