"""How class ids are stored: of up to 255 classes in 8 bits, 255 where ignored; of more in 16 bits, 65535 where ignored.

    ids = np.full((4, 6), ignore_id(300), label_dtype(300))          # (4, 6) uint16, all ignored

A network's answer for a pixel without data, or of which it is unsure, is the same value.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

MAX_CLASSES = 65_535
"""The most classes: the ids of 16 bits but for the ignored one."""
LabelArray = NDArray[np.unsignedinteger[Any]]
"""Class ids, (H, W): uint8 of up to 255 classes, uint16 of more."""


class _HasDtype(Protocol):
    """An array or a tensor."""

    @property
    def dtype(self) -> Any: ...


def ignore_id(num_classes: int) -> int:
    """Return the id of ignored pixels where there are so many classes.

    Example:
        >>> ignore_id(255), ignore_id(256)
        (255, 65535)
    """
    return 255 if num_classes <= 255 else MAX_CLASSES


def label_dtype(num_classes: int) -> np.dtype[Any]:
    """Return the type of the ids of so many classes.

    Example:
        >>> label_dtype(255), label_dtype(256)
        (dtype('uint8'), dtype('uint16'))
    """
    return np.dtype(np.uint8 if num_classes <= 255 else np.uint16)


def ignore_id_of(labels: _HasDtype) -> int:
    """Return the id of ignored pixels in stored ids, an array or a tensor: 255 in 8 bits, 65535 in more.

    Tensors of more than 8 bits are of int32, since torch computes little with uint16.

    Example:
        >>> ignore_id_of(np.zeros((4, 6), np.uint16))
        65535
    """
    return 255 if labels.dtype.itemsize == 1 else MAX_CLASSES
