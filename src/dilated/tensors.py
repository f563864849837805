"""Images as the tensors that networks take, and the reflection padding that lets unpadded networks reach the border.

    images = to_tensor(pixels, device)                          # (H, W, 3) uint8 -> (1, 3, H, W), RGB in 0..1
    extended = reflect_pad(images, 186, 186, 186, 186)          # (N, 3, H, W) -> (N, 3, H + 372, W + 372)

The outermost row or column is not repeated (OpenCV's BORDER_REFLECT_101, numpy's "reflect"). Unlike torch's reflection
padding, a side may be smaller than the border: the image is then reflected as many times as needed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dilated.input_config import BandArray, InputConfig
from dilated.label_ids import LabelArray, label_dtype


def to_tensor(pixels: BandArray, device: torch.device | str | None = None, config: InputConfig | None = None) -> Tensor:
    """Convert one image (H, W, n), or images of one size (N, H, W, n), to the input of a network.

    Args:
        pixels: uint8 RGB, or what `config` describes.
        config: how values are scaled; None for 8-bit RGB. One that scales by image needs a range: see `resolve`.

    Returns:
        (N, n, H, W) float32, in 0..1; N is 1 for one image. A copy, on the device (the CPU by default).

    Example:
        >>> to_tensor(np.full((2, 5, 3), 255, np.uint8)).shape
        torch.Size([1, 3, 2, 5])
    """
    if config is not None:
        scaled = [config.scale(image) for image in (pixels if pixels.ndim == 4 else pixels[None])]
        return torch.tensor(np.stack(scaled), device=device).permute(0, 3, 1, 2)
    images = torch.tensor(pixels, device=device)
    # The strides of the two forms differ, and with them how torch rounds: one of them for both would change results.
    channels_first = images.permute(0, 3, 1, 2) if images.ndim == 4 else images.permute(2, 0, 1)[None]
    return channels_first.float() / 255


def to_label_tensor(ids: LabelArray) -> Tensor:
    """Convert class ids (H, W) to a tensor (H, W) that torch computes with: uint8 as it is, uint16 as int32.

    Example:
        >>> to_label_tensor(np.array([[0, 65535]], np.uint16))
        tensor([[    0, 65535]], dtype=torch.int32)
    """
    return torch.tensor(ids if ids.dtype == np.uint8 else ids.astype(np.int32))


def label_tensor_dtype(num_classes: int) -> torch.dtype:
    """Return the type of a network's labels: uint8 for up to 255 classes, otherwise int32.

    Example:
        >>> label_tensor_dtype(255), label_tensor_dtype(256)
        (torch.uint8, torch.int32)
    """
    return torch.uint8 if label_dtype(num_classes) == np.uint8 else torch.int32


def reflect_pad(images: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Extend the last two axes: (..., H, W) -> (..., top + H + bottom, left + W + right).

    Example:
        >>> reflect_pad(torch.tensor([[1, 2, 3]]), 0, 0, 3, 5)
        tensor([[2, 3, 2, 1, 2, 3, 2, 1, 2, 3, 2]])
    """
    if top or bottom:
        images = images.index_select(-2, _reflect_indices(images.shape[-2], top, bottom, images.device))
    if left or right:
        images = images.index_select(-1, _reflect_indices(images.shape[-1], left, right, images.device))
    return images


def _reflect_indices(size: int, before: int, after: int, device: torch.device | None = None) -> Tensor:
    """Return the source index of each position from -before to size + after - 1: (before + size + after,) int64."""
    position = torch.arange(-before, size + after, device=device)
    period = 2 * (size - 1) + (size == 1)  # forward and backward; a single row or column repeats
    phase = position.remainder(period)
    return torch.minimum(phase, period - phase)
