"""Label ids as plain grey PNGs, for programs that do not read palettes."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage
from dilated.prediction.writers.base import PerImageWriter


class IdsWriter(PerImageWriter):
    """`NAME.png`, 8 bits a pixel; 16 where there are more than 256 classes."""

    suffix = ".png"

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        Image.fromarray(prediction.labels).save(path, format="PNG")
