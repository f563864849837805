"""Decoded images in memory that all reading processes share: each is decoded once, by whichever process needs it first.

    images = SharedImages([(360, 480), (360, 480)])      # before the processes are forked
    images.put(0, pixels, label)                         # in one of them
    images.get(0), images.get(1)                         # in another: ((H, W, 3), (H, W)), None

A cache of each process's own would hold an image as often as there are processes, and decode it as often. Memory is
taken page by page as images arrive. Where processes are not forked but started anew, each has one of its own.
"""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CHANNELS = 4
"""Bytes per pixel: red, green, blue and the label."""


class SharedImages:
    """Images of 8-bit RGB and their labels of up to 255 classes.

    Args:
        sizes: (H, W) of each.

    Raises:
        OSError: no memory for them.

    Example:
        >>> images = SharedImages([(2, 3)])
        >>> images.put(0, np.ones((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8))
        >>> images.get(0)[0].shape
        (2, 3, 3)
    """

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self.sizes = list(sizes)
        lengths = np.array([height * width for height, width in sizes], dtype=np.int64)
        ends = len(sizes) + np.cumsum(_CHANNELS * lengths)  # behind one byte for each, which says whether it is there
        self._starts = (ends - _CHANNELS * lengths).tolist()
        memory = mmap.mmap(-1, int(ends[-1]) if len(sizes) else 1)  # anonymous, so a forked process shares it
        self._bytes: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
        self._lock = multiprocessing.Lock()  # whoever sees that an image is there sees its bytes too

    def __reduce__(self) -> tuple[type[SharedImages], tuple[list[tuple[int, int]]]]:
        return SharedImages, (self.sizes,)

    def get(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
        """Return an image (H, W, 3) and its label (H, W), views of the memory; None where it is not there yet."""
        with self._lock:
            if not self._bytes[index]:
                return None
        return self._views(index)

    def put(self, index: int, pixels: NDArray[np.uint8], label: NDArray[np.uint8]) -> None:
        """Keep an image; not if it is of another size or type than was said."""
        is_known = pixels.shape == (*self.sizes[index], 3) and label.shape == self.sizes[index]
        if not is_known or pixels.dtype != np.uint8 or label.dtype != np.uint8:
            return
        for view, values in zip(self._views(index), (pixels, label), strict=True):
            view[...] = values
        with self._lock:
            self._bytes[index] = 1

    def _views(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        (height, width), start = self.sizes[index], self._starts[index]
        split, end = start + 3 * height * width, start + _CHANNELS * height * width
        return self._bytes[start:split].reshape(height, width, 3), self._bytes[split:end].reshape(height, width)
