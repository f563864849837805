"""What every reader of rasters has: the window, the mask, the bands, and the rules that turn them into RGB.

>>> rgb(np.array([[[0, 257, 65535]]], np.uint16)).tolist()      # 16-bit colour keeps its high byte
[[[0, 1, 255]]]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import Pixels
from dilated.data.rasters.tags import Tag
from dilated.errors import InputError

SEGMENT = 64 << 20  # bytes of one decoded tile or strip; larger ones are not read in windows
DENSEST = 4096  # pixels per byte of a file; no format packs a photograph a hundredth as densely
CONVERT = "rio convert {path} tiled.tif --co tiled=true --co compress=deflate --co bigtiff=if_safer"


@dataclass(frozen=True)
class Georeference:
    """Where a raster lies, as the tags of a GeoTIFF: scale, tie points or control points, transform, CRS, RPCs."""

    tags: tuple[Tag, ...]


class RasterFile(ABC):
    """An open raster.

    `bands`: how many bands the file has. `nodata`: the value that marks pixels without data, None where no value does.
    `georeference`: None where the file has none.
    """

    path: Path
    height: int
    width: int
    bands: int
    nodata: float | None = None
    georeference: Georeference | None = None

    def __init__(self) -> None:
        self.resources = ExitStack()

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        """The window as (height, width, 3) uint8.

        Raises:
            InputError: this part of the file is damaged.
            ValueError: the window is not inside the raster.
        """
        self._check(top, left, height, width)
        return self._read(top, left, height, width)

    def valid(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        """Which pixels of the window have data, (height, width); None where all have.

        A pixel has none if it is fully transparent, if all its bands hold the nodata value, or if the file's own mask
        says so.
        """
        self._check(top, left, height, width)
        mask = self._valid(top, left, height, width)
        return None if mask is None or mask.all() else mask

    @abstractmethod
    def _read(self, top: int, left: int, height: int, width: int) -> Pixels: ...

    @abstractmethod
    def _valid(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None: ...

    def _check(self, top: int, left: int, height: int, width: int) -> None:
        inside = 0 <= top <= top + height <= self.height and 0 <= left <= left + width <= self.width
        if not inside or height < 1 or width < 1:
            raise ValueError(
                f"window: found {height}x{width} at ({top}, {left}); expected one inside {self.height}x{self.width}"
            )

    def close(self) -> None:
        self.resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def credible(path: Path, height: int, width: int) -> None:
    """Refuse a header whose size the file cannot hold.

    Raises:
        InputError: an empty picture, or far more pixels than any format packs into so few bytes.
    """
    if height < 1 or width < 1:
        raise InputError(f"{path}: its header says {width}x{height} pixels; expected at least one. Export it again.")
    length = path.stat().st_size
    if height * width > DENSEST * max(length, 1 << 20):
        raise InputError(
            f"{path}: its header says {width}x{height} pixels, in a file of {length} bytes; expected at most {DENSEST} "
            "pixels a byte. The file is truncated or made to exhaust the machine."
        )


def choose(path: Path, colour: Sequence[int], asked: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Which bands are read, counted from 1: one for grey, three for RGB.

    Args:
        colour: the bands that are not alpha, in the order red, green, blue, others.
        asked: the user's choice.
        count: the number of bands of the file.

    Raises:
        InputError: a choice that the file does not have, or two bands without a choice.

    Example:
        >>> choose(Path("a.tif"), (1, 2, 3, 4), None, 4), choose(Path("a.tif"), (1, 2, 3, 4), (4, 3, 2), 4)
        ((1, 2, 3), (4, 3, 2))
    """
    if asked is not None:
        if len(asked) not in (1, 3) or not all(1 <= band <= count for band in asked):
            raise InputError(f"{path}: found the bands {tuple(asked)}; expected one or three of 1 to {count}")
        return tuple(asked)
    if len(colour) not in (0, 2):
        return tuple(colour[: 3 if len(colour) > 2 else 1])
    raise InputError(
        f"{path}: found {len(colour)} bands apart from alpha; expected 1, or 3 and more. Choose among its {count} "
        "bands, for example bands=(1,)."
    )


def rgb(values: NDArray[Any]) -> Pixels:
    """(H, W, 1 or 3) uint8 or uint16 -> (H, W, 3) uint8.

    As `read_image`: 16-bit grey is divided by 257 and rounded, 16-bit colour keeps its high byte.
    """
    if values.dtype == np.uint16:
        wide = values.astype(np.uint32)
        values = ((wide + 128) // 257 if values.shape[2] == 1 else wide >> 8).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))
