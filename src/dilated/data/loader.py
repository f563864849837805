"""Batches of samples: their order, and reading and augmenting them in other processes.

    keys = iter_batch_keys(len(samples), batch_size=8, seed=0, start=0, stop=None)
    for image, label in iter_batches(samples, keys, workers=1): ...   # (N, 3, h, w) float32, (N, h, w) int64

An error that a worker raises arrives unchanged.
"""

from __future__ import annotations

import atexit
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from dilated.environment import require_memory
from dilated.errors import InputError, ShortMemoryError
from dilated.files import plural


class KeyedDataset(Protocol):
    """Samples by (index, draw)."""

    def __getitem__(self, key: tuple[int, int], /) -> tuple[Tensor, Tensor]: ...


def iter_batch_keys(
    num_samples: int, batch_size: int, seed: int, start: int, stop: int | None
) -> Iterator[list[tuple[int, int]]]:
    """Yield the batches of steps `start` to `stop`, or without end, as keys (index, draw) of `TrainingSamples`.

    The order is a function of the seed and the step, so the step alone says where to resume. Draws run through one
    permutation of the samples after another; a batch may span two. Every sample is drawn equally often, even if the
    batch is larger than the data.

    Example:
        >>> whole = list(iter_batch_keys(num_samples=5, batch_size=2, seed=0, start=0, stop=6))
        >>> whole[4:] == list(iter_batch_keys(num_samples=5, batch_size=2, seed=0, start=4, stop=6))
        True
        >>> sorted(index for keys in whole[:5] for index, _ in keys)
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    """
    epoch, order = -1, np.empty(0, dtype=np.int64)
    for step in count(start) if stop is None else range(start, stop):
        keys = []
        for draw in range(step * batch_size, (step + 1) * batch_size):
            if draw // num_samples != epoch:
                epoch = draw // num_samples
                order = np.random.default_rng([seed, epoch]).permutation(num_samples)
            keys.append((int(order[draw % num_samples]), draw))
        yield keys


def iter_batches(
    samples: KeyedDataset, keys: Iterable[list[tuple[int, int]]], workers: int, pin_memory: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one batch for each list of keys, in order, the same for any number of workers.

    Raises:
        InputError: as a worker raised it.
    """
    loader: DataLoader[Any] = DataLoader(
        _ErrorsAsValues(samples),
        batch_sampler=cast(Any, keys),  # any iterable works, although torch declares a sampler
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_ignore_signals,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else the loader would draw its seed from the generator of dropout
    )
    batches = _iter_with_memory_errors(loader, workers)
    for batch in batches:
        if isinstance(batch, InputError):
            raise batch
        yield batch


def _iter_with_memory_errors(loader: DataLoader[Any], workers: int) -> Iterator[Any]:
    """Yield the loader's batches; a worker that the system killed, or that has no memory, is an error of ours."""
    iterator: Any = None
    try:
        while True:
            if iterator is None:
                iterator = iter(loader)
                if workers:  # where a traceback keeps this generator to the end of the process: see below
                    atexit.register(iterator._shutdown_workers)
            yield next(iterator)
    except StopIteration:
        return
    except (MemoryError, RuntimeError, OSError, EOFError) as error:
        hint = _hint_at_workers(workers)
        if workers == 0:
            hint = "give a smaller augment.crop or batch, or free memory and continue with --resume"
        require_memory(error, f"training images: reading a batch with workers = {workers}", hint)
        if not _is_killed_worker(error, workers):
            raise
        raise _make_killed_error(workers) from error
    finally:
        if workers and iterator is not None:
            # An error's traceback keeps the iterator, and with it workers that ignore the end of the process.
            iterator._shutdown_workers()
            atexit.unregister(iterator._shutdown_workers)


@contextmanager
def named_killed_workers(workers: int) -> Iterator[None]:
    """Name a worker that the system killed while something else was done than to wait for its batch.

    torch raises such an error from the handler of a signal, so in the middle of any line of the main process.

    Raises:
        ShortMemoryError: a worker was killed.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise _make_killed_error(workers) from error


def _hint_at_workers(workers: int) -> str:
    return f"continue with --resume and fewer workers, such as --set workers={workers // 2}"


def _make_killed_error(workers: int) -> ShortMemoryError:
    return ShortMemoryError(
        f"training images: one of {plural(workers, 'worker process')} was killed from "
        "outside, which the system does when memory is short",
        hint=_hint_at_workers(workers),
    )


def _is_killed_worker(error: BaseException, workers: int) -> bool:
    """Return whether a worker died: noticed by the loader, or by the tensor that it was about to hand over.

    A tensor's memory is handed over by a socket of the worker that made it, which is gone with the worker. Errors that
    a worker itself raised carry its traceback ("Caught ... in DataLoader worker process") and are another thing.
    """
    if isinstance(error, EOFError | ConnectionError | FileNotFoundError):
        return workers > 0 and "Caught" not in str(error)
    return "DataLoader worker (pid" in str(error)


class _ErrorsAsValues(Dataset[Any]):
    """Returns errors as values: raised in a worker, they would arrive wrapped in its traceback."""

    def __init__(self, samples: KeyedDataset) -> None:
        self.samples = samples

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor] | InputError:
        try:
            return self.samples[key]
        except InputError as error:
            return InputError(*error.args)  # without the stack frames that the caught error references


def _collate(samples: list[Any]) -> Any:
    error = next((s for s in samples if isinstance(s, InputError)), None)
    return error if error is not None else default_collate(samples)


def _ignore_signals(worker: int) -> None:
    """Ignore signals to the process group in the workers; the main process alone handles them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
