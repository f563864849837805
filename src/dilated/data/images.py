"""Pictures as people have them, read as upright 8-bit RGB.

    image = read_image("photo.jpg")                      # (H, W, 3) uint8

EXIF orientation is applied; grey, palette, CMYK and 16-bit pictures are converted; an alpha channel is dropped. What
cannot be read whole is an error that names the file, never a partial picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dilated.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".gif")

Pixels = NDArray[np.uint8]


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
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I;16"):
            grey = (np.asarray(upright, dtype=np.float32) / 257).round().astype(np.uint8)  # 65535 -> 255
            return np.repeat(grey[:, :, None], 3, axis=2)
        if upright.mode in ("I", "F"):
            raise InputError(
                f"{path}: found a picture of mode {upright.mode!r}, whose range of values is not fixed; expected 8 or "
                "16 bits a channel. Convert it, for example to 16-bit PNG."
            )
        return np.asarray(upright.convert("RGB"))


def image_size(path: Path | str) -> tuple[int, int]:
    """(H, W) of the upright picture, from its header alone.

    Raises:
        InputError: as `read_image`, but only the header is looked at.
    """
    with opened(Path(path)) as picture:
        width, height = picture.size
        # EXIF orientations 5 to 8 swap the sides; in a TIFF pillow has swapped them already.
        turned = picture.format != "TIFF" and picture.getexif().get(0x0112, 1) >= 5
        return (width, height) if turned else (height, width)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An open picture; whatever pillow raises meanwhile becomes an `InputError` that names the file."""
    try:
        with Image.open(path) as picture:
            yield picture
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a picture") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: found a folder; expected a picture") from error
    except UnidentifiedImageError as error:
        size = path.stat().st_size
        what = "an empty file" if size == 0 else f"{size} bytes that are no picture format known to pillow"
        raise InputError(f"{path}: found {what}; expected a picture such as PNG, JPEG or TIFF") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {error}; expected a picture of at most {2 * bomb()} pixels") from error
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: the picture is damaged ({error}); expected a whole file. Copy it again.") from error


def bomb() -> int:
    """Pillow's own limit of pixels, beyond which it warns, and beyond twice which it refuses."""
    return Image.MAX_IMAGE_PIXELS or 0


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, sorted by name. Hidden files are none."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
