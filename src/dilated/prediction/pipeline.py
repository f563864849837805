"""From sources to sinks: read ahead, label on this thread, write behind; one bad image never stops the rest.

    outcome = label(predictor, find(["photos/"]), choose(["palette", "csv"], Path("out")), batch=8)
    outcome.labelled, outcome.failures

    reader thread -> images (at most `ahead`) -> the network, here -> predictions (at most `ahead`) -> writer thread

Images of one size are labelled together. While a batch fills, images of other sizes wait, at most two batches in
all, so the memory is bounded by the queues.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from dilated.data.images import ImageArray, read_image
from dilated.environment import is_out_of_memory
from dilated.errors import InputError
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor
from dilated.prediction.prefetch import AsyncWriter, Prefetcher, map_ordered
from dilated.prediction.sources import InputImage, Source
from dilated.prediction.video import read_frames
from dilated.prediction.writers.base import PredictionWriter, first_image

_FATAL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""Errors of writing after which the next file would fail too."""
_AFTER_ALL_FRAMES = sys.maxsize
"""Sorts what is said of a video as a whole after what is said of its frames."""


@dataclass(frozen=True)
class Failure:
    """What could not be labelled, and why."""

    source: Path
    reason: str


@dataclass
class PipelineResult:
    """What a run has done.

    Args:
        images: how many images have been labelled, frames of videos not counted.
        frames: how many frames have been labelled.
        videos: how many videos have been labelled to their end.
        skipped: how many sources were left out because their outputs were there.
        failures: what could not be labelled, in the order of the sources.
        stopped: whether the run ended early because nothing could be written any more.
        interrupted: whether it ended early because of Ctrl-C.
    """

    images: int = 0
    frames: int = 0
    videos: int = 0
    skipped: int = 0
    failures: list[Failure] = field(default_factory=list)
    stopped: bool = False
    interrupted: bool = False


class ProgressListener:
    """Says nothing; the base of those that do. May be called by several threads."""

    def add_total(self, count: int) -> None:
        """So many more images or frames will come."""

    def advance(self) -> None:
        """One of them is done, or has failed."""


@dataclass(frozen=True)
class _LoadedImage:
    image: InputImage
    pixels: ImageArray


@dataclass(frozen=True)
class _FailedSource:
    source: Source
    reason: str


@dataclass(frozen=True)
class _VideoEnd:
    """After the last frame of a video."""

    source: Source
    readable: bool


_ReadEvent = _LoadedImage | _FailedSource | _VideoEnd


def predict_sources(
    predictor: Predictor,
    sources: Sequence[Source],
    writers: Sequence[PredictionWriter],
    *,
    batch: int = 1,
    workers: int = 1,
    max_frames: int | None = None,
    skip_existing: bool = False,
    progress: ProgressListener | None = None,
) -> PipelineResult:
    """Label all sources that can be read and write them to all sinks.

    Ctrl-C stops it, after what is in the writer's queue has been written; the stream of a camera ends with it.

    Args:
        predictor: called on this thread.
        sources: from `find_sources`; with `check` to be sure that no output is an input or another output.
        sinks: from `choose`.
        batch: how many images of one size are labelled at a time at most.
        workers: threads that read, and threads that write unless there is a video, whose frames have an order.
        most_frames: how many frames of each video at most.
        skip_existing: leave out the sources whose outputs are all there.
        progress: told of each image.

    Raises:
        InputError: a sink that cannot be begun; nothing has been written by then.
    """
    run = _PipelineRun(
        predictor, writers, progress or ProgressListener(), {source: i for i, source in enumerate(sources)}
    )
    for writer in writers:
        writer.open(predictor.segmenter.classes, predictor.segmenter.colors, skip_existing)
    remaining = [source for source in sources if not (skip_existing and run.is_done(source))]
    run.outcome.skipped = len(sources) - len(remaining)
    run.progress.add_total(sum(source.kind == "image" for source in remaining))
    depth = max(2, 2 * batch, 2 * workers)
    write_threads = workers if all(source.kind == "image" for source in remaining) else 1
    with AsyncWriter(write_threads, depth) as async_writer:
        try:
            with closing(Prefetcher(_read_events(remaining, workers, depth, max_frames), depth)) as events:
                run.process(events, async_writer, batch)
            async_writer.wait()
        except KeyboardInterrupt:
            run.interrupt(async_writer)
    run.close()
    return run.outcome


class _PipelineRun:
    """The state of a run: what has been done, and what waits to be labelled."""

    def __init__(
        self,
        predictor: Predictor,
        writers: Sequence[PredictionWriter],
        progress: ProgressListener,
        order: dict[Source, int],
    ) -> None:
        self.predictor, self.writers, self.progress, self.order = predictor, writers, progress, order
        self.logits = any(writer.logits for writer in writers)
        self.outcome = PipelineResult()
        self.failures_by_position: list[tuple[tuple[int, int], Failure]] = []
        self.current_video: Source | None = None
        self.lock = Lock()

    def writers_of(self, source: Source) -> list[PredictionWriter]:
        return [writer for writer in self.writers if source.kind in writer.kinds]

    def is_done(self, source: Source) -> bool:
        return not source.problem and all(writer.has(first_image(source)) for writer in self.writers_of(source))

    def process(self, events: Iterator[_ReadEvent], async_writer: AsyncWriter, batch: int) -> None:
        pending: dict[tuple[int, ...], list[_LoadedImage]] = {}
        for event in events:
            if self.outcome.stopped:
                if self.current_video is not None:
                    async_writer.put(self.finish_video, self.current_video, False, False)
                return
            if isinstance(event, _FailedSource):
                self.record_failure(event.source, _AFTER_ALL_FRAMES, event.reason)
                continue
            if isinstance(event, _LoadedImage):
                frame = event.image.frame
                self.current_video = event.image.source if frame else None
                if frame and frame.number == 1:
                    self.progress.add_total(frame.total)
                size = event.pixels.shape
                pending.setdefault(size, []).append(event)
                if len(pending[size]) == batch:
                    self.predict(pending.pop(size), async_writer)
                elif sum(map(len, pending.values())) >= 2 * batch:
                    self.predict(pending.pop(next(iter(pending))), async_writer)  # that whose first has waited longest
                continue
            for items in pending.values():
                self.predict(items, async_writer)
            pending.clear()
            self.current_video = None
            async_writer.put(self.finish_video, event.source, True, event.readable)
        for items in pending.values():
            self.predict(items, async_writer)

    def interrupt(self, async_writer: AsyncWriter) -> None:
        """A camera's stream is over with Ctrl-C, anything else is not whole."""
        live = self.current_video is not None and self.current_video.kind == "camera"
        self.outcome.interrupted = not live
        if self.current_video is not None:
            async_writer.put(self.finish_video, self.current_video, live, live)

    def predict(self, items: list[_LoadedImage], async_writer: AsyncWriter) -> None:
        try:
            predictions = self.predictor.batch(
                [item.pixels for item in items], logits=self.logits, batch_size=len(items)
            )
        except InputError as error:
            self.record_failures(items, str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            height, width = items[0].pixels.shape[:2]
            if len(items) == 1:
                reason = f"{width}x{height} pixels do not fit in memory at once; label them with --tile N, such as 512"
            else:
                reason = f"{len(items)} images of {width}x{height} do not fit in memory; give a smaller --batch"
            self.record_failures(items, reason)
        else:
            for item, prediction in zip(items, predictions, strict=True):
                async_writer.put(self.write, item.image, prediction)

    def write(self, image: InputImage, prediction: Prediction) -> None:
        """On a writer's thread."""
        if self.outcome.stopped:
            return
        for writer in self.writers_of(image.source):
            try:
                writer.write(image, prediction)
            except InputError as error:
                self.record_failure(image.source, _frame_number(image), str(error))
                return
            except OSError as error:
                self.record_write_error(writer.path(image), error, image.source, _frame_number(image))
                return
        with self.lock:
            if image.frame:
                self.outcome.frames += 1
            else:
                self.outcome.images += 1
        self.progress.advance()

    def finish_video(self, source: Source, complete: bool, readable: bool) -> None:
        """On the writer's thread."""
        for writer in self.writers_of(source):
            try:
                writer.finish_video(source, complete and not self.outcome.stopped)
            except OSError as error:
                self.record_write_error(writer.path(first_image(source)), error, source, _AFTER_ALL_FRAMES)
                return
        self.outcome.videos += complete and readable and not self.outcome.stopped

    def close(self) -> None:
        for writer in self.writers:
            try:
                writer.close()
            except OSError as error:
                path = Path(error.filename or writer.out)
                reason = f"{path}: could not be written ({error.strerror or error}); mend that and run it again"
                self.failures_by_position.append(((len(self.order), 0), Failure(path, reason)))
        self.outcome.failures = [
            failure for _, failure in sorted(self.failures_by_position, key=lambda entry: entry[0])
        ]

    def record_write_error(self, path: Path, error: OSError, source: Source, number: int) -> None:
        fatal = error.errno in _FATAL_ERRNOS
        hint = ". The run was stopped; mend that and go on with --skip-existing" if fatal else ""
        with self.lock:
            first = not self.outcome.stopped
            self.outcome.stopped |= fatal
        if first:
            self.record_failure(source, number, f"{path}: could not be written ({error.strerror or error}){hint}")

    def record_failure(self, source: Source, number: int, reason: str) -> None:
        with self.lock:
            self.failures_by_position.append(((self.order[source], number), Failure(source.path, reason)))
        self.progress.advance()

    def record_failures(self, items: list[_LoadedImage], reason: str) -> None:
        for item in items:
            self.record_failure(item.image.source, _frame_number(item.image), f"{item.image}: {reason}")


def _frame_number(image: InputImage) -> int:
    return image.frame.number if image.frame else 0


def _read_events(sources: Sequence[Source], workers: int, depth: int, max_frames: int | None) -> Iterator[_ReadEvent]:
    """All that is read, in the order of the sources; on the reader's thread."""
    first = 0
    while first < len(sources):
        last = first
        while last < len(sources) and sources[last].kind == "image":
            last += 1
        yield from map_ordered(_read_image, sources[first:last], workers, depth)
        if last < len(sources):
            yield from _read_video(sources[last], max_frames)
        first = last + 1


def _read_image(source: Source) -> _ReadEvent:
    if source.problem:
        return _FailedSource(source, source.problem)
    try:
        return _LoadedImage(InputImage(source), read_image(source.path))
    except InputError as error:
        return _FailedSource(source, str(error))


def _read_video(source: Source, max_frames: int | None) -> Iterator[_ReadEvent]:
    readable = True
    try:
        for frame, pixels in read_frames(source, max_frames):
            yield _LoadedImage(InputImage(source, frame), pixels)
    except InputError as error:
        yield _FailedSource(source, str(error))
        readable = False
    yield _VideoEnd(source, readable)
