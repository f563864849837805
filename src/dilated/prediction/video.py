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

from dilated.data.images import ImageArray, get_pixel_limit
from dilated.errors import InputError
from dilated.prediction.sources import Frame, Source

_DEFAULT_FRAME_RATE = Fraction(25)  # frames a second where a file does not say
_TICKS_PER_FRAME = 1000  # parts of a frame in which times are counted


def read_frames(source: Source, max_frames: int | None = None) -> Iterator[tuple[Frame, ImageArray]]:
    """The frames of a video or camera, one after the other.

    Args:
        source: of the kind `video` or `_camera_device`.
        most: how many frames at most.

    Raises:
        InputError: PyAV is not installed; no such camera; a file that is no video, holds no frame, or ends or breaks
            off before its end, after the frames that are whole have been given.
    """
    av = _import_av(source.path)
    container = _open_container(av, source)
    number = 0
    with container:
        if not container.streams.video:
            raise InputError(f"{source.path}: found no images in it; expected a video")
        stream = container.streams.video[0]
        if stream.codec_context.width * stream.codec_context.height > get_pixel_limit():
            raise InputError(
                f"{source.path}: found frames of {stream.codec_context.width}x{stream.codec_context.height}; expected "
                f"at most {get_pixel_limit()} pixels"
            )
        rate = stream.average_rate or stream.guessed_rate or _DEFAULT_FRAME_RATE
        total = min(stream.frames, max_frames or stream.frames)
        start_time: Fraction | None = None
        seconds = Fraction(-1)
        try:
            for frame in container.decode(stream):
                time = Fraction(number) / rate if frame.pts is None else frame.pts * frame.time_base
                start_time = time if start_time is None else start_time
                seconds = max(
                    time - start_time, seconds + 1 / (rate * _TICKS_PER_FRAME)
                )  # always later than the one before
                number += 1
                yield (
                    Frame(number, seconds, rate, total),
                    _rotate_upright(frame.to_ndarray(format="rgb24"), frame.rotation),
                )
                if number == max_frames:
                    return
        except av.FFmpegError as error:
            raise _damaged_error(source, number, error.strerror or str(error)) from error
        duration = Fraction(0) if stream.duration is None else stream.duration * stream.time_base
        missing = duration - seconds - 1 / rate
        if missing > max(duration / 10, 2 / rate) and source.kind == "video":
            raise _damaged_error(source, number, f"the last {float(missing):.1f} s are missing")
    if number == 0:
        raise InputError(f"{source.path}: found no frame in it; expected a video")


def _damaged_error(source: Source, number: int, reason: str) -> InputError:
    return InputError(
        f"{source.path}: the video is damaged after frame {number} ({reason}); expected a whole file. The frames "
        "before have been labelled."
    )


def _rotate_upright(pixels: Any, rotation: int) -> ImageArray:
    """A frame as its file says that it is to be shown: `rotation` is in degrees, counterclockwise."""
    return np.ascontiguousarray(np.rot90(pixels, rotation // 90)) if rotation % 360 else pixels


def _import_av(path: Path) -> ModuleType:
    """PyAV.

    Raises:
        InputError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError(f"{path}: videos and cameras need PyAV; run: pip install 'dilated[video]'") from error
    return av


def _open_container(av: ModuleType, source: Source) -> Any:
    if source.kind == "camera":
        device, container_format = _camera_device(str(source.path), sys.platform)
        try:
            return av.open(device, format=container_format)
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


def _camera_device(given: str, platform: str) -> tuple[str, str]:
    """What PyAV calls a camera: the device, and the input format.

    Args:
        given: `camera:` with a number or a name, or the path of a device.
        platform: as `sys.platform` has it.

    Example:
        >>> _camera_device("camera:0", "linux"), _camera_device("/dev/video2", "linux")
        (('/dev/video0', 'v4l2'), ('/dev/video2', 'v4l2'))
        >>> _camera_device("camera:0", "darwin"), _camera_device("camera:USB Camera", "win32")
        (('0', 'avfoundation'), ('video=USB Camera', 'dshow'))
    """
    name = given.removeprefix("camera:")
    if platform == "darwin":
        return name, "avfoundation"
    if platform == "win32":
        return f"video={name}", "dshow"
    return f"/dev/video{name}" if name.isdigit() else name, "v4l2"


class VideoEncoder:
    """Writes a video as H.264 in MP4.

    Args:
        path: any name; the form is MP4 whatever its suffix.
        height, width: of all frames. Odd sides are kept, at the price of colors at full resolution, which some players
            do not show.
        rate: frames a second. Times that are close to it are put on it exactly.
    """

    def __init__(self, path: Path, height: int, width: int, rate: Fraction) -> None:
        self.av, self.path = _import_av(path), path
        self.rate, self.time_base, self.last_pts = rate, 1 / (rate * _TICKS_PER_FRAME), -1
        with self._reraise_as_os_error():
            self.container = self.av.open(str(path), "w", format="mp4")
        try:
            self.stream = self.container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        except ValueError as error:
            raise InputError(f"{path}: this PyAV cannot write H.264; run: pip install --force-reinstall av") from error
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
        frame_position = seconds * self.rate
        nearest = round(frame_position)
        self.last_pts = max(
            round((nearest if abs(frame_position - nearest) < 0.05 else frame_position) * _TICKS_PER_FRAME),
            self.last_pts + 1,
        )
        frame.pts, frame.time_base = self.last_pts, self.time_base
        with self._reraise_as_os_error():
            self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Write what is left."""
        with self._reraise_as_os_error():
            try:
                self.container.mux(self.stream.encode())
            finally:
                self.container.close()

    @contextmanager
    def _reraise_as_os_error(self) -> Iterator[None]:
        """PyAV's errors as errors of the file, for not all of them are."""
        try:
            yield
        except self.av.FFmpegError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
