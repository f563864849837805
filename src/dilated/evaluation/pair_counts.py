"""Which two values meet at how many pixels: what all counts of labels come from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
