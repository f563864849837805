"""From sources to images in memory: files, and the frames of videos; what cannot be read is an event like others.

for event in SourceReader(None, max_frames=None, workers=1, depth=2).read(sources): ...
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from dilated.data.decoders import count_frames
from dilated.data.images import open_image
from dilated.data.raster.bands import read_input
from dilated.errors import InputError
from dilated.input_config import BandArray, InputConfig
from dilated.prediction.prefetch import map_ordered
from dilated.prediction.sources import InputImage, Source, SourceKind
from dilated.prediction.video import read_frames


@dataclass(frozen=True)
class LoadedImage:
    image: InputImage
    pixels: BandArray
    frames: int = 1
    """How many the image's file holds."""


@dataclass(frozen=True)
class FailedSource:
    source: Source
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class _VideoEnd:
    """After the last frame of a video."""

    source: Source
    readable: bool


ReadEvent = LoadedImage | FailedSource | _VideoEnd


class SourceReader:
    """Reads sources in their order, images ahead of time where there are several threads.

    Args:
        config: what a network reads; None for 8-bit RGB.
        max_frames: of each video; None for all.
        workers: threads that read images.
        depth: how many images wait at most.
    """

    def __init__(self, config: InputConfig | None, max_frames: int | None, workers: int, depth: int) -> None:
        self.config, self.max_frames, self.workers, self.depth = config, max_frames, workers, depth

    def read(self, sources: Sequence[Source]) -> Generator[ReadEvent, None, None]:
        """Yield all that is read, in the order of the sources; on the reader's thread."""
        first = 0
        while first < len(sources):
            last = first
            while last < len(sources) and sources[last].kind == SourceKind.IMAGE:
                last += 1
            images = sources[first:last]
            if self.workers == 1:
                yield from map(self._read_image, images)  # in this thread: none is read before there is room for it
            else:
                yield from map_ordered(self._read_image, images, self.workers, self.depth)
            if last < len(sources):
                yield from _read_video(sources[last], self.max_frames)
            first = last + 1

    def _read_image(self, source: Source) -> ReadEvent:
        if source.problem:
            return FailedSource(source, source.problem)
        try:
            pixels = read_input(source.path, self.config)
            if self.config is not None or source.path.suffix.lower() == ".npy":
                return LoadedImage(InputImage(source), pixels)
            with open_image(source.path) as image:
                return LoadedImage(InputImage(source), pixels, count_frames(image))
        except InputError as error:
            return FailedSource(source, error.message, error.hint)


def _read_video(source: Source, max_frames: int | None) -> Iterator[ReadEvent]:
    readable = True
    try:
        for frame, pixels in read_frames(source, max_frames):
            yield LoadedImage(InputImage(source, frame), pixels)
    except InputError as error:
        yield FailedSource(source, error.message, error.hint)
        readable = False
    yield _VideoEnd(source, readable)
