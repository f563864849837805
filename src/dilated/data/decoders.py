"""What pillow alone does not tell of an image file: whether it is HEIF, which needs a plugin, and how many it holds.

with open_any(Path("photo.heic")) as image:
    count_frames(image)                              # 1; more for animations and for TIFF files of several pages
"""

from __future__ import annotations

import struct
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from dilated.errors import InputError
from dilated.files import require_no_pipe

_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_SUBFILE_TYPE, _MAX_PAGES, _MAX_ENTRIES = 254, 65536, 65535
_REDUCED, _MASK = 1, 4
"""TIFF's NewSubfileType of pages that are a smaller copy of another, and of those that mask one."""


def open_any(source: Path | BinaryIO) -> Image.Image:
    """Open what pillow reads, and HEIF where its plugin is installed, whatever the file is called.

    Raises:
        InputError: a pipe or device; HEIF without the plugin.
        UnidentifiedImageError: no image.
    """
    if isinstance(source, Path):
        require_no_pipe(source)
    try:
        return Image.open(source)
    except UnidentifiedImageError:
        if not _is_heif(source):
            raise
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError as error:
        name = source if isinstance(source, Path) else getattr(source, "name", "image")
        raise InputError(
            f"{name}: HEIF needs the package pillow-heif", hint="install it with `pip install 'dilated[heif]'`"
        ) from error
    return Image.open(source)


def _is_heif(source: Path | BinaryIO) -> bool:
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(12)
    else:
        source.seek(0)
        head = source.read(12)
        source.seek(0)
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def count_frames(image: Image.Image) -> int:
    """How many images a file holds: frames of an animation, or pages of a TIFF without their smaller copies.

    A phone's JPEG with a depth map or a preview beside the photo (MPO) is one image.

    Args:
        image: opened; it is at its first frame afterwards.

    Example:
        >>> count_frames(Image.new("L", (4, 3)))
        1
    """
    if image.format in ("MPO", "HEIF"):
        return 1
    if image.format != "TIFF":
        return int(getattr(image, "n_frames", 1))
    return _count_open_pages(image, _REDUCED | _MASK)


def has_mask_page(image: Image.Image) -> bool:
    """Whether a TIFF holds a page that says where another has data, as GDAL writes it.

    Example:
        >>> has_mask_page(Image.new("L", (4, 3)))
        False
    """
    return image.format == "TIFF" and _count_open_pages(image, _REDUCED) > count_frames(image)


def _count_open_pages(image: Image.Image, left_out: int) -> int:
    file: BinaryIO = image.fp  # type: ignore[attr-defined]
    position = file.tell()
    try:
        return _count_pages(file, left_out)  # pillow raises at a mask
    finally:
        file.seek(position)


def count_tiff_pages(path: Path) -> int:
    """How many pages a TIFF of any bands holds, without smaller copies and masks, by its directories alone.

    Returns:
        The number; 1 where the file is none, or the chain of its directories is damaged after the first.
    """
    with suppress(OSError), path.open("rb") as file:
        return _count_pages(file, _REDUCED | _MASK)
    return 1


def _count_pages(file: BinaryIO, left_out: int) -> int:
    """The pages of a TIFF but for those of such a NewSubfileType; the first always counts."""
    pages, seen = 0, set[int]()
    with suppress(struct.error, OSError):
        file.seek(0)
        start = file.read(16)
        order = "<" if start[:2] == b"II" else ">"
        big = start[2:4] in (b"+\0", b"\0+")
        word, entry_size = ("Q", 20) if big else ("I", 12)
        (offset,) = struct.unpack_from(order + word, start, 8 if big else 4)
        while offset and offset not in seen and len(seen) < _MAX_PAGES:
            seen.add(offset)
            file.seek(offset)
            (number,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
            if number > _MAX_ENTRIES:
                break  # damaged
            entries = file.read(number * entry_size)
            codes = (entries[i * entry_size : (i + 1) * entry_size] for i in range(number))
            kinds = [code[-8 if big else -4 :] for code in codes if code[:2] == struct.pack(order + "H", _SUBFILE_TYPE)]
            is_reduced = any(struct.unpack_from(order + "I", kind)[0] & left_out for kind in kinds)
            pages += len(seen) == 1 or not is_reduced
            (offset,) = struct.unpack(order + word, file.read(8 if big else 4))
    return max(pages, 1)
