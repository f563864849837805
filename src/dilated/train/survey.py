"""What a plan needs to know of a data set, from a sample of its training pictures.

    seen = survey(data.pairs("train"), data.classes)
    seen.size, seen.shares, seen.sides

A plan for a hundred thousand pictures takes no longer than one for sixty; `dilated check` looks at all of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats.pairs import Pair
from dilated.data.labels import IGNORE, Classes, Labels
from dilated.data.polygons import regions

SAMPLE = 48


@dataclass(frozen=True)
class Survey:
    """The training pictures in figures."""

    pictures: int
    read: int
    """How many of them the figures are from."""
    size: tuple[int, int]
    """Height and width of the median picture, by area."""
    smallest: tuple[int, int]
    """The least height and the least width."""
    shares: tuple[float, ...]
    """Of the labelled pixels, by class."""
    sides: tuple[float, ...]
    """By class: half of its pixels are in regions of at least this side, the square root of their pixels; 0 where it is
    absent."""
    upright: float
    """How much the classes of the upper half differ from those of the lower: 0 not at all, 1 entirely."""
    seconds: float
    """To read a picture and its label."""
    bytes: int
    """That all pictures and labels take in memory, decoded."""


def survey(pairs: list[Pair], classes: Classes) -> Survey:
    """Look at up to 48 pairs, spread evenly.

    Raises:
        InputError: an unreadable picture or label, or a value outside the classes.
    """
    chosen = [pairs[i] for i in np.linspace(0, len(pairs) - 1, min(SAMPLE, len(pairs))).round().astype(int)]
    sizes, areas = [], [[] for _ in classes.names]  # type: tuple[list[tuple[int, int]], list[list[NDArray[np.int64]]]]
    counts = np.zeros((2, IGNORE + 1), dtype=np.int64)  # of the upper halves, of the lower
    seconds = 0.0
    for pair in chosen:
        began = time.perf_counter()
        height, width = pair.read_image().shape[:2]
        label = pair.read_label(classes, (height, width))
        seconds += time.perf_counter() - began
        sizes.append((height, width))
        for half, rows in enumerate((label[: height // 2], label[height - height // 2 :])):
            counts[half] += np.bincount(rows.ravel(), minlength=IGNORE + 1)
        for owner, pixels in _areas(label):
            areas[owner].append(pixels)
    halves = counts[:, : len(classes)].astype(np.float64)
    labelled = halves.sum()
    halves /= halves.sum(1, keepdims=True).clip(min=1)
    ordered = sorted(sizes, key=lambda size: size[0] * size[1])
    return Survey(
        pictures=len(pairs),
        read=len(chosen),
        size=ordered[len(ordered) // 2],
        smallest=(min(s[0] for s in sizes), min(s[1] for s in sizes)),
        shares=tuple((counts[:, : len(classes)].sum(0) / max(labelled, 1)).tolist()),
        sides=tuple(_typical(of_class) for of_class in areas),
        upright=float(np.abs(halves[0] - halves[1]).sum() / 2),
        seconds=seconds / len(chosen),
        bytes=int(np.mean([h * w for h, w in sizes]) * 4 * len(pairs)),
    )


def _areas(label: Labels) -> list[tuple[int, NDArray[np.int64]]]:
    """The pixels of each region of each class."""
    region, owners = regions(label)
    pixels = np.bincount(region.ravel())
    return [(int(owner), pixels[owners == owner]) for owner in np.unique(owners) if owner != IGNORE]


def _typical(areas: list[NDArray[np.int64]]) -> float:
    if not areas:
        return 0.0
    ordered = np.sort(np.concatenate(areas))
    return float(np.sqrt(ordered[np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)]))
