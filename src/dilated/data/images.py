"""Pictures as people have them, read as upright 8-bit RGB.

    image = read_image("photo.jpg")                      # (H, W, 3) uint8

EXIF orientation is applied; grey, palette, CMYK and 16-bit pictures are converted; an alpha channel is dropped. What
cannot be read whole is an error that names the file, never a partial picture.
"""

from __future__ import annotations

import re
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dilated.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".gif")

Pixels = NDArray[np.uint8]

DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError),
    *(struct.error, zlib.error, Warning),
)
"""What pillow's readers raise at damaged files; warnings too, where they are errors."""


def read_image(path: Path | str) -> Pixels:
    """Read a picture as RGB.

    Returns:
        (H, W, 3) uint8, upright.

    Raises:
        InputError: the file is missing, no picture, truncated, too large to be trusted, or of a mode without an
            agreed range (32-bit integers, floats).

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "grey.png")
        >>> Image.new("L", (4, 3), 200).save(path)
        >>> read_image(path).shape
        (3, 4, 3)
    """
    with opened(Path(path)) as picture:
        ImageOps.exif_transpose(picture, in_place=True)
        if picture.mode.startswith("I;16"):
            grey = (np.asarray(picture, dtype=np.float32) / 257).round().astype(np.uint8)  # 65535 -> 255
            return np.repeat(grey[:, :, None], 3, axis=2)
        if picture.mode in ("I", "F"):
            raise InputError(
                f"{path}: found a picture of mode {picture.mode!r}, whose range of values is not fixed; expected 8 or "
                "16 bits a channel. Convert it, for example to 16-bit PNG."
            )
        if picture.mode == "P" and isinstance(picture.info.get("transparency"), bytes):
            return np.asarray(picture.convert("RGBA"))[:, :, :3]  # pillow warns of going straight to RGB
        return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def image_size(path: Path | str) -> tuple[int, int]:
    """(H, W) of the upright picture, from its header alone.

    Raises:
        InputError: as `read_image`, but only the header is looked at.
    """
    with opened(Path(path)) as picture:
        width, height = picture.size
        # EXIF orientations 5 to 8 swap the sides; in a TIFF pillow has swapped them already.
        turned = picture.format != "TIFF" and picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (width, height) if turned else (height, width)


@contextmanager
def opened(path: Path, most: int | None = None) -> Iterator[Image.Image]:
    """An open picture, of which only the header has been read.

    Whatever pillow raises meanwhile becomes an `InputError` that names the file.

    Args:
        most: how many pixels it may have; `limit()` if not given.

    Raises:
        InputError: see `read_image`; a picture of more pixels is refused before any are allocated.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if width * height > (limit() if most is None else most):
                raise _too_large(path, f"{width}x{height}")
            yield picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        count = re.search(r"\((\d+) pixels\)", str(error))
        raise _too_large(path, f"{count[1]} pixels" if count else str(error)) from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a picture") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: found a folder; expected a picture") from error
    except PermissionError as error:
        raise InputError(f"{path}: may not be read; expected a picture that you have permission to read") from error
    except UnidentifiedImageError as error:
        size = path.stat().st_size
        what = "an empty file" if size == 0 else f"{size} bytes that are no picture format known to pillow"
        raise InputError(f"{path}: found {what}; expected a picture such as PNG, JPEG or TIFF") from error
    except MemoryError as error:
        raise InputError(f"{path}: the picture does not fit in memory; expected a smaller one") from error
    except InputError:
        raise
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: the picture is damaged ({reason}); expected a whole file. Copy it again.") from error


def limit() -> int:
    """The most pixels that a picture may have: `PIL.Image.MAX_IMAGE_PIXELS`, 89 million unless you change it.

    It keeps a file of a few bytes from filling the memory.
    """
    return Image.MAX_IMAGE_PIXELS or sys.maxsize


class TooLargeError(InputError):
    """A picture of more than `limit()` pixels."""


def too_large(path: Path | str) -> bool:
    """Whether a picture has more than `limit()` pixels, by its header; False for what cannot be read at all.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "grey.png")
        >>> Image.new("L", (4, 3)).save(path)
        >>> too_large(path)
        False
    """
    try:
        with opened(Path(path)):
            return False
    except TooLargeError:
        return True
    except InputError:
        return False


def _too_large(path: Path, size: str) -> TooLargeError:
    return TooLargeError(
        f"{path}: found a picture of {size}; expected at most {limit()} pixels at a time. "
        "Label it with --tile N, which reads it in windows."
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


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, sorted by name. Hidden files are none."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
