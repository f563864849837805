"""A video's labels as a video: its frames, tinted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from dilated.errors import InputError
from dilated.predict.prediction import Prediction
from dilated.predict.sinks.base import Sink
from dilated.predict.sources import Picture, Source
from dilated.predict.video import Encoder


class Film(Sink):
    """`NAME.mp4`, of the video's size and with its frame rate. Written by one thread, one video after the other."""

    def __init__(self, out: Path) -> None:
        super().__init__(out, ("video", "camera"))
        self.encoder: Encoder | None = None
        self.size = (0, 0)

    def path(self, picture: Picture) -> Path:
        return self._path(picture.source)

    def write(self, picture: Picture, prediction: Prediction) -> None:
        assert picture.frame is not None
        height, width = prediction.labels.shape
        path = self._path(picture.source)
        if self.encoder is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The file is there only when the whole video is done, which is how a later run knows.
            path.unlink(missing_ok=True)
            self.encoder = Encoder(_part(path), height, width, picture.frame.rate)
            self.size = (height, width)
        if (height, width) != self.size:
            raise InputError(
                f"{picture}: found a frame of {width}x{height}; expected {self.size[1]}x{self.size[0]} as before. "
                "Convert the video to one size."
            )
        self.encoder.write(np.asarray(prediction.overlay(legend=False)), picture.frame.seconds)

    def end(self, source: Source, whole: bool) -> None:
        if self.encoder is None:
            return
        encoder, self.encoder = self.encoder, None
        path = self._path(source)
        try:
            encoder.close()
            if whole:
                os.replace(_part(path), path)
        finally:
            _part(path).unlink(missing_ok=True)

    def _path(self, source: Source) -> Path:
        path = self.out / source.name
        return path.with_name(f"{path.name}.mp4")


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")
