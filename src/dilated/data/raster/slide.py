"""Whole-slide images, by the package openslide: one level of their pyramid, read window by window.

    with SlideRaster(Path("biopsy.svs"), level=1) as raster:
        raster.describe()                            # "level 1 of 4: 23040x18432 pixels, 2.02 um per pixel"
        raster.read(4096, 0, 512, 512)               # (512, 512, 3) uint8

Where the scanner took no image, pixels have no data.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import ImageArray
from dilated.data.raster.base import RasterFile
from dilated.errors import InputError

SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide")
"""What the names of whole-slide images end in; TIFFs of scanners that are called .tif are read as other TIFFs are."""


def is_slide(path: Path) -> bool:
    """Whether a file is a whole-slide image, by its name.

    Example:
        >>> is_slide(Path("a.SVS")), is_slide(Path("a.tif"))
        (True, False)
    """
    return path.suffix.lower() in SLIDE_SUFFIXES


class SlideRaster(RasterFile):
    """A level of a whole-slide image.

    Args:
        path: the file.
        level: 0 for the full resolution.

    Raises:
        InputError: openslide is not installed, no slide, or no such level.
    """

    bands = 3

    def __init__(self, path: Path, level: int = 0) -> None:
        if find_spec("openslide") is None:
            raise InputError(
                f"{path}: a whole-slide image needs the package openslide", hint="run: pip install 'dilated[slide]'"
            )
        self._openslide: Any = import_module("openslide")
        try:
            self._slide = self._openslide.OpenSlide(str(path))
        except (self._openslide.OpenSlideError, OSError) as error:
            raise InputError(f"{path}: is not a whole-slide image that openslide reads ({error})") from error
        sizes = self._slide.level_dimensions
        if not 0 <= level < len(sizes):
            listing = ", ".join(f"{i}: {width}x{height}" for i, (width, height) in enumerate(sizes))
            self._slide.close()
            raise InputError(f"{path}: has no level {level}", hint=f"give one of its levels, {listing}")
        self.level, (width, height) = level, sizes[level]
        super().__init__(path, height, width)
        self.resources.callback(self._slide.close)

    def describe(self) -> str:
        """The level, its size and its resolution, for people."""
        text = f"level {self.level} of 0 to {self._slide.level_count - 1}: {self.width}x{self.height} pixels"
        with suppress(KeyError, ValueError):  # not every scanner says it
            step = float(self._slide.properties[self._openslide.PROPERTY_NAME_MPP_X])
            text += f", {step * self._slide.level_downsamples[self.level]:.3g} um per pixel"
        return text

    def _read_rgba(self, top: int, left: int, height: int, width: int) -> ImageArray:
        """Read a window, of which openslide wants the corner at full resolution."""
        factor = self._slide.level_downsamples[self.level]
        corner = round(left * factor), round(top * factor)
        try:
            return np.asarray(self._slide.read_region(corner, self.level, (width, height)))
        except (self._openslide.OpenSlideError, OSError) as error:
            raise InputError(f"{self.path}: damaged at x={left}, y={top} ({error})", hint="copy it again") from error

    def _read(self, top: int, left: int, height: int, width: int) -> ImageArray:
        return np.ascontiguousarray(self._read_rgba(top, left, height, width)[:, :, :3])

    def _read_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        mask: NDArray[np.bool_] = self._read_rgba(top, left, height, width)[:, :, 3] > 0
        return mask
