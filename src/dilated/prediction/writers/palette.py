"""Label ids as palette PNGs: a reader of indices gets the ids, a viewer shows the classes' colors."""

from __future__ import annotations

from pathlib import Path

from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage
from dilated.prediction.writers.base import PerImageWriter


class PaletteWriter(PerImageWriter):
    """`NAME.png`, mode P; 16-bit grey where there are more than 256 classes, for which there is no palette."""

    suffix = ".png"

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        prediction.label_image().save(path, format="PNG")
