"""The frames of videos and cameras, one by one, through PyAV.

    for frame, pixels in read_frames(source):            # pixels: (H, W, 3) uint8, upright
        ...

Sound is not read. Frames keep their times, so a video whose frames are not evenly spaced stays as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dilated.data.images import ImageArray, get_pixel_limit
from dilated.errors import InputError
from dilated.prediction.sources import Frame, Source, SourceKind

_DEFAULT_FRAME_RATE = Fraction(25)  # frames per second of a file that does not say
TICKS_PER_FRAME = 1000  # the resolution of times


def read_frames(source: Source, max_frames: int | None = None) -> Iterator[tuple[Frame, ImageArray]]:
    """Yield the frames of a video or camera, one after the other: (frame, (H, W, 3) uint8).

    Args:
        source: a video or a camera.
        max_frames: how many frames at most.

    Raises:
        InputError: PyAV is not installed; no such camera; a file that is not a video, has no frame, or breaks off
            before its end, after the frames before that have been given.
    """
    av = import_av(source.path)
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
                seconds = max(time - start_time, seconds + 1 / (rate * TICKS_PER_FRAME))
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


def import_av(path: Path) -> ModuleType:
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
