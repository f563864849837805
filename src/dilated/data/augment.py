"""Augmentation of a training sample: scale, crop, flip and color, applied to the image and its label together.

    image, label = AugmentConfig(crop=(288, 384)).build()(image, label)        # (3, 288, 384), (288, 384)
    image, label = ReflectCropConfig(crop=(628, 628)).build()(image, label)    # (3, 628, 628), (32, 32): the paper's

Labels are resampled by nearest neighbor, never blended, and what a crop reaches beyond the image is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from dilated.config import require_valid
from dilated.data.photometric import PhotometricChange
from dilated.errors import InputError
from dilated.input_config import InputConfig
from dilated.tensors import reflect_pad

Augmentation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(3, H, W) uint8 or (n, H, W) float32 image and (H, W) uint8 or int32 label -> both, drawn by torch's generator."""


_STRENGTHS = ("brightness", "contrast", "saturation")
_MOST_CROPS = 10
"""Crops that are tried around a labelled pixel."""


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
    """Largest relative change of brightness, of all bands alike."""
    contrast: float = 0.3
    """Largest relative change of contrast, of all bands alike."""
    saturation: float = 0.3
    """Largest relative change of saturation: of the difference between each band and the mean of all."""
    photometric: float = 0.0
    """Strength of changes as other cameras and weather make them, each in half of the samples: shadow, exposure, white
    balance, blur, noise, JPEG; 0 for none, 1 for strong ones. For 8-bit RGB."""
    most_of_class: float = 1.0
    """Cut again, up to ten times, while one class has more than this fraction of the labelled pixels; 1 for never."""
    paste_rare: float = 0.0
    """Fraction of the samples onto which the rare classes of another one are pasted, those with at most 5% of it."""
    batched: Literal["auto", "always", "never"] = "auto"
    """Whether whole batches are augmented where the network computes, from decoded images kept there, instead of sample
    by sample in reading processes. `auto` does so on a GPU with room for the images, for settings that it knows."""
    kind: Literal["scale"] = "scale"
    """The kind of augmentation: this one; `reflect` is the paper's, with the settings of `ReflectCropConfig`."""

    def __post_init__(self) -> None:
        rules = {
            "crop": (min(self.crop) >= 1, "give sides of 1 pixel or more"),
            "scale": (0 < self.scale[0] <= self.scale[1] < math.inf, "give two factors above 0, the smaller one first"),
            **{key: (0 <= getattr(self, key) < math.inf, "give 0 or more") for key in _STRENGTHS},
            "photometric": (0 <= self.photometric <= 2, "give 0 for none, or up to 2"),
            "most_of_class": (0 < self.most_of_class <= 1, "give more than 0, and 1 for any crop"),
            "paste_rare": (0 <= self.paste_rare <= 1, "give 0 for none, or up to 1"),
        }
        require_valid(self, "augment", rules)
        if self.batched == "always" and self.batch_obstacle:
            raise InputError(
                f"augment.batched: found 'always' with {self.batch_obstacle}",
                hint="set augment.batched = 'auto', which augments such samples in the reading processes",
            )

    @property
    def batch_obstacle(self) -> str:
        """The setting that whole batches cannot be augmented with; empty if there is none.

        Example:
            >>> AugmentConfig().batch_obstacle, AugmentConfig(photometric=1.0).batch_obstacle
            ('', 'augment.photometric = 1')
        """
        defaults = {"photometric": 0.0, "most_of_class": 1.0, "paste_rare": 0.0}
        differing = (key for key, value in defaults.items() if getattr(self, key) != value)
        return next((f"augment.{key} = {getattr(self, key):g}" for key in differing), "")

    def build(self, config: InputConfig | None = None, ignore: int = 255) -> Augmentation:
        """Build the augmentation of image and label.

        Args:
            config: what images hold; None for 8-bit RGB. Scaled values are not cut off at 0 and 1.
            ignore: the label of ignored pixels: 65535 where there are more than 255 classes.

        Raises:
            InputError: photometric changes of images that are not 8-bit RGB.

        Example:
            >>> image, label = torch.zeros(3, 20, 30, dtype=torch.uint8), torch.zeros(20, 30, dtype=torch.uint8)
            >>> image, label = AugmentConfig(crop=(64, 64)).build()(image, label)
            >>> tuple(image.shape), int(label.max())
            ((3, 64, 64), 255)
        """
        if self.photometric and config is not None:
            raise InputError(
                f"augment.photometric: found {self.photometric:g} for images of {config.describe()}",
                hint="set augment.photometric = 0; it changes 8-bit RGB only",
            )
        image_fill = 127 if config is None else list(config.mean)
        fill: dict[Any, Any] = {tv_tensors.Image: image_fill, tv_tensors.Mask: ignore}
        strengths = self.brightness, self.contrast, self.saturation
        transform = v2.Compose(
            [
                _RandomScale(self.scale),
                v2.RandomCrop(self.crop, pad_if_needed=True, fill=fill),
                v2.RandomHorizontalFlip(0.5 if self.flip else 0.0),
                *([v2.RandomVerticalFlip()] if self.vertical_flip else []),
                v2.ColorJitter(*strengths) if config is None else _BandJitter(*strengths),
                *([PhotometricChange(self.photometric)] if self.photometric else []),
            ]
        )
        labelled = partial(_crop_labelled, transform, self.crop, ignore)
        return partial(_crop_varied, labelled, self.most_of_class, ignore) if self.most_of_class < 1 else labelled


class _RandomScale(v2.Transform):
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


class _BandJitter(v2.Transform):
    """Change brightness, contrast and saturation of any bands, in this order, each by one random factor for all bands.

    Args:
        brightness, contrast, saturation: the largest relative changes.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float) -> None:
        super().__init__()
        self.strengths = brightness, contrast, saturation

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        factors = [torch.empty(1).uniform_(max(0.0, 1 - s), 1 + s).item() for s in self.strengths]
        return dict(zip(("brightness", "contrast", "saturation"), factors, strict=True))

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        image = inpt.as_subclass(Tensor) * params["brightness"]  # (n, H, W)
        mean = image.mean((1, 2), keepdim=True)
        image = mean + params["contrast"] * (image - mean)
        gray = image.mean(0, keepdim=True)
        return tv_tensors.Image(gray + params["saturation"] * (image - gray))


def _apply_transform(transform: v2.Transform, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Apply one of torchvision's transforms to an image and its label, as plain tensors."""
    image, label = transform(tv_tensors.Image(image), tv_tensors.Mask(label))
    return image.as_subclass(Tensor), label.as_subclass(Tensor)


def _crop_labelled(
    transform: v2.Transform, crop: tuple[int, int], ignore: int, image: Tensor, label: Tensor
) -> tuple[Tensor, Tensor]:
    """Apply a transform that crops; where it has cut out ignored pixels alone, cut again around a labelled pixel.

    Of sparse labels, such as points and scribbles, most crops of a large image would teach nothing.

    Args:
        crop: height and width of what the transform cuts out.
        ignore: the label of ignored pixels.
    """
    result = _apply_transform(transform, image, label)
    is_labelled = label != ignore
    if bool((result[1] != ignore).any()) or not bool(is_labelled.any()):
        return result
    rows, columns = is_labelled.nonzero(as_tuple=True)
    chosen = int(torch.randint(len(rows), ()))
    center = int(rows[chosen]), int(columns[chosen])  # of a window of the crop's size, smaller at the image's border
    window = tuple(slice(max(0, at - side // 2), at - side // 2 + side) for at, side in zip(center, crop, strict=True))
    for _ in range(_MOST_CROPS):
        result = _apply_transform(transform, image[:, *window], label[window])
        if bool((result[1] != ignore).any()):
            break
    return result


def _crop_varied(
    transform: Augmentation, most_of_class: float, ignore: int, image: Tensor, label: Tensor
) -> tuple[Tensor, Tensor]:
    """Apply a transform that crops until no class has more than its share, or take the least uniform of ten crops.

    Args:
        most_of_class: the largest fraction of the labelled pixels that a class may have.
        ignore: the label of ignored pixels.
    """
    best, least = transform(image, label), math.inf
    for attempt in range(_MOST_CROPS):
        result = best if attempt == 0 else transform(image, label)
        _, counts = result[1][result[1] != ignore].unique(return_counts=True)
        largest = float(counts.max() / counts.sum()) if len(counts) else 1.0
        if largest < least:
            best, least = result, largest
        if least <= most_of_class:
            break
    return best


@dataclass(frozen=True)
class ReflectCropConfig:
    """How the paper's authors crop training samples: from the image padded by reflection, with labels on a grid.

    The network predicts the middle of its input, so the image is padded by its margin, 186 pixels, and the padding is
    ignored, which counts nowhere. Label k along an axis is that of the first of the 8 pixels that logit k stands
    for, at 186 + 8 k of the sample.
    """

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

    def build(self, config: InputConfig | None = None, ignore: int = 255) -> Augmentation:
        """Build the augmentation of image and label; it is the same whatever images hold."""
        return partial(_reflect_crop, self, ignore)


def _reflect_crop(config: ReflectCropConfig, ignore: int, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Crop a sample at random by torch's global generator.

    Args:
        image: (3, H, W) uint8.
        label: (H, W) uint8, or int32 of more than 255 classes.

    Returns:
        (3, *crop) uint8, and its labels on the grid of the logits, ((crop - 2 * margin) / stride).

    Example:
        >>> image, label = torch.zeros(3, 5, 9, dtype=torch.uint8), torch.ones(5, 9, dtype=torch.uint8)
        >>> image, label = ReflectCropConfig(crop=(380, 388), flip=False).build()(image, label)
        >>> tuple(image.shape), label.tolist()
        ((3, 380, 388), [[1, 1]])
    """
    margin, stride, (height, width) = config.margin, config.stride, config.crop
    if config.scale != (1.0, 1.0):
        image, label = _apply_transform(_RandomScale(config.scale), image, label)
    # Where the padded image is smaller than the sample, it is padded further at the bottom and on the right.
    pad_bottom = max(height - image.shape[-2] - 2 * margin, 0) + margin
    pad_right = max(width - image.shape[-1] - 2 * margin, 0) + margin
    image = reflect_pad(image, margin, pad_bottom, margin, pad_right)
    label = F.pad(label, (margin, pad_right, margin, pad_bottom), value=ignore)
    top = int(torch.randint(image.shape[-2] - height + 1, ()))
    left = int(torch.randint(image.shape[-1] - width + 1, ()))
    image = image[..., top : top + height, left : left + width]
    label = label[top : top + height, left : left + width]
    if config.flip and torch.rand(()) < 0.5:
        image, label = image.flip(-1), label.flip(-1)
    inner = slice(margin, -margin) if margin else slice(None)
    return image.contiguous(), label[inner, inner][::stride, ::stride].contiguous()
