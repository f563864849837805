"""TIFFs of every compression with their georeference, and PNGs of any size, read through rasterio (extra `geo`)."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.images import ImageArray
from dilated.data.raster.base import (
    MAX_SEGMENT_BYTES,
    Georeference,
    RasterFile,
    select_bands,
    to_rgb,
    validate_size,
)
from dilated.data.raster.scratch import ScratchRaster, copy_to_scratch
from dilated.data.raster.tags import (
    COMPRESSION,
    HEIGHT,
    WIDTH,
    TiffHeader,
    make_gray_table,
    read_layout,
    read_tiff_header,
)
from dilated.errors import InputError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112  # of EXIF
_READ_BYTES = 1 << 20  # bytes of a PNG that are checked at a time
_CACHE_MEGABYTES = 128  # MB of decoded tiles that GDAL keeps; its own default is a twentieth of the machine's memory


def open_tiff(path: Path, header: TiffHeader, bands: Sequence[int] | None, folder: Path | None) -> RasterFile:
    """Open a TIFF where it lies; one whose compressed strips are too large for that is unpacked first.

    Raises:
        InputError: as `open_raster`.
    """
    raster = GDALRaster(path, header, bands)
    rows, columns = header.segment_shape
    if (
        header.is_tiled
        or header.get_int(COMPRESSION, 1) == 1
        or rows * columns * raster.pixel_bytes <= MAX_SEGMENT_BYTES
    ):
        return raster
    # Such a strip can only be decoded from its first row on; windows at random would decode it again and again.
    with raster:
        return copy_to_scratch(raster, folder)


@dataclass(frozen=True)
class PngHeader:
    """What a PNG says besides its pixels."""

    path: Path
    width: int
    height: int
    orientation: int
    """That of EXIF; 1 is upright."""


def read_png_header(path: Path) -> PngHeader:
    """Read a PNG's size and orientation, and verify the checksum of every chunk: neither pillow nor libpng verify all.

    Raises:
        InputError: a damaged or truncated file, or a size that cannot be true.
    """
    width = height = 0
    orientation = 1
    with path.open("rb") as file:
        file.seek(len(PNG_SIGNATURE))
        chunk_type = b""
        while chunk_type != b"IEND":
            start = file.read(8)
            if len(start) < 8:
                raise _make_damage_error(path, "PNG", "it ends early")
            remaining, chunk_type = struct.unpack(">I4s", start)
            checksum, data = zlib.crc32(chunk_type), b""
            while remaining:
                data = file.read(min(remaining, _READ_BYTES))
                if not data:
                    raise _make_damage_error(path, "PNG", "it ends early")
                checksum, remaining = zlib.crc32(data, checksum), remaining - len(data)
            if file.read(4) != struct.pack(">I", checksum):
                raise _make_damage_error(path, "PNG", f"the checksum of its chunk {chunk_type!r} is wrong")
            if chunk_type == b"IHDR" and len(data) == 13:
                width, height = struct.unpack_from(">II", data)
                validate_size(path, height, width)
            elif chunk_type == b"eXIf":
                exif = Image.Exif()
                exif.load(data)
                orientation = int(exif.get(_ORIENTATION, 1))
    if not width:
        raise _make_damage_error(path, "PNG", "it has no header")
    return PngHeader(path, width, height, orientation)


def unpack_png(header: PngHeader, folder: Path | None) -> ScratchRaster:
    """Unpack a PNG of any size, some rows at a time.

    Raises:
        InputError: a damaged file, or an image that its EXIF orientation rotates.
    """
    if header.orientation != 1:
        raise InputError(
            f"{header.path}: a PNG of this size with the EXIF orientation {header.orientation} cannot be rotated in "
            "windows",
            hint="save it upright",
        )
    with _GDALPng(header.path) as raster:
        return copy_to_scratch(raster, folder)


class _GDALFile(RasterFile):
    """A file that GDAL has opened."""

    kind: str
    """What messages call the format, `TIFF` or `PNG`."""

    def _open(self, path: Path, driver: str) -> None:
        import rasterio
        from rasterio.enums import MaskFlags

        self.path = path
        self.resources.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_MEGABYTES))
        with _translate_gdal_errors(path, self.kind):
            self.dataset = self.resources.enter_context(rasterio.open(path, driver=driver))
        self.has_mask = any(MaskFlags.all_valid not in flags for flags in self.dataset.mask_flag_enums)

    def _read_values(self, bands: Sequence[int], top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Read the window's values of some bands, (height, width, B)."""
        with _translate_gdal_errors(self.path, self.kind):
            values: NDArray[Any] = self.dataset.read(bands, window=_make_window(top, left, height, width))
        return values.transpose(1, 2, 0)

    def _read_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        if not self.has_mask:
            return None
        with _translate_gdal_errors(self.path, self.kind):
            mask: NDArray[np.uint8] = self.dataset.dataset_mask(window=_make_window(top, left, height, width))
        return mask > 0


class GDALRaster(_GDALFile):
    """An open TIFF."""

    kind = "TIFF"

    def __init__(self, path: Path, header: TiffHeader, bands: Sequence[int] | None) -> None:
        super().__init__()
        from rasterio.enums import ColorInterp as Is

        self.layout = read_layout(header)
        self.height, self.width, self.bands = header.get_int(HEIGHT), header.get_int(WIDTH), self.layout.bands
        validate_size(path, self.height, self.width)
        try:
            self._open(path, "GTiff")
            self.nodata = self.dataset.nodata
            interpretations = list(self.dataset.colorinterp)
            rgb_bands = [
                interpretations.index(target) + 1 for target in (Is.red, Is.green, Is.blue) if target in interpretations
            ]
            color_bands = self.layout.color_bands
            if len(rgb_bands) == 3:
                color_bands = (*rgb_bands, *(b for b in color_bands if b not in rgb_bands))
            self.selected_bands = select_bands(path, color_bands, bands, self.bands)
            self.georeference = self._georeference(header)
        except BaseException:
            self.close()
            raise

    @property
    def pixel_bytes(self) -> int:
        return self.bands * self.layout.dtype.itemsize

    def _read(self, top: int, left: int, height: int, width: int) -> ImageArray:
        return to_rgb(self.layout.apply_color_table(self._read_values(self.selected_bands, top, left, height, width)))

    def _georeference(self, header: TiffHeader) -> Georeference | None:
        """Return the file's own tags, or what GDAL knows from files beside it as the tags that GDAL would write.

        An `.aux.xml` beside the file takes precedence over the tags, as everywhere in GDAL.
        """
        has_sidecar = self.path.with_name(f"{self.path.name}.aux.xml").exists()
        if header.geo_tags and not has_sidecar:
            return Georeference(header.geo_tags)
        dataset = self.dataset
        points, points_crs = dataset.gcps
        if dataset.transform.is_identity and not points and dataset.crs is None:
            return Georeference(header.geo_tags) if header.geo_tags else None
        from rasterio.io import MemoryFile

        profile: dict[str, Any] = {"crs": dataset.crs, "transform": dataset.transform}
        if points:
            profile = {"crs": points_crs, "gcps": points}
        with _translate_gdal_errors(self.path, self.kind), MemoryFile() as memory:
            with memory.open(driver="GTiff", height=1, width=1, count=1, dtype="uint8", **profile) as target:
                target.update_tags(**{k: v for k, v in dataset.tags().items() if k == "AREA_OR_POINT"})
            return Georeference(read_tiff_header(self.path, BytesIO(memory.read())).geo_tags)


class _GDALPng(_GDALFile):
    """An open PNG, whose rows GDAL decodes in their order; the pixels are those that pillow gives."""

    kind = "PNG"

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            self._open(path, "PNG")
            self.height, self.width, self.bands = self.dataset.height, self.dataset.width, self.dataset.count
            self.color_bands = (1, 2, 3) if self.bands > 2 else (1,)
            self.palette: NDArray[np.uint8] | None = None
            """(256, 4) RGBA by index."""
            self.color_table: NDArray[np.uint8] | None = None
            """(values, 3) RGB of grey of fewer than 8 bits."""
            bits = int(self.dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))
            if self.dataset.colorinterp[0].name == "palette":
                entries = self.dataset.colormap(1)
                self.palette = np.array([entries.get(i, (0, 0, 0, 255)) for i in range(256)], np.uint8)
                self.color_table = self.palette[:, :3]
                self.has_mask = bool((self.palette[:, 3] == 0).any())
            elif bits < 8:
                self.color_table = make_gray_table(bits)
        except BaseException:
            self.close()
            raise

    def _read(self, top: int, left: int, height: int, width: int) -> ImageArray:
        values = self._read_values(self.color_bands, top, left, height, width)
        if self.color_table is not None:
            return self.color_table[values[:, :, 0]]
        if self.bands == 2 and values.dtype == np.uint16:  # pillow's rule for 16-bit grey with alpha
            values = (values >> 8).astype(np.uint8)
        return to_rgb(values)

    def _read_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        if self.palette is None or not self.has_mask:
            return super()._read_mask(top, left, height, width)
        indices = self._read_values((1,), top, left, height, width)[:, :, 0]
        return self.palette[indices, 3] > 0


def _make_window(top: int, left: int, height: int, width: int) -> Any:
    from rasterio.windows import Window

    return Window(left, top, width, height)


@contextmanager
def _translate_gdal_errors(path: Path, kind: str) -> Iterator[None]:
    """Turn what GDAL raises into an `InputError` that names the file; a missing georeference is not reported."""
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except (RasterioError, OSError, ValueError) as error:
        raise _make_damage_error(path, kind, error) from error


def _make_damage_error(path: Path, kind: str, reason: object) -> InputError:
    return InputError(
        f"{path}: the {kind} cannot be read ({reason})", hint="copy the file again, or repair it with gdal_translate"
    )
