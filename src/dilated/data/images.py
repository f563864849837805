"""Images as people have them, read as upright 8-bit RGB.

    image = read_image("photo.jpg")                      # (H, W, 3) uint8

EXIF orientation is applied; grey, palette, CMYK and 16-bit images are converted; an alpha channel is dropped. What
cannot be read whole is an error that names the file, never a partial image. Images of other bands or ranges are read by
`dilated.data.raster.bands`.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dilated.data.band_header import (
    BandHeader,
    open_npy,
    read_band_header,
    read_png_values,
    require_full_range,
    to_rgb,
)
from dilated.data.decoders import open_any
from dilated.data.dicom import read_dicom_values
from dilated.errors import InputError

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".gif"),
    *(".jfif", ".jpe", ".jp2", ".pbm", ".pnm", ".tga", ".avif", ".heic", ".heif", ".npy", ".dcm"),
)
"""What the names of image files end in; HEIF needs the extra `heif`, DICOM the extra `dicom`."""

ImageArray = NDArray[np.uint8]

_FEW_LEVELS = 16
"""The greatest 8-bit level of 12-bit values."""

_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError),
    *(struct.error, zlib.error, Warning),
)
"""What pillow's readers raise at damaged files; warnings too, where they are errors."""


def read_image(source: Path | str | BinaryIO) -> ImageArray:
    """Read an image file, or an open binary file, as RGB.

    Returns:
        (H, W, 3) uint8, upright.

    Raises:
        InputError: the file is missing, not an image, truncated, too large to be trusted, of other bands, or of numbers
            without an agreed range (floats, signed or 32-bit integers, 16 bits of which 12 are used).

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "grey.png")
        >>> Image.new("L", (4, 3), 200).save(path)
        >>> read_image(path).shape
        (3, 4, 3)
    """
    source = Path(source) if isinstance(source, str) else source
    name = _describe_source(source)
    header = read_band_header(source)
    if header is not None and not header.reduces_to_rgb:
        raise InputError(
            f"{name}: found {header.describe()}; expected 8-bit RGB or grey",
            hint="train on such images, whose bands and range are then looked at, or convert them to 8-bit RGB",
        )
    if header is not None and header.is_array:
        values = open_npy(source) if header.kind == "NPY" else read_dicom_values(source)
        if header.dtype == "uint16":
            require_full_range(int(values.max()), name)
        return to_rgb(values)
    with open_image(source) as image:
        width, height = image.size
        is_tiff = image.format == "TIFF"
        ImageOps.exif_transpose(image, in_place=True)
        pixels = to_rgb_array(image, name)
        stated = {(height, width), header.size if header else (height, width)} - {pixels.shape[:2]}
        if is_tiff and stated:
            ((height, width),) = list(stated)[:1]
            sizes = f"{pixels.shape[1]}x{pixels.shape[0]} pixels in a TIFF whose header says {width}x{height}"
            raise InputError(f"{name}: found {sizes}", hint="save it again, upright")
        if header is not None and pixels.max() <= _FEW_LEVELS:
            require_full_range(_greatest_value(source, image, header), name)
    return pixels


def _greatest_value(source: Path | BinaryIO, image: Image.Image, header: BandHeader) -> int:
    """The greatest of a dark image's 16-bit values, or about that: of colors pillow keeps the high bytes."""
    if image.mode.startswith("I;16"):
        return int(np.asarray(image).max())
    if header.kind == "PNG":
        return int(read_png_values(source)[:, :, : len(header.bands)].max())
    return int(np.asarray(image.convert("RGB")).max()) * 257


def to_rgb_array(image: Image.Image, name: str = "image") -> ImageArray:
    """Convert a pillow image of any mode with an agreed range to (H, W, 3) uint8; an alpha channel is dropped.

    Raises:
        InputError: a mode whose range of values is not fixed; the message names the image by `name`.

    Example:
        >>> to_rgb_array(Image.new("I;16", (1, 1), 65535)).tolist()
        [[[255, 255, 255]]]
    """
    if image.mode.startswith("I;16"):
        gray = (np.asarray(image, dtype=np.float32) / 257).round().astype(np.uint8)  # 65535 -> 255
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise InputError(
            f"{name}: the image has the mode {image.mode!r}, whose range of values is not fixed",
            hint="convert it to 8 or 16 bits per channel, for example to 16-bit PNG",
        )
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        return np.asarray(image.convert("RGBA"))[:, :, :3]  # pillow warns of going straight to RGB
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def image_size(path: Path | str) -> tuple[int, int]:
    """(H, W) of the upright image, from its header alone.

    Raises:
        InputError: as `read_image`, but only the header is looked at.
    """
    header = read_band_header(Path(path))
    if header is not None and header.kind != "PNG":  # whose EXIF orientation counts
        return header.size
    with open_image(Path(path)) as image:
        width, height = image.size
        # EXIF orientations 5 to 8 swap the sides; in a TIFF pillow has swapped them already.
        is_transposed = image.format != "TIFF" and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (width, height) if is_transposed else (height, width)


@contextmanager
def open_image(source: Path | BinaryIO, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """An open image, of which only the header has been read.

    Whatever pillow raises meanwhile becomes an `InputError` that names the file.

    Args:
        max_pixels: how many pixels it may have; `get_pixel_limit()` if not given.

    Raises:
        InputError: see `read_image`; an image of more pixels is refused before any are allocated.
    """
    path = _describe_source(source)
    try:
        with open_any(source) as image:
            width, height = image.size
            if width * height > (get_pixel_limit() if max_pixels is None else max_pixels):
                raise make_too_large_error(path, f"{width}x{height}")
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise make_too_large_error(path, f"too many pixels ({error})") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder", hint="give an image") from error
    except PermissionError as error:
        raise InputError(f"{path}: permission denied", hint="make the file readable, or give another one") from error
    except UnidentifiedImageError as error:
        size = source.stat().st_size if isinstance(source, Path) else source.seek(0, io.SEEK_END)
        what = "is empty" if size == 0 else f"has {size} bytes that are no image format known to Pillow"
        raise UnknownFormatError(f"{path}: the file {what}", hint="give an image such as PNG, JPEG or TIFF") from error
    except MemoryError as error:
        raise InputError(f"{path}: the image does not fit in memory", hint="give a smaller one") from error
    except InputError:
        raise
    except _DECODER_ERRORS as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: the image is damaged ({reason})", hint="copy it again from its source") from error


def get_pixel_limit() -> int:
    """The most pixels that an image may have: `PIL.Image.MAX_IMAGE_PIXELS`, 89 million unless you change it.

    It keeps a file of a few bytes from filling the memory.
    """
    return Image.MAX_IMAGE_PIXELS or sys.maxsize


class UnknownFormatError(InputError):
    """A file that is no image, or of a format that is not read."""


class ImageTooLargeError(InputError):
    """An image of more than `get_pixel_limit()` pixels."""


def exceeds_pixel_limit(path: Path | str) -> bool:
    """Whether an image has more than `get_pixel_limit()` pixels, by its header; False for what cannot be read at all.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "grey.png")
        >>> Image.new("L", (4, 3)).save(path)
        >>> exceeds_pixel_limit(path)
        False
    """
    try:
        header = read_band_header(Path(path))
        if header is not None:
            return header.size[0] * header.size[1] > get_pixel_limit()
        with open_image(Path(path)):
            return False
    except ImageTooLargeError:
        return True
    except InputError:
        return False


def _describe_source(source: Path | str | BinaryIO) -> str:
    """Return the path of a file, or "image" for one that has none, such as bytes in memory."""
    return str(source if isinstance(source, Path | str) else getattr(source, "name", "image"))


def make_too_large_error(path: Path | str, size: str) -> ImageTooLargeError:
    return ImageTooLargeError(
        f"{path}: an image of {size} exceeds the {get_pixel_limit()} pixels that are read at a time",
        hint="label it with --tile N, which reads it in windows",
    )


def is_file(path: Path) -> bool:
    """Whether there is such a file; False too for a name that no file can have, such as one of 300 letters.

    Example:
        >>> is_file(Path("a" * 300))
        False
    """
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether there is such a folder, as `is_file` for files."""
    try:
        return path.is_dir()
    except OSError:
        return False


def list_image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted by name. Hidden files are none, nor are arrays beside other images."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    return [path for path in paths if path.suffix.lower() != ".npy"] or paths
