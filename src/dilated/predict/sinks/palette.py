"""Label ids as palette PNGs: a reader of indices gets the ids, a viewer shows the classes' colours."""

from __future__ import annotations

from pathlib import Path

from dilated.predict.prediction import Prediction
from dilated.predict.sinks.base import FileSink
from dilated.predict.sources import Picture


class Palette(FileSink):
    """`NAME.png`, mode P; 16-bit grey where there are more than 256 classes, for which there is no palette."""

    ending = ".png"

    def save(self, prediction: Prediction, path: Path, picture: Picture) -> None:
        prediction.save(path)
