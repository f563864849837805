"""Augmentation of a training sample: scale, crop, flip, color, by torchvision's transforms on image and label alike.

Labels are scaled by the nearest value, never blended, and what a crop reaches beyond the image is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from dilated.data.labels import IGNORE


@dataclass(frozen=True)
class AugmentConfig:
    """How training samples vary."""

    crop: tuple[int, int] = (288, 384)
    """Height and width of a training sample in pixels."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Least and greatest factor of a random resize, uniform in its logarithm."""
    flip: bool = True
    """Mirror every other sample, left to right."""
    vertical_flip: bool = False
    """Mirror every other sample, top to bottom."""
    brightness: float = 0.3
    """Greatest relative change of brightness."""
    contrast: float = 0.3
    """Greatest relative change of contrast."""
    saturation: float = 0.3
    """Greatest relative change of saturation."""
    kind: Literal["scale"] = "scale"
    """Which way: this one; `reflect_pad` is the paper's, with the settings of `ReflectCropConfig`."""


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


def build_augmentation(config: AugmentConfig) -> v2.Transform:
    """The transform of (image, mask) that the options describe.

    Example:
        >>> image = tv_tensors.Image(torch.zeros(3, 20, 30, dtype=torch.uint8))
        >>> mask = tv_tensors.Mask(torch.zeros(20, 30, dtype=torch.uint8))
        >>> image, mask = build_augmentation(AugmentConfig(crop=(64, 64)))(image, mask)
        >>> tuple(image.shape), int(mask.max())
        ((3, 64, 64), 255)
    """
    gray: dict[Any, Any] = {tv_tensors.Image: 127, tv_tensors.Mask: IGNORE}
    return v2.Compose(
        [
            RandomScale(config.scale),
            v2.RandomCrop(config.crop, pad_if_needed=True, fill=gray),
            v2.RandomHorizontalFlip(0.5 if config.flip else 0.0),
            *([v2.RandomVerticalFlip()] if config.vertical_flip else []),
            v2.ColorJitter(config.brightness, config.contrast, config.saturation),
        ]
    )
