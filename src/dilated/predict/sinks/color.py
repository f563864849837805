"""Labels as pictures in the classes' colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dilated.predict.prediction import Prediction
from dilated.predict.sinks.base import FileSink
from dilated.predict.sources import Picture


class Color(FileSink):
    """`NAME.png`, RGB."""

    ending = ".png"

    def save(self, prediction: Prediction, path: Path, picture: Picture) -> None:
        colors = np.array(prediction.colors, dtype=np.uint8)
        Image.fromarray(colors[prediction.labels]).save(path, format="PNG")
