"""TIFFs of every compression, with their georeference, read through rasterio (extra `geo`)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import ImageArray
from dilated.data.raster.base import (
    MAX_SEGMENT_BYTES,
    Georeference,
    RasterFile,
    select_bands,
    to_rgb,
    validate_size,
)
from dilated.data.raster.scratch import copy_to_scratch
from dilated.data.raster.tags import COMPRESSION, HEIGHT, WIDTH, TiffHeader, read_tiff_header
from dilated.data.raster.tiff_layout import read_layout
from dilated.errors import InputError

_CACHE_MEGABYTES = 128  # MB of decoded tiles that GDAL keeps; its own default is a twentieth of the machine's memory


def open_tiff(path: Path, header: TiffHeader, bands: Sequence[int] | None, folder: Path | None) -> RasterFile:
    """A TIFF, read where it lies; one whose compressed strips are too large for that is unpacked first.

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
        unpacked = copy_to_scratch(raster, folder)
    unpacked.georeference, unpacked.nodata, unpacked.bands = raster.georeference, raster.nodata, raster.bands
    return unpacked


class GDALRaster(RasterFile):
    """An open TIFF."""

    def __init__(self, path: Path, header: TiffHeader, bands: Sequence[int] | None) -> None:
        super().__init__()
        import rasterio
        from rasterio.enums import ColorInterp as Is
        from rasterio.enums import MaskFlags

        self.path = path
        self.layout = read_layout(header)
        self.height, self.width, self.bands = header.get_int(HEIGHT), header.get_int(WIDTH), self.layout.bands
        validate_size(path, self.height, self.width)
        try:
            self.resources.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_MEGABYTES))
            with _translate_gdal_errors(path):
                self.dataset = self.resources.enter_context(rasterio.open(path, driver="GTiff"))
            self.nodata = self.dataset.nodata
            self.has_mask = any(MaskFlags.all_valid not in flags for flags in self.dataset.mask_flag_enums)
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
        with _translate_gdal_errors(self.path):
            values = self.dataset.read(self.selected_bands, window=_make_window(top, left, height, width))
        return to_rgb(self.layout.apply_color_table(values.transpose(1, 2, 0)))

    def _read_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        if not self.has_mask:
            return None
        with _translate_gdal_errors(self.path):
            mask: NDArray[np.uint8] = self.dataset.dataset_mask(window=_make_window(top, left, height, width))
        return mask > 0

    def _georeference(self, header: TiffHeader) -> Georeference | None:
        """The file's own tags as they are; or what GDAL knows from files beside it, as the tags that GDAL would write.

        A `.aux.xml` beside the file comes before the tags, as everywhere in GDAL.
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
        with _translate_gdal_errors(self.path), MemoryFile() as memory:
            with memory.open(driver="GTiff", height=1, width=1, count=1, dtype="uint8", **profile) as target:
                target.update_tags(**{k: v for k, v in dataset.tags().items() if k == "AREA_OR_POINT"})
            return Georeference(_read_geo_tags(memory.read()))


def _read_geo_tags(content: bytes) -> tuple[Any, ...]:
    """The georeferencing tags of a TIFF in memory."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.tif"
        path.write_bytes(content)
        return read_tiff_header(path).geo_tags


def _make_window(top: int, left: int, height: int, width: int) -> Any:
    from rasterio.windows import Window

    return Window(left, top, width, height)


@contextmanager
def _translate_gdal_errors(path: Path) -> Iterator[None]:
    """What GDAL raises meanwhile becomes an `InputError` that names the file; no georeference is no news."""
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except (RasterioError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: the TIFF cannot be read ({error}); expected a whole file. Copy it again, or repair it with "
            "gdal_translate."
        ) from error
