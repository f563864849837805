"""Reading all pairs of a data set: the pixels of each class by split, and what cannot be read.

splits, total, findings = read_pairs({"train": data.pairs("train")}, data.classes)
splits["train"].pixels                               # labelled pixels by class
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats.pairs import Pair
from dilated.data.labels import IGNORE, Classes, wrong_size
from dilated.errors import InputError

TRAINED = ("train", "val")
"""The splits that `dilated train` needs; what is wrong elsewhere is a warning."""

Severity = Literal["error", "warning"]
Kind = Literal[
    "layout",
    "classes",
    "split",
    "missing file",
    "unreadable picture",
    "unreadable label",
    "label of another size",
    "unknown label value",
    "number of pictures",
    "nothing labelled",
    "absent class",
]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: with `error` training would go wrong, with `warning` it would not."""

    severity: Severity
    kind: Kind
    text: str


@dataclass(frozen=True)
class SplitCounts:
    """A split: how many pairs of picture and label it has, and the pixels of those that can be read."""

    pictures: int
    pixels: tuple[int, ...]
    ignored: int

    @property
    def labelled(self) -> int:
        """Pixels of any class."""
        return sum(self.pixels)

    @property
    def ignored_share(self) -> float:
        """Ignored pixels of all pixels; NaN without any."""
        return self.ignored / (self.labelled + self.ignored) if self.labelled + self.ignored else float("nan")


@dataclass(frozen=True)
class _Seen:
    """What reading one pair gave: pixels by id (256 of them), or why not."""

    pixels: NDArray[np.int64] | None
    problems: list[tuple[Kind, str]]


def read_pairs(
    pairs: dict[str, list[Pair]],
    classes: Classes,
    workers: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[dict[str, SplitCounts], SplitCounts, list[Finding]]:
    """Read every picture and label once, though it be in two splits, and count the pixels of those that are whole.

    Args:
        pairs: by split.
        workers: threads; as many as processors if not given.
        progress: called with the number of pairs that are read and that of all.

    Returns:
        The counts by split, those of all splits together, and a finding for each bad file.

    Example:
        >>> missing = Pair(Path("a.png"), Path("a_L.png"))
        >>> counts, total, findings = read_pairs({"train": [missing]}, Classes(("sky",), ((0, 0, 255),)))
        >>> total, [finding.kind for finding in findings]
        (SplitCounts(pictures=1, pixels=(0,), ignored=0), ['unreadable picture', 'unreadable label'])
    """
    tasks = {pair_key(pair): pair for split in pairs.values() for pair in split}
    seen: dict[tuple[Path, Path, str], _Seen] = {}
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            results = pool.map(lambda pair: _inspect(pair, classes), tasks.values())
            for number, (key, result) in enumerate(zip(tasks, results, strict=True), 1):
                seen[key] = result
                if progress:
                    progress(number, len(tasks))
        except BaseException:  # without this an interrupted scan would first read all the rest
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    counts = {split: _sum([seen[pair_key(pair)] for pair in group], len(classes)) for split, group in pairs.items()}
    trained = {pair_key(pair) for split in TRAINED for pair in pairs.get(split, [])}
    findings = [
        Finding("error" if key in trained else "warning", kind, text)
        for key, result in seen.items()
        for kind, text in result.problems
    ]
    return counts, _sum(list(seen.values()), len(classes)), findings


def _sum(seen: list[_Seen], classes: int) -> SplitCounts:
    known = [one.pixels for one in seen if one.pixels is not None]
    total = np.sum(known, axis=0) if known else np.zeros(256, np.int64)
    return SplitCounts(len(seen), tuple(total[:classes].tolist()), int(total[IGNORE]))


def pair_key(pair: Pair) -> tuple[Path, Path, str]:
    """What makes a pair the same one in another split."""
    return pair.image, pair.label, pair.stem


def _inspect(pair: Pair, classes: Classes) -> _Seen:
    """Read one picture and its label."""
    problems: list[tuple[Kind, str]] = []
    size = None
    try:
        height, width = pair.read_image().shape[:2]
        size = height, width
    except Exception as error:  # decoders raise what they like on damaged files
        problems.append(("unreadable picture", _text(pair.image, error)))
    try:
        values = pair.values(pair.label)
    except Exception as error:
        return _Seen(None, [*problems, ("unreadable label", _text(pair.label, error))])
    if size is not None and values.shape != size:
        problems.append(("label of another size", str(wrong_size(pair.label, values.shape, size))))
    try:
        ids = classes.decode(values, str(pair.label))
    except InputError as error:
        return _Seen(None, [*problems, ("unknown label value", str(error))])
    return _Seen(None if problems else np.bincount(ids.ravel(), minlength=256), problems)


def _text(path: Path, error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{path}: cannot be read ({type(error).__name__}: {error})"
