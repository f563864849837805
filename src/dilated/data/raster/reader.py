"""Images of any size, read window by window in bounded memory.

    with open_raster("city.tif") as raster:              # 100,000 x 80,000 pixels; a few hundred MB of memory at most
        window = raster.read(top=4096, left=0, height=512, width=512)      # (512, 512, 3) uint8

TIFFs are read in place. Any other format is decoded once into an unnamed temporary file: PNG of any size (row by row by
rasterio, where it is too large to be decoded whole), others up to `MAX_DECODED_PIXELS`. The pixels are those that
`read_image` gives for the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from dilated.data.images import ImageArray, exceeds_pixel_limit, open_image
from dilated.data.raster import gdal, scratch, tiff
from dilated.data.raster.base import GEO_HINT, Georeference, RasterFile
from dilated.data.raster.tags import is_tiff, read_tiff_header
from dilated.errors import InputError

__all__ = ["Georeference", "Raster", "RasterFile", "open_raster"]


class Raster(Protocol):
    """Anything that is read window by window; `height` and `width` are in pixels."""

    height: int
    width: int

    def read(self, top: int, left: int, height: int, width: int) -> ImageArray:
        """Read the window as (height, width, 3) uint8; it must lie inside the raster."""
        ...


def open_raster(
    path: Path | str, *, bands: Sequence[int] | None = None, scratch_folder: Path | None = None
) -> RasterFile:
    """Open an image of any size; use it in a `with` block, by one thread at a time.

    Args:
        path: the image file.
        bands: the three bands of a TIFF that are red, green and blue, or the one that is grey, counted from 1. By
            default the bands that the file itself calls red, green and blue, else its first three apart from alpha; a
            file of one band is grey.
        scratch_folder: where an image that cannot be read in windows is unpacked (3 or 4 bytes per pixel, removed with
            the process); by default the system's folder for temporary files.

    Returns:
        A `Raster` that also has `bands`, `georeference`, `nodata` and `read_mask`, the mask of pixels with data.

    Raises:
        InputError: no such file, not an image, a damaged or truncated one, a header that cannot be true, pixels that
            are not of 8 or 16 bits, bands that the file does not have, a format that must be decoded whole and is too
            large, or a reader that is not installed.

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
        raise InputError(f"{path}: found {'a folder' if path.is_dir() else 'no such file'}; expected an image")
    with path.open("rb") as file:
        start = file.read(16)
    if is_tiff(start):
        header = read_tiff_header(path)
        if find_spec("rasterio"):
            return gdal.open_tiff(path, header, bands, scratch_folder)
        if find_spec("tifffile"):
            return tiff.TifffileRaster(path, header, bands)
        fits_in_memory = False
        if not exceeds_pixel_limit(path):
            with open_image(path) as image:
                fits_in_memory = image.width * image.height <= scratch.MAX_DECODED_PIXELS
        if not fits_in_memory or bands or header.geo_tags:
            raise InputError(
                f"{path}: a TIFF of this size, with a georeference or with chosen bands needs a reader that is not "
                "installed",
                hint=GEO_HINT,
            )
    if bands is not None:
        raise InputError(
            f"{path}: bands {tuple(bands)} were chosen, but only those of a TIFF can be", hint="leave them out"
        )
    if start.startswith(gdal.PNG_SIGNATURE):
        png = gdal.read_png_header(path)
        if png.width * png.height > scratch.MAX_DECODED_PIXELS:
            if not find_spec("rasterio"):
                raise InputError(f"{path}: a PNG of {png.width}x{png.height} pixels needs rasterio", hint=GEO_HINT)
            return gdal.unpack_png(png, scratch_folder)
    return scratch.decode_to_scratch(path, scratch_folder)
