"""The order of training: a function of the seed and the step, so that the step alone says where to go on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np


def batches(samples: int, batch: int, seed: int, start: int, stop: int | None) -> Iterator[list[tuple[int, int]]]:
    """The batches of steps `start` to `stop`, or without end, as keys (index, draw) of `Samples`.

    Draws run through one permutation of the samples after another; a batch may span two. Every sample is drawn equally
    often, also where the batch is larger than the data.

    Example:
        >>> whole = list(batches(samples=5, batch=2, seed=0, start=0, stop=6))
        >>> whole[4:] == list(batches(samples=5, batch=2, seed=0, start=4, stop=6))
        True
        >>> sorted(index for keys in whole[:5] for index, _ in keys)
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    """
    epoch, order = -1, np.empty(0, dtype=np.int64)
    for step in count(start) if stop is None else range(start, stop):
        keys = []
        for draw in range(step * batch, (step + 1) * batch):
            if draw // samples != epoch:
                epoch = draw // samples
                order = np.random.default_rng([seed, epoch]).permutation(samples)
            keys.append((int(order[draw % samples]), draw))
        yield keys
