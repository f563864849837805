"""The thread that computes, and the images that wait for it: bounded, in turn, and together where their sizes agree.

    worker = ModelWorker({"street": predictor}, batch=8, capacity=128)
    future = worker.submit(Job("street", pixels, logits=False, expires=time.monotonic() + 10))
    future.result().labels
    worker.close()                                       # after what waits has been labelled

`ByteBudget` bounds what all requests hold together: bodies, decoded images and logits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from dilated.environment import is_out_of_memory
from dilated.errors import ShortMemoryError
from dilated.input_config import BandArray
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor

_SMOOTHING = 0.1
"""The weight of the newest image in the mean time of an image."""


class QueueFullError(Exception):
    """As many images wait as may."""


class ExpiredError(Exception):
    """The time of an image was over before its turn came."""


@dataclass(eq=False)
class Job:
    """One image that waits for a network.

    Args:
        network: by name.
        pixels: (H, W, 3) uint8, or the bands that the network reads.
        logits: whether the prediction needs them.
        expires: of `time.monotonic`; later it is not begun any more.
    """

    network: str
    pixels: BandArray
    logits: bool
    expires: float
    future: Future[Prediction] = field(default_factory=Future)

    @property
    def key(self) -> tuple[object, ...]:
        """What images have in common that are labelled together."""
        return self.network, self.pixels.shape, self.logits


class ModelWorker:
    """One thread that labels the images of a bounded queue.

    Args:
        predictors: the networks by name.
        batch: the most images of one size that are labelled together.
        capacity: the most images that wait.
    """

    def __init__(self, predictors: Mapping[str, Predictor], batch: int, capacity: int) -> None:
        self.predictors, self.batch, self.capacity = predictors, batch, capacity
        self.seconds_per_image = 0.0
        self.labelled = 0
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="dilated-worker", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs, and takes images."""
        return self._thread.is_alive() and not self._is_closed

    @property
    def waiting(self) -> int:
        """How many images wait."""
        return len(self._waiting)

    @property
    def seconds_to_wait(self) -> int:
        """About how long an image that comes now would wait; 1 second at least, 60 at most."""
        return min(60, max(1, round(self.seconds_per_image * self.waiting + 0.5)))

    def submit(self, jobs: list[Job]) -> None:
        """Let images wait for their turn: all of them, or none.

        Raises:
            QueueFullError: there is no room for them.
        """
        with self._changed:
            if self._is_closed or len(self._waiting) + len(jobs) > self.capacity:
                raise QueueFullError
            self._waiting.extend(jobs)
            self._changed.notify()

    def close(self) -> None:
        """Label what waits, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._take():
            started = time.monotonic()
            self._label(jobs)
            seconds = (time.monotonic() - started) / len(jobs)
            weight = _SMOOTHING if self.labelled else 1.0
            self.seconds_per_image += weight * (seconds - self.seconds_per_image)
            self.labelled += len(jobs)

    def _take(self) -> list[Job]:
        """Wait for images and take the oldest, with others of its size; none after the end."""
        with self._changed:
            while True:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if not self._waiting:
                    return []
                jobs = self._pop_batch()
                if jobs:
                    return jobs

    def _pop_batch(self) -> list[Job]:
        jobs: list[Job] = []
        others: deque[Job] = deque()
        while self._waiting and len(jobs) < self.batch:
            job = self._waiting.popleft()
            if jobs and job.key != jobs[0].key:
                others.append(job)
            elif job.expires < time.monotonic():
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(ExpiredError())
            elif job.future.set_running_or_notify_cancel():
                jobs.append(job)
        self._waiting.extendleft(reversed(others))
        return jobs

    def _label(self, jobs: list[Job]) -> None:
        try:
            predictions = self._predict(jobs)
        except Exception as error:
            if len(jobs) > 1:  # one of them must not be the end of the others
                for job in jobs:
                    self._label([job])
                return
            jobs[0].future.set_exception(error)
        else:
            for job, prediction in zip(jobs, predictions, strict=True):
                job.future.set_result(prediction)

    def _predict(self, jobs: list[Job]) -> list[Prediction]:
        """Label images of one size; where memory runs out, in tiles that take less and less of it.

        Raises:
            InputError: the images cannot be labelled.
            ShortMemoryError: or not in the memory that there is.
        """
        predictor = self.predictors[jobs[0].network]
        pixels = [job.pixels for job in jobs]
        while True:
            try:
                return predictor.batch(pixels, logits=jobs[0].logits, batch_size=len(pixels))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                total = len(pixels) * pixels[0][..., 0].size
                if predictor.tile is not None or not predictor.memory_use.reduce(total):
                    height, width = pixels[0].shape[:2]
                    raise ShortMemoryError(
                        f"image: {width}x{height} pixels do not fit in memory", hint="give a smaller image"
                    ) from error


class ByteBudget:
    """Bytes that all requests may hold together; who finds no room is sent away, and does not wait.

    Example:
        >>> budget = ByteBudget(100)
        >>> budget.reserve(60), budget.reserve(60), budget.held
        (True, False, 60)
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0
        self._lock = threading.Lock()

    def reserve(self, nbytes: int) -> bool:
        """Hold bytes if there is room."""
        with self._lock:
            if self.held + nbytes > self.limit:
                return False
            self.held += nbytes
            return True

    def give_back(self, nbytes: int) -> None:
        """Let go of what was held."""
        with self._lock:
            self.held -= nbytes
