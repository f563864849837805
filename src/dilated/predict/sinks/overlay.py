"""The picture tinted with the classes' colours, with a legend."""

from __future__ import annotations

from pathlib import Path

from dilated.predict.prediction import Prediction
from dilated.predict.sinks.base import FileSink
from dilated.predict.sources import Picture


class Overlay(FileSink):
    """`NAME.overlay.jpg`."""

    ending = ".overlay.jpg"

    def save(self, prediction: Prediction, path: Path, picture: Picture) -> None:
        prediction.overlay().save(path, format="JPEG", quality=92)
