"""The forms in which a predictor takes an image: all become (H, W, 3) uint8 RGB, or the bands that a network reads.

to_pixels("photo.jpg")                               # also a Path, the bytes of a file, an open binary file
to_pixels(Image.open("photo.jpg"))                   # as pillow gives it: EXIF orientation is not applied
to_pixels(array)                                     # (H, W), (H, W, 1), RGB or RGBA; see `to_pixels`
to_pixels(tensor)                                    # (3, H, W) as torchvision has it, or (H, W, 3)
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dilated.data.band_header import require_full_range
from dilated.data.images import ImageArray, read_image, to_rgb_array
from dilated.data.raster.bands import InMemoryRaster, read_bands, sample_windows
from dilated.errors import InputError
from dilated.input_config import BandArray, InputConfig

ImageInput: TypeAlias = Path | str | bytes | BinaryIO | Image.Image | NDArray[Any] | Tensor
"""One image in any form that `to_pixels` takes."""

_CHANNELS = (1, 3, 4)
_ONE_IMAGE_HINT = "give one image; predictor.batch(images) takes several"


def to_pixels(image: ImageInput, config: InputConfig | None = None) -> BandArray:
    """Convert an image to (H, W, 3) uint8 RGB; an array that has this form is returned as it is.

    Args:
        image: a path, the bytes of an image file, an open binary file, a pillow image, or numbers: a numpy array of
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a tensor of the same shapes or with the channels first.
            uint8; uint16, of which 65535 is white; or floats in 0..1. Alpha is dropped.
        config: what a network reads, where that is not 8-bit RGB: the image is then (H, W, n) of these bands, numbers
            and range, and is never converted.

    Raises:
        InputError: an unreadable file, or an object, shape, type or range of values that is none of these. The hint
            says how to convert it.

    Example:
        >>> to_pixels(torch.ones(3, 4, 5)).shape, to_pixels(np.full((4, 5), 0.2)).max()
        ((4, 5, 3), np.uint8(51))
    """
    if isinstance(image, str | Path) and str(image).startswith(("http:/", "https:/")):
        raise InputError(f"image: {str(image)!r} is a URL", hint="download it and give the path of the file")
    if config is not None:
        return _to_bands(image, config)
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return read_image(io.BytesIO(image))
    if isinstance(image, Image.Image):
        if image.mode.startswith("I;16"):
            require_full_range(int(np.asarray(image).max()), "image")
        return to_rgb_array(image)
    if isinstance(image, Tensor):
        return _array_to_pixels(_tensor_to_array(image))
    if isinstance(image, np.ndarray):
        return _array_to_pixels(image)
    if isinstance(image, io.TextIOBase):
        raise InputError("image: the file is open as text", hint='open it with open(path, "rb")')
    if hasattr(image, "read") and hasattr(image, "seek"):
        return read_image(image)
    raise InputError(
        f"image: {type(image).__name__} is not an image",
        hint="give a path, bytes, an open file, a pillow image, a numpy array (H, W, 3) or a tensor (3, H, W)",
    )


def _to_bands(image: ImageInput, config: InputConfig) -> BandArray:
    """Convert an image to (H, W, n) as `config` says."""
    name = str(image) if isinstance(image, str | Path) else "image"
    values: BandArray
    if isinstance(image, str | Path):
        values = read_bands(Path(image), config)
    elif isinstance(image, np.ndarray | Tensor | Image.Image):
        values = _match_array(image, config)
    else:
        data = image if isinstance(image, bytes | bytearray | memoryview) else image.read()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image"
            path.write_bytes(data)
            values = read_bands(path, config)
    config.require_range(sample_windows(InMemoryRaster(values)), name)
    return values


def _match_array(image: NDArray[Any] | Tensor | Image.Image, config: InputConfig) -> BandArray:
    count = len(config.bands)
    array: NDArray[Any] = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
    if array.ndim == 2:
        array = array[:, :, None]
    if isinstance(image, Tensor) and array.ndim == 3 and array.shape[0] == count:
        array = array.transpose(1, 2, 0)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    if array.ndim != 3 or array.shape[2] != count or str(array.dtype) != config.dtype or 0 in array.shape:
        raise InputError(
            f"image: found an array of shape {array.shape} of {array.dtype}; the network reads {config.describe()}",
            hint=f"give (H, W, {count}) {config.dtype}, as the files have it",
        )
    return array


def _tensor_to_array(image: Tensor) -> NDArray[Any]:
    """Convert a tensor to an array with the channels last; where both ends could be channels, the first are."""
    if image.ndim == 3 and image.shape[0] in _CHANNELS:
        image = image.permute(1, 2, 0)
    elif image.ndim == 3 and image.shape[2] not in _CHANNELS:
        raise InputError(
            f"image: a tensor of shape {tuple(image.shape)} has neither first nor last 1, 3 or 4 channels",
            hint="give (3, H, W), (H, W, 3) or (H, W)",
        )
    image = image.detach().cpu()
    return (image.float() if image.dtype == torch.bfloat16 else image).numpy()


def _array_to_pixels(array: NDArray[Any]) -> ImageArray:
    if array.ndim == 4:
        raise InputError(f"image: an array of shape {array.shape} is a batch", hint=_ONE_IMAGE_HINT)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        channels_first = array.ndim == 3 and array.shape[0] in _CHANNELS
        hint = "give image.transpose(1, 2, 0)" if channels_first else "give (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
        raise InputError(f"image: an array of shape {array.shape} is not an image", hint=hint)
    if 0 in array.shape:
        raise InputError(f"image: an array of shape {array.shape} has no pixels", hint="give an image of 1x1 or more")
    if array.dtype == np.uint8 and array.shape[2:] == (3,):
        return array
    channels = array if array.ndim == 3 else array[:, :, None]
    pixels = _to_uint8(channels[:, :, :3])
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)


def _to_uint8(array: NDArray[Any]) -> ImageArray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        require_full_range(int(array.max()), "image")
        return (array.astype(np.float32) / 257).round().astype(np.uint8)  # 65535 -> 255, as 16-bit files are read
    if array.dtype == bool:
        raise InputError("image: an array of bool", hint="give image.astype(np.uint8) * 255")
    if np.issubdtype(array.dtype, np.integer):
        hint = "give image.astype(np.uint8) if its values are 0..255"
        raise InputError(f"image: an array of {array.dtype}, values {array.min()} to {array.max()}", hint=hint)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"image: an array of {array.dtype}", hint="give uint8, or floats in 0..1")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # NaN too
        hint = "give image / 255 if its values are 0..255; undo a normalization by mean and standard deviation"
        raise InputError(f"image: an array of {array.dtype} with values {low:g} to {high:g}, not in 0..1", hint=hint)
    return (array.astype(np.float32) * 255).round().astype(np.uint8)
