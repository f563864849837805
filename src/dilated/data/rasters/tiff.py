"""TIFFs read through tifffile, where rasterio is missing: uncompressed, Deflate, LZMA and PackBits.

With the package `imagecodecs` beside it, tifffile knows the other compressions too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import Pixels
from dilated.data.rasters.base import CONVERT, SEGMENT, Georeference, RasterFile, choose, credible, rgb
from dilated.data.rasters.layout import YCBCR, layout
from dilated.data.rasters.tags import (
    COMPRESSION,
    GDAL_NODATA,
    HEIGHT,
    PHOTOMETRIC,
    PLANAR,
    STRIP_OFFSETS,
    TILE_OFFSETS,
    WIDTH,
    Header,
)
from dilated.errors import InputError

CACHE = 128 << 20  # bytes of decoded tiles and strips that are kept


class TiffRaster(RasterFile):
    """An open TIFF."""

    def __init__(self, path: Path, header: Header, bands: Sequence[int] | None) -> None:
        super().__init__()
        self.path, self.layout = path, layout(header)
        self.height, self.width, self.bands = header.number(HEIGHT), header.number(WIDTH), self.layout.bands
        credible(path, self.height, self.width)
        self.chosen = choose(path, self.layout.colour, bands, self.bands)
        self.planes = self.bands if header.number(PLANAR, 1) == 2 else 1
        self.georeference = Georeference(header.geo) if header.geo else None
        self.nodata = self._nodata(header)
        self.rows, self.columns = header.segment
        self.across = -(-self.width // self.columns)
        self.offsets = header.values(TILE_OFFSETS if header.tiled else STRIP_OFFSETS)
        self.plain = header.number(COMPRESSION, 1) == 1 and not header.tiled
        depth = self.bands // self.planes
        if not self.plain and self.rows * self.columns * depth * self.layout.dtype.itemsize > SEGMENT:
            raise InputError(
                f"{path}: found tiles or strips of {self.columns}x{self.rows} pixels, too large to be read in windows; "
                f"expected at most {SEGMENT >> 20} MiB each. Run: {CONVERT.format(path=path.name)}"
            )
        if header.number(PHOTOMETRIC) == YCBCR:
            raise InputError(f"{path}: JPEG inside a TIFF needs rasterio; run: pip install 'dilated[geo]'")
        self.cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self.cached = 0
        import tifffile

        try:
            self.file = self.resources.enter_context(tifffile.TiffFile(path))
            self.page: Any = self.file.pages[0]
            self.page.decode  # noqa: B018  # tells at once of a compression that cannot be decoded
        except Exception as error:  # tifffile raises anything on foreign bytes
            self.close()
            raise self._unreadable(error) from error

    def _read(self, top: int, left: int, height: int, width: int) -> Pixels:
        return rgb(self.layout.looked_up(self._values(self.chosen, top, left, height, width)))

    def _valid(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        if self.layout.alpha is not None:
            return self._values((self.layout.alpha,), top, left, height, width)[:, :, 0] > 0
        if self.nodata is None:
            return None
        return (self._values(self.layout.colour, top, left, height, width) != self.nodata).any(axis=2)

    def _values(self, bands: Sequence[int], top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """The window's values of some bands, (height, width, B), put together of tiles or strips."""
        window = np.empty((height, width, len(bands)), self.layout.dtype)
        places = [(0, slice(None), [b - 1 for b in bands])]
        if self.planes > 1:
            places = [(band - 1, slice(i, i + 1), [0]) for i, band in enumerate(bands)]
        for plane, filled, picked in places:
            for row in range(top // self.rows, (top + height - 1) // self.rows + 1):
                for column in range(left // self.columns, (left + width - 1) // self.columns + 1):
                    y, x = row * self.rows, column * self.columns
                    y0, y1 = max(top, y), min(top + height, y + self.rows)
                    x0, x1 = max(left, x), min(left + width, x + self.columns)
                    part = self._part(plane, row, column, y0 - y, y1 - y)[:, x0 - x : x1 - x]
                    window[y0 - top : y1 - top, x0 - left : x1 - left, filled] = part[:, :, picked]
        return window

    def _part(self, plane: int, row: int, column: int, first: int, last: int) -> NDArray[Any]:
        """Rows `first` to `last` of a tile or strip, (rows, columns, bands of the plane)."""
        index = (plane * -(-self.height // self.rows) + row) * self.across + column
        if self.plain and self.offsets[index]:
            return self._plain(index, first, last)
        if index not in self.cache:
            try:
                file = self.file.filehandle
                file.seek(self.page.dataoffsets[index])
                data = file.read(self.page.databytecounts[index])
                decoded = self.page.decode(data or None, index, jpegtables=self.page.jpegtables)[0]
            except Exception as error:  # tifffile raises anything on damaged bytes
                raise self._unreadable(error) from error
            if decoded is None:  # a tile that was left out
                decoded = np.full((1, self.rows, self.columns, self.bands // self.planes), self.nodata or 0)
            if decoded.shape[1] < last:
                raise self._unreadable(f"{'tile or strip'} {index} has {decoded.shape[1]} rows of {last}")
            self._keep(index, decoded[0].astype(self.layout.dtype, copy=False))
        self.cache.move_to_end(index)
        return self.cache[index][first:last]

    def _plain(self, index: int, first: int, last: int) -> NDArray[Any]:
        """Rows of an uncompressed strip, however long it is, straight from the file."""
        depth = self.bands // self.planes
        if self.layout.table is not None and self.page.bitspersample < 8:
            raise self._unreadable("bands of less than 8 bits in uncompressed strips need rasterio")
        step = self.width * depth * self.layout.dtype.itemsize
        file = self.file.filehandle
        file.seek(self.offsets[index] + first * step)
        data = file.read((last - first) * step)
        if len(data) < (last - first) * step:
            raise self._unreadable(f"strip {index} ends early")
        stored = np.frombuffer(data, self.layout.dtype.newbyteorder(self.file.byteorder))
        return stored.astype(self.layout.dtype, copy=False).reshape(last - first, self.width, depth)

    def _keep(self, index: int, decoded: NDArray[Any]) -> None:
        self.cache[index] = decoded
        self.cached += decoded.nbytes
        while self.cached > CACHE and len(self.cache) > 1:
            self.cached -= self.cache.popitem(last=False)[1].nbytes

    def _nodata(self, header: Header) -> float | None:
        if GDAL_NODATA not in header.tags:
            return None
        text = header.tags[GDAL_NODATA].data.rstrip(b"\0 ").decode("ascii", "replace")
        try:
            return float(text)
        except ValueError as error:
            raise InputError(
                f"{self.path}: found the nodata value {text!r}; expected a number. Set it anew."
            ) from error

    def _unreadable(self, error: object) -> InputError:
        return InputError(
            f"{self.path}: the TIFF cannot be read ({error}); expected a whole file in a compression that tifffile "
            "knows. Copy it again, or install rasterio, which knows them all: pip install 'dilated[geo]'"
        )
