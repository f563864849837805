"""Pictures that cannot be read in windows, unpacked once into a nameless file and read from there.

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

from dilated.data.images import Pixels, TooLargeError, opened
from dilated.data.rasters.base import CONVERT, RasterFile, credible, rgb
from dilated.errors import InputError

WHOLE = 100_000_000
"""Pixels of a picture that may be decoded whole: about half a GB of memory for a moment."""

ROWS = 64  # copied at a time


class Scratch(RasterFile):
    """A raster in a file of rows of 3 bytes a pixel, or of 4 where the last says whether the pixel has data."""

    def __init__(self, path: Path, height: int, width: int, channels: int, folder: Path | None) -> None:
        super().__init__()
        self.path, self.height, self.width, self.bands, self.channels = path, height, width, channels, channels
        try:
            # Unbuffered: rows are written and read in large pieces.
            file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise _full(path, error) from error
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
            raise _full(self.path, error) from error

    def _pixels(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        window = np.empty((height, width, self.channels), np.uint8)
        for i in range(height):
            self.file.seek(((top + i) * self.width + left) * self.channels)
            self.file.readinto(memoryview(window[i]).cast("B"))
        return window

    def _read(self, top: int, left: int, height: int, width: int) -> Pixels:
        return np.ascontiguousarray(self._pixels(top, left, height, width)[:, :, :3])

    def _valid(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        return self._pixels(top, left, height, width)[:, :, 3] > 0 if self.channels == 4 else None


def unpack(raster: RasterFile, folder: Path | None) -> Scratch:
    """Copy a raster whose rows are read fastest in their order."""
    scratch = Scratch(raster.path, raster.height, raster.width, 4, folder)
    try:
        for top in range(0, raster.height, ROWS):
            window = (top, 0, min(ROWS, raster.height - top), raster.width)
            pixels, mask = raster.read(*window), raster.valid(*window)
            alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8) if mask is None else mask[:, :, None] * np.uint8(255)
            scratch.append(np.concatenate((pixels, alpha), axis=2))
    except BaseException:
        scratch.close()
        raise
    return scratch


def decode_whole(path: Path, folder: Path | None) -> Scratch:
    """A picture of any format that pillow knows, upright.

    Raises:
        InputError: as `read_image`, or it is too large to be decoded whole.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # WHOLE is the limit here
        try:
            with opened(path, WHOLE) as picture:
                credible(path, picture.height, picture.width)
                return _copied(path, ImageOps.exif_transpose(picture), folder)
        except TooLargeError as error:
            raise InputError(
                f"{path}: found more than {WHOLE:,} pixels in a format that must be decoded whole; expected fewer. "
                "Make it a tiled TIFF, which is read in windows; with the extra 'geo': "
                f"{CONVERT.format(path=path.name)}"
            ) from error


def _copied(path: Path, picture: Image.Image, folder: Path | None) -> Scratch:
    """A decoded picture's pixels as `read_image` has them, some rows at a time."""
    if picture.mode in ("I", "F"):
        raise InputError(
            f"{path}: found a picture of mode {picture.mode!r}, whose range of values is not fixed; expected 8 or 16 "
            "bits a channel. Convert it, for example to 16-bit PNG."
        )
    clear = "transparency" in picture.info or picture.mode in ("LA", "PA", "La", "RGBA", "RGBa")
    picture.load()
    scratch = Scratch(path, picture.height, picture.width, 4 if clear else 3, folder)
    try:
        for top in range(0, picture.height, ROWS):
            strip = picture.crop((0, top, picture.width, min(top + ROWS, picture.height)))
            if strip.mode.startswith("I;16"):
                scratch.append(rgb(np.asarray(strip).astype(np.uint16)[:, :, None]))
            else:
                colours = np.asarray(strip.convert("RGB"))
                alpha = [np.asarray(strip.convert("RGBA"))[:, :, 3:]] if clear else []
                scratch.append(np.concatenate([colours, *alpha], axis=2))
    except BaseException:
        scratch.close()
        raise
    return scratch


def _full(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: it could not be unpacked ({error}); expected room for 3 or 4 bytes a pixel in the folder for "
        "temporary files. Free some, or make the picture a tiled TIFF, which is read where it lies."
    )
