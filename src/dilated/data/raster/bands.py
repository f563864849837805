"""Images of any bands and numbers, whole or window by window, with the values that their files have.

    values = read_bands(Path("scene.tif"), config)       # (H, W, n) uint8, uint16, int16 or float32
    with open_band_raster(Path("scene.tif"), config) as raster:
        window = raster.read(0, 0, 512, 512)             # the same, in bounded memory

`config` says which bands are wanted, in which order, and what marks a pixel without data. Pixels that a file's own mask
or alpha band leaves out get that value; see `mark_missing`.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.band_header import BandHeader, open_npy, read_band_header, read_png_values
from dilated.data.dicom import read_dicom_values
from dilated.data.images import get_pixel_limit, make_too_large_error, open_image, read_image
from dilated.data.raster.base import GEO_HINT, MAX_SEGMENT_BYTES, NativeBands, RasterFile, mark_missing
from dilated.data.raster.gdal import GDALPng, GDALRaster, read_png_header
from dilated.data.raster.reader import Raster, copy_raster
from dilated.data.raster.tags import read_tiff_header
from dilated.data.raster.tiff import TifffileRaster
from dilated.errors import InputError
from dilated.input_config import RGB, BandArray, InputConfig, describe_bands

_MAX_SAMPLED_SIDE = 512
_WINDOW_SIDE = 64
_WINDOWS_PER_AXIS = 8


def read_input(path: Path, config: InputConfig | None) -> BandArray:
    """Read an image as a network takes it: (H, W, 3) uint8, or (H, W, n) where `config` says what it must hold."""
    return read_image(path) if config is None else read_bands(path, config)


def read_bands(path: Path, config: InputConfig) -> BandArray:
    """Read an image whole.

    Args:
        config: what it must hold.

    Returns:
        (H, W, n), of `config.dtype`.

    Raises:
        InputError: an unreadable file, other bands or numbers than those of `config`, too many pixels, or a package
            that is not installed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "scene.npy"
        >>> np.save(path, np.full((2, 3, 4), 7, np.uint16))
        >>> read_bands(path, InputConfig(("a", "b", "c", "d"), "uint16")).shape
        (2, 3, 4)
    """
    header = read_band_header(path, include_plain=len(config.bands) > 3)
    if header is None:
        return _select_colors(path, read_image(path), config)
    height, width = header.size
    if height * width > get_pixel_limit():
        raise make_too_large_error(path, f"{width}x{height}")
    with _open_with_header(header, config, None) as raster:
        return np.ascontiguousarray(raster.read(0, 0, height, width))


def open_band_raster(path: Path, config: InputConfig, scratch_folder: Path | None = None) -> RasterFile:
    """Open an image of any size; use it in a `with` block, by one thread at a time.

    Args:
        config: what it must hold.
        scratch_folder: where a TIFF that cannot be read in windows is unpacked; see `open_raster`.

    Raises:
        InputError: as `read_bands`, without a limit of pixels.
    """
    header = read_band_header(path, include_plain=len(config.bands) > 3)
    if header is None:
        return _ArrayRaster(path, _select_colors(path, read_image(path), config), config)
    return _open_with_header(header, config, scratch_folder)


def sample_windows(raster: Raster) -> BandArray:
    """Read windows that stand for an image, spread evenly over it; all of an image of 512x512 pixels or less.

    Args:
        raster: anything that is read window by window.

    Returns:
        (k, w, n) values as the image has them.
    """
    height, width = raster.height, raster.width
    if max(height, width) <= _MAX_SAMPLED_SIDE:
        return raster.read(0, 0, height, width)
    rows, columns = min(height, _WINDOW_SIDE), min(width, _WINDOW_SIDE)
    tops = np.linspace(0, height - rows, _WINDOWS_PER_AXIS).round().astype(int)
    lefts = np.linspace(0, width - columns, _WINDOWS_PER_AXIS).round().astype(int)
    return np.concatenate([raster.read(int(top), int(left), rows, columns) for top in tops for left in lefts])


def resolve_range(pixels: BandArray, config: InputConfig | None) -> InputConfig | None:
    """The description by which an image is scaled, with the image's own range where it asks for that.

    Args:
        pixels: (H, W, n).
    """
    return config and config.resolve(sample_windows(InMemoryRaster(pixels)))


class InMemoryRaster:
    """An image in memory, (H, W, n), read like a raster."""

    def __init__(self, pixels: BandArray) -> None:
        self.pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def read(self, top: int, left: int, height: int, width: int) -> BandArray:
        return self.pixels[top : top + height, left : left + width]


class _ArrayRaster(RasterFile):
    """An image in memory, or an array that is mapped into it.

    Args:
        path: the file, for messages.
        values: (H, W, n) of `config`.
        config: what it holds.
        mask: which pixels have data, (H, W); None if all have.
    """

    def __init__(
        self, path: Path, values: BandArray, config: InputConfig, mask: NDArray[np.bool_] | None = None
    ) -> None:
        super().__init__(path, *values.shape[:2])
        self.values, self.config, self.mask = values, config, mask
        self.bands = values.shape[2]

    def _read(self, top: int, left: int, height: int, width: int) -> BandArray:
        assert self.config is not None
        values = self.values[top : top + height, left : left + width].astype(self.config.dtype)
        return mark_missing(values, self._read_mask(top, left, height, width), self.config)

    def _read_mask(self, top: int, left: int, height: int, width: int) -> NDArray[np.bool_] | None:
        return None if self.mask is None else self.mask[top : top + height, left : left + width]


def _open_with_header(header: BandHeader, config: InputConfig, folder: Path | None) -> RasterFile:
    channels = header.select(config)
    if header.kind == "TIFF":
        alpha = header.alpha + 1 if header.alpha is not None and header.alpha not in channels else None
        return _open_tiff(header, NativeBands(tuple(i + 1 for i in channels), config, alpha), folder)
    mask = None
    values: NDArray[Any]
    if header.is_array:
        values = open_npy(header.path) if header.kind == "NPY" else read_dicom_values(header.path)
    elif header.kind == "PNG":
        if header.size[0] * header.size[1] > get_pixel_limit():
            return _unpack_png(header, channels, config, folder)
        is_plain_gray = len(header.bands) == 1 and header.alpha is None
        values = _read_single_band(header.path) if is_plain_gray else read_png_values(header.path)
        if header.alpha is not None:
            mask = values[:, :, -1] > 0
        _require_upright(header.path)
    else:
        values = _read_single_band(header.path)
    if channels != tuple(range(values.shape[2])):
        values = values[:, :, list(channels)]
    return _ArrayRaster(header.path, values, config, mask)


def _unpack_png(header: BandHeader, channels: tuple[int, ...], config: InputConfig, folder: Path | None) -> RasterFile:
    """Unpack a large PNG into a temporary file, some rows at a time."""
    height, width, orientation = read_png_header(header.path)
    if not find_spec("rasterio"):
        raise InputError(f"{header.path}: a PNG of {width}x{height} pixels needs rasterio", hint=GEO_HINT)
    if orientation != 1:
        raise InputError(
            f"{header.path}: found a 16-bit PNG of the EXIF orientation {orientation}", hint="save it upright"
        )
    alpha = None if header.alpha is None else header.alpha + 1
    with GDALPng(header.path, height, width, NativeBands(tuple(i + 1 for i in channels), config, alpha)) as raster:
        return copy_raster(raster, folder)


def _open_tiff(header: BandHeader, native: NativeBands, folder: Path | None) -> RasterFile:
    with header.path.open("rb") as file:
        tags = read_tiff_header(header.path, file)
    if find_spec("rasterio"):
        raster = GDALRaster(tags, None, native)
        if tags.is_tiled or tags.is_uncompressed or raster.segment_bytes <= MAX_SEGMENT_BYTES:
            return raster
        with raster:
            return copy_raster(raster, folder)
    if find_spec("tifffile"):
        return TifffileRaster(tags, None, native)
    if len(header.bands) == 1 and header.alpha is None:
        return _ArrayRaster(header.path, _read_single_band(header.path), native.config)
    raise InputError(f"{header.path}: a TIFF of {header.describe()} needs rasterio or tifffile", hint=GEO_HINT)


def _read_single_band(path: Path) -> NDArray[Any]:
    """What pillow reads of one band of 16 bits or floats, (H, W, 1)."""
    with open_image(path) as image:
        return np.asarray(image)[:, :, None]


def _require_upright(path: Path) -> None:
    with open_image(path) as image:
        orientation = image.getexif().get(0x0112, 1)
    if orientation != 1:
        raise InputError(f"{path}: found a 16-bit PNG of the EXIF orientation {orientation}", hint="save it upright")


def _select_colors(path: Path, pixels: NDArray[np.uint8], config: InputConfig) -> BandArray:
    """The bands of a plain 8-bit image that a description asks for."""
    names = tuple(name.lower() for name in config.bands)
    if config.dtype == "uint8":
        if set(names) <= set(RGB):
            return pixels[:, :, [RGB.index(name) for name in names]]
        if len(names) == 3 and not set(names) & set(RGB):
            return pixels
        if len(names) == 1 and (pixels == pixels[:, :, :1]).all():
            return pixels[:, :, :1]
    raise InputError(
        f"{path}: found an 8-bit image of {describe_bands(RGB)}; expected {config.describe()}",
        hint="give images of one kind, with the bands in one order",
    )
