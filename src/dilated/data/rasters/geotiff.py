"""TIFFs of every compression, with their georeference, read through rasterio (extra `geo`)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import Pixels
from dilated.data.rasters.base import SEGMENT, Georeference, RasterFile, choose, credible, rgb
from dilated.data.rasters.layout import layout
from dilated.data.rasters.scratch import unpack
from dilated.data.rasters.tags import COMPRESSION, HEIGHT, WIDTH, Header, read_header
from dilated.errors import InputError

CACHE = 128  # MB of decoded tiles that GDAL keeps; its own default is a twentieth of the machine's memory


def open_tiff(path: Path, header: Header, bands: Sequence[int] | None, folder: Path | None) -> RasterFile:
    """A TIFF, read where it lies; one whose compressed strips are too large for that is unpacked first.

    Raises:
        InputError: as `open_raster`.
    """
    raster = GeoTiff(path, header, bands)
    rows, columns = header.segment
    if header.tiled or header.number(COMPRESSION, 1) == 1 or rows * columns * raster.pixel_bytes <= SEGMENT:
        return raster
    # Such a strip can only be decoded from its first row on; windows at random would decode it again and again.
    with raster:
        unpacked = unpack(raster, folder)
    unpacked.georeference, unpacked.nodata, unpacked.bands = raster.georeference, raster.nodata, raster.bands
    return unpacked


class GeoTiff(RasterFile):
    """An open TIFF."""

    def __init__(self, path: Path, header: Header, bands: Sequence[int] | None) -> None:
        super().__init__()
        import rasterio
        from rasterio.enums import ColorInterp as Is
        from rasterio.enums import MaskFlags

        self.path = path
        self.layout = layout(header)
        self.height, self.width, self.bands = header.number(HEIGHT), header.number(WIDTH), self.layout.bands
        credible(path, self.height, self.width)
        try:
            self.resources.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE))
            with understood(path):
                self.dataset = self.resources.enter_context(rasterio.open(path, driver="GTiff"))
            self.nodata = self.dataset.nodata
            self.masked = any(MaskFlags.all_valid not in flags for flags in self.dataset.mask_flag_enums)
            known = list(self.dataset.colorinterp)
            named = [known.index(one) + 1 for one in (Is.red, Is.green, Is.blue) if one in known]
            colour = self.layout.colour
            if len(named) == 3:
                colour = (*named, *(b for b in colour if b not in named))
            self.chosen = choose(path, colour, bands, self.bands)
            self.georeference = self._georeference(header)
        except BaseException:
            self.close()
            raise

    @property
    def pixel_bytes(self) -> int:
        return self.bands * self.layout.dtype.itemsize

    def _read(self, top: int, left: int, height: int, width: int) -> Pixels:
        with understood(self.path):
            values = self.dataset.read(self.chosen, window=_window(top, left, height, width))
        return rgb(self.layout.looked_up(values.transpose(1, 2, 0)))

    def _valid(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        if not self.masked:
            return None
        with understood(self.path):
            mask: NDArray[np.uint8] = self.dataset.dataset_mask(window=_window(top, left, height, width))
        return mask > 0

    def _georeference(self, header: Header) -> Georeference | None:
        """The file's own tags as they are; or what GDAL knows from files beside it, as the tags that GDAL would write.

        A `.aux.xml` beside the file comes before the tags, as everywhere in GDAL.
        """
        beside = self.path.with_name(f"{self.path.name}.aux.xml").exists()
        if header.geo and not beside:
            return Georeference(header.geo)
        dataset = self.dataset
        points, points_crs = dataset.gcps
        if dataset.transform.is_identity and not points and dataset.crs is None:
            return Georeference(header.geo) if header.geo else None
        from rasterio.io import MemoryFile

        placed: dict[str, Any] = {"crs": dataset.crs, "transform": dataset.transform}
        if points:
            placed = {"crs": points_crs, "gcps": points}
        with understood(self.path), MemoryFile() as memory:
            with memory.open(driver="GTiff", height=1, width=1, count=1, dtype="uint8", **placed) as one:
                one.update_tags(**{k: v for k, v in dataset.tags().items() if k == "AREA_OR_POINT"})
            return Georeference(_tags_of(memory.read()))


def _tags_of(content: bytes) -> tuple[Any, ...]:
    """The georeferencing tags of a TIFF in memory."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.tif"
        path.write_bytes(content)
        return read_header(path).geo


def _window(top: int, left: int, height: int, width: int) -> Any:
    from rasterio.windows import Window

    return Window(left, top, width, height)


@contextmanager
def understood(path: Path) -> Iterator[None]:
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
