"""How sure a figure is: 95% intervals by drawing the pictures anew (bootstrap over pictures).

    bounds = interval(result.per_picture)
    print(f"{bounds:.3f}")                               # 0.726 [0.721, 0.732]

Pixels of one picture are not independent, pictures nearly are; so pictures are what is drawn, with replacement. Two
networks are compared on the same draws (paired), which cancels how hard the drawn pictures are. The interval speaks
of pictures like these: not of pictures from elsewhere, and not of the network that training with another seed would
give. Of few pictures, below twenty or so, it comes out too narrow; and of frames of one film, which resemble their
neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.evaluate.confusion import marginals, mean_of_known, ratio

DRAWS = 2000
AT_ONCE = 4_000_000  # draws x pictures that are held at a time


@dataclass(frozen=True)
class Interval:
    """A value measured on all pictures, with the middle 95% of its bootstrap values.

    Example:
        >>> bounds = Interval(0.7261, 0.7213, 0.7318)
        >>> print(f"{bounds:.3f}"), print(bounds)
        0.726 [0.721, 0.732]
        +0.7261 [+0.7213, +0.7318]
        (None, None)
    """

    value: float
    low: float
    high: float

    def __format__(self, how: str) -> str:
        return f"{self.value:{how}} [{self.low:{how}}, {self.high:{how}}]"

    def __str__(self) -> str:
        return f"{self:+.4f}"

    @property
    def leaves_out_0(self) -> bool:
        """Whether 0 lies outside: for a difference, whether it is more than these pictures' chance."""
        return self.low > 0 or self.high < 0


def difference(ours: NDArray[np.int64], theirs: NDArray[np.int64], draws: int = DRAWS, seed: int = 0) -> Interval:
    """Mean IoU of one network less that of another, on the same pictures.

    Args:
        ours, theirs: (pictures, C, C) counts, as `Evaluation.per_picture`.

    Raises:
        ValueError: shapes that differ.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"difference: found counts of {ours.shape} and {theirs.shape}; expected the same pictures")
    a, b = _areas(ours), _areas(theirs)
    values = _mean_iou(redrawn(a, draws, seed)) - _mean_iou(redrawn(b, draws, seed))
    (found,) = bounded(_mean_iou(a.sum(0, keepdims=True)) - _mean_iou(b.sum(0, keepdims=True)), values[:, None])
    return found


def interval(counts: NDArray[np.int64], draws: int = DRAWS, seed: int = 0) -> Interval:
    """Mean IoU of one network.

    Example:
        >>> perfect = np.tile(np.eye(2, dtype=np.int64), (5, 1, 1))
        >>> print(interval(perfect))
        +1.0000 [+1.0000, +1.0000]
    """
    areas = _areas(counts)
    values = _mean_iou(redrawn(areas, draws, seed))
    (found,) = bounded(_mean_iou(areas.sum(0, keepdims=True)), values[:, None])
    return found


def redrawn(counts: NDArray[np.int64], draws: int = DRAWS, seed: int = 0) -> NDArray[np.int64]:
    """Pooled counts of pictures drawn anew.

    Args:
        counts: (pictures, K), any that are summed over pictures.
        seed: counts of other networks on the same pictures get the same draws.

    Returns:
        (draws, K), exact below 2**53. However many pictures and draws, only some millions of weights are held.

    Example:
        >>> redrawn(np.array([[1, 10], [1, 30]]), draws=3).tolist()
        [[2, 40], [2, 40], [2, 60]]
    """
    values = counts.astype(np.float64)
    parts = [weights.astype(np.float64) @ values for weights in _draws(len(counts), draws, seed)]
    return np.concatenate(parts).astype(np.int64)


def bounded(values: NDArray[np.float64], drawn: NDArray[np.float64]) -> list[Interval]:
    """(M,) figures of all pictures and (draws, M) of drawn ones -> M intervals.

    A figure may be unknown (NaN) in draws that miss a class; its interval is over the draws that know it.
    """
    found = []
    for value, column in zip(values.tolist(), drawn.T, strict=True):
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
        found.append(Interval(value, float(low), float(high)))
    return found


def _draws(pictures: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """(some draws, pictures) at a time: how often each picture was drawn."""
    random = np.random.default_rng(seed)
    chances = np.full(pictures, 1 / pictures)
    step = max(1, AT_ONCE // pictures)
    for start in range(0, draws, step):
        yield random.multinomial(pictures, chances, size=min(step, draws - start))


def _areas(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(P, C, C) -> (P, 2 C): intersections and unions, all that IoU needs."""
    hits, truth, guess = marginals(counts)
    return np.concatenate([hits, truth + guess - hits], axis=-1)


def _mean_iou(areas: NDArray[np.int64]) -> NDArray[np.float64]:
    classes = areas.shape[-1] // 2
    return mean_of_known(ratio(areas[..., :classes], areas[..., classes:]))
