"""Videos in and out: frames, times, sizes, what is damaged."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated import InputError
from dilated.prediction.sources import Source
from dilated.prediction.video import VideoEncoder, read_frames

av = pytest.importorskip("av")


def make(path: Path, shades: Sequence[int], rate: Fraction = Fraction(25), turn: int = 0) -> Source:
    """A video of 64x48 whose frames are grey; the upper left quarter is white."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate, options={"qscale": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if turn:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV reads a video's rotation and writes none")
            stream.set_display_rotation(turn)
        for shade in shades:
            pixels = np.full((48, 64, 3), shade, np.uint8)
            pixels[:24, :32] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return Source(path, Path(path.stem), "video")


def rate_of(path: Path) -> tuple[Fraction, int, tuple[int, int]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        size = (stream.codec_context.width, stream.codec_context.height)
        return stream.average_rate, sum(1 for _ in container.decode(stream)), size


RATES = [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("rate", RATES)
def test_a_video_read_and_written_keeps_its_frames_rate_and_size(suffix: str, rate: Fraction, tmp_path: Path) -> None:
    source = make(tmp_path / f"in{suffix}", [20, 90, 160, 230, 20], rate)
    read = list(read_frames(source))
    assert [frame.number for frame, _ in read] == [1, 2, 3, 4, 5]
    assert [round(float(pixels[40, 50].mean()), -1) for _, pixels in read] == [20, 90, 160, 230, 20]
    assert all(pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8 for _, pixels in read)
    with closing(VideoEncoder(tmp_path / "out.part", 48, 64, read[0][0].rate)) as encoder:
        for frame, pixels in read:
            encoder.write(pixels, frame.seconds)
    assert rate_of(tmp_path / "out.part") == (rate, 5, (64, 48))
    again = [pixels for _, pixels in read_frames(Source(tmp_path / "out.part", Path("out"), "video"))]
    assert all(np.abs(a.astype(int) - b).mean() < 4 for (_, a), b in zip(read, again, strict=True))


def test_uneven_times_stay_uneven(tmp_path: Path) -> None:
    times = [Fraction(0), Fraction(1, 10), Fraction(1, 2), Fraction(3, 5)]
    with closing(VideoEncoder(tmp_path / "a.mp4", 48, 64, Fraction(10))) as encoder:
        for time in times:
            encoder.write(np.zeros((48, 64, 3), np.uint8), time)
    read = read_frames(Source(tmp_path / "a.mp4", Path("a"), "video"))
    assert [frame.seconds for frame, _ in read] == times


def test_odd_sides_are_kept(tmp_path: Path) -> None:
    with closing(VideoEncoder(tmp_path / "a.mp4", 47, 63, Fraction(25))) as encoder:
        encoder.write(np.zeros((47, 63, 3), np.uint8), Fraction(0))
    assert rate_of(tmp_path / "a.mp4")[1:] == (1, (63, 47))


@pytest.mark.parametrize(("turn", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))])
def test_frames_are_turned_upright(turn: int, corner: tuple[int, int], tmp_path: Path) -> None:
    ((_, pixels),) = read_frames(make(tmp_path / "a.mp4", [20], turn=turn))
    assert pixels.shape == ((48, 64, 3) if turn % 180 == 0 else (64, 48, 3))
    assert pixels[corner].mean() > 240
    assert sum(pixels[y, x].mean() > 240 for y in (0, -1) for x in (0, -1)) == 1


def test_only_so_many_frames_are_read_as_are_wanted(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", [20] * 6)
    assert [(frame.number, frame.total) for frame, _ in read_frames(source, 2)] == [(1, 2), (2, 2)]
    assert len(list(read_frames(source, 9))) == 6


def test_what_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    for content, message in ((b"", "an empty file"), (b"hello", "5 bytes that are not a readable video")):
        (tmp_path / "a.mp4").write_bytes(content)
        with pytest.raises(InputError, match=f"a.mp4: {message}"):
            list(read_frames(Source(tmp_path / "a.mp4", Path("a"), "video")))
    with pytest.raises(InputError, match=r"gone.mp4: no such file"):
        list(read_frames(Source(tmp_path / "gone.mp4", Path("gone"), "video")))


def test_a_video_that_ends_too_early_is_damaged_after_its_whole_frames(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(20):
            pixels = noise.integers(0, 256, (48, 64, 3)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read: list[int] = []
    with pytest.raises(InputError, match=r"a.mp4: the video is damaged after frame \d+ "):
        read.extend(frame.number for frame, _ in read_frames(Source(path, Path("a"), "video")))
    assert read == list(range(1, len(read) + 1))
    assert 2 < len(read) < 15


def test_frames_too_large_to_be_trusted_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "a.mp4", [20])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)
    with pytest.raises(InputError, match="has frames of 64x48, more than 3071 pixels"):
        list(read_frames(source))


def test_a_camera_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"camera:987: found no camera at '.*987'.*Give camera:0, another number"):
        list(read_frames(Source(Path("camera:987"), Path("camera987"), "camera")))


def test_without_pyav_the_way_to_have_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'dilated\[video\]'"):
        list(read_frames(Source(tmp_path / "a.mp4", Path("a"), "video")))
