"""Augmentation of whole batches where the network computes: what `AugmentConfig` does sample by sample, in few kernels.

    augmentation = BatchAugmentation(AugmentConfig(crop=(288, 384)), ignore=255)
    draws = [augmentation.draw(seed=0, number=7, size=(360, 480)), ...]
    images, labels = augmentation(images, labels, draws)     # (N, 3, 288, 384) float32 in 0..1, (N, 288, 384) int64

Resize, crop and flip are linear along each axis, so that two matrix products per batch make all three of them, with the
triangle filter that resizing with antialiasing has. The samples have the distribution of those that
`AugmentConfig.build` makes, not their bits: the generators differ, and values are not rounded to integers in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dilated.data.augment import AugmentConfig

_FILL = 127.0
"""The value of what a crop reaches beyond the image."""
_GRAY = (0.2989, 0.587, 0.114)
"""The weights of torchvision's gray."""


@dataclass(frozen=True)
class Axis:
    """How one axis of an image becomes that of a sample: a range of it is resized, shifted, cut and perhaps flipped."""

    start: int
    """First pixel of the range."""
    length: int
    """Pixels of the range."""
    resized: int
    """Pixels of the range after the resize."""
    shift: int
    """Where the sample begins in the resized range; below 0 where it begins before."""
    flip: bool

    def source_range(self, side: int) -> tuple[int, int]:
        """First and last + 1 of the pixels that a sample of `side` pixels shows.

        Example:
            >>> Axis(0, 100, 50, 10, False).source_range(20)
            (20, 60)
        """
        first, last = max(0, self.shift), min(self.resized, self.shift + side)
        ratio = self.length / self.resized
        return self.start + math.floor(first * ratio), self.start + min(self.length, math.ceil(last * ratio))


@dataclass(frozen=True)
class Draw:
    """What happens to one sample."""

    rows: Axis
    columns: Axis
    factors: tuple[float, float, float]
    """Of brightness, contrast and saturation."""
    order: tuple[int, int, int]
    """The order of these three."""


class BatchAugmentation:
    """Augments batches of 8-bit RGB images and their labels on the device that they are on.

    Args:
        config: without a `batch_obstacle`.
        ignore: the label of ignored pixels.
    """

    def __init__(self, config: AugmentConfig, ignore: int = 255) -> None:
        self.config, self.ignore = config, ignore
        self.low, self.high = (math.log(value) for value in config.scale)

    def draw(
        self, seed: int, number: int, size: tuple[int, int], window: tuple[slice, slice] | None = None, attempt: int = 0
    ) -> Draw:
        """Draw what happens to a sample; the same for the same arguments.

        Args:
            seed: of all draws.
            number: of the draw in the training.
            size: (H, W) of the image.
            window: the part of the image that the sample is cut from; all of it if not given.
            attempt: another number draws again.
        """
        random = np.random.default_rng([seed, number, attempt])
        scale = math.exp(random.uniform(self.low, self.high))
        flips = random.random(2) < (0.5 * self.config.vertical_flip, 0.5 * self.config.flip)
        ranges = window or (slice(0, size[0]), slice(0, size[1]))
        axes = []
        for part, side, flip in zip(ranges, self.config.crop, flips, strict=True):
            length = part.stop - part.start
            resized = max(1, round(length * scale))
            low, high = sorted((0, resized - side))  # a smaller image lies anywhere in the sample
            axes.append(Axis(part.start, length, resized, int(random.integers(low, high + 1)), bool(flip)))
        config = self.config
        strengths = config.brightness, config.contrast, config.saturation
        factors = [random.uniform(max(0.0, 1 - strength), 1 + strength) for strength in strengths]
        order = random.permutation(3).tolist()
        return Draw(axes[0], axes[1], (factors[0], factors[1], factors[2]), (order[0], order[1], order[2]))

    def __call__(self, images: Tensor, labels: Tensor, draws: Sequence[Draw]) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            images: (N, 3, H, W) uint8, smaller ones filled up at the bottom and on the right with any value.
            labels: (N, H, W) integers, likewise.
            draws: one for each.

        Returns:
            (N, 3, *crop) float32 in 0..1, and (N, *crop) int64.
        """
        axes = [[draw.rows for draw in draws], [draw.columns for draw in draws]]
        numbers = [[(a.start, a.length, a.resized, a.shift, a.flip) for a in side] for side in axes]
        geometry = _to_device(torch.tensor(numbers, dtype=torch.float32), images.device)  # (2, N, 5)
        rows = _AxisMap(geometry[0], self.config.crop[0], images.shape[-2])
        columns = _AxisMap(geometry[1], self.config.crop[1], images.shape[-1])
        inside = rows.inside[:, :, None] & columns.inside[:, None, :]  # (N, h, w)
        resized = rows.weights[:, None] @ images.float() @ columns.weights[:, None].mT  # (N, 3, h, w)
        resized = resized.where(inside[:, None], _FILL)
        batch = torch.arange(len(images), device=images.device)[:, None, None]
        label = labels[batch, rows.nearest[:, :, None], columns.nearest[:, None, :]]
        return self._change_color(resized, draws) / 255, label.where(inside, self.ignore).long()

    def _change_color(self, images: Tensor, draws: Sequence[Draw]) -> Tensor:
        """Change brightness, contrast and saturation, in each sample's order: (N, 3, h, w), 0 to 255, to the same."""
        config = self.config
        if not (config.brightness or config.contrast or config.saturation):
            return images
        table = []  # by round and sample: the factor, and whether it is of contrast, of saturation
        for turn in range(3):
            kinds = [draw.order[turn] for draw in draws]
            table.append([(draw.factors[kind], kind == 1, kind == 2) for draw, kind in zip(draws, kinds, strict=True)])
        rounds = _to_device(torch.tensor(table, dtype=torch.float32), images.device)  # (3, N, 3)
        for turn_table in rounds:
            factor, is_contrast, is_saturation = turn_table[..., None, None, None].unbind(1)  # (N, 1, 1, 1) each
            red, green, blue = (images[:, i : i + 1] * weight for i, weight in enumerate(_GRAY))
            gray = red + green + blue  # of numbers, not of a tensor: copying one would wait for the GPU's last step
            reference = is_contrast * gray.mean((1, 2, 3), keepdim=True) + is_saturation * gray
            images = (factor * images + (1 - factor) * reference).clamp(0, 255)
        return images


class _AxisMap:
    """How the pixels of samples follow from those of images, along one axis.

    Args:
        geometry: (N, 5), the fields of `Axis`.
        side: of the samples.
        length: of the images, those that were filled up included.

    Attributes:
        weights: (N, side, length): of each pixel of the image in each of the sample, 0 outside of the image.
        nearest: (N, side) int64: the pixel whose label a pixel of the sample has.
        inside: (N, side) bool: whether it shows the image.
    """

    def __init__(self, geometry: Tensor, side: int, length: int) -> None:
        start, size, resized, shift, flip = geometry[:, :, None].unbind(1)  # (N, 1) each
        position = torch.arange(side, device=geometry.device, dtype=torch.float32)[None]
        position = torch.where(flip > 0, side - 1 - position, position) + shift  # in the resized range
        self.inside = (position >= 0) & (position < resized)
        ratio = size / resized
        center = ((position + 0.5) * ratio - 0.5)[..., None]  # in pixels of the range
        pixel = torch.arange(length, device=geometry.device, dtype=torch.float32) - start[..., None]
        weights = (1 - (pixel - center).abs() / ratio.clamp(min=1)[..., None]).clamp(min=0)
        weights = weights * ((pixel >= 0) & (pixel < size[..., None]))
        self.weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
        nearest = (position.clamp(min=0) * ratio).floor().minimum(size - 1) + start
        self.nearest = nearest.long()


def _to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor without waiting for what the device still computes."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
