"""Batches of samples, read and augmented in other processes.

    for image, label in batches_of(samples, keys, workers=1): ...   # (N, 3, h, w) float32, (N, h, w) int64

What a worker finds wrong with a file arrives as the error that it is.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from dilated.errors import InputError


class KeyedDataset(Protocol):
    """Samples by (index, draw)."""

    def __getitem__(self, key: tuple[int, int], /) -> tuple[Tensor, Tensor]: ...


def iter_batches(
    samples: KeyedDataset, keys: Iterable[list[tuple[int, int]]], workers: int, pin_memory: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """One batch for each list of keys, in order, the same for any number of workers.

    Raises:
        InputError: what a worker found wrong, word for word.
    """
    loader: DataLoader[Any] = DataLoader(
        _ErrorsAsValues(samples),
        batch_sampler=cast(Any, keys),  # any iterable will do, though torch declares a sampler
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_ignore_signals,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or the loader would draw its seed from the one that dropout draws from
    )
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


class _ErrorsAsValues(Dataset[Any]):
    """Hands errors on as values: raised in a worker, they would arrive wrapped in its traceback."""

    def __init__(self, samples: KeyedDataset) -> None:
        self.samples = samples

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor] | InputError:
        try:
            return self.samples[key]
        except InputError as error:
            return InputError(*error.args)  # without the frames that the caught one holds on to


def _collate(samples: list[Any]) -> Any:
    error = next((s for s in samples if isinstance(s, InputError)), None)
    return error if error is not None else default_collate(samples)


def _ignore_signals(worker: int) -> None:
    """Signals to the process group reach the workers too; the main process alone answers them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
