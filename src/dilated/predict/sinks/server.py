"""Labels as an evaluation server takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dilated.errors import InputError
from dilated.predict.prediction import Prediction
from dilated.predict.server import Server
from dilated.predict.sinks.base import Sink, whole
from dilated.predict.sources import Picture, Source


class ServerFiles(Sink):
    """Files where, and of the names and values that, a server expects."""

    def __init__(self, out: Path, server: Server) -> None:
        super().__init__(out)
        self.server = server

    def path(self, picture: Picture) -> Path:
        return self.server.target(picture.source.path, self.out)

    def accept(self, source: Source) -> None:
        if source.kind != "picture":
            raise InputError(
                f"format: found the {source.kind} {source.path}; expected pictures, which the server knows"
            )

    def begin(self, classes: Sequence[str], colors: Sequence[Any], keep: bool = False) -> None:
        self.save = self.server.writer(classes)

    def write(self, picture: Picture, prediction: Prediction) -> None:
        with whole(self.path(picture)) as part:
            self.save(prediction, part)
