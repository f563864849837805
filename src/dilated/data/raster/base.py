"""What all readers of rasters share: windows, masks and bands."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dilated.data.band_header import to_rgb
from dilated.data.raster.tags import HEIGHT, WIDTH, Tag, TiffHeader, read_layout
from dilated.errors import InputError
from dilated.input_config import BandArray, InputConfig

MAX_SEGMENT_BYTES = 64 << 20  # bytes of a decoded tile or strip; larger ones are not read in windows
GEO_HINT = "run: pip install 'dilated[geo]'"
_MAX_PIXELS_PER_BYTE = 4096  # pixels per byte of a file; no format compresses a photograph a hundredth as much


class RasterFile(ABC):
    """An open raster.

    Readers set these fields; an instance is used in a `with` block, by one thread at a time.
    """

    bands: int
    """How many bands the file has."""
    nodata: float | None = None
    """The value that marks pixels without data; None if no value does."""
    config: InputConfig | None = None
    """What is read, with the values that the file has; None for 8-bit RGB."""
    geo_tags: tuple[Tag, ...] = ()
    """The georeference as GeoTIFF tags: scale, tie points or control points, transform, CRS, RPCs."""

    def __init__(self, path: Path, height: int, width: int) -> None:
        validate_size(path, height, width)
        self.path, self.height, self.width = path, height, width
        self.resources = ExitStack()

    def read(self, top: int, left: int, height: int, width: int) -> BandArray:
        """Read the window as (height, width, 3) uint8, or as (height, width, n) of what `config` describes.

        Raises:
            InputError: this part of the file is damaged.
            ValueError: the window is not inside the raster.
        """
        self._check(top, left, height, width)
        return self._read(top, left, height, width)

    def read_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        """Read which pixels of the window have data, (height, width); None if all have.

        A pixel has none if it is fully transparent, if all its bands hold the nodata value, or if the file's own mask
        says so.
        """
        self._check(top, left, height, width)
        mask = self._read_mask(top, left, height, width)
        if self.config is not None:
            valid = self.config.find_valid(self._read(top, left, height, width))
            mask = valid if mask is None else mask if valid is None else mask & valid
        return None if mask is None or mask.all() else mask

    @abstractmethod
    def _read(self, top: int, left: int, height: int, width: int) -> BandArray: ...

    @abstractmethod
    def _read_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None: ...

    def _check(self, top: int, left: int, height: int, width: int) -> None:
        inside = 0 <= top <= top + height <= self.height and 0 <= left <= left + width <= self.width
        if not inside or height < 1 or width < 1:
            raise ValueError(
                f"window: found {height}x{width} at ({top}, {left}); expected one inside {self.height}x{self.width}"
            )

    def close(self) -> None:
        """Close the file and remove what was unpacked."""
        self.resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass(frozen=True)
class NativeBands:
    """The bands of a file that are read with the values that it has.

    Args:
        bands: counted from 1.
        config: what they hold.
        alpha: the band that says which pixels have data; None if none does.
    """

    bands: tuple[int, ...]
    config: InputConfig
    alpha: int | None


class TiffRaster(RasterFile):
    """An open TIFF, whose values a subclass reads."""

    def __init__(self, header: TiffHeader, native: NativeBands | None = None) -> None:
        super().__init__(header.path, header.get_int(HEIGHT), header.get_int(WIDTH))
        self.header, self.layout = header, read_layout(header, any_range=native is not None)
        self.native = native
        self.config = native.config if native else None
        self.bands = self.layout.bands
        self.planes = self.bands if header.has_planes else 1
        self.selected_bands: Sequence[int] = ()

    @property
    def segment_bytes(self) -> int:
        """The bytes of a decoded tile or strip, without bands that lie in planes of their own."""
        rows, columns = self.header.segment_shape
        return rows * columns * self.bands // self.planes * self.layout.dtype.itemsize

    def _read(self, top: int, left: int, height: int, width: int) -> BandArray:
        if self.config is not None:
            values = self._read_values(self.selected_bands, top, left, height, width).astype(self.config.dtype)
            return mark_missing(values, self._read_mask(top, left, height, width), self.config)
        return to_rgb(self.layout.apply_color_table(self._read_values(self.selected_bands, top, left, height, width)))

    def _read_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        if self.native is None or self.layout.alpha is None:
            return self._read_file_mask(top, left, height, width)
        if self.native.alpha is None:  # what the file calls alpha is a band like others
            return None
        return self._read_values((self.native.alpha,), top, left, height, width)[:, :, 0] > 0

    @abstractmethod
    def _read_file_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        """Read which pixels have data by the file's own mask, alpha band or nodata value."""

    @abstractmethod
    def _read_values(self, bands: Sequence[int], top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Read the window's values of some bands, (height, width, B)."""


def mark_missing(values: BandArray, mask: NDArray[np.bool_] | None, config: InputConfig) -> BandArray:
    """Give pixels that a file's mask leaves out the value that means no data: nodata, NaN of floats, else 0."""
    if mask is None or mask.all():
        return values
    default = np.nan if values.dtype.kind == "f" else 0
    values[~mask] = default if config.nodata is None else config.nodata
    return values


def validate_size(path: Path, height: int, width: int) -> None:
    """Refuse a header that promises more pixels than any format compresses into so few bytes.

    Raises:
        InputError: no pixel, or too many.
    """
    if height < 1 or width < 1:
        raise InputError(
            f"{path}: its header says {width}x{height} pixels; expected at least one", hint="export the image again"
        )
    length = path.stat().st_size
    if height * width > _MAX_PIXELS_PER_BYTE * max(length, 1 << 20):
        raise InputError(
            f"{path}: its header says {width}x{height} pixels, but the file has {length} bytes; expected at most "
            f"{_MAX_PIXELS_PER_BYTE} pixels per byte. The file is truncated or made to exhaust the machine"
        )


def describe_conversion(path: Path) -> str:
    """The hint that says how an image becomes a TIFF that is read in windows."""
    command = ("rio", "convert", str(path), "tiled.tif", "--co", "tiled=true", "--co", "compress=deflate")
    return f"run: {shlex.join(command)} --co bigtiff=if_safer"


def select_bands(
    path: Path, color_bands: Sequence[int], requested: Sequence[int] | None, count: int
) -> tuple[int, ...]:
    """Choose the bands to read, counted from 1: one for grey, three for RGB.

    Args:
        path: the file, for error messages.
        color_bands: the bands that are not alpha, in the order red, green, blue, others.
        requested: the user's choice.
        count: the number of bands of the file.

    Raises:
        InputError: a choice that the file does not have, or two bands without a choice.

    Example:
        >>> select_bands(Path("a.tif"), (1, 2, 3, 4), None, 4), select_bands(Path("a.tif"), (1, 2, 3, 4), (4, 3, 2), 4)
        ((1, 2, 3), (4, 3, 2))
    """
    if requested is not None:
        if len(requested) not in (1, 3) or not all(1 <= band <= count for band in requested):
            raise InputError(f"{path}: found the bands {tuple(requested)}; expected one or three of 1 to {count}")
        return tuple(requested)
    if len(color_bands) not in (0, 2):
        return tuple(color_bands[: 3 if len(color_bands) > 2 else 1])
    raise InputError(
        f"{path}: found {len(color_bands)} bands apart from alpha; expected 1, or 3 and more",
        hint=f"choose among its {count} bands, for example bands=(1,)",
    )
