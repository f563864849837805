"""Videos and cameras, read and written frame by frame through PyAV.

    with closing(VideoEncoder(Path("out.mp4"), height, width, rate)) as encoder:
        for frame, pixels in read_frames(source):        # pixels: (H, W, 3) uint8, upright
            encoder.write(pixels, frame.seconds)

Sound is not read. Frames keep their times, so a video whose frames are not evenly spaced stays as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dilated.data.images import ImageArray, get_pixel_limit
from dilated.errors import InputError
from dilated.prediction.sources import Frame, Source, SourceKind

_DEFAULT_FRAME_RATE = Fraction(25)  # frames per second of a file that does not say
_TICKS_PER_FRAME = 1000  # the resolution of times


def read_frames(source: Source, max_frames: int | None = None) -> Iterator[tuple[Frame, ImageArray]]:
    """Yield the frames of a video or camera, one after the other: (frame, (H, W, 3) uint8).

    Args:
        source: a video or a camera.
        max_frames: how many frames at most.

    Raises:
        InputError: PyAV is not installed; no such camera; a file that is not a video, has no frame, or breaks off
            before its end, after the frames before that have been given.
    """
    av = _import_av(source.path)
    container = _open_container(av, source)
    number = 0
    with container:
        if not container.streams.video:
            raise InputError(f"{source.path}: holds no images", hint="give a video")
        stream = container.streams.video[0]
        if stream.codec_context.width * stream.codec_context.height > get_pixel_limit():
            size = f"{stream.codec_context.width}x{stream.codec_context.height}"
            raise InputError(f"{source.path}: has frames of {size}, more than {get_pixel_limit()} pixels")
        rate = stream.average_rate or stream.guessed_rate or _DEFAULT_FRAME_RATE
        total = min(stream.frames, max_frames or stream.frames)
        start_time: Fraction | None = None
        seconds = Fraction(-1)
        try:
            for frame in container.decode(stream):
                time = Fraction(number) / rate if frame.pts is None else frame.pts * frame.time_base
                start_time = time if start_time is None else start_time
                # Always later than the frame before.
                seconds = max(time - start_time, seconds + 1 / (rate * _TICKS_PER_FRAME))
                number += 1
                pixels = _rotate_upright(frame.to_ndarray(format="rgb24"), frame.rotation)
                yield Frame(number, seconds, rate, total), pixels
                if number == max_frames:
                    return
        except av.FFmpegError as error:
            raise _damaged_error(source, number, error.strerror or str(error)) from error
        duration = Fraction(0) if stream.duration is None else stream.duration * stream.time_base
        missing = duration - seconds - 1 / rate
        if missing > max(duration / 10, 2 / rate) and source.kind == SourceKind.VIDEO:
            raise _damaged_error(source, number, f"the last {float(missing):.1f} s are missing")
    if number == 0:
        raise InputError(f"{source.path}: holds no frame", hint="give a video")


def _damaged_error(source: Source, number: int, reason: str) -> InputError:
    return InputError(
        f"{source.path}: the video is damaged after frame {number} ({reason}); the frames before it have been labelled",
        hint="copy the file again",
    )


def _rotate_upright(pixels: Any, rotation: int) -> ImageArray:
    """Rotate a frame as its file says that it is shown: by `rotation` degrees, counterclockwise."""
    return np.ascontiguousarray(np.rot90(pixels, rotation // 90)) if rotation % 360 else pixels


def _import_av(path: Path) -> ModuleType:
    """Import PyAV.

    Raises:
        InputError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError(
            f"{path}: videos and cameras need PyAV, which is not installed", hint="run: pip install 'dilated[video]'"
        ) from error
    return av


def _open_container(av: ModuleType, source: Source) -> Any:
    if source.kind == SourceKind.CAMERA:
        device, container_format = _camera_device(str(source.path), sys.platform)
        try:
            return av.open(device, format=container_format)
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"{source.path}: found no camera at {device!r} ({reason})",
                hint="give camera:0, another number, or the path of a camera's device",
            ) from error
    try:
        return av.open(str(source.path))
    except PermissionError as error:
        raise InputError(f"{source.path}: permission denied") from error
    except FileNotFoundError as error:
        raise InputError(f"{source.path}: no such file") from error
    except av.FFmpegError as error:
        size = os.path.getsize(source.path)
        what = "an empty file" if size == 0 else f"{size} bytes that are not a readable video ({error.strerror})"
        raise InputError(f"{source.path}: {what}", hint="give a video such as MP4") from error


def _camera_device(camera: str, platform: str) -> tuple[str, str]:
    """Return how PyAV names a camera: the device, and the input format.

    Args:
        camera: `camera:` with a number or a name, or the path of a device.
        platform: a value of `sys.platform`.

    Example:
        >>> _camera_device("camera:0", "linux"), _camera_device("/dev/video2", "linux")
        (('/dev/video0', 'v4l2'), ('/dev/video2', 'v4l2'))
        >>> _camera_device("camera:0", "darwin"), _camera_device("camera:USB Camera", "win32")
        (('0', 'avfoundation'), ('video=USB Camera', 'dshow'))
    """
    name = camera.removeprefix("camera:")
    if platform == "darwin":
        return name, "avfoundation"
    if platform == "win32":
        return f"video={name}", "dshow"
    return f"/dev/video{name}" if name.isdigit() else name, "v4l2"


class VideoEncoder:
    """Writes a video as H.264 in MP4.

    Args:
        path: any name; the format is MP4 whatever its suffix.
        height: of all frames, in pixels.
        width: of all frames. Odd sides are kept by storing colors at full resolution, which some players do not show.
        rate: frames per second. Times that are close to a multiple of its period are set to it exactly.
    """

    def __init__(self, path: Path, height: int, width: int, rate: Fraction) -> None:
        self.av, self.path = _import_av(path), path
        self.height, self.width = height, width
        self.rate, self.time_base, self.last_pts = rate, 1 / (rate * _TICKS_PER_FRAME), -1
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

    def write(self, pixels: ImageArray, seconds: Fraction) -> None:
        """Add a frame (H, W, 3) uint8, shown from `seconds` on."""
        frame = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        position = seconds * self.rate  # in frames
        nearest = round(position)
        pts = round((nearest if abs(position - nearest) < 0.05 else position) * _TICKS_PER_FRAME)
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
