"""From sources to writers: read ahead, predict on this thread, write behind; one bad image never stops the rest.

    options, sources = PipelineOptions(save=("palette", "csv"), batch=8), search_sources(["photos/"]).sources
    result = predict_sources(predictor, sources, options.make_writers(Path("out"), sources), options)
    result.images, result.failures

    reader thread -> images (at most `depth`) -> the network, here -> predictions (at most `depth`) -> writer thread

Images of one size are predicted together; others wait, at most two batches in all: the queues bound the memory.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from dilated.environment import is_out_of_memory
from dilated.errors import InputError
from dilated.files import describe_write_error
from dilated.input_config import BandArray
from dilated.prediction.journal import Journal
from dilated.prediction.memory import NETWORK_SHARE, ByteGate
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor
from dilated.prediction.prefetch import AsyncWriter, prefetch
from dilated.prediction.reading import FailedSource, LoadedImage, ReadEvent, SourceReader
from dilated.prediction.size_batcher import SizeBatcher
from dilated.prediction.sources import InputImage, Source, SourceKind
from dilated.prediction.writers import OutputFormat, make_writers
from dilated.prediction.writers.base import PredictionWriter, check_outputs, first_image
from dilated.prediction.writers.images import SERVERS, ServerFormat
from dilated.progress import ProgressCallback

_FATAL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""Errors of writing after which the next file would fail too."""
_AFTER_ALL_FRAMES = sys.maxsize
"""Sorts failures of a video as a whole after those of its frames."""


@dataclass(frozen=True)
class PipelineOptions:
    """What `dilated predict` writes, and how it reads; see `PredictorOptions` for how it predicts.

    Raises:
        InputError: a number that is not positive.
    """

    save: tuple[OutputFormat, ...] = ()
    """What to write, one or several; if nothing is named, palette, or the server's files. An image: palette (PNG of
    ids, shown in colors), ids (grey PNG), color (RGB PNG), overlay (STEM.overlay.jpg), confidence (STEM.confidence.png,
    65535 times the greatest probability, at the temperature of `dilated tune`), probabilities (STEM.npz),
    probabilities-tif, geojson (polygons), labelme (STEM.json). For all images: coco (annotations.json), csv
    (class_fractions.csv). Of a video, each frame's, in the folder STEM. Alone, with --tile: tif (tiled TIFF with the
    image's georeference and overviews, and STEM.quicklook.png), read and written block by block; a second call goes on
    after a kill."""
    format: ServerFormat = "palette"
    """Palette, or voc-comp6 for PASCAL VOC's server (OUT/results/VOC2012/Segmentation/comp6_test_cls), or cityscapes
    for Cityscapes' (OUT/CITY_SEQUENCE_FRAME_pred.png, of its label ids)."""
    overlay: bool = False
    """Write STEM.overlay.jpg too: the image tinted, with a legend."""
    skip_existing: bool = False
    """Leave out images whose outputs all exist, and were not made from other content of the image, by another network
    or with other settings."""
    slide_level: int = 0
    """Of whole-slide images, the level of their pyramid; 0 for the full resolution."""
    frames: int | None = None
    """Label at most this many frames of each video or camera; all of them if not given."""
    batch: int | None = None
    """Label at most this many images of one size together; 1 on the CPU and 8 on CUDA if not given."""
    workers: int | None = None
    """Threads that read images, and that write them unless there is a video; 1 on the CPU and up to 8 on CUDA if not
    given."""

    def __post_init__(self) -> None:
        for name in ("frames", "batch", "workers"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"{name}: {number} is not a positive number", hint="give 1 or more")

    def make_writers(self, out: Path, sources: Sequence[Source]) -> list[PredictionWriter]:
        """Return the writers of these formats, after checking that no two outputs are one file and none is an input.

        Raises:
            InputError: see `check_outputs`.
        """
        videos = any(source.kind != SourceKind.IMAGE for source in sources)
        writers = make_writers(self.save, out, SERVERS.get(self.format), self.overlay, videos) if sources else []
        check_outputs(sources, writers)
        return writers


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
        outdated: how many were labelled though their outputs exist, for these were of another content of the image,
            another network or other settings.
        failures: what could not be predicted or written, in the order of the sources.
        several_frames: how many frames or pages each file holds that holds several; the first was predicted.
        tiles: pixels along a side of the tiles in which large images were labelled, by the memory.
        pixels, unknown: how many pixels have been predicted, and how many of them were left unknown.
        stopped: whether the run ended early because nothing could be written any more.
        interrupted: whether it ended early because of Ctrl-C.
    """

    images: int = 0
    frames: int = 0
    videos: int = 0
    skipped: int = 0
    outdated: int = 0
    failures: list[Failure] = field(default_factory=list)
    several_frames: dict[Path, int] = field(default_factory=dict)
    tiles: dict[Path, int] = field(default_factory=dict)
    pixels: int = 0
    unknown: int = 0
    stopped: bool = False
    interrupted: bool = False


def predict_sources(
    predictor: Predictor,
    sources: Sequence[Source],
    writers: Sequence[PredictionWriter],
    options: PipelineOptions | None = None,
    progress: ProgressCallback | None = None,
    journal: Journal | None = None,
) -> PipelineResult:
    """Predict all sources that can be read and write them with all writers.

    Ctrl-C stops it, after what is in the writer's queue has been written; the stream of a camera ends with it.

    Args:
        predictor: called on this thread.
        sources: from `search_sources`; `check_outputs` makes sure that no output is an input or another output.
        writers: from `PipelineOptions.make_writers`.
        options: all but the formats of the writers, which exist already.
        progress: called after each image and frame, by several threads; the total grows when a video is opened.
        journal: of the outputs' folder; without one, whatever exists is left out where that is asked for.

    Raises:
        InputError: a writer that cannot be opened; nothing has been written by then.
    """
    options = options or PipelineOptions()
    outputs = _Outputs(writers, sources, progress, journal)
    for writer in writers:
        writer.open(predictor.segmenter.classes, predictor.segmenter.colors, options.skip_existing)
    remaining = [source for source in sources if not (options.skip_existing and outputs.exist(source))]
    outputs.result.skipped = len(sources) - len(remaining)
    if journal is not None:
        outputs.result.outdated = sum(map(outputs.is_outdated, remaining)) if options.skip_existing else 0
        journal.begin(remaining)
    images = sum(source.kind == SourceKind.IMAGE for source in remaining)
    outputs.add_total(images)
    on_cuda = predictor.device.type == "cuda"
    batch = options.batch or (8 if on_cuda else 1)
    workers = options.workers or (min(8, os.cpu_count() or 1) if on_cuda else 1)
    depth = max(2, 2 * batch, 2 * workers)  # how many images, and how many predictions, wait in the queues at most
    with AsyncWriter(workers if images == len(remaining) else 1, depth) as async_writer:
        gate = ByteGate(int(predictor.memory_use.limit.left("cpu") * (1 - NETWORK_SHARE)))
        run = _PipelineRun(predictor, outputs, async_writer, batch, gate)
        try:
            reader = SourceReader(predictor.segmenter.input, options.frames, workers, depth, gate)
            with closing(prefetch(reader.read(remaining), depth)) as events:
                try:
                    run.process(events)
                finally:
                    gate.open()
            async_writer.wait()
        except KeyboardInterrupt:
            run.interrupt()
    return outputs.close()


class _Outputs:
    """All writers, and what has been written and what has failed; several threads use it."""

    def __init__(
        self,
        writers: Sequence[PredictionWriter],
        sources: Sequence[Source],
        progress: ProgressCallback | None,
        journal: Journal | None,
    ) -> None:
        self.writers, self.progress, self.journal = writers, progress, journal
        self.needs_logits = any(writer.needs_logits for writer in writers)
        self.order = {source: i for i, source in enumerate(sources)}
        self.result = PipelineResult()
        self.failures_by_position: list[tuple[tuple[int, int], Failure]] = []
        self.done = self.total = 0
        self.lock = Lock()

    def exist(self, source: Source) -> bool:
        """Return whether a former run has written all outputs of a source, as this one would."""
        return self._are_written(source) and (self.journal is None or self.journal.is_current(source))

    def is_outdated(self, source: Source) -> bool:
        """Return whether all outputs of a source exist, and are of another content, network or settings."""
        return self._are_written(source) and self.journal is not None and not self.journal.is_current(source)

    def _are_written(self, source: Source) -> bool:
        return not source.problem and all(writer.has(first_image(source)) for writer in self._writers_of(source))

    def add_total(self, count: int) -> None:
        with self.lock:
            self.total += count

    def write(self, image: InputImage, prediction: Prediction) -> None:
        if self.result.stopped:
            return
        for writer in self._writers_of(image.source):
            try:
                writer.write(image, prediction)
            except InputError as error:
                self.fail(image.source, image.frame_number, error.message, error.hint)
                return
            except OSError as error:
                self._fail_to_write(writer.path(image), error, image.source, image.frame_number)
                return
        if not image.frame and not self._record(image.source):
            return
        with self.lock:
            self.result.pixels += prediction.labels.size
            self.result.unknown += prediction.unknown or 0
            if image.frame:
                self.result.frames += 1
            else:
                self.result.images += 1
            self._report_step()

    def finish_video(self, source: Source, complete: bool, readable: bool) -> None:
        for writer in self._writers_of(source):
            try:
                writer.finish_video(source, complete and not self.result.stopped)
            except OSError as error:
                self._fail_to_write(writer.path(first_image(source)), error, source, _AFTER_ALL_FRAMES)
                return
        if complete and readable and not self.result.stopped and self._record(source):
            self.result.videos += 1

    def _record(self, source: Source) -> bool:
        if self.journal is not None:
            try:
                self.journal.record(source)
            except OSError as error:
                self._fail_to_write(self.journal.path, error, source, 0)
                return False
        return True

    def fail(self, source: Source, number: int, reason: str, hint: str = "") -> None:
        """Record that a source, or a frame of it, has failed."""
        with self.lock:
            self.failures_by_position.append(((self.order[source], number), Failure(source.path, reason, hint)))
            self._report_step()

    def close(self) -> PipelineResult:
        """Close the writers and return what was done, with the failures in the order of the sources."""
        closers = [writer.close for writer in self.writers] + ([self.journal.close] if self.journal else [])
        for close in closers:
            try:
                close()
            except OSError as error:
                name = error.filename2 or error.filename or self.writers[0].out  # filename2: the target of a rename
                path = Path(name)
                failure = Failure(path, describe_write_error(path, error), "mend that and run it again")
                self.failures_by_position.append(((len(self.order), 0), failure))
        self.failures_by_position.sort(key=lambda entry: entry[0])
        self.result.failures = [failure for _, failure in self.failures_by_position]
        return self.result

    def _fail_to_write(self, path: Path, error: OSError, source: Source, number: int) -> None:
        fatal = error.errno in _FATAL_ERRNOS
        with self.lock:
            is_first = not self.result.stopped
            self.result.stopped |= fatal
        if is_first:
            stopped, hint = ("; the run was stopped", "mend that and go on with --skip-existing") if fatal else ("", "")
            self.fail(source, number, f"{describe_write_error(path, error)}{stopped}", hint)

    def _report_step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _writers_of(self, source: Source) -> list[PredictionWriter]:
        return [writer for writer in self.writers if source.kind in writer.kinds]


class _PipelineRun:
    """Collects what is read into batches, and predicts them, on the main thread."""

    def __init__(
        self, predictor: Predictor, outputs: _Outputs, async_writer: AsyncWriter, batch_size: int, gate: ByteGate
    ) -> None:
        self.predictor, self.outputs, self.async_writer, self.gate = predictor, outputs, async_writer, gate
        self.batches: SizeBatcher[LoadedImage] = SizeBatcher(batch_size)
        self.current_video: Source | None = None

    def process(self, events: Iterator[ReadEvent]) -> None:
        for event in events:
            if self.outputs.result.stopped:
                if self.current_video is not None:
                    self.async_writer.submit(self.outputs.finish_video, self.current_video, False, False)
                return
            if isinstance(event, FailedSource):
                self.outputs.fail(event.source, _AFTER_ALL_FRAMES, event.reason, event.hint)
            elif isinstance(event, LoadedImage):
                self._add(event)
            else:
                self._flush()
                self.current_video = None
                self.async_writer.submit(self.outputs.finish_video, event.source, True, event.readable)
        self._flush()

    def interrupt(self) -> None:
        """End the stream of a camera, which is complete with Ctrl-C; anything else is not."""
        is_live = self.current_video is not None and self.current_video.kind == SourceKind.CAMERA
        self.outputs.result.interrupted = not is_live
        if self.current_video is not None:
            self.async_writer.submit(self.outputs.finish_video, self.current_video, is_live, is_live)

    def _add(self, event: LoadedImage) -> None:
        frame = event.image.frame
        self.current_video = event.image.source if frame else None
        if event.frames > 1:
            self.outputs.result.several_frames[event.image.source.path] = event.frames
        if frame and frame.number == 1:
            self.outputs.add_total(frame.total)
        if event.held:  # a large image waits for no others: it may be what the reader waits for
            self._predict([event])
        elif batch := self.batches.add(event.pixels.shape, event):
            self._predict(batch)

    def _flush(self) -> None:
        while batch := self.batches.pop():
            self._predict(batch)

    def _predict(self, items: list[LoadedImage]) -> None:
        pixels = [item.pixels for item in items]
        try:
            predictions = self._label(pixels)
        except InputError as error:
            self._fail(items, error.message, error.hint)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            height, width = pixels[0].shape[:2]
            if len(items) == 1:
                reason, hint = f"{width}x{height} pixels do not fit in memory", "give --tile N, such as --tile 512"
            else:
                reason, hint = f"{len(items)} images of {width}x{height} do not fit in memory", "give a smaller --batch"
            self._fail(items, reason, hint)
        else:
            for item, prediction in zip(items, predictions, strict=True):
                if prediction.tile is not None and self.predictor.tile is None:
                    self.outputs.result.tiles[item.image.source.path] = prediction.tile
                self.async_writer.submit(self._write, item, prediction)

    def _label(self, pixels: list[BandArray]) -> list[Prediction]:
        """Label images of one size; where memory runs out, in tiles that take less and less of it."""
        while True:
            try:
                return self.predictor.batch(pixels, logits=self.outputs.needs_logits, batch_size=len(pixels))
            except (MemoryError, RuntimeError) as error:
                if self.predictor.tile is not None or not is_out_of_memory(error):
                    raise
                if not self.predictor.memory_use.reduce(len(pixels) * pixels[0][..., 0].size):
                    raise

    def _write(self, item: LoadedImage, prediction: Prediction) -> None:
        try:
            self.outputs.write(item.image, prediction)
        finally:
            self.gate.release(item.held)

    def _fail(self, items: list[LoadedImage], reason: str, hint: str) -> None:
        for item in items:
            self.gate.release(item.held)
            self.outputs.fail(item.image.source, item.image.frame_number, f"{item.image}: {reason}", hint)
