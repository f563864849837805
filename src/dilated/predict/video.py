"""Videos and cameras frame by frame, and videos written, through PyAV.

    for frame, pixels in frames(source):                 # pixels: (H, W, 3) uint8, upright
        ...
    with Encoder(Path("out.mp4"), height, width, rate) as encoder:
        encoder.write(pixels, seconds)

Sound is not read. Frames keep their times, so a video whose frames are not evenly spaced stays as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from dilated.data.images import Pixels, limit
from dilated.errors import InputError
from dilated.predict.sources import Frame, Source

USUAL_RATE = Fraction(25)  # frames a second where a file does not say
FINE = 1000  # parts of a frame in which times are counted


def frames(source: Source, most: int | None = None) -> Iterator[tuple[Frame, Pixels]]:
    """The frames of a video or camera, one after the other.

    Args:
        source: of the kind `video` or `camera`.
        most: how many frames at most.

    Raises:
        InputError: PyAV is not installed; no such camera; a file that is no video, holds no frame, or ends or breaks
            off before its end, after the frames that are whole have been given.
    """
    av = library(source.path)
    container = _opened(av, source)
    number = 0
    with container:
        if not container.streams.video:
            raise InputError(f"{source.path}: found no pictures in it; expected a video")
        stream = container.streams.video[0]
        if stream.codec_context.width * stream.codec_context.height > limit():
            raise InputError(
                f"{source.path}: found frames of {stream.codec_context.width}x{stream.codec_context.height}; expected "
                f"at most {limit()} pixels"
            )
        rate = stream.average_rate or stream.guessed_rate or USUAL_RATE
        of = min(stream.frames, most or stream.frames)
        first: Fraction | None = None
        seconds = Fraction(-1)
        try:
            for frame in container.decode(stream):
                time = Fraction(number) / rate if frame.pts is None else frame.pts * frame.time_base
                first = time if first is None else first
                seconds = max(time - first, seconds + 1 / (rate * FINE))  # always later than the one before
                number += 1
                yield Frame(number, seconds, rate, of), _upright(frame.to_ndarray(format="rgb24"), frame.rotation)
                if number == most:
                    return
        except av.FFmpegError as error:
            raise _damaged(source, number, error.strerror or str(error)) from error
        length = Fraction(0) if stream.duration is None else stream.duration * stream.time_base
        missing = length - seconds - 1 / rate
        if missing > max(length / 10, 2 / rate) and source.kind == "video":
            raise _damaged(source, number, f"the last {float(missing):.1f} s are missing")
    if number == 0:
        raise InputError(f"{source.path}: found no frame in it; expected a video")


def _damaged(source: Source, number: int, reason: str) -> InputError:
    return InputError(
        f"{source.path}: the video is damaged after frame {number} ({reason}); expected a whole file. The frames "
        "before have been labelled."
    )


def _upright(pixels: Any, rotation: int) -> Pixels:
    """A frame as its file says that it is to be shown: `rotation` is in degrees, counterclockwise."""
    return np.ascontiguousarray(np.rot90(pixels, rotation // 90)) if rotation % 360 else pixels


def library(path: Path) -> ModuleType:
    """PyAV.

    Raises:
        InputError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError(f"{path}: videos and cameras need PyAV; run: pip install 'dilated[video]'") from error
    return av


def _opened(av: ModuleType, source: Source) -> Any:
    if source.kind == "camera":
        device, form = camera(str(source.path), sys.platform)
        try:
            return av.open(device, format=form)
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"{source.path}: found no camera at {device!r} ({reason}); expected camera:0, another number, or the "
                "path of a camera's device"
            ) from error
    try:
        return av.open(str(source.path))
    except PermissionError as error:
        raise InputError(
            f"{source.path}: may not be read; expected a video that you have permission to read"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{source.path}: no such file; expected a video") from error
    except av.FFmpegError as error:
        size = os.path.getsize(source.path)
        what = "an empty file" if size == 0 else f"{size} bytes that are no video that can be read ({error.strerror})"
        raise InputError(f"{source.path}: found {what}; expected a video such as MP4") from error


def camera(given: str, platform: str) -> tuple[str, str]:
    """What PyAV calls a camera: the device, and the input format.

    Args:
        given: `camera:` with a number or a name, or the path of a device.
        platform: as `sys.platform` has it.

    Example:
        >>> camera("camera:0", "linux"), camera("/dev/video2", "linux")
        (('/dev/video0', 'v4l2'), ('/dev/video2', 'v4l2'))
        >>> camera("camera:0", "darwin"), camera("camera:USB Camera", "win32")
        (('0', 'avfoundation'), ('video=USB Camera', 'dshow'))
    """
    name = given.removeprefix("camera:")
    if platform == "darwin":
        return name, "avfoundation"
    if platform == "win32":
        return f"video={name}", "dshow"
    return f"/dev/video{name}" if name.isdigit() else name, "v4l2"


class Encoder:
    """Writes a video as H.264 in MP4.

    Args:
        path: any name; the form is MP4 whatever its suffix.
        height, width: of all frames. Odd sides are kept, at the price of colours at full resolution, which some players
            do not show.
        rate: frames a second. Times that are close to it are put on it exactly.
    """

    def __init__(self, path: Path, height: int, width: int, rate: Fraction) -> None:
        self.av, self.path = library(path), path
        self.rate, self.unit, self.last = rate, 1 / (rate * FINE), -1
        with self._named():
            self.container = self.av.open(str(path), "w", format="mp4")
        try:
            self.stream = self.container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        except ValueError as error:
            raise InputError(f"{path}: this PyAV cannot write H.264; run: pip install --force-reinstall av") from error
        self.stream.width, self.stream.height = width, height
        self.stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        self.stream.codec_context.time_base = self.unit

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, pixels: Pixels, seconds: Fraction) -> None:
        """Add a frame (H, W, 3) uint8, shown from `seconds` on."""
        frame = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        place = seconds * self.rate
        near = round(place)
        self.last = max(round((near if abs(place - near) < 0.05 else place) * FINE), self.last + 1)
        frame.pts, frame.time_base = self.last, self.unit
        with self._named():
            self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Write what is left."""
        with self._named():
            try:
                self.container.mux(self.stream.encode())
            finally:
                self.container.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """PyAV's errors as errors of the file, for not all of them are."""
        try:
            yield
        except self.av.FFmpegError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
