"""Labels as images in the classes' colors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage
from dilated.prediction.writers.base import PerImageWriter


class ColorWriter(PerImageWriter):
    """`NAME.png`, RGB."""

    suffix = ".png"

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        colors = np.array(prediction.colors, dtype=np.uint8)
        Image.fromarray(colors[prediction.labels]).save(path, format="PNG")
