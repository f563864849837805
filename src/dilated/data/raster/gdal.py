"""TIFFs of every compression with their georeference, and PNGs of any size, read through rasterio (extra `geo`)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.band_header import to_rgb
from dilated.data.raster.base import NativeBands, RasterFile, TiffRaster, mark_missing, select_bands, validate_size
from dilated.data.raster.tags import Tag, TiffHeader, make_gray_table, read_tiff_header
from dilated.errors import InputError
from dilated.input_config import BandArray
from dilated.quiet import without_warnings

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112  # of EXIF
_READ_BYTES = 1 << 20  # bytes of a PNG that are checked at a time
_CACHE_MEGABYTES = 128  # MB of decoded tiles that GDAL keeps; its own default is a twentieth of the machine's memory


def read_png_header(path: Path) -> tuple[int, int, int]:
    """Read a PNG's header, and verify the checksum of every chunk: neither pillow nor libpng verify all.

    Returns:
        Height, width and the EXIF orientation, which is 1 for an upright image.

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
    return height, width, orientation


class _GDALFile(RasterFile):
    """A file that GDAL has opened."""

    kind: str
    """What messages call the format, `TIFF` or `PNG`."""

    @contextmanager
    def _open(self, driver: str) -> Iterator[None]:
        """Open the file; it is closed again where the block that reads its header raises."""
        import rasterio
        from rasterio.enums import MaskFlags

        with ExitStack() as stack:
            stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_MEGABYTES))
            with _translate_gdal_errors(self.path, self.kind):
                self.dataset = stack.enter_context(rasterio.open(self.path, driver=driver))
                self.has_mask = any(MaskFlags.all_valid not in flags for flags in self.dataset.mask_flag_enums)
                yield
            self.resources = stack.pop_all()

    def _read_values(self, bands: Sequence[int], top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Read the window's values of some bands, (height, width, B)."""
        with _translate_gdal_errors(self.path, self.kind):
            window = (top, top + height), (left, left + width)
            values: NDArray[Any] = self.dataset.read(bands, window=window)
        return values.transpose(1, 2, 0)

    def _read_file_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        if not self.has_mask:
            return None
        with _translate_gdal_errors(self.path, self.kind):
            window = (top, top + height), (left, left + width)
            mask: NDArray[np.uint8] = self.dataset.dataset_mask(window=window)
        return mask > 0


class GDALRaster(_GDALFile, TiffRaster):
    """An open TIFF."""

    kind = "TIFF"

    def __init__(self, header: TiffHeader, bands: Sequence[int] | None, native: NativeBands | None = None) -> None:
        super().__init__(header, native)
        from rasterio.enums import ColorInterp as Is

        with self._open("GTiff"):
            self.nodata = self.dataset.nodata
            self.geo_tags = self._georeference(header)
            if native is not None:
                self.selected_bands = native.bands
                return
            interpretations = list(self.dataset.colorinterp)
            rgb_bands = [
                interpretations.index(target) + 1 for target in (Is.red, Is.green, Is.blue) if target in interpretations
            ]
            color_bands = self.layout.color_bands
            if len(rgb_bands) == 3:
                color_bands = (*rgb_bands, *(b for b in color_bands if b not in rgb_bands))
            self.selected_bands = select_bands(self.path, color_bands, bands, self.bands)

    def _georeference(self, header: TiffHeader) -> tuple[Tag, ...]:
        """Return the file's own tags, or what GDAL knows from files beside it as the tags that GDAL would write.

        An `.aux.xml` beside the file takes precedence over the tags, as everywhere in GDAL.
        """
        has_sidecar = self.path.with_name(f"{self.path.name}.aux.xml").exists()
        if header.geo_tags and not has_sidecar:
            return header.geo_tags
        dataset = self.dataset
        points, points_crs = dataset.gcps
        if dataset.transform.is_identity and not points and dataset.crs is None:
            return header.geo_tags
        from rasterio.io import MemoryFile

        profile: dict[str, Any] = {"crs": dataset.crs, "transform": dataset.transform}
        if points:
            profile = {"crs": points_crs, "gcps": points}
        with _translate_gdal_errors(self.path, self.kind), MemoryFile() as memory:
            with memory.open(driver="GTiff", height=1, width=1, count=1, dtype="uint8", **profile) as target:
                target.update_tags(**{k: v for k, v in dataset.tags().items() if k == "AREA_OR_POINT"})
            return read_tiff_header(self.path, BytesIO(memory.read())).geo_tags


class GDALPng(_GDALFile):
    """An open PNG, whose rows GDAL decodes in their order; the pixels are pillow's, or the file's values.

    Args:
        path: the file.
        height, width: as its header says.
        native: the bands that are read with the values that the file has; None for 8-bit RGB.
    """

    kind = "PNG"

    def __init__(self, path: Path, height: int, width: int, native: NativeBands | None = None) -> None:
        super().__init__(path, height, width)
        self.native = native
        self.config = native.config if native else None
        with self._open("PNG"):
            self.bands = self.dataset.count
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

    def _read(self, top: int, left: int, height: int, width: int) -> BandArray:
        if self.native is not None:
            values = self._read_values(self.native.bands, top, left, height, width)
            return mark_missing(values, self._read_mask(top, left, height, width), self.native.config)
        values = self._read_values(self.color_bands, top, left, height, width)
        if self.color_table is not None:
            return self.color_table[values[:, :, 0]]
        if self.bands == 2 and values.dtype == np.uint16:  # pillow's rule for 16-bit grey with alpha
            values = (values >> 8).astype(np.uint8)
        return to_rgb(values)

    def _read_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        if self.native is not None:
            if self.native.alpha is None:
                return None
            return self._read_values((self.native.alpha,), top, left, height, width)[:, :, 0] > 0
        if self.palette is None or not self.has_mask:
            return self._read_file_mask(top, left, height, width)
        indices = self._read_values((1,), top, left, height, width)[:, :, 0]
        return self.palette[indices, 3] > 0


@contextmanager
def _translate_gdal_errors(path: Path, kind: str) -> Iterator[None]:
    """Turn what GDAL raises into an `InputError` that names the file; a missing georeference is not reported."""
    from rasterio._err import CPLE_BaseError  # which properties of a dataset raise as they are
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with without_warnings(NotGeoreferencedWarning):
            yield
    except InputError:
        raise
    except (RasterioError, CPLE_BaseError, OSError, ValueError) as error:
        raise _make_damage_error(path, kind, error) from error


def _make_damage_error(path: Path, kind: str, reason: object) -> InputError:
    return InputError(
        f"{path}: the {kind} cannot be read ({reason})", hint="copy the file again, or repair it with gdal_translate"
    )
