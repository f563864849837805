"""Whether pillow gives the values of a label image as the file stores them.

with open_image(path) as image:
    assert_raw_values(image, path)
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageFile

from dilated.data.checksums import require_sound
from dilated.data.decoders import count_frames, has_mask_page
from dilated.errors import InputError

_FULL_RANGE = (255, 65535)
"""The greatest values of 8 and 16 bits."""


def assert_raw_values(image: Image.Image, path: Path | str) -> None:
    """Raise if pillow would change the values of a label while reading it: it stretches some to the full range.

    That applies to a PNG of 2 or 4 bits per pixel and to a PGM whose greatest value is not 255 or 65535. For images the
    stretched values are right, but in a label 1 would become 85, and 3 would become 255, which is ignored. Files in
    which 0 is white are inverted, and colors of 16 bits lose half of them.

    Args:
        image: opened, with its pixels not yet read.

    Raises:
        InputError: values that are stretched, inverted or cut off, or a file whose checksums are wrong.
    """
    require_sound(image, path)
    for tile in image.tile if isinstance(image, ImageFile.ImageFile) else ():
        codec, _, _, given = tile  # without names before pillow 11.1
        is_netpbm = codec.startswith("ppm")
        args = given if isinstance(given, tuple) else (given,)
        raw_mode = str(args[0]) if args else ""
        problem = None
        if raw_mode in ("L;2", "L;4", "L;2I", "L;4I"):
            problem = f"a label of {raw_mode[2]} bits per pixel, whose values are stretched to 0..255 when it is read"
        elif raw_mode in ("L;I", "1;I"):
            problem = "a label in which 0 is white, whose values are inverted when it is read"
        elif is_netpbm and raw_mode != "RGB" and len(args) > 1 and args[1] not in _FULL_RANGE:
            problem = f"a label whose greatest value is {args[1]}, which is stretched to 255 or more when it is read"
        elif raw_mode.startswith(("RGB;1", "BGR;1")) or (
            is_netpbm and raw_mode == "RGB" and args[1:] not in ((), (255,))
        ):
            problem = "a mask of colors that do not have 8 bits per channel, which are rounded when it is read"
        if problem:
            raise InputError(f"{path}: found {problem}; expected 8 bits per channel", hint="save it as PNG of 8 bits")


def assert_single_frame(image: Image.Image, path: Path | str) -> None:
    """Raise if a label file holds several images, of which only the first would be read.

    Smaller copies of a TIFF's only page, which GIS tools add for display, are no images of their own.

    Raises:
        InputError: several pages or frames, or a mask of the pixels that have data.
    """
    if has_mask_page(image):
        raise InputError(
            f"{path}: found a label with a mask of its own; expected ignored pixels as a value",
            hint="save it without the mask, for example with gdal_translate -mask none",
        )
    frames = count_frames(image) if image.format == "TIFF" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise InputError(
            f"{path}: found a label of {frames} pages or frames; expected one",
            hint="store stacks of pages as images.tif and labels.tif (the format tiff_pages)",
        )
