"""One pooled confusion matrix in int64, and what follows from it.

    confusion = ConfusionMatrix(["sky", "road"])
    confusion.update(labels, target)                     # (H, W) ids each; 255 in target counts nowhere
    confusion.mean_iou

Pooled over all pictures, as the benchmarks do it: not a mean of per-picture means, not floats that stop counting at
2**24, not at a resized resolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dilated.data.labels import IGNORE


class ConfusionMatrix:
    """Counts of pixels by true class (rows) and predicted class (columns).

    Args:
        classes: names, in the order of the ids; or just how many there are.

    Example:
        >>> confusion = ConfusionMatrix(["sky", "road"])
        >>> confusion.update(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 255]))
        >>> confusion.counts.tolist(), confusion.mean_iou
        ([[1, 1], [0, 1]], 0.5)
    """

    def __init__(self, classes: Sequence[str] | int, counts: NDArray[np.int64] | None = None) -> None:
        self.classes = tuple(map(str, range(classes) if isinstance(classes, int) else classes))
        size = len(self.classes)
        self.counts = np.zeros((size, size), dtype=np.int64) if counts is None else counts

    def update(self, labels: ArrayLike, target: ArrayLike) -> None:
        """Count one picture: ids as arrays or CPU tensors of the same shape, 255 in the target where it counts nowhere.

        Raises:
            ValueError: shapes that differ, or an id outside the classes.
        """
        labels, target = np.asarray(labels), np.asarray(target)
        if labels.shape != target.shape:
            raise ValueError(f"ConfusionMatrix: found labels {labels.shape} and target {target.shape}; expected equal")
        counted = target != IGNORE
        truth, guess = target[counted].astype(np.int64), labels[counted].astype(np.int64)
        size = len(self.classes)
        for name, ids in (("target", truth), ("labels", guess)):
            wrong = ids[(ids < 0) | (ids >= size)]
            if wrong.size:
                raise ValueError(f"ConfusionMatrix: found the id {wrong[0]} in {name}; expected 0 to {size - 1}")
        self.counts += np.bincount(truth * size + guess, minlength=size * size).reshape(size, size)

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Merge two counts, of two processes or two halves of the data."""
        if self.classes != other.classes:
            raise ValueError("ConfusionMatrix: the two count different classes")
        return ConfusionMatrix(self.classes, self.counts + other.counts)

    @property
    def pixels(self) -> int:
        """Counted pixels."""
        return int(self.counts.sum())

    @property
    def iou(self) -> dict[str, float]:
        """Intersection over union by class; NaN for a class that neither the truth nor the prediction has."""
        return dict(zip(self.classes, iou(self.counts).tolist(), strict=True))

    @property
    def mean_iou(self) -> float:
        """The mean over the classes that occur."""
        return float(mean_iou(self.counts))

    @property
    def pixel_accuracy(self) -> float:
        """The share of counted pixels whose label is right; NaN without any."""
        return float(np.trace(self.counts) / self.pixels) if self.pixels else float("nan")


def iou(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """(..., C, C) counts -> (..., C); NaN where a class has no union."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    union = counts.sum(-1) + counts.sum(-2) - hits
    return np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)


def mean_iou(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """(..., C, C) counts -> (...), the mean over classes with a union; NaN where there is none."""
    values = iou(counts)
    occurs = ~np.isnan(values)
    total = np.where(occurs, values, 0.0).sum(-1)
    number = occurs.sum(-1)
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
