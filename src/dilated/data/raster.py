"""Pictures of any size, read window by window in bounded memory.

    with open_raster("city.tif") as raster:              # 100,000 x 80,000 pixels; a few hundred MB of memory at most
        window = raster.read(top=4096, left=0, height=512, width=512)      # (512, 512, 3) uint8

TIFFs are read where they lie. A PNG is unpacked once, row by row, into a nameless file on the disk; any other format is
decoded whole first, if it is small enough for that. The pixels are those that `read_image` gives for the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from dilated.data.images import Pixels, opened, too_large
from dilated.data.rasters import geotiff, png, scratch, tiff
from dilated.data.rasters.base import Georeference, RasterFile
from dilated.data.rasters.tags import is_tiff, read_header
from dilated.errors import InputError

__all__ = ["Georeference", "Raster", "RasterFile", "open_raster"]


class Raster(Protocol):
    """What is read window by window; `height` and `width` are in pixels."""

    height: int
    width: int

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        """The window as (height, width, 3) uint8; it must lie inside the raster."""
        ...


def open_raster(
    path: Path | str, *, bands: Sequence[int] | None = None, scratch_folder: Path | None = None
) -> RasterFile:
    """Open a picture of any size; use it in a `with`, by one thread at a time.

    Args:
        bands: which three bands of a TIFF are red, green and blue, or the one that is grey, counted from 1. By default
            the bands that the file itself calls red, green and blue, else its first three apart from alpha; a
            file of one band is grey.
        scratch_folder: where a picture that cannot be read in windows is unpacked (3 or 4 bytes a pixel, gone with the
            process); by default the folder for temporary files.

    Returns:
        A `Raster` that also has `bands`, `georeference`, `nodata` and `valid`, the mask of pixels with data.

    Raises:
        InputError: no such file, no picture, a damaged or truncated one, a header that cannot be true, pixels that are
            not of 8 or 16 bits, bands that the file does not have, or a format that must be decoded whole and
            is too large.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (40, 30), 200).save(path)
        >>> with open_raster(path) as raster:
        ...     raster.height, raster.width, raster.read(10, 20, 2, 1).tolist()
        (30, 40, [[[200, 200, 200]], [[200, 200, 200]]])
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: found {'a folder' if path.is_dir() else 'no such file'}; expected a picture")
    with path.open("rb") as file:
        start = file.read(16)
    if is_tiff(start):
        header = read_header(path)
        if find_spec("rasterio"):
            return geotiff.open_tiff(path, header, bands, scratch_folder)
        if find_spec("tifffile"):
            return tiff.TiffRaster(path, header, bands)
        small = False
        if not too_large(path):
            with opened(path) as picture:
                small = picture.width * picture.height <= scratch.WHOLE
        if not small or bands or header.geo:
            raise InputError(
                f"{path}: a TIFF of this size, with a georeference or with chosen bands needs a reader that is not "
                "installed; run: pip install 'dilated[geo]'"
            )
    if bands is not None:
        raise InputError(f"{path}: bands {tuple(bands)} were chosen, but only those of a TIFF can be; leave them out")
    if start.startswith(png.SIGNATURE):
        return png.open_png(path, scratch_folder)
    return scratch.decode_whole(path, scratch_folder)
