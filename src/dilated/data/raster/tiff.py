"""TIFFs read through tifffile where rasterio is missing: uncompressed, Deflate, LZMA and PackBits.

With the package `imagecodecs`, tifffile decodes the other compressions too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.raster.base import (
    GEO_HINT,
    MAX_SEGMENT_BYTES,
    NativeBands,
    TiffRaster,
    describe_conversion,
    select_bands,
)
from dilated.data.raster.tags import GDAL_NODATA, PHOTOMETRIC, YCBCR, TiffHeader
from dilated.errors import InputError

_CACHE_BYTES = 128 << 20  # bytes of decoded tiles and strips that are kept


class TifffileRaster(TiffRaster):
    """An open TIFF."""

    def __init__(self, header: TiffHeader, bands: Sequence[int] | None, native: NativeBands | None = None) -> None:
        super().__init__(header, native)
        self.selected_bands = (
            native.bands if native else select_bands(self.path, self.layout.color_bands, bands, self.bands)
        )
        self.geo_tags = header.geo_tags
        self.nodata = self._parse_nodata(header)
        self.rows, self.columns = header.segment_shape
        self.tiles_across = -(-self.width // self.columns)
        self.offsets = header.segment_offsets
        self.is_uncompressed = header.is_uncompressed and not header.is_tiled
        if not self.is_uncompressed and self.segment_bytes > MAX_SEGMENT_BYTES:
            raise InputError(
                f"{self.path}: found tiles or strips of {self.columns}x{self.rows} pixels, too large to be read in "
                f"windows; expected at most {MAX_SEGMENT_BYTES >> 20} MiB each",
                hint=describe_conversion(self.path),
            )
        if header.get_int(PHOTOMETRIC) == YCBCR:
            raise InputError(f"{self.path}: JPEG inside a TIFF needs rasterio", hint=GEO_HINT)
        self._cached_segment = lru_cache(max(1, _CACHE_BYTES // max(1, self.segment_bytes)))(self._decode_segment)
        import tifffile

        try:
            self.file = self.resources.enter_context(tifffile.TiffFile(self.path))
            self.page: Any = self.file.pages[0]
            self.page.decode  # noqa: B018  # fails at once for a compression that cannot be decoded
        except Exception as error:  # tifffile raises anything on foreign bytes
            self.close()
            raise self._make_read_error(error) from error

    def _read_file_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        if self.layout.alpha is not None:
            return self._read_values((self.layout.alpha,), top, left, height, width)[:, :, 0] > 0
        if self.nodata is None:
            return None
        return (self._read_values(self.layout.color_bands, top, left, height, width) != self.nodata).any(axis=2)

    def _read_values(self, bands: Sequence[int], top: int, left: int, height: int, width: int) -> NDArray[Any]:
        window = np.empty((height, width, len(bands)), self.layout.dtype)
        copies = [(0, slice(None), [b - 1 for b in bands])]
        if self.planes > 1:
            copies = [(band - 1, slice(i, i + 1), [0]) for i, band in enumerate(bands)]
        for plane, target_bands, source_bands in copies:
            for row in range(top // self.rows, (top + height - 1) // self.rows + 1):
                for column in range(left // self.columns, (left + width - 1) // self.columns + 1):
                    y, x = row * self.rows, column * self.columns
                    y0, y1 = max(top, y), min(top + height, y + self.rows)
                    x0, x1 = max(left, x), min(left + width, x + self.columns)
                    segment = self._read_segment(plane, row, column, y0 - y, y1 - y)[:, x0 - x : x1 - x]
                    window[y0 - top : y1 - top, x0 - left : x1 - left, target_bands] = segment[:, :, source_bands]
        return window

    def _read_segment(self, plane: int, row: int, column: int, first: int, last: int) -> NDArray[Any]:
        """Read the rows `first` to `last` of a tile or strip, (rows, columns, bands of the plane)."""
        index = (plane * -(-self.height // self.rows) + row) * self.tiles_across + column
        if self.is_uncompressed and self.offsets[index]:
            return self._read_uncompressed(index, first, last)
        segment = self._cached_segment(index)
        if len(segment) < last:
            raise self._make_read_error(f"tile or strip {index} has {len(segment)} rows of {last}")
        return segment[first:last]

    def _decode_segment(self, index: int) -> NDArray[Any]:
        try:
            file = self.file.filehandle
            file.seek(self.page.dataoffsets[index])
            data = file.read(self.page.databytecounts[index])
            decoded = self.page.decode(data or None, index, jpegtables=self.page.jpegtables)[0]
        except Exception as error:  # tifffile raises anything on damaged bytes
            raise self._make_read_error(error) from error
        if decoded is None:  # a tile that was left out
            decoded = np.full((1, self.rows, self.columns, self.bands // self.planes), self.nodata or 0)
        segment: NDArray[Any] = decoded[0].astype(self.layout.dtype, copy=False)
        return segment

    def _read_uncompressed(self, index: int, first: int, last: int) -> NDArray[Any]:
        """Read rows of an uncompressed strip of any length straight from the file."""
        bands_per_plane = self.bands // self.planes
        if self.layout.color_table is not None and self.page.bitspersample < 8:
            raise self._make_read_error("bands of less than 8 bits in uncompressed strips need rasterio")
        row_bytes = self.width * bands_per_plane * self.layout.dtype.itemsize
        file = self.file.filehandle
        file.seek(self.offsets[index] + first * row_bytes)
        data = file.read((last - first) * row_bytes)
        if len(data) < (last - first) * row_bytes:
            raise self._make_read_error(f"strip {index} ends early")
        stored = np.frombuffer(data, self.layout.dtype.newbyteorder(self.file.byteorder))
        return stored.astype(self.layout.dtype, copy=False).reshape(last - first, self.width, bands_per_plane)

    def _parse_nodata(self, header: TiffHeader) -> float | None:
        if GDAL_NODATA not in header.tags:
            return None
        text = header.tags[GDAL_NODATA].data.rstrip(b"\0 ").decode("ascii", "replace")
        try:
            return float(text)
        except ValueError as error:
            raise InputError(
                f"{self.path}: found the nodata value {text!r}; expected a number", hint="set it again"
            ) from error

    def _make_read_error(self, error: object) -> InputError:
        return InputError(
            f"{self.path}: the TIFF cannot be read ({error})",
            hint="copy the file again, or install rasterio, which knows all compressions: pip install 'dilated[geo]'",
        )
