"""Labels as an evaluation server takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dilated.errors import InputError
from dilated.prediction.prediction import Prediction
from dilated.prediction.servers import EvaluationServer
from dilated.prediction.sources import InputImage, Source
from dilated.prediction.writers.base import PredictionWriter, atomic_write


class ServerWriter(PredictionWriter):
    """Files where, and of the names and values that, a server expects."""

    def __init__(self, out: Path, server: EvaluationServer) -> None:
        super().__init__(out)
        self.server = server

    def path(self, image: InputImage) -> Path:
        return self.server.label_path(image.source.path, self.out)

    def check_source(self, source: Source) -> None:
        if source.kind != "image":
            raise InputError(f"format: found the {source.kind} {source.path}; expected images, which the server knows")

    def open(self, classes: Sequence[str], colors: Sequence[Any], append: bool = False) -> None:
        self.save = self.server.make_writer(classes)

    def write(self, image: InputImage, prediction: Prediction) -> None:
        with atomic_write(self.path(image)) as temporary:
            self.save(prediction, temporary)
