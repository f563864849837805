"""Images that cannot be read in windows, unpacked once into an unnamed temporary file and read from there.

The file is read, not mapped: mapped pages would count as the process's memory. It disappears with the process, however
that ends.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dilated.data.images import ImageArray, ImageTooLargeError, open_image, to_rgb_array
from dilated.data.raster.base import RasterFile, describe_conversion, validate_size
from dilated.errors import InputError

MAX_DECODED_PIXELS = 100_000_000
"""Pixels of an image that may be decoded whole: about half a GB of memory for a moment."""

_ROWS_PER_COPY = 64  # copied at a time


class ScratchRaster(RasterFile):
    """A raster in a file of rows of 3 bytes per pixel, or of 4 where the last says whether the pixel has data.

    Args:
        path: the image, for error messages.
        size: (H, W).
        channels: 3 or 4.
        folder: where the file is made; None for the system's folder for temporary files.
        source: the raster that is copied, whose bands, nodata value and georeference the copy keeps.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], channels: int, folder: Path | None, source: RasterFile | None = None
    ) -> None:
        super().__init__()
        self.path, self.channels, self.bands = path, channels, channels
        self.height, self.width = size
        if source is not None:
            self.bands, self.nodata, self.georeference = source.bands, source.nodata, source.georeference
        try:
            # Unbuffered: rows are written and read in large pieces.
            file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise _make_disk_full_error(path, error) from error
        self.file = self.resources.enter_context(file)

    def append(self, rows: NDArray[np.uint8]) -> None:
        """Append rows, (N, width, channels).

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
    """Copy a raster that is read fastest row by row, from the first row to the last."""
    scratch = ScratchRaster(raster.path, (raster.height, raster.width), 4, folder, raster)
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
    """Decode an image of any format that pillow knows, upright.

    Raises:
        InputError: as `read_image`, or the image is too large to be decoded whole.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_DECODED_PIXELS is the limit here
        try:
            with open_image(path, MAX_DECODED_PIXELS) as image:
                validate_size(path, image.height, image.width)
                return _copy_image(path, ImageOps.exif_transpose(image), folder)
        except ImageTooLargeError as error:
            raise InputError(
                f"{path}: found more than {MAX_DECODED_PIXELS:,} pixels in a format that must be decoded whole",
                hint=f"make it a tiled TIFF, which is read in windows; with dilated[geo], {describe_conversion(path)}",
            ) from error


def _copy_image(path: Path, image: Image.Image, folder: Path | None) -> ScratchRaster:
    """Write a decoded image's pixels as `read_image` returns them, some rows at a time."""
    has_alpha = "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBA", "RGBa")
    image.load()
    scratch = ScratchRaster(path, (image.height, image.width), 4 if has_alpha else 3, folder)
    try:
        for top in range(0, image.height, _ROWS_PER_COPY):
            strip = image.crop((0, top, image.width, min(top + _ROWS_PER_COPY, image.height)))
            alpha = [np.asarray(strip.convert("RGBA"))[:, :, 3:]] if has_alpha else []
            scratch.append(np.concatenate([to_rgb_array(strip, str(path)), *alpha], axis=2))
    except BaseException:
        scratch.close()
        raise
    return scratch


def _make_disk_full_error(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot unpack it into a temporary file of 3 or 4 bytes per pixel ({error})",
        hint="free disk space, or make the image a tiled TIFF, which needs no temporary file",
    )
