"""Which two values meet at how many pixels: what all counts of labels come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dilated.label_ids import ignore_id


@dataclass(frozen=True)
class LabelPairs:
    """Which true and predicted classes meet in an image, and at how many pixels; by pairs, not by classes.

    A pair may occur more than once.
    """

    num_classes: int
    truth: NDArray[np.int64]
    """(K,) ids."""
    prediction: NDArray[np.int64]
    """(K,) ids; the number of classes where the prediction has none."""
    pixels: NDArray[np.int64]
    """(K,)."""

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """(3 C,): correct, true and predicted pixels by class."""
        is_correct = self.truth == self.prediction
        parts = ((self.truth, is_correct), (self.truth, slice(None)), (self.prediction, slice(None)))
        return np.concatenate([sum_by_id(ids[mask], self.pixels[mask], self.num_classes) for ids, mask in parts])

    def to_categories(self, category_of: NDArray[np.int64], num_categories: int) -> LabelPairs:
        """Pool classes.

        Args:
            category_of: (C + 1,) the category of each class; `num_categories` for none, also at the end.
        """
        truth, prediction = category_of[self.truth], category_of[self.prediction]
        counted = truth < num_categories
        return LabelPairs(num_categories, truth[counted], prediction[counted], self.pixels[counted])


def pair_labels(labels: ArrayLike, target: ArrayLike, num_classes: int) -> LabelPairs:
    """Count which ids meet in an image, given as arrays or CPU tensors; ignored pixels of the target count nowhere.

    Raises:
        ValueError: shapes that differ, or an id outside the classes.

    Example:
        >>> pair_labels(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 255]), 2).class_counts.tolist()
        [1, 1, 2, 1, 1, 2]
    """
    labels, target = np.asarray(labels), np.asarray(target)
    if labels.shape != target.shape:
        raise ValueError(f"ConfusionMatrix: found labels {labels.shape} and target {target.shape}; expected equal")
    valid = target != ignore_id(num_classes)
    truth, prediction = target[valid], labels[valid]
    for name, ids in (("target", truth), ("labels", prediction)):
        invalid = ids[(ids < 0) | (ids >= num_classes)]
        if invalid.size:
            raise ValueError(f"ConfusionMatrix: found the id {invalid[0]} in {name}; expected 0 to {num_classes - 1}")
    return LabelPairs(num_classes, *count_pairs(truth, prediction))


def sum_by_id(ids: NDArray[np.int64], pixels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Add up the pixels of each id below the number of classes, (C,)."""
    return np.bincount(ids, pixels, num_classes)[:num_classes].astype(np.int64)  # exact: below 2**53


def count_pairs(
    truth: NDArray[np.integer], prediction: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count which values meet at how many pixels.

    Runs of equal pairs are counted at once, where they are long: labels are mostly areas.

    Args:
        truth, prediction: (H, W) values from 0 to 65535.

    Returns:
        True values, predicted values, and pixels of each pair that occurs.

    Example:
        >>> [part.tolist() for part in count_pairs(np.array([[0, 0, 7]]), np.array([[1, 1, 1]]))]
        [[0, 7], [1, 1], [2, 1]]
    """
    if truth.dtype == prediction.dtype == np.uint8:
        keys: NDArray[np.integer] = (truth.astype(np.uint16) << 8 | prediction).ravel()
        base = 256
    else:
        keys, base = (truth.astype(np.int64) * 65536 + prediction).ravel(), 65536
    changes = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    starts = np.concatenate([np.zeros(min(1, keys.size), dtype=np.int64), changes])
    lengths = np.diff(np.append(starts, keys.size))
    if base > 256:
        values, inverse = np.unique(keys[starts], return_inverse=True)
        pixels = np.bincount(inverse, weights=lengths, minlength=len(values))  # exact: below 2**53
    else:
        by_key = np.bincount(keys[starts], weights=lengths) if len(starts) * 8 < keys.size else np.bincount(keys)
        values = np.flatnonzero(by_key)
        pixels = by_key[values]
    values = values.astype(np.int64)
    return values // base, values % base, pixels.astype(np.int64)
