"""A video's labels as a video: its frames, tinted, with their times.

with VideoEncoder(Path("out.mp4"), height, width, rate) as encoder:
    encoder.write(pixels, seconds)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np

from dilated.data.images import ImageArray
from dilated.errors import InputError
from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage, Source, SourceKind
from dilated.prediction.video import TICKS_PER_FRAME, import_av
from dilated.prediction.writers.base import PredictionWriter


class VideoWriter(PredictionWriter):
    """`NAME.mp4`, with the video's size and frame rate. Written by one thread, one video after the other."""

    def __init__(self, out: Path) -> None:
        super().__init__(out, (SourceKind.VIDEO, SourceKind.CAMERA))
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
            # The file exists only when the whole video is done, which is how a later run knows.
            path.unlink(missing_ok=True)
            self.encoder = VideoEncoder(_temporary_path(path), height, width, image.frame.rate)
            self.size = (height, width)
        if (height, width) != self.size:
            raise InputError(
                f"{image}: the frame has {width}x{height} pixels, those before {self.size[1]}x{self.size[0]}",
                hint="convert the video to one size",
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


class VideoEncoder:
    """Writes a video as H.264 in MP4.

    Args:
        path: any name; the format is MP4 whatever its suffix.
        height: of all frames, in pixels.
        width: of all frames. Odd sides are kept by storing colors at full resolution, which some players do not show.
        rate: frames per second. Times that are close to a multiple of its period are set to it exactly.
    """

    def __init__(self, path: Path, height: int, width: int, rate: Fraction) -> None:
        self.av, self.path = import_av(path), path
        self.rate, self.time_base, self.last_pts = rate, 1 / (rate * TICKS_PER_FRAME), -1
        with self._reraise_as_os_error():
            self.container = self.av.open(str(path), "w", format="mp4")
        try:
            self.stream = self.container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        except ValueError as error:
            raise InputError(
                f"{path}: this PyAV cannot write H.264", hint="run: pip install --force-reinstall av"
            ) from error
        self.stream.width, self.stream.height = width, height
        self.stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        self.stream.codec_context.time_base = self.time_base

    def __enter__(self) -> VideoEncoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, pixels: ImageArray, seconds: Fraction) -> None:
        """Add a frame (H, W, 3) uint8, shown from `seconds` on."""
        frame = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        position = seconds * self.rate  # in frames
        nearest = round(position)
        pts = round((nearest if abs(position - nearest) < 0.05 else position) * TICKS_PER_FRAME)
        self.last_pts = max(pts, self.last_pts + 1)
        frame.pts, frame.time_base = self.last_pts, self.time_base
        with self._reraise_as_os_error():
            self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Write the frames that are still buffered."""
        with self._reraise_as_os_error():
            try:
                self.container.mux(self.stream.encode())
            finally:
                self.container.close()

    @contextmanager
    def _reraise_as_os_error(self) -> Iterator[None]:
        """Turn errors of PyAV, not all of which are OSErrors, into OSErrors of the file."""
        try:
            yield
        except self.av.FFmpegError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
