"""Training samples as the paper's authors crop them: from the image padded by reflection, with labels on a grid.

    image, label = reflect_crop(ReflectCropConfig(crop=(628, 628)), image, label)
    # (3, H, W), (H, W) -> (3, 628, 628), (32, 32)

The network predicts the middle of its input, so the image is padded by its margin, 186 pixels, and the padding is
labelled 255, which counts nowhere. Label k along an axis is that of the first of the 8 pixels that logit k stands for,
at 186 + 8 k of the sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dilated.data.augment import Augmentation, RandomScale, apply_transform
from dilated.data.labels import IGNORE
from dilated.errors import InputError
from dilated.tensors import reflect_pad


@dataclass(frozen=True)
class ReflectCropConfig:
    """How training samples are cropped for the paper's network."""

    crop: tuple[int, int] = (500, 500)
    """Height and width of a sample in pixels, margins included; without 2 * margin, a multiple of the stride."""
    flip: bool = True
    """Flip half of the samples, left to right."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest factor of a random resize; the paper has none."""
    margin: int = 186
    """Pixels on each side that the network sees but does not predict; 0 if it pads inside."""
    stride: int = 8
    """Pixels per logit."""
    kind: Literal["reflect"] = "reflect"
    """The kind of augmentation: this one."""

    def build(self) -> Augmentation:
        """Build the augmentation of image and label."""
        return partial(reflect_crop, self)

    def __post_init__(self) -> None:
        for key, value, minimum in (("margin", self.margin, 0), ("stride", self.stride, 1)):
            if value < minimum:
                raise InputError(f"augment.{key}: found {value}; expected at least {minimum}")
        for side in self.crop:
            output_size = side - 2 * self.margin
            if output_size <= 0 or output_size % self.stride:
                nearest = max(1, round(output_size / self.stride)) * self.stride + 2 * self.margin
                raise InputError(
                    f"augment.crop: found {list(self.crop)}; expected sides of {2 * self.margin} (twice the margin) "
                    f"plus a multiple of {self.stride}, such as {nearest}"
                )


def reflect_crop(config: ReflectCropConfig, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Crop a sample at random by torch's global generator.

    Args:
        image: (3, H, W) uint8.
        label: (H, W) uint8.

    Returns:
        (3, *crop) uint8, and its labels on the grid of the logits, ((crop - 2 * margin) / stride) uint8.

    Example:
        >>> image, label = torch.zeros(3, 5, 9, dtype=torch.uint8), torch.ones(5, 9, dtype=torch.uint8)
        >>> image, label = reflect_crop(ReflectCropConfig(crop=(380, 388), flip=False), image, label)
        >>> tuple(image.shape), label.tolist()
        ((3, 380, 388), [[1, 1]])
    """
    margin, stride, (height, width) = config.margin, config.stride, config.crop
    if config.scale != (1.0, 1.0):
        image, label = apply_transform(RandomScale(config.scale), image, label)
    # Where the padded image is smaller than the sample, it is padded further at the bottom and on the right.
    pad_bottom = max(height - image.shape[-2] - 2 * margin, 0) + margin
    pad_right = max(width - image.shape[-1] - 2 * margin, 0) + margin
    image = reflect_pad(image, margin, pad_bottom, margin, pad_right)
    label = F.pad(label, (margin, pad_right, margin, pad_bottom), value=IGNORE)
    top = int(torch.randint(image.shape[-2] - height + 1, ()))
    left = int(torch.randint(image.shape[-1] - width + 1, ()))
    image = image[..., top : top + height, left : left + width]
    label = label[top : top + height, left : left + width]
    if config.flip and torch.rand(()) < 0.5:
        image, label = image.flip(-1), label.flip(-1)
    inner = slice(margin, -margin) if margin else slice(None)
    return image.contiguous(), label[inner, inner][::stride, ::stride].contiguous()
