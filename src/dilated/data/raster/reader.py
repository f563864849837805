"""Images of any size, read window by window in bounded memory.

    with open_raster("city.tif") as raster:              # 100,000 x 80,000 pixels; a few hundred MB of memory at most
        window = raster.read(top=4096, left=0, height=512, width=512)      # (512, 512, 3) uint8

TIFFs are read in place. Any other format is decoded once into an unnamed temporary file: PNG of any size (row by row by
rasterio, where it is too large to be decoded whole), others up to `MAX_DECODED_PIXELS`. That file is read, not mapped,
since mapped pages would count as the process's memory, and it disappears with the process, however that ends. The
pixels are those that `read_image` gives for the same file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dilated.data.band_header import BandHeader, open_npy, read_band_header, require_full_range, to_rgb
from dilated.data.dicom import DICOM_HEAD, is_dicom
from dilated.data.images import ImageArray, ImageTooLargeError, open_image, read_image, to_rgb_array
from dilated.data.raster import gdal
from dilated.data.raster.base import GEO_HINT, MAX_SEGMENT_BYTES, RasterFile, describe_conversion, validate_size
from dilated.data.raster.tags import TiffHeader, is_tiff, read_tiff_header
from dilated.data.raster.tiff import TifffileRaster
from dilated.errors import InputError
from dilated.input_config import BandArray, InputConfig
from dilated.quiet import without_warnings

MAX_DECODED_PIXELS = 100_000_000
"""Pixels of an image that may be decoded whole: about half a GB of memory for a moment."""

_ROWS_PER_COPY = 64  # copied at a time


class Raster(Protocol):
    """Anything that is read window by window; `height` and `width` are in pixels."""

    height: int
    width: int

    def read(self, top: int, left: int, height: int, width: int) -> BandArray:
        """Read the window as (height, width, 3) uint8 or (height, width, n); it must lie inside the raster."""
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
        A `Raster` that also has `bands`, `geo_tags` (the georeference), `nodata`, and `read_mask`, which reads the mask
        of pixels with data.

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
        start = file.read(DICOM_HEAD)
        header = read_tiff_header(path, file) if is_tiff(start) and not is_dicom(start) else None
    if header is not None:
        if find_spec("rasterio"):
            return _open_with_gdal(header, bands, scratch_folder)
        if find_spec("tifffile"):
            return TifffileRaster(header, bands)
        if bands or header.geo_tags or not _fits_in_memory(path):
            raise InputError(
                f"{path}: a TIFF of this size, with a georeference or with chosen bands needs a reader that is not "
                "installed",
                hint=GEO_HINT,
            )
    if bands is not None:
        raise InputError(
            f"{path}: bands {tuple(bands)} were chosen, but only those of a TIFF can be", hint="leave them out"
        )
    bands_header = read_band_header(path)
    if bands_header is not None and bands_header.is_array:
        return _copy_array(bands_header, scratch_folder)
    if start.startswith(gdal.PNG_SIGNATURE):
        height, width, orientation = gdal.read_png_header(path)
        if height * width > MAX_DECODED_PIXELS:
            return _unpack_png(path, height, width, orientation, scratch_folder)
    return _decode_image(path, scratch_folder)


def _open_with_gdal(header: TiffHeader, bands: Sequence[int] | None, folder: Path | None) -> RasterFile:
    """Open a TIFF where it lies; one whose compressed strips are too large for that is unpacked first."""
    raster = gdal.GDALRaster(header, bands)
    if header.is_tiled or header.is_uncompressed or raster.segment_bytes <= MAX_SEGMENT_BYTES:
        return raster
    # Such a strip can only be decoded from its first row on; windows at random would decode it again and again.
    with raster:
        return copy_raster(raster, folder)


def _copy_array(header: BandHeader, folder: Path | None) -> ScratchRaster:
    """Put NPY, some rows at a time, or DICOM, which is read whole, where it is read in windows as 8-bit RGB."""
    rows: Iterable[ImageArray]
    if header.kind == "NPY" and header.reduces_to_rgb:
        values = open_npy(header.path)
        rows = (to_rgb(values[top : top + _ROWS_PER_COPY]) for top in range(0, header.size[0], _ROWS_PER_COPY))
    else:
        rows = [read_image(header.path)]
    return ScratchRaster(header.path, header.size, 3, rows, folder)


def _fits_in_memory(path: Path) -> bool:
    with suppress(ImageTooLargeError), open_image(path) as image:
        return image.width * image.height <= MAX_DECODED_PIXELS
    return False


def _unpack_png(path: Path, height: int, width: int, orientation: int, folder: Path | None) -> RasterFile:
    """Unpack a PNG of any size, some rows at a time."""
    if not find_spec("rasterio"):
        raise InputError(f"{path}: a PNG of {width}x{height} pixels needs rasterio", hint=GEO_HINT)
    if orientation != 1:
        raise InputError(
            f"{path}: a PNG of this size with the EXIF orientation {orientation} cannot be rotated in windows",
            hint="save it upright",
        )
    with gdal.GDALPng(path, height, width) as raster:
        return copy_raster(raster, folder)


class ScratchRaster(RasterFile):
    """A raster in a file of rows of 3 bytes per pixel, or of 4 where the last says whether the pixel has data.

    Args:
        path: the image, for error messages.
        size: (H, W).
        channels: 3 or 4; the bands of `config` where that is given.
        rows: all its rows, in blocks of (N, W, channels) uint8, or as `config` says.
        folder: where the file is made; None for the system's folder for temporary files.
        config: what the rows hold; None for 8-bit RGB.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        channels: int,
        rows: Iterable[BandArray],
        folder: Path | None,
        config: InputConfig | None = None,
    ) -> None:
        super().__init__(path, *size)
        self.channels = self.bands = channels
        self.config = config
        self.dtype: np.dtype[Any] = np.dtype(config.dtype if config else np.uint8)
        with ExitStack() as stack:
            with _translate_disk_errors(path):  # unbuffered: rows are written and read in large pieces
                self.file = stack.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))
            for block in rows:
                data = memoryview(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
                with _translate_disk_errors(path):
                    while data:
                        data = data[self.file.write(data) :]
            self.resources = stack.pop_all()

    def _read_window(self, top: int, left: int, height: int, width: int) -> BandArray:
        window = np.empty((height, width, self.channels), self.dtype)
        for i in range(height):
            self.file.seek(((top + i) * self.width + left) * self.channels * self.dtype.itemsize)
            self.file.readinto(memoryview(window[i]).cast("B"))
        return window

    def _read(self, top: int, left: int, height: int, width: int) -> BandArray:
        window = self._read_window(top, left, height, width)
        return window if self.config is not None else np.ascontiguousarray(window[:, :, :3])

    def _read_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        if self.channels != 4 or self.config is not None:
            return None
        mask: NDArray[np.bool_] = self._read_window(top, left, height, width)[:, :, 3] > 0
        return mask


def copy_raster(raster: RasterFile, folder: Path | None) -> ScratchRaster:
    """Copy a raster that is read fastest row by row, from the first row to the last."""

    def rows() -> Iterator[BandArray]:
        for top in range(0, raster.height, _ROWS_PER_COPY):
            window = (top, 0, min(_ROWS_PER_COPY, raster.height - top), raster.width)
            if raster.config is not None:
                yield raster.read(*window)
                continue
            pixels, mask = raster.read(*window), raster.read_mask(*window)
            alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8) if mask is None else mask[:, :, None] * np.uint8(255)
            yield np.concatenate((pixels, alpha), axis=2)

    channels = 4 if raster.config is None else len(raster.config.bands)
    scratch = ScratchRaster(raster.path, (raster.height, raster.width), channels, rows(), folder, raster.config)
    scratch.bands, scratch.nodata, scratch.geo_tags = raster.bands, raster.nodata, raster.geo_tags
    return scratch


def _decode_image(path: Path, folder: Path | None) -> ScratchRaster:
    """Decode an image of any format that pillow knows, upright, with the pixels that `read_image` returns."""
    with without_warnings(Image.DecompressionBombWarning):  # MAX_DECODED_PIXELS is the limit here
        try:
            with open_image(path, MAX_DECODED_PIXELS) as file:
                validate_size(path, file.height, file.width)
                image = ImageOps.exif_transpose(file)
                has_alpha = "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBA", "RGBa")
                image.load()
                if image.mode.startswith("I;16"):
                    require_full_range(int(np.asarray(image).max()), str(path))
                rows = _image_rows(image, has_alpha, str(path))
                return ScratchRaster(path, (image.height, image.width), 4 if has_alpha else 3, rows, folder)
        except ImageTooLargeError as error:
            raise InputError(
                f"{path}: found more than {MAX_DECODED_PIXELS:,} pixels in a format that must be decoded whole",
                hint=f"make it a tiled TIFF, which is read in windows; with dilated[geo], {describe_conversion(path)}",
            ) from error


def _image_rows(image: Image.Image, has_alpha: bool, name: str) -> Iterator[ImageArray]:
    for top in range(0, image.height, _ROWS_PER_COPY):
        strip = image.crop((0, top, image.width, min(top + _ROWS_PER_COPY, image.height)))
        alpha = [np.asarray(strip.convert("RGBA"))[:, :, 3:]] if has_alpha else []
        yield np.concatenate([to_rgb_array(strip, name), *alpha], axis=2)


@contextmanager
def _translate_disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot unpack it into a temporary file of 3 or 4 bytes per pixel ({error})",
            hint="free disk space, or make the image a tiled TIFF, which needs no temporary file",
        ) from error
