"""The image tinted with the classes' colors, with a legend."""

from __future__ import annotations

from pathlib import Path

from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage
from dilated.prediction.writers.base import PerImageWriter


class OverlayWriter(PerImageWriter):
    """`NAME.overlay.jpg`."""

    suffix = ".overlay.jpg"

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        prediction.overlay().save(path, format="JPEG", quality=92)
