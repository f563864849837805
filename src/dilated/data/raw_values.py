"""Whether pillow gives the values of a label image as its file has them: it stretches some to the whole range.

A PNG of 2 or 4 bits a pixel, a PGM whose greatest value is not 255 or 65535: for images the stretched values are
right, but in a label 1 would become 85, and 3 would become 255, which counts nowhere. Files in which 0 is white are
turned over, and colors of 16 bits lose half of them. Such labels are an error, for nothing else would show.

    >>> from PIL import Image
    >>> assert_raw_values(Image.new("L", (4, 3)), "label.png")
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageFile

from dilated.errors import InputError

_FULL_RANGE = (255, 65535)  # greatest values that are as many as 8 or 16 bits hold


def assert_raw_values(image: Image.Image, path: Path | str) -> None:
    """Raise where reading the image would change its values.

    Args:
        image: opened, of which the pixels have not been read yet.

    Raises:
        InputError: values that are stretched, turned over or cut off.
    """
    for tile in image.tile if isinstance(image, ImageFile.ImageFile) else ():
        is_netpbm = tile.codec_name.startswith("ppm")
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        raw_mode = str(args[0]) if args else ""
        problem = None
        if raw_mode in ("L;2", "L;4", "L;2I", "L;4I"):
            problem = f"a label of {raw_mode[2]} bits a pixel, whose values are stretched to 0..255 when it is read"
        elif raw_mode in ("L;I", "1;I"):
            problem = "a label in which 0 is white, whose values are turned over when it is read"
        elif is_netpbm and raw_mode != "RGB" and len(args) > 1 and args[1] not in _FULL_RANGE:
            problem = f"a label whose greatest value is {args[1]}, which is stretched to 255 or more when it is read"
        elif raw_mode.startswith(("RGB;1", "BGR;1")) or (
            is_netpbm and raw_mode == "RGB" and args[1:] not in ((), (255,))
        ):
            problem = "a mask of colors that do not have 8 bits a channel, which are rounded when it is read"
        if problem:
            raise InputError(f"{path}: found {problem}; expected 8 bits a channel. Save it as PNG of 8 bits.")


def assert_single_frame(image: Image.Image, path: Path | str) -> None:
    """Raise where a label file holds more images than one, of which only the first would be read.

    Raises:
        InputError: several pages or frames.
    """
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise InputError(
            f"{path}: found a label of {frames} pages or frames; expected one. Stacks of pages are read as "
            "images.tif and labels.tif (the layout tiff_pages)."
        )
