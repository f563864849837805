"""From sources to images in memory: files, and the frames of videos; what cannot be read is an event like others.

for event in SourceReader(None, max_frames=None, workers=1, depth=2, gate=ByteGate(2**30)).read(sources): ...
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from dilated.data.band_header import read_band_header
from dilated.data.decoders import count_frames, count_tiff_pages
from dilated.data.images import open_image
from dilated.data.raster.bands import read_input
from dilated.errors import InputError
from dilated.input_config import BandArray, InputConfig
from dilated.prediction.memory import ByteGate
from dilated.prediction.prefetch import map_ordered
from dilated.prediction.sources import InputImage, Source, SourceKind
from dilated.prediction.video import read_frames

_BYTES_PER_PIXEL = 8
"""The decoder's copy (4), RGB (3) and labels (1)."""
_LARGE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class LoadedImage:
    image: InputImage
    pixels: BandArray
    frames: int = 1
    """How many the image's file holds."""
    held: int = 0
    """Bytes that a large image holds at the gate, until its labels have been written."""


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
        gate: where large images wait until there is room for them.
    """

    def __init__(
        self, config: InputConfig | None, max_frames: int | None, workers: int, depth: int, gate: ByteGate
    ) -> None:
        self.config, self.max_frames, self.workers, self.depth = config, max_frames, workers, depth
        self.gate = gate

    def read(self, sources: Sequence[Source]) -> Generator[ReadEvent, None, None]:
        """Yield all that is read, in the order of the sources; on the reader's thread."""
        first = 0
        while first < len(sources):
            last = first
            while last < len(sources) and sources[last].kind == SourceKind.IMAGE:
                last += 1
            sized = ((source, _bytes_while_labelled(source)) for source in sources[first:last])
            for is_large, run in itertools.groupby(sized, lambda pair: pair[1] > _LARGE_BYTES):
                if is_large:
                    yield from itertools.starmap(self._read_large_image, run)
                    continue
                images = (source for source, _ in run)
                if self.workers == 1:
                    yield from map(self._read_image, images)  # in this thread: none is read before there is room for it
                else:
                    yield from map_ordered(self._read_image, images, self.workers, self.depth)
            if last < len(sources):
                yield from _read_video(sources[last], self.max_frames)
            first = last + 1

    def _read_large_image(self, source: Source, held: int) -> ReadEvent:
        """Read an image when there is room; the images before it have been yielded, so that they make room."""
        self.gate.acquire(held)
        event = self._read_image(source)
        if isinstance(event, LoadedImage):
            return replace(event, held=held)
        self.gate.release(held)
        return event

    def _read_image(self, source: Source) -> ReadEvent:
        if source.problem:
            return FailedSource(source, source.problem)
        try:
            pixels = read_input(source.path, self.config)
            header = read_band_header(source.path)
            if header is not None and header.kind == "TIFF":
                return LoadedImage(InputImage(source), pixels, count_tiff_pages(source.path))
            if self.config is not None or (header is not None and header.is_array):
                return LoadedImage(InputImage(source), pixels)
            with open_image(source.path) as image:
                return LoadedImage(InputImage(source), pixels, count_frames(image))
        except InputError as error:
            return FailedSource(source, error.message, error.hint)


def _bytes_while_labelled(source: Source) -> int:
    """Estimate what an image's decoder, pixels, labels and files hold, by its header or the size of its file."""
    if source.problem:
        return 0
    try:
        with open_image(source.path) as image:
            return _BYTES_PER_PIXEL * image.width * image.height
    except InputError:
        return 4 * source.path.stat().st_size if source.path.is_file() else 0


def _read_video(source: Source, max_frames: int | None) -> Iterator[ReadEvent]:
    readable = True
    try:
        for frame, pixels in read_frames(source, max_frames):
            yield LoadedImage(InputImage(source, frame), pixels)
    except InputError as error:
        yield FailedSource(source, error.message, error.hint)
        readable = False
    yield _VideoEnd(source, readable)
