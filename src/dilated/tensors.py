"""Images extended by their own mirror image, so that a network without padding answers up to the border.

    extended = mirror(images, 186, 186, 186, 186)        # (N, 3, H, W) -> (N, 3, H + 372, W + 372)

The outermost row or column is not repeated (OpenCV's BORDER_REFLECT_101, numpy's "reflect"). Unlike torch's reflection
padding, a side may be smaller than the border: the image bounces between two mirrors as often as it takes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reflect_pad(images: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Extend the last two axes: (..., H, W) -> (..., top + H + bottom, left + W + right).

    Example:
        >>> reflect_pad(torch.tensor([[1, 2, 3]]), 0, 0, 3, 5)
        tensor([[2, 3, 2, 1, 2, 3, 2, 1, 2, 3, 2]])
    """
    if top or bottom:
        images = images.index_select(-2, reflect_indices(images.shape[-2], top, bottom, images.device))
    if left or right:
        images = images.index_select(-1, reflect_indices(images.shape[-1], left, right, images.device))
    return images


def reflect_indices(size: int, before: int, after: int, device: torch.device | None = None) -> Tensor:
    """The index of the source of each position from -before to size + after - 1, (before + size + after,) int64."""
    position = torch.arange(-before, size + after, device=device)
    period = max(2 * (size - 1), 1)  # there and back; a single row or column is its own image
    phase = position.remainder(period)
    return torch.minimum(phase, period - phase)
