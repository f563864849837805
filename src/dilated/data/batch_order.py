"""The order of training: a function of the seed and the step, so that the step alone says where to go on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np


def iter_batch_keys(
    num_samples: int, batch_size: int, seed: int, start: int, stop: int | None
) -> Iterator[list[tuple[int, int]]]:
    """The batches of steps `start` to `stop`, or without end, as keys (index, draw) of `Samples`.

    Draws run through one permutation of the samples after another; a batch may span two. Every sample is drawn equally
    often, also where the batch is larger than the data.

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
