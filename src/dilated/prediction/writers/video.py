"""A video's labels as a video: its frames, tinted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from dilated.errors import InputError
from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage, Source
from dilated.prediction.video import VideoEncoder
from dilated.prediction.writers.base import PredictionWriter


class VideoWriter(PredictionWriter):
    """`NAME.mp4`, of the video's size and with its frame rate. Written by one thread, one video after the other."""

    def __init__(self, out: Path) -> None:
        super().__init__(out, ("video", "camera"))
        self.encoder: VideoEncoder | None = None
        self.size = (0, 0)

    def path(self, image: InputImage) -> Path:
        return self._path(image.source)

    def write(self, image: InputImage, prediction: Prediction) -> None:
        assert image.frame is not None
        height, width = prediction.labels.shape
        path = self._path(image.source)
        if self.encoder is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The file is there only when the whole video is done, which is how a later run knows.
            path.unlink(missing_ok=True)
            self.encoder = VideoEncoder(_temporary_path(path), height, width, image.frame.rate)
            self.size = (height, width)
        if (height, width) != self.size:
            raise InputError(
                f"{image}: found a frame of {width}x{height}; expected {self.size[1]}x{self.size[0]} as before. "
                "Convert the video to one size."
            )
        self.encoder.write(np.asarray(prediction.overlay(legend=False)), image.frame.seconds)

    def finish_video(self, source: Source, complete: bool) -> None:
        if self.encoder is None:
            return
        encoder, self.encoder = self.encoder, None
        path = self._path(source)
        try:
            encoder.close()
            if complete:
                os.replace(_temporary_path(path), path)
        finally:
            _temporary_path(path).unlink(missing_ok=True)

    def _path(self, source: Source) -> Path:
        path = self.out / source.name
        return path.with_name(f"{path.name}.mp4")


def _temporary_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")
