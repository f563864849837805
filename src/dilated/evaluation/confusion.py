"""One pooled confusion matrix in int64, and what follows from it.

    confusion = ConfusionMatrix(["sky", "road"])
    confusion.update(labels, target)                     # (H, W) ids each; 255 in target counts nowhere
    confusion.mean_iou

Pooled over all images, as the benchmarks do it: not a mean of per-image means, not floats that stop counting at
2**24, not at a resized resolution.

Of one class alone every labelled pixel is right: its IoU is 1 whatever the network does. A task of one thing needs a
second class for all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
        """Count one image: ids as arrays or CPU tensors of the same shape, 255 in the target where it counts nowhere.

        Raises:
            ValueError: shapes that differ, or an id outside the classes.
        """
        labels, target = np.asarray(labels), np.asarray(target)
        if labels.shape != target.shape:
            raise ValueError(f"ConfusionMatrix: found labels {labels.shape} and target {target.shape}; expected equal")
        valid = target != IGNORE
        truth, prediction = target[valid].astype(np.int64), labels[valid].astype(np.int64)
        size = len(self.classes)
        for name, ids in (("target", truth), ("labels", prediction)):
            invalid = ids[(ids < 0) | (ids >= size)]
            if invalid.size:
                raise ValueError(f"ConfusionMatrix: found the id {invalid[0]} in {name}; expected 0 to {size - 1}")
        self.counts += np.bincount(truth * size + prediction, minlength=size * size).reshape(size, size)

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
        return self._by_class(iou(self.counts))

    @property
    def mean_iou(self) -> float:
        """The mean over the classes that occur."""
        return float(mean_iou(self.counts))

    @property
    def dice(self) -> dict[str, float]:
        """Dice by class, which is F1: twice the hits over truth plus prediction; NaN where both are empty."""
        intersection, truth, prediction = intersection_and_areas(self.counts)
        return self._by_class(safe_divide(2 * intersection, truth + prediction))

    @property
    def precision(self) -> dict[str, float]:
        """The share of what was labelled with the class that is of it; NaN for a class that was never predicted."""
        intersection, _, prediction = intersection_and_areas(self.counts)
        return self._by_class(safe_divide(intersection, prediction))

    @property
    def recall(self) -> dict[str, float]:
        """The share of the class that was found; NaN for a class that the truth has nowhere."""
        intersection, truth, _ = intersection_and_areas(self.counts)
        return self._by_class(safe_divide(intersection, truth))

    @property
    def pixel_accuracy(self) -> float:
        """The share of counted pixels whose label is right; NaN without any."""
        return float(np.trace(self.counts) / self.pixels) if self.pixels else float("nan")

    @property
    def foreground(self) -> str | None:
        """Of two classes, one of them named as a background, the other; else None."""
        return _find_foreground(self.classes)

    def _by_class(self, values: NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(self.classes, values.tolist(), strict=True))


_BACKGROUND_NAMES = ("background", "_background_", "bg", "back", "rest", "none", "other", "nothing")


def _find_foreground(classes: Sequence[str]) -> str | None:
    """The class that a task of two classes is about: the one beside a class named as a background.

    Example:
        >>> _find_foreground(["Background", "nucleus"]), _find_foreground(["sky", "road"]), _find_foreground(["background", "a", "b"])
        ('nucleus', None, None)
    """
    others = [name for name in classes if name.strip().lower() not in _BACKGROUND_NAMES]
    return others[0] if len(classes) == 2 and len(others) == 1 else None


def intersection_and_areas(
    counts: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(..., C, C) counts -> pixels by class that are right, of the truth, of the prediction; (..., C) each.

    Example:
        >>> [numerator.tolist() for numerator in intersection_and_areas(np.array([[3, 1], [0, 2]]))]
        [[3, 2], [4, 2], [3, 3]]
    """
    intersection = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.int64)
    return intersection, counts.sum(-1), counts.sum(-2)


def safe_divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Divide where there is something to divide by; NaN elsewhere.

    Example:
        >>> safe_divide(np.array([1, 0]), np.array([4, 0])).tolist()
        [0.25, nan]
    """
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def iou(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """(..., C, C) counts -> (..., C); NaN where a class has no union."""
    intersection, truth, prediction = intersection_and_areas(counts)
    return safe_divide(intersection, truth + prediction - intersection)


def mean_iou(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """(..., C, C) counts -> (...), the mean over classes with a union; NaN where there is none."""
    return nanmean(iou(counts))


def nanmean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., C) -> (...), the mean over what is not NaN; NaN where nothing is known.

    Example:
        >>> nanmean(np.array([[0.5, np.nan], [np.nan, np.nan]])).tolist()
        [0.5, nan]
    """
    known = ~np.isnan(values)
    return safe_divide(np.where(known, values, 0.0).sum(-1), known.sum(-1))
