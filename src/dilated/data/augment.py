"""Augmentation of a training sample: scale, crop, flip and color, applied to the image and its label together.

Labels are resampled by nearest neighbor, never blended, and what a crop reaches beyond the image is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from dilated.data.labels import IGNORE

Augmentation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(3, H, W) uint8 image and (H, W) uint8 label -> both, drawn at random by torch's global generator."""


@dataclass(frozen=True)
class AugmentConfig:
    """How training samples vary."""

    crop: tuple[int, int] = (288, 384)
    """Height and width of a training sample, in pixels."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest factor of a random resize, uniform in its logarithm."""
    flip: bool = True
    """Flip half of the samples, left to right."""
    vertical_flip: bool = False
    """Flip half of the samples, top to bottom."""
    brightness: float = 0.3
    """Largest relative change of brightness."""
    contrast: float = 0.3
    """Largest relative change of contrast."""
    saturation: float = 0.3
    """Largest relative change of saturation."""
    kind: Literal["scale"] = "scale"
    """The kind of augmentation: this one; `reflect` is the paper's, with the settings of `ReflectCropConfig`."""

    def build(self) -> Augmentation:
        """Build the augmentation of image and label.

        Example:
            >>> image, label = torch.zeros(3, 20, 30, dtype=torch.uint8), torch.zeros(20, 30, dtype=torch.uint8)
            >>> image, label = AugmentConfig(crop=(64, 64)).build()(image, label)
            >>> tuple(image.shape), int(label.max())
            ((3, 64, 64), 255)
        """
        fill: dict[Any, Any] = {tv_tensors.Image: 127, tv_tensors.Mask: IGNORE}
        transform = v2.Compose(
            [
                RandomScale(self.scale),
                v2.RandomCrop(self.crop, pad_if_needed=True, fill=fill),
                v2.RandomHorizontalFlip(0.5 if self.flip else 0.0),
                *([v2.RandomVerticalFlip()] if self.vertical_flip else []),
                v2.ColorJitter(self.brightness, self.contrast, self.saturation),
            ]
        )
        return lambda image, label: apply_transform(transform, image, label)


class RandomScale(v2.Transform):
    """Resize image and label by one random factor, uniform in its logarithm."""

    def __init__(self, scale: tuple[float, float]) -> None:
        super().__init__()
        self.low, self.high = torch.tensor(scale, dtype=torch.float64).log().tolist()

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = V.get_size(flat_inputs[0])
        factor = torch.empty(1, dtype=torch.float64).uniform_(self.low, self.high).exp().item()
        return {"size": [max(1, round(height * factor)), max(1, round(width * factor))]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return V.resize(inpt, params["size"])  # bilinear with antialiasing for images, nearest for masks


def apply_transform(transform: v2.Transform, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Apply one of torchvision's transforms to an image and its label, as plain tensors."""
    image, label = transform(tv_tensors.Image(image), tv_tensors.Mask(label))
    return image.as_subclass(Tensor), label.as_subclass(Tensor)
