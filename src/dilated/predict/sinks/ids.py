"""Label ids as plain grey PNGs, for programs that do not read palettes."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from dilated.predict.prediction import Prediction
from dilated.predict.sinks.base import FileSink
from dilated.predict.sources import Picture


class Ids(FileSink):
    """`NAME.png`, 8 bits a pixel; 16 where there are more than 256 classes."""

    ending = ".png"

    def save(self, prediction: Prediction, path: Path, picture: Picture) -> None:
        Image.fromarray(prediction.labels).save(path, format="PNG")
