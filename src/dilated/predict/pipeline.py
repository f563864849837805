"""From sources to sinks: read ahead, label on this thread, write behind; one bad picture never stops the rest.

    outcome = label(predictor, find(["photos/"]), choose(["palette", "csv"], Path("out")), batch=8)
    outcome.labelled, outcome.failures

    reader thread -> pictures (at most `ahead`) -> the network, here -> predictions (at most `ahead`) -> writer thread

Pictures of one size are labelled together. While a batch fills, pictures of other sizes wait, at most two batches in
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

import torch

from dilated.data.images import Pixels, read_image
from dilated.errors import InputError
from dilated.predict.prediction import Prediction
from dilated.predict.predictor import Predictor
from dilated.predict.sinks.base import Sink, example
from dilated.predict.sources import Picture, Source
from dilated.predict.threads import Ahead, Behind, in_order
from dilated.predict.video import frames

HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""Errors of writing after which the next file would fail too."""
LAST = sys.maxsize
"""Sorts what is said of a video as a whole after what is said of its frames."""


@dataclass(frozen=True)
class Failure:
    """What could not be labelled, and why."""

    source: Path
    reason: str


@dataclass
class Outcome:
    """What a run has done.

    Args:
        pictures: how many pictures have been labelled, frames of videos not counted.
        frames: how many frames have been labelled.
        videos: how many videos have been labelled to their end.
        skipped: how many sources were left out because their outputs were there.
        failures: what could not be labelled, in the order of the sources.
        stopped: whether the run ended early because nothing could be written any more.
        interrupted: whether it ended early because of Ctrl-C.
    """

    pictures: int = 0
    frames: int = 0
    videos: int = 0
    skipped: int = 0
    failures: list[Failure] = field(default_factory=list)
    stopped: bool = False
    interrupted: bool = False


class Progress:
    """Says nothing; the base of those that do. May be called by several threads."""

    def expect(self, count: int) -> None:
        """So many more pictures or frames will come."""

    def tick(self) -> None:
        """One of them is done, or has failed."""


@dataclass(frozen=True)
class _Loaded:
    picture: Picture
    pixels: Pixels


@dataclass(frozen=True)
class _Bad:
    source: Source
    reason: str


@dataclass(frozen=True)
class _Ended:
    """After the last frame of a video."""

    source: Source
    good: bool


_Event = _Loaded | _Bad | _Ended


def label(
    predictor: Predictor,
    sources: Sequence[Source],
    sinks: Sequence[Sink],
    *,
    batch: int = 1,
    workers: int = 1,
    most_frames: int | None = None,
    skip_existing: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Label all sources that can be read and write them to all sinks.

    Ctrl-C stops it, after what is in the writer's queue has been written; the stream of a camera ends with it.

    Args:
        predictor: called on this thread.
        sources: from `find`; with `check` to be sure that no output is an input or another output.
        sinks: from `choose`.
        batch: how many pictures of one size are labelled at a time at most.
        workers: threads that read, and threads that write unless there is a video, whose frames have an order.
        most_frames: how many frames of each video at most.
        skip_existing: leave out the sources whose outputs are all there.
        progress: told of each picture.

    Raises:
        InputError: a sink that cannot be begun; nothing has been written by then.
    """
    run = _Run(predictor, sinks, progress or Progress(), {source: i for i, source in enumerate(sources)})
    for sink in sinks:
        sink.begin(predictor.segmenter.classes, predictor.segmenter.colors, skip_existing)
    todo = [source for source in sources if not (skip_existing and run.done(source))]
    run.outcome.skipped = len(sources) - len(todo)
    run.progress.expect(sum(source.kind == "picture" for source in todo))
    depth = max(2, 2 * batch, 2 * workers)
    writers = workers if all(source.kind == "picture" for source in todo) else 1
    with Behind(writers, depth) as behind:
        try:
            with closing(Ahead(_events(todo, workers, depth, most_frames), depth)) as events:
                run.all(events, behind, batch)
            behind.wait()
        except KeyboardInterrupt:
            run.interrupt(behind)
    run.close()
    return run.outcome


class _Run:
    """The state of a run: what has been done, and what waits to be labelled."""

    def __init__(
        self, predictor: Predictor, sinks: Sequence[Sink], progress: Progress, order: dict[Source, int]
    ) -> None:
        self.predictor, self.sinks, self.progress, self.order = predictor, sinks, progress, order
        self.scores = any(sink.scores for sink in sinks)
        self.outcome = Outcome()
        self.failed: list[tuple[tuple[int, int], Failure]] = []
        self.film: Source | None = None
        self.lock = Lock()

    def sinks_of(self, source: Source) -> list[Sink]:
        return [sink for sink in self.sinks if source.kind in sink.kinds]

    def done(self, source: Source) -> bool:
        return not source.problem and all(sink.has(example(source)) for sink in self.sinks_of(source))

    def all(self, events: Iterator[_Event], behind: Behind, batch: int) -> None:
        waiting: dict[tuple[int, ...], list[_Loaded]] = {}
        for event in events:
            if self.outcome.stopped:
                if self.film is not None:
                    behind.put(self.end, self.film, False, False)
                return
            if isinstance(event, _Bad):
                self.fail(event.source, LAST, event.reason)
                continue
            if isinstance(event, _Loaded):
                frame = event.picture.frame
                self.film = event.picture.source if frame else None
                if frame and frame.number == 1:
                    self.progress.expect(frame.of)
                size = event.pixels.shape
                waiting.setdefault(size, []).append(event)
                if len(waiting[size]) == batch:
                    self.predict(waiting.pop(size), behind)
                elif sum(map(len, waiting.values())) >= 2 * batch:
                    self.predict(waiting.pop(next(iter(waiting))), behind)  # that whose first has waited longest
                continue
            for group in waiting.values():
                self.predict(group, behind)
            waiting.clear()
            self.film = None
            behind.put(self.end, event.source, True, event.good)
        for group in waiting.values():
            self.predict(group, behind)

    def interrupt(self, behind: Behind) -> None:
        """A camera's stream is over with Ctrl-C, anything else is not whole."""
        live = self.film is not None and self.film.kind == "camera"
        self.outcome.interrupted = not live
        if self.film is not None:
            behind.put(self.end, self.film, live, live)

    def predict(self, group: list[_Loaded], behind: Behind) -> None:
        try:
            predictions = self.predictor.batch([one.pixels for one in group], scores=self.scores)
        except InputError as error:
            self.fail_all(group, str(error))
        except (MemoryError, RuntimeError) as error:  # torch has an exception of its own on CUDA only
            if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
                raise
            height, width = group[0].pixels.shape[:2]
            if len(group) == 1:
                reason = f"{width}x{height} pixels do not fit in memory at once; label them with --tile N, such as 512"
            else:
                reason = f"{len(group)} pictures of {width}x{height} do not fit in memory; give a smaller --batch"
            self.fail_all(group, reason)
        else:
            for one, prediction in zip(group, predictions, strict=True):
                behind.put(self.write, one.picture, prediction)

    def write(self, picture: Picture, prediction: Prediction) -> None:
        """On a writer's thread."""
        if self.outcome.stopped:
            return
        for sink in self.sinks_of(picture.source):
            try:
                sink.write(picture, prediction)
            except InputError as error:
                self.fail(picture.source, _number(picture), str(error))
                return
            except OSError as error:
                self.unwritten(sink.path(picture), error, picture.source, _number(picture))
                return
        with self.lock:
            if picture.frame:
                self.outcome.frames += 1
            else:
                self.outcome.pictures += 1
        self.progress.tick()

    def end(self, source: Source, whole: bool, good: bool) -> None:
        """On the writer's thread."""
        for sink in self.sinks_of(source):
            try:
                sink.end(source, whole and not self.outcome.stopped)
            except OSError as error:
                self.unwritten(sink.path(example(source)), error, source, LAST)
                return
        self.outcome.videos += whole and good and not self.outcome.stopped

    def close(self) -> None:
        for sink in self.sinks:
            try:
                sink.close()
            except OSError as error:
                path = Path(error.filename or sink.out)
                reason = f"{path}: could not be written ({error.strerror or error}); mend that and run it again"
                self.failed.append(((len(self.order), 0), Failure(path, reason)))
        self.outcome.failures = [failure for _, failure in sorted(self.failed, key=lambda entry: entry[0])]

    def unwritten(self, path: Path, error: OSError, source: Source, number: int) -> None:
        hopeless = error.errno in HOPELESS
        more = ". The run was stopped; mend that and go on with --skip-existing" if hopeless else ""
        with self.lock:
            first = not self.outcome.stopped
            self.outcome.stopped |= hopeless
        if first:
            self.fail(source, number, f"{path}: could not be written ({error.strerror or error}){more}")

    def fail(self, source: Source, number: int, reason: str) -> None:
        with self.lock:
            self.failed.append(((self.order[source], number), Failure(source.path, reason)))
        self.progress.tick()

    def fail_all(self, group: list[_Loaded], reason: str) -> None:
        for one in group:
            self.fail(one.picture.source, _number(one.picture), f"{one.picture}: {reason}")


def _number(picture: Picture) -> int:
    return picture.frame.number if picture.frame else 0


def _events(sources: Sequence[Source], workers: int, depth: int, most: int | None) -> Iterator[_Event]:
    """All that is read, in the order of the sources; on the reader's thread."""
    first = 0
    while first < len(sources):
        last = first
        while last < len(sources) and sources[last].kind == "picture":
            last += 1
        yield from in_order(_read, sources[first:last], workers, depth)
        if last < len(sources):
            yield from _film(sources[last], most)
        first = last + 1


def _read(source: Source) -> _Event:
    if source.problem:
        return _Bad(source, source.problem)
    try:
        return _Loaded(Picture(source), read_image(source.path))
    except InputError as error:
        return _Bad(source, str(error))


def _film(source: Source, most: int | None) -> Iterator[_Event]:
    good = True
    try:
        for frame, pixels in frames(source, most):
            yield _Loaded(Picture(source, frame), pixels)
    except InputError as error:
        yield _Bad(source, str(error))
        good = False
    yield _Ended(source, good)
