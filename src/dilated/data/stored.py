"""Whether pillow gives the values of a label picture as its file has them: it stretches some to the whole range.

A PNG of 2 or 4 bits a pixel, a PGM whose greatest value is not 255 or 65535: for pictures the stretched values are
right, but in a label 1 would become 85, and 3 would become 255, which counts nowhere. Files in which 0 is white are
turned over, and colours of 16 bits lose half of them. Such labels are an error, for nothing else would show.

    >>> from PIL import Image
    >>> unchanged(Image.new("L", (4, 3)), "label.png")
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageFile

from dilated.errors import InputError

WHOLE = (255, 65535)  # greatest values that are as many as 8 or 16 bits hold


def unchanged(picture: Image.Image, path: Path | str) -> None:
    """Raise where reading the picture would change its values.

    Args:
        picture: opened, of which the pixels have not been read yet.

    Raises:
        InputError: values that are stretched, turned over or cut off.
    """
    for tile in picture.tile if isinstance(picture, ImageFile.ImageFile) else ():
        portable = tile.codec_name.startswith("ppm")
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        raw = str(args[0]) if args else ""
        found = None
        if raw in ("L;2", "L;4", "L;2I", "L;4I"):
            found = f"a label of {raw[2]} bits a pixel, whose values are stretched to 0..255 when it is read"
        elif raw in ("L;I", "1;I"):
            found = "a label in which 0 is white, whose values are turned over when it is read"
        elif portable and raw != "RGB" and len(args) > 1 and args[1] not in WHOLE:
            found = f"a label whose greatest value is {args[1]}, which is stretched to 255 or more when it is read"
        elif raw.startswith(("RGB;1", "BGR;1")) or (portable and raw == "RGB" and args[1:] not in ((), (255,))):
            found = "a mask of colours that do not have 8 bits a channel, which are rounded when it is read"
        if found:
            raise InputError(f"{path}: found {found}; expected 8 bits a channel. Save it as PNG of 8 bits.")


def alone(picture: Image.Image, path: Path | str) -> None:
    """Raise where a label file holds more pictures than one, of which only the first would be read.

    Raises:
        InputError: several pages or frames.
    """
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise InputError(
            f"{path}: found a label of {frames} pages or frames; expected one. Stacks of pages are read as "
            "images.tif and labels.tif (the layout tiff_pages)."
        )
