"""Whole-slide images in the form of Aperio's scanners: a tiled TIFF of some levels, with a thumbnail between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

DESCRIPTION = "Aperio Image Library v11.2.1\r\n{0}x{1} (256x256) -> {0}x{1} - |AppMag = 20|MPP = 0.5000"


def save_slide(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write (H, W, 3) uint8 as a slide whose level 1 has every fourth pixel."""
    height, width = pixels.shape[:2]
    text = DESCRIPTION.format(width, height)
    small = pixels[::4, ::4]
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, tile=(256, 256), photometric="rgb", description=text, metadata=None)
        file.write(pixels[::16, ::16], photometric="rgb", description=text + " thumbnail", metadata=None)
        file.write(small, tile=(256, 256), photometric="rgb", description=text, metadata=None)
    return path
