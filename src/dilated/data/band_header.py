"""What image files hold beside 8-bit RGB: bands, numbers and nodata, read from their headers.

    header = read_band_header(Path("scene.tif"))         # None for what is plain 8-bit RGB, grey or a palette
    header.bands, header.dtype, header.nodata            # ("red", "green", "blue", "nir"), "uint16", 0.0

Such files are TIFF and GeoTIFF, PNG and JPEG 2000 of 16 bits, NPY of (H, W), (H, W, n) or (n, H, W) numbers, and DICOM.
"""

from __future__ import annotations

import re
import struct
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Literal
from xml.sax.saxutils import unescape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dilated.data.dicom import DICOM_HEAD, is_dicom, read_dicom_layout
from dilated.data.raster.tags import (
    BITS_PER_SAMPLE,
    EXTRA_SAMPLES,
    GDAL_METADATA,
    GDAL_NODATA,
    HEIGHT,
    MOST_SAMPLES,
    ORIENTATION,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    SAMPLES_PER_PIXEL,
    WIDTH,
    TiffHeader,
    is_tiff,
    read_tiff_header,
)
from dilated.errors import InputError
from dilated.files import require_no_pipe
from dilated.input_config import MAX_BANDS, RGB, BandArray, InputConfig, describe_bands
from dilated.quiet import without_warnings

_PNG_START = b"\x89PNG\r\n\x1a\n"
_JP2_START = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_NPY_START = b"\x93NUMPY"
_GRAY = ("gray",)
_NUMPY_ERRORS = (ValueError, EOFError, SyntaxError, struct.error, tokenize.TokenError)
"""What numpy raises for a damaged array."""
_DTYPES = {
    **{("u", size): f"uint{8 * size}" for size in (1, 2)},
    ("i", 2): "int16",
    **{("f", size): "float32" for size in (2, 4, 8)},
}
"""By kind and bytes of a number: what it is read as."""
_TIFF_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
_PLAIN_COLOR_SPACES = (3, 5, 6, 8)
"""TIFF's palette, CMYK, YCbCr and CIELab."""
_DESCRIPTION = re.compile(r'<Item name="DESCRIPTION" sample="(\d+)"[^>]*>([^<]*)</Item>')


@dataclass(frozen=True)
class BandHeader:
    """The bands of a file."""

    path: Path
    kind: Literal["TIFF", "PNG", "JPEG 2000", "NPY", "DICOM"]
    size: tuple[int, int]
    """(H, W)."""
    bands: tuple[str, ...]
    """The names of those that are not alpha: the file's own, or red, green and blue, gray, band_1, ..."""
    dtype: str
    channels: tuple[int, ...]
    """Where these bands are in the file, from 0."""
    nodata: float | None = None
    alpha: int | None = None
    """Where the alpha band is, which says which pixels have data."""

    @property
    def is_array(self) -> bool:
        """Whether it is no image to pillow."""
        return self.kind in ("NPY", "DICOM")

    @property
    def is_rgb(self) -> bool:
        """Whether it is 8-bit RGB or grey."""
        return self.dtype == "uint8" and self.bands in (RGB, _GRAY)

    @property
    def reduces_to_rgb(self) -> bool:
        """Whether it becomes 8-bit RGB or grey where 65535 is white."""
        return self.dtype in ("uint8", "uint16") and self.bands in (RGB, _GRAY)

    def describe(self) -> str:
        """One phrase for messages, such as "4 bands (red, green, blue, nir) of uint16"."""
        return f"{describe_bands(self.bands)} of {self.dtype}"

    def select(self, config: InputConfig) -> tuple[int, ...]:
        """Find the bands of a description in the file: by their names, or in their order where the names differ.

        Returns:
            Where they are in the file, from 0.

        Raises:
            InputError: other numbers, or other bands.
        """
        names = [name.lower() for name in self.bands]
        wanted = [name.lower() for name in config.bands]
        has_wanted = self.dtype == config.dtype and set(wanted) <= set(names)
        if has_wanted and config.is_exact and len(wanted) < len(names):
            listed = ", ".join(f'"{name}"' for name in config.bands)
            raise InputError(
                f"{self.path}: found {self.describe()}; expected {config.describe()}, and no others",
                hint="give images of one kind, or name the bands to train on in classes.toml, such as [input] with "
                f"bands = [{listed}], which leaves the others out",
            )
        if self.dtype == config.dtype:
            if has_wanted:
                return tuple(self.channels[names.index(name)] for name in wanted)
            positions = self.channels
            if self.alpha is not None and len(wanted) == len(names) + 1:
                positions = (*positions, self.alpha)  # the fourth of four bands is alpha for many programs
            known = wanted[: len(names)]
            if len(wanted) == len(positions) and (known == names or not set(known) & set(names)):
                return positions
        raise InputError(
            f"{self.path}: found {self.describe()}; expected {config.describe()}",
            hint="give images of one kind, with the bands in one order",
        )


def read_band_header(source: Path | BinaryIO, include_plain: bool = False) -> BandHeader | None:
    """Read what a file holds; None for plain 8-bit images, and for what is no such file.

    Args:
        source: a file, or an open one, which is at its start afterwards.
        include_plain: describe TIFFs of 8-bit RGB and RGBA too.

    Raises:
        InputError: a damaged header, or numbers that no network reads.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "scene.npy"
        >>> np.save(path, np.zeros((6, 50, 40), np.float32))
        >>> header = read_band_header(path)
        >>> header.size, header.describe()
        ((50, 40), '6 bands (band_1, band_2, band_3, band_4, band_5, band_6) of float32')
    """
    path = source if isinstance(source, Path) else Path(str(getattr(source, "name", "image")))
    try:
        with _open(source) as file:
            start = file.read(DICOM_HEAD)
            if is_dicom(start):  # first: before it there may be a TIFF's header
                layout = read_dicom_layout(source if isinstance(source, Path) else file)
                names = _GRAY if layout.bands == 1 else RGB
                channels = tuple(range(layout.bands))
                return BandHeader(path, "DICOM", layout.size, names, layout.dtype, channels, layout.nodata)
            if is_tiff(start):
                try:
                    tags = read_tiff_header(path, file)
                except InputError:
                    if _is_plain_to_pillow(file):
                        return None  # which reads more than the standard allows, and says what is damaged
                    raise
                return _parse_tiff(tags, include_plain)
            if start.startswith(_PNG_START):
                return _parse_png(path, start)
            if start.startswith(_NPY_START):
                return _parse_array(path, open_npy(source))
            if start.startswith(_JP2_START):
                return _parse_jp2(path, file)
    except OSError:  # missing, or a folder: reported by who reads the pixels
        return None
    return None


def open_npy(source: Path | BinaryIO) -> NDArray[Any]:
    """Open a NPY file as (H, W, n): mapped into memory where it is a file on disk.

    Raises:
        InputError: not a whole array of two or three axes.
    """
    name = source if isinstance(source, Path) else getattr(source, "name", "image")
    try:
        if isinstance(source, Path):
            array = np.load(source, mmap_mode="r", allow_pickle=False)
        else:
            source.seek(0)
            array = np.load(source, allow_pickle=False)
    except _NUMPY_ERRORS as error:
        raise InputError(f"{name}: the array is damaged ({error})", hint="write it again with numpy.save") from error
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim == 3 and array.shape[2] > MAX_BANDS >= array.shape[0]:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"{name}: found an array of shape {array.shape}", hint="give (H, W), (H, W, n) or (n, H, W)")
    return array


def read_png_values(source: Path | BinaryIO) -> NDArray[np.uint16]:
    """Decode a 16-bit PNG with all of its bits, of which pillow keeps half where it has colors.

    Returns:
        (H, W, n), alpha included.

    Raises:
        InputError: a damaged file, or rasterio is not installed.
    """
    name = source if isinstance(source, Path) else getattr(source, "name", "image")
    if find_spec("rasterio") is None:
        raise InputError(f"{name}: a PNG of 16-bit colors needs rasterio", hint="run: pip install 'dilated[geo]'")
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.io import MemoryFile

    with _open(source) as file, without_warnings(NotGeoreferencedWarning):
        try:
            with MemoryFile(file.read()) as memory, memory.open(driver="PNG") as dataset:
                values: NDArray[np.uint16] = dataset.read()
        except RasterioError as error:
            raise InputError(f"{name}: the image is damaged ({error})", hint="copy it again from its source") from error
    return np.ascontiguousarray(values.transpose(1, 2, 0))


@contextmanager
def _open(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, Path):
        require_no_pipe(source)
        with source.open("rb") as file:
            yield file
        return
    source.seek(0)
    try:
        yield source
    finally:
        source.seek(0)


def _is_plain_to_pillow(file: BinaryIO) -> bool:
    """Whether pillow opens it as an image of 8 bits or fewer."""
    file.seek(0)
    try:
        return not Image.open(file).mode.startswith(("I", "F"))
    except Exception:  # pillow raises anything on damaged headers
        return False


def _require_dtype(path: Path, kind: str, size: int) -> str:
    if (kind, size) not in _DTYPES:
        names = {"u": "unsigned integers", "i": "signed integers", "f": "floats", "c": "complex numbers", "b": "bool"}
        raise InputError(
            f"{path}: found {names.get(kind, 'numbers of another kind')} of {8 * size} bits; expected uint8, uint16, "
            "int16 or float32",
            hint="convert them, for example with "
            + ("array.astype(numpy.float32)" if path.suffix.lower() == ".npy" else "gdal_translate -ot Float32"),
        )
    return _DTYPES[kind, size]


def _name_bands(count: int, is_color: bool) -> tuple[str, ...]:
    """Names of bands that have none.

    Example:
        >>> _name_bands(4, True), _name_bands(2, False)
        (('red', 'green', 'blue', 'band_4'), ('band_1', 'band_2'))
    """
    if count == 1:
        return _GRAY
    return tuple(RGB[i] if is_color and i < 3 else f"band_{i + 1}" for i in range(count))


def _parse_tiff(header: TiffHeader, include_plain: bool) -> BandHeader | None:
    bits = set(header.get_values(BITS_PER_SAMPLE, (1,)))
    photometric = header.get_int(PHOTOMETRIC, 1)
    if photometric in _PLAIN_COLOR_SPACES or not bits <= {8, 16, 32, 64} or len(bits) != 1:
        return None  # pillow's, or refused with its words
    count = header.get_int(SAMPLES_PER_PIXEL, 1)
    if not 1 <= count <= MOST_SAMPLES:
        return None
    extra = header.get_values(EXTRA_SAMPLES)
    names = _read_band_names(header, count)
    # GDAL writes four bands of 8 bits as RGB and alpha, whatever they are; one with a name of its own is none.
    alphas = [
        i
        for i, kind in enumerate(extra, count - len(extra))
        if kind in (1, 2) and (not names or "alpha" in names[i].lower())
    ]
    channels = tuple(i for i in range(count) if i not in alphas)
    formats = set(header.get_values(SAMPLE_FORMAT, (1,)))
    kind = _TIFF_KINDS.get(formats.pop(), "c") if len(formats) == 1 else "c"
    if (kind, bits) == ("u", {8}) and len(channels) in (1, 3) and not include_plain:
        return None
    if header.get_int(ORIENTATION, 1) != 1:
        raise InputError(
            f"{header.path}: found a TIFF of orientation {header.get_int(ORIENTATION)}; expected 1",
            hint="save it upright",
        )
    if photometric == 0 and kind == "u" and bits == {16}:
        return None
    names = names or _name_bands(count, photometric == 2)
    dtype = _require_dtype(header.path, kind, bits.pop() // 8)
    size = header.get_int(HEIGHT), header.get_int(WIDTH)
    bands = tuple(names[i] for i in channels) if len(channels) > 1 else _GRAY
    alpha = alphas[0] if alphas else None
    return BandHeader(header.path, "TIFF", size, bands, dtype, channels, _read_nodata(header), alpha)


def _read_band_names(header: TiffHeader, count: int) -> tuple[str, ...]:
    """The names that GDAL has written, where each band has one of its own; else none."""
    if GDAL_METADATA not in header.tags:
        return ()
    text = header.tags[GDAL_METADATA].data.decode("utf-8", "replace")
    # GDAL escapes them before it writes XML, which escapes them again.
    names = {int(number): unescape(unescape(name)).strip() for number, name in _DESCRIPTION.findall(text)}
    ordered = tuple(names.get(i, "") for i in range(count))
    return ordered if all(ordered) and len(set(ordered)) == count else ()


def _read_nodata(header: TiffHeader) -> float | None:
    """The nodata value; None where there is none, or NaN, which always means no data."""
    if GDAL_NODATA not in header.tags:
        return None
    text = header.tags[GDAL_NODATA].data.rstrip(b"\0 ").decode("ascii", "replace")
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(
            f"{header.path}: found the nodata value {text!r}; expected a number", hint="set it again"
        ) from error
    return value if np.isfinite(value) else None


def _parse_png(path: Path, start: bytes) -> BandHeader | None:
    if len(start) < 26:  # cut off, which is reported where the image is read
        return None
    width, height, depth, color = struct.unpack_from(">IIBB", start, 16)
    if depth != 16:
        return None
    bands = RGB if color & 2 else _GRAY
    channels = tuple(range(len(bands)))
    return BandHeader(path, "PNG", (height, width), bands, "uint16", channels, None, len(bands) if color & 4 else None)


def _parse_array(path: Path, array: NDArray[Any]) -> BandHeader:
    dtype = _require_dtype(path, array.dtype.kind, array.dtype.itemsize)
    height, width, count = array.shape
    return BandHeader(path, "NPY", (height, width), _name_bands(count, count == 3), dtype, tuple(range(count)))


def _parse_jp2(path: Path, file: BinaryIO) -> BandHeader | None:
    """JPEG 2000 of one band of 16 bits, as Sentinel-2 has it; pillow reads no other of more than 8."""
    file.seek(0)
    try:
        image = Image.open(file)
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return None
    if not image.mode.startswith("I;16"):
        return None
    return BandHeader(path, "JPEG 2000", (image.height, image.width), _GRAY, "uint16", (0,))


def to_rgb(values: BandArray) -> NDArray[np.uint8]:
    """Turn (H, W, 1 or 3) uint8 or uint16 into (H, W, 3) uint8 as `read_image` does.

    16-bit grey is divided by 257 and rounded, 16-bit color keeps its high byte.

    Example:
        >>> to_rgb(np.array([[[0, 257, 65535]]], np.uint16)).tolist()
        [[[0, 1, 255]]]
    """
    if values.dtype == np.uint16:
        wide = values.astype(np.uint32)
        values = ((wide + 128) // 257 if values.shape[2] == 1 else wide >> 8).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def require_full_range(greatest: int, name: str) -> None:
    """Refuse 16-bit values of which only a few levels would remain as 8 bits: those of 12 bits, and dark ones.

    Args:
        greatest: the greatest value of the image.
        name: the image, for the message.

    Raises:
        InputError: values of 1 to 4095.
    """
    if 0 < greatest < 4096:
        raise InputError(
            f"{name}: its 16-bit values are 0 to {greatest}; as 8-bit RGB, in which 65535 is white, "
            f"{greatest // 257 + 1} levels of 256 would remain",
            hint="train on such images, whose range is then looked at, or scale them to 0..65535 first",
        )
