"""Labels and probabilities as images, one file per image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.errors import InputError
from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage
from dilated.prediction.writers.base import PerImageWriter


class PaletteWriter(PerImageWriter):
    """`NAME.png`, mode P: a reader of indices gets the ids, a viewer shows the classes' colors.

    16-bit gray if there are more than 256 classes, for which there is no palette.
    """

    suffix = ".png"

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        prediction.label_image().save(path, format="PNG")


class IdsWriter(PerImageWriter):
    """`NAME.png`, gray, for programs that do not read palettes; 16 bits if there are more than 256 classes."""

    suffix = ".png"

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        Image.fromarray(prediction.labels).save(path, format="PNG")


class ColorWriter(PerImageWriter):
    """`NAME.png`, RGB: the classes' colors."""

    suffix = ".png"

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        colors = np.array(prediction.colors, dtype=np.uint8)
        Image.fromarray(colors[prediction.labels]).save(path, format="PNG")


class OverlayWriter(PerImageWriter):
    """`NAME.overlay.jpg`: the image tinted with the classes' colors, with a legend."""

    suffix = ".overlay.jpg"

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        prediction.overlay().save(path, format="JPEG", quality=92)


class ProbabilityWriter(PerImageWriter):
    """`NAME.npz` with `probabilities` (C, H, W) float16 and `classes`, their names; not compressed."""

    suffix = ".npz"
    needs_logits = True

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        with path.open("wb") as file:  # given a name, numpy would add a suffix
            np.savez(file, probabilities=_half_probabilities(prediction), classes=np.array(prediction.classes))


class ProbabilityTiffWriter(PerImageWriter):
    """`NAME.probabilities.tif`, a page of float16 for each class, described by its name."""

    suffix = ".probabilities.tif"
    needs_logits = True

    def open(self, classes: Sequence[str], colors: Sequence[Any], append: bool = False) -> None:
        try:
            import tifffile  # noqa: F401
        except ImportError as error:
            raise InputError(
                "probabilities-tif needs tifffile, which is not installed", hint="run: pip install 'dilated[geo]'"
            ) from error

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        from tifffile import TiffWriter

        with TiffWriter(path) as file:
            for name, page in zip(prediction.classes, _half_probabilities(prediction), strict=True):
                file.write(page, photometric="minisblack", description=name.encode(), metadata=None)


def _half_probabilities(prediction: Prediction) -> NDArray[np.float16]:
    """Return the probabilities in 16 bits, (C, H, W), which keep three decimal digits."""
    values: NDArray[np.float16] = prediction.probabilities.half().numpy()
    return values
