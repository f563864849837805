"""Strong changes of light, lens and file, as other cameras and other weather make them; labels stay as they are.

    transform = PhotometricChange(strength=1.0)
    transform(tv_tensors.Image(image), tv_tensors.Mask(label))       # image (3, H, W) uint8, label unchanged

A network that has seen one film has seen one exposure, one white balance and one compression. One after the other,
light is exposed and balanced, a shadow falls, the lens blurs, the sensor adds noise, and JPEG loses detail. Each
of the six happens to half of the samples, by an amount drawn up to the strength.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

_PROBABILITY = 0.5
_MAX_SHADOW = 0.6
"""Of the light, the most that a shadow takes at strength 1."""
_MAX_STOPS = 1.0
"""Halvings or doublings of the light, in linear values, at strength 1."""
_MAX_BALANCE = 0.2
"""Largest change of a channel against the others, in its logarithm, at strength 1."""
_MAX_BLUR = 1.5
"""Largest standard deviation of the blur in pixels at strength 1."""
_MAX_NOISE = 0.06
"""Largest standard deviation of the noise, of values from 0 to 1, at strength 1."""
_MAX_JPEG_LOSS = 70.0
"""Most that the quality of 100 loses at strength 1."""
_GAMMA = 2.2
_LEAST_BLUR = 0.1


class PhotometricChange(v2.Transform):
    """Change shadow, exposure, white balance, sharpness, noise and compression at random, by torch's global generator.

    Args:
        strength: factor on the largest amounts; 0 changes nothing, 1 is a strong policy, 2 the most that makes sense.

    Shapes:
        image (3, H, W) uint8 -> the same; anything that is no image is returned as it is.

    Example:
        >>> image = tv_tensors.Image(torch.full((3, 8, 8), 100, dtype=torch.uint8))
        >>> torch.equal(PhotometricChange(0.0)(image), image)
        True
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw what happens; the number of draws does not depend on what does."""
        happens = (torch.rand(6) < _PROBABILITY).tolist()
        amounts = (torch.rand(6) * self.strength).tolist()
        shadow, exposure, balance, blur, noise, jpeg = (
            amount if does else 0.0 for amount, does in zip(amounts, happens, strict=True)
        )
        signs = torch.rand(4) * 2 - 1  # of exposure and of the channels' balance
        return {
            "shadow": _MAX_SHADOW * shadow,
            "border": torch.rand(3).tolist(),
            "stops": math.copysign(_MAX_STOPS * exposure, float(signs[0])),
            "balance": (_MAX_BALANCE * balance * signs[1:]).tolist(),
            "blur": _MAX_BLUR * blur,
            "noise": _MAX_NOISE * noise,
            "noise_seed": int(torch.randint(2**31, ())),
            "quality": round(100 - min(_MAX_JPEG_LOSS * jpeg, 95.0)),
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        image = change_light(inpt.as_subclass(Tensor), params["stops"], params["balance"])
        if params["shadow"]:
            image = cast_shadow(image, params["shadow"], params["border"])
        if params["blur"] > _LEAST_BLUR:
            side = 2 * math.ceil(2 * params["blur"]) + 1
            side = min(side, 2 * min(image.shape[-2:]) - 1)  # the border is reflected
            image = V.gaussian_blur(image, [side, side], [params["blur"], params["blur"]])
        if params["noise"]:
            generator = torch.Generator().manual_seed(params["noise_seed"])
            noise = torch.randn(image.shape, generator=generator) * (255 * params["noise"])
            image = (image + noise).round().clamp(0, 255).to(torch.uint8)
        if params["quality"] < 100:
            image = _compress(image, params["quality"])
        return tv_tensors.Image(image)


def change_light(image: Tensor, stops: float, balance: list[float]) -> Tensor:
    """Multiply the light, which values stand for to the power of 2.2, of all channels and of each.

    Args:
        image: (3, H, W) uint8.
        stops: the light is multiplied by 2 to this power.
        balance: the logarithm of each channel's own factor on its values.

    Returns:
        (3, H, W) uint8; the same where nothing changes.

    Example:
        >>> change_light(torch.full((3, 1, 1), 100, dtype=torch.uint8), 1.0, [0.0, 0.0, 0.0]).flatten().tolist()
        [137, 137, 137]
    """
    factors = [2 ** (stops / _GAMMA) * math.exp(value) for value in balance]
    if factors == [1.0, 1.0, 1.0]:
        return image
    levels = torch.arange(256, dtype=torch.float64)
    tables = [(levels * factor).round().clamp(0, 255).to(torch.uint8) for factor in factors]
    return torch.stack([table[channel.long()] for table, channel in zip(tables, image, strict=True)])


def cast_shadow(image: Tensor, depth: float, border: list[float]) -> Tensor:
    """Darken one side of a line across the image, with a soft edge.

    Args:
        image: (3, H, W) uint8.
        depth: the part of the values that the shadow takes, 0 to 1.
        border: 0 to 1 each: the direction of the line, where it crosses the image, and how soft it is, up to a quarter
            of the image.

    Returns:
        (3, H, W) uint8, nowhere brighter than before.

    Example:
        >>> shadow = cast_shadow(torch.full((3, 1, 4), 200, dtype=torch.uint8), 0.5, [0.0, 0.5, 0.0])
        >>> shadow[0].tolist()
        [[200, 200, 100, 100]]
    """
    height, width = image.shape[-2:]
    angle = 2 * math.pi * border[0]
    rows = ((torch.arange(height) + 0.5) / height - 0.5)[:, None]
    columns = ((torch.arange(width) + 0.5) / width - 0.5)[None]
    along = math.sin(angle) * rows + math.cos(angle) * columns  # (H, W), some -0.7 to 0.7
    distance = along - (border[1] - 0.5)
    covered = (0.5 + distance / max(0.25 * border[2], 1e-6)).clamp(0, 1)
    return (image * (1 - min(depth, 1.0) * covered)).round().to(torch.uint8)


def _compress(image: Tensor, quality: int) -> Tensor:
    """Write an image as JPEG and read it: (3, H, W) uint8; by Pillow, as torchvision's own is to be removed."""
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=quality)
    return torch.tensor(np.asarray(Image.open(buffer))).permute(2, 0, 1).contiguous()
