"""Images that cannot be read in windows, unpacked once into a nameless file and read from there.

The file is read, not mapped: mapped pages would count as the process's memory. It is gone when the process is, however
it ends.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dilated.data.images import ImageArray, ImageTooLargeError, open_image
from dilated.data.raster.base import CONVERT_COMMAND, RasterFile, to_rgb, validate_size
from dilated.errors import InputError

MAX_DECODED_PIXELS = 100_000_000
"""Pixels of an image that may be decoded whole: about half a GB of memory for a moment."""

_ROWS_PER_COPY = 64  # copied at a time


class ScratchRaster(RasterFile):
    """A raster in a file of rows of 3 bytes a pixel, or of 4 where the last says whether the pixel has data."""

    def __init__(self, path: Path, height: int, width: int, channels: int, folder: Path | None) -> None:
        super().__init__()
        self.path, self.height, self.width, self.bands, self.channels = path, height, width, channels, channels
        try:
            # Unbuffered: rows are written and read in large pieces.
            file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise _make_disk_full_error(path, error) from error
        self.file = self.resources.enter_context(file)

    def append(self, rows: NDArray[np.uint8]) -> None:
        """Write the next rows, (N, width, channels).

        Raises:
            InputError: the disk is full.
        """
        data = memoryview(np.ascontiguousarray(rows).reshape(-1).data)
        try:
            while data:
                data = data[self.file.write(data) :]
        except OSError as error:
            raise _make_disk_full_error(self.path, error) from error

    def _read_window(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        window = np.empty((height, width, self.channels), np.uint8)
        for i in range(height):
            self.file.seek(((top + i) * self.width + left) * self.channels)
            self.file.readinto(memoryview(window[i]).cast("B"))
        return window

    def _read(self, top: int, left: int, height: int, width: int) -> ImageArray:
        return np.ascontiguousarray(self._read_window(top, left, height, width)[:, :, :3])

    def _read_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        return self._read_window(top, left, height, width)[:, :, 3] > 0 if self.channels == 4 else None


def copy_to_scratch(raster: RasterFile, folder: Path | None) -> ScratchRaster:
    """Copy a raster whose rows are read fastest in their order."""
    scratch = ScratchRaster(raster.path, raster.height, raster.width, 4, folder)
    try:
        for top in range(0, raster.height, _ROWS_PER_COPY):
            window = (top, 0, min(_ROWS_PER_COPY, raster.height - top), raster.width)
            pixels, mask = raster.read(*window), raster.read_mask(*window)
            alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8) if mask is None else mask[:, :, None] * np.uint8(255)
            scratch.append(np.concatenate((pixels, alpha), axis=2))
    except BaseException:
        scratch.close()
        raise
    return scratch


def decode_to_scratch(path: Path, folder: Path | None) -> ScratchRaster:
    """An image of any format that pillow knows, upright.

    Raises:
        InputError: as `read_image`, or it is too large to be decoded whole.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # WHOLE is the limit here
        try:
            with open_image(path, MAX_DECODED_PIXELS) as image:
                validate_size(path, image.height, image.width)
                return _copy_image(path, ImageOps.exif_transpose(image), folder)
        except ImageTooLargeError as error:
            raise InputError(
                f"{path}: found more than {MAX_DECODED_PIXELS:,} pixels in a format that must be decoded whole; expected fewer. "
                "Make it a tiled TIFF, which is read in windows; with the extra 'geo': "
                f"{CONVERT_COMMAND.format(path=path.name)}"
            ) from error


def _copy_image(path: Path, image: Image.Image, folder: Path | None) -> ScratchRaster:
    """A decoded image's pixels as `read_image` has them, some rows at a time."""
    if image.mode in ("I", "F"):
        raise InputError(
            f"{path}: found an image of mode {image.mode!r}, whose range of values is not fixed; expected 8 or 16 "
            "bits a channel. Convert it, for example to 16-bit PNG."
        )
    has_alpha = "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBA", "RGBa")
    image.load()
    scratch = ScratchRaster(path, image.height, image.width, 4 if has_alpha else 3, folder)
    try:
        for top in range(0, image.height, _ROWS_PER_COPY):
            strip = image.crop((0, top, image.width, min(top + _ROWS_PER_COPY, image.height)))
            if strip.mode.startswith("I;16"):
                scratch.append(to_rgb(np.asarray(strip).astype(np.uint16)[:, :, None]))
            else:
                colors = np.asarray(strip.convert("RGB"))
                alpha = [np.asarray(strip.convert("RGBA"))[:, :, 3:]] if has_alpha else []
                scratch.append(np.concatenate([colors, *alpha], axis=2))
    except BaseException:
        scratch.close()
        raise
    return scratch


def _make_disk_full_error(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: it could not be unpacked ({error}); expected room for 3 or 4 bytes a pixel in the folder for "
        "temporary files. Free some, or make the image a tiled TIFF, which is read where it lies."
    )
