"""From sources to writers: read ahead, predict on this thread, write behind; one bad image never stops the rest.

    writers = make_writers(["palette", "csv"], Path("out"))
    outcome = predict_sources(predictor, find_sources(["photos/"]), writers, PipelineOptions(batch_size=8))
    outcome.images, outcome.failures

    reader thread -> images (at most `depth`) -> the network, here -> predictions (at most `depth`) -> writer thread

Images of one size are predicted together. While a batch fills, images of other sizes wait, at most two batches in
all, so the memory is bounded by the queues.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Generator, Iterator, Sequence
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
from dilated.prediction.sources import InputImage, Source, SourceKind
from dilated.prediction.video import read_frames
from dilated.prediction.writers.base import PredictionWriter, first_image
from dilated.progress import ProgressCallback

_FATAL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""Errors of writing after which the next file would fail too."""
_AFTER_ALL_FRAMES = sys.maxsize
"""Sorts failures of a video as a whole after those of its frames."""


@dataclass(frozen=True)
class PipelineOptions:
    """How sources are read and predicted.

    Args:
        batch_size: how many images of one size are predicted at a time at most.
        workers: threads that read, and threads that write unless there is a video, whose frames have an order.
        max_frames: how many frames of each video at most; all by default.
        skip_existing: leave out the sources whose outputs all exist.
    """

    batch_size: int = 1
    workers: int = 1
    max_frames: int | None = None
    skip_existing: bool = False

    @property
    def depth(self) -> int:
        """How many images, and how many predictions, wait in the queues at most."""
        return max(2, 2 * self.batch_size, 2 * self.workers)


@dataclass(frozen=True)
class Failure:
    """A source that was not predicted, or an output that was not written; why, and how to mend it if that is known."""

    source: Path
    reason: str
    hint: str = ""


@dataclass
class PipelineResult:
    """What a run has done.

    Args:
        images: how many images have been predicted, frames of videos not counted.
        frames: how many frames have been predicted.
        videos: how many videos have been predicted to their end.
        skipped: how many sources were left out because their outputs exist.
        failures: what could not be predicted or written, in the order of the sources.
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


@dataclass(frozen=True)
class _LoadedImage:
    image: InputImage
    pixels: ImageArray


@dataclass(frozen=True)
class _FailedSource:
    source: Source
    reason: str
    hint: str = ""


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
    options: PipelineOptions | None = None,
    progress: ProgressCallback | None = None,
) -> PipelineResult:
    """Predict all sources that can be read and write them with all writers.

    Ctrl-C stops it, after what is in the writer's queue has been written; the stream of a camera ends with it.

    Args:
        predictor: called on this thread.
        sources: from `find_sources`; `check_outputs` makes sure that no output is an input or another output.
        writers: from `make_writers`.
        progress: called after each image and frame, by several threads; the total grows when a video is opened.

    Raises:
        InputError: a writer that cannot be opened; nothing has been written by then.
    """
    options = options or PipelineOptions()
    outputs = _Outputs(writers, _Journal(sources, progress))
    for writer in writers:
        writer.open(predictor.segmenter.classes, predictor.segmenter.colors, options.skip_existing)
    remaining = [source for source in sources if not (options.skip_existing and outputs.exist(source))]
    journal = outputs.journal
    journal.outcome.skipped = len(sources) - len(remaining)
    journal.add_total(sum(source.kind == SourceKind.IMAGE for source in remaining))
    write_threads = options.workers if all(source.kind == SourceKind.IMAGE for source in remaining) else 1
    with AsyncWriter(write_threads, options.depth) as async_writer:
        run = _PipelineRun(predictor, outputs, async_writer, options.batch_size)
        try:
            with closing(Prefetcher(_read_events(remaining, options), options.depth)) as events:
                run.process(events)
            async_writer.wait()
        except KeyboardInterrupt:
            run.interrupt()
    outputs.close()
    return journal.finish()


class _Journal:
    """What has been done and what has failed; several threads write to it."""

    def __init__(self, sources: Sequence[Source], progress: ProgressCallback | None) -> None:
        self.order = {source: i for i, source in enumerate(sources)}
        self.progress, self.done, self.total = progress, 0, 0
        self.outcome = PipelineResult()
        self.failures_by_position: list[tuple[tuple[int, int], Failure]] = []
        self.lock = Lock()

    def add_total(self, count: int) -> None:
        with self.lock:
            self.total += count

    def record_written(self, image: InputImage) -> None:
        with self.lock:
            if image.frame:
                self.outcome.frames += 1
            else:
                self.outcome.images += 1
            self._report_step()

    def record_failure(self, source: Source, number: int, reason: str, hint: str = "") -> None:
        with self.lock:
            self.failures_by_position.append(((self.order[source], number), Failure(source.path, reason, hint)))
            self._report_step()

    def record_failures(self, items: list[_LoadedImage], reason: str, hint: str) -> None:
        for item in items:
            self.record_failure(item.image.source, _frame_number(item.image), f"{item.image}: {reason}", hint)

    def record_write_error(self, path: Path, error: OSError, source: Source, number: int) -> None:
        fatal = error.errno in _FATAL_ERRNOS
        with self.lock:
            is_first = not self.outcome.stopped
            self.outcome.stopped |= fatal
        if is_first:
            stopped, hint = ("; the run was stopped", "mend that and go on with --skip-existing") if fatal else ("", "")
            reason = f"{path}: could not be written ({error.strerror or error}){stopped}"
            self.record_failure(source, number, reason, hint)

    def record_close_error(self, path: Path, error: OSError) -> None:
        reason = f"{path}: could not be written ({error.strerror or error})"
        self.failures_by_position.append(((len(self.order), 0), Failure(path, reason, "mend that and run it again")))

    def _report_step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)

    def finish(self) -> PipelineResult:
        """Return the outcome, with the failures in the order of the sources."""
        failures = sorted(self.failures_by_position, key=lambda entry: entry[0])
        self.outcome.failures = [failure for _, failure in failures]
        return self.outcome


class _Outputs:
    """All writers; `write` and `finish_video` run on the threads that write."""

    def __init__(self, writers: Sequence[PredictionWriter], journal: _Journal) -> None:
        self.writers, self.journal = writers, journal
        self.needs_logits = any(writer.needs_logits for writer in writers)

    def exist(self, source: Source) -> bool:
        """Return whether a former run has written all outputs of a source."""
        return not source.problem and all(writer.has(first_image(source)) for writer in self._writers_of(source))

    def write(self, image: InputImage, prediction: Prediction) -> None:
        if self.journal.outcome.stopped:
            return
        for writer in self._writers_of(image.source):
            try:
                writer.write(image, prediction)
            except InputError as error:
                self.journal.record_failure(image.source, _frame_number(image), error.message, error.hint)
                return
            except OSError as error:
                self.journal.record_write_error(writer.path(image), error, image.source, _frame_number(image))
                return
        self.journal.record_written(image)

    def finish_video(self, source: Source, complete: bool, readable: bool) -> None:
        outcome = self.journal.outcome
        for writer in self._writers_of(source):
            try:
                writer.finish_video(source, complete and not outcome.stopped)
            except OSError as error:
                self.journal.record_write_error(writer.path(first_image(source)), error, source, _AFTER_ALL_FRAMES)
                return
        outcome.videos += complete and readable and not outcome.stopped

    def close(self) -> None:
        for writer in self.writers:
            try:
                writer.close()
            except OSError as error:
                path = error.filename2 or error.filename or writer.out  # filename2 is the target of a failed rename
                self.journal.record_close_error(Path(path), error)

    def _writers_of(self, source: Source) -> list[PredictionWriter]:
        return [writer for writer in self.writers if source.kind in writer.kinds]


class _PipelineRun:
    """Collects what is read into batches, and predicts them, on the main thread."""

    def __init__(self, predictor: Predictor, outputs: _Outputs, async_writer: AsyncWriter, batch_size: int) -> None:
        self.predictor, self.outputs, self.async_writer = predictor, outputs, async_writer
        self.journal, self.batch_size = outputs.journal, batch_size
        self.pending: dict[tuple[int, ...], list[_LoadedImage]] = {}  # images by their size
        self.current_video: Source | None = None

    def process(self, events: Iterator[_ReadEvent]) -> None:
        for event in events:
            if self.journal.outcome.stopped:
                if self.current_video is not None:
                    self.async_writer.submit(self.outputs.finish_video, self.current_video, False, False)
                return
            if isinstance(event, _FailedSource):
                self.journal.record_failure(event.source, _AFTER_ALL_FRAMES, event.reason, event.hint)
            elif isinstance(event, _LoadedImage):
                self._add(event)
            else:
                self._flush()
                self.current_video = None
                self.async_writer.submit(self.outputs.finish_video, event.source, True, event.readable)
        self._flush()

    def interrupt(self) -> None:
        """End the stream of a camera, which is complete with Ctrl-C; anything else is not."""
        is_live = self.current_video is not None and self.current_video.kind == SourceKind.CAMERA
        self.journal.outcome.interrupted = not is_live
        if self.current_video is not None:
            self.async_writer.submit(self.outputs.finish_video, self.current_video, is_live, is_live)

    def _add(self, event: _LoadedImage) -> None:
        frame = event.image.frame
        self.current_video = event.image.source if frame else None
        if frame and frame.number == 1:
            self.journal.add_total(frame.total)
        size = event.pixels.shape
        self.pending.setdefault(size, []).append(event)
        if len(self.pending[size]) == self.batch_size:
            self._predict(self.pending.pop(size))
        elif sum(map(len, self.pending.values())) >= 2 * self.batch_size:
            self._predict(self.pending.pop(next(iter(self.pending))))  # the size that has waited longest

    def _flush(self) -> None:
        while self.pending:
            self._predict(self.pending.pop(next(iter(self.pending))))

    def _predict(self, items: list[_LoadedImage]) -> None:
        pixels = [item.pixels for item in items]
        try:
            predictions = self.predictor.batch(pixels, logits=self.outputs.needs_logits, batch_size=len(items))
        except InputError as error:
            self.journal.record_failures(items, error.message, error.hint)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            height, width = pixels[0].shape[:2]
            if len(items) == 1:
                reason, hint = f"{width}x{height} pixels do not fit in memory", "give --tile N, such as --tile 512"
            else:
                reason, hint = f"{len(items)} images of {width}x{height} do not fit in memory", "give a smaller --batch"
            self.journal.record_failures(items, reason, hint)
        else:
            for item, prediction in zip(items, predictions, strict=True):
                self.async_writer.submit(self.outputs.write, item.image, prediction)


def _frame_number(image: InputImage) -> int:
    return image.frame.number if image.frame else 0


def _read_events(sources: Sequence[Source], options: PipelineOptions) -> Generator[_ReadEvent, None, None]:
    """Yield all that is read, in the order of the sources; on the reader's thread."""
    first = 0
    while first < len(sources):
        last = first
        while last < len(sources) and sources[last].kind == SourceKind.IMAGE:
            last += 1
        yield from map_ordered(_read_image, sources[first:last], options.workers, options.depth)
        if last < len(sources):
            yield from _read_video(sources[last], options.max_frames)
        first = last + 1


def _read_image(source: Source) -> _ReadEvent:
    if source.problem:
        return _FailedSource(source, source.problem)
    try:
        return _LoadedImage(InputImage(source), read_image(source.path))
    except InputError as error:
        return _FailedSource(source, error.message, error.hint)


def _read_video(source: Source, max_frames: int | None) -> Iterator[_ReadEvent]:
    readable = True
    try:
        for frame, pixels in read_frames(source, max_frames):
            yield _LoadedImage(InputImage(source, frame), pixels)
    except InputError as error:
        yield _FailedSource(source, error.message, error.hint)
        readable = False
    yield _VideoEnd(source, readable)
