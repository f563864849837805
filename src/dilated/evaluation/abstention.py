"""Which pixels to leave unknown, so that of the others at most a chosen share is wrong: a threshold of confidence.

    counts = ConfidenceCounts.zeros(num_units)
    counts.add(unit, confidence, is_correct)             # of each image
    fit_threshold(counts, risk=0.02)                     # RiskThreshold, or None where no threshold keeps it
    simulate_splits(counts, risk=0.02, splits=200)       # how often it is kept on units that it was not fitted on

A unit (a film, a patient, an image) counts as one, whatever its size. With wrong_u and labelled_u the shares of a
unit's pixels, the promise is that the mean of wrong_u is at most `risk` times the mean of labelled_u, over as many new
units as the threshold was fitted on. Both parts must hold:

- the bound of the mean of l_u = wrong_u - risk labelled_u over as many new units, by Student's t at 99.5%, is at
  most 0;
- the mean with one unit more, as bad as the worst that was seen, is at most 0, as conformal risk control adds one. It
  says so where even a unit that is all wrong could be added; then new units need not vary as these do.

Thresholds are tried from the strictest on, and the last before the first failure is taken: so trying several costs no
confidence (fixed-sequence testing). l_u does not fall steadily with the threshold, for which the theorem of conformal
risk control asks: so the promise is also measured, on units that were left out.

Sources: Angelopoulos, Bates, Fisch, Lei and Schuster, "Conformal Risk Control", 2022; Angelopoulos, Bates, Candes,
Jordan and Lei, "Learn then Test: Calibrating Predictive Algorithms to Achieve Risk Control", 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from dilated.models.tuning_record import RiskThreshold

CONFIDENCE_LEVEL = 0.995
"""Of the bound by Student's t. Errors of units are skewed and few, so the promise is kept in 96 to 97% of the splits of
benchmarks/abstention.py; a level of 97.5% keeps it in 93%."""
MIN_UNITS = 10
"""Units below which no promise is made: a spread of fewer is a guess."""
_NUM_LEVELS = 256
LEVELS: NDArray[np.float32] = (1 - 2.0 ** (-np.arange(_NUM_LEVELS) / 16)).astype(np.float32)
"""The confidences that a threshold can have, from 0 up: finest near 1, where most pixels are."""
_LEAST_LABELLED = 0.1
"""The share of pixels that the first threshold labels which is tried."""


@dataclass(frozen=True)
class ConfidenceCounts:
    """Pixels by unit and level of confidence, (U, 256) each."""

    pixels: NDArray[np.int64]
    wrong: NDArray[np.int64]

    @classmethod
    def zeros(cls, num_units: int) -> ConfidenceCounts:
        return cls(*np.zeros((2, num_units, _NUM_LEVELS), dtype=np.int64))

    def add(self, unit: int, confidence: NDArray[np.float32], is_correct: NDArray[np.bool_]) -> None:
        """Count labelled pixels of an image of a unit, (n,) each."""
        levels = np.searchsorted(LEVELS, confidence, side="right") - 1
        pixels = np.bincount(levels, minlength=_NUM_LEVELS)
        self.pixels[unit] += pixels
        self.wrong[unit] += pixels - np.bincount(levels[is_correct], minlength=_NUM_LEVELS)

    def select(self, units: NDArray[np.integer]) -> ConfidenceCounts:
        """The counts of some of the units."""
        return ConfidenceCounts(self.pixels[units], self.wrong[units])

    def fractions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Wrong and labelled pixels of each unit at each threshold, as shares of its pixels: (U, 256) each.

        Units without a pixel are left out.
        """
        total = self.pixels.sum(1)
        parts = (np.cumsum(part[total > 0, ::-1], axis=1)[:, ::-1] for part in (self.wrong, self.pixels))
        wrong, labelled = (part / total[total > 0, None] for part in parts)
        return wrong, labelled


@dataclass(frozen=True)
class SplitCheck:
    """How often the promise was kept on the half of the units that the threshold was not fitted on."""

    splits: int
    refused: int
    """Splits whose half had no threshold; they are in none of the other numbers."""
    kept: int
    unknown: float
    """The mean share left unknown on the other halves."""
    risk: float
    """The mean share of wrong pixels among the labelled, on the other halves."""

    @property
    def kept_share(self) -> float:
        """The share of splits with a threshold in which the promise was kept; NaN without any."""
        fitted = self.splits - self.refused
        return self.kept / fitted if fitted else float("nan")


def fit_threshold(counts: ConfidenceCounts, risk: float) -> RiskThreshold | None:
    """Find the least threshold that keeps a risk; None where none does, or the units are too few.

    Args:
        counts: of pixels that the network was not trained on.
        risk: the share of wrong pixels among the labelled, above 0 and below 1.

    Example:
        >>> counts = ConfidenceCounts.zeros(30)
        >>> for unit in range(30):
        ...     sure = np.arange(200) < 150
        ...     counts.add(unit, np.where(sure, 0.99, 0.6).astype(np.float32), sure)
        >>> threshold = fit_threshold(counts, 0.02)
        >>> 0.6 < threshold.threshold < 0.99, threshold.unknown
        (True, 0.25)
    """
    wrong, labelled = counts.fractions()
    level = _find_level(wrong, labelled, risk)
    if level is None:
        return None
    losses = wrong[:, level] - risk * labelled[:, level]
    worst = losses.sum() + (1 - risk) <= 0
    return RiskThreshold(risk, float(LEVELS[level]), float(1 - labelled[:, level].mean()), bool(worst))


def _find_level(wrong: NDArray[np.float64], labelled: NDArray[np.float64], risk: float) -> int | None:
    units = len(wrong)
    if units < MIN_UNITS:
        return None
    losses = wrong - risk * labelled  # (U, 256)
    quantile = _student_quantile(units - 1)
    bound = losses.mean(0) + quantile * losses.std(0, ddof=1) * np.sqrt(2 / units)  # of the mean of as many new units
    with_worst = losses.sum(0) + np.maximum(losses.max(0), 0.0)
    is_kept = (bound <= 0) & (with_worst <= 0)
    tried = np.flatnonzero(labelled.mean(0) >= _LEAST_LABELLED)
    if not len(tried) or not is_kept[tried[-1]]:
        return None
    failed = np.flatnonzero(~is_kept[: tried[-1] + 1])
    return int(failed[-1]) + 1 if len(failed) else 0


def _student_quantile(freedom: int) -> float:
    """Return what Student's t exceeds in 0.5% of the cases, by the expansion of Cornish and Fisher.

    Example:
        >>> round(_student_quantile(9), 2), round(_student_quantile(29), 2)  # tables: 3.25, 2.76
        (3.23, 2.76)
    """
    z = NormalDist().inv_cdf(CONFIDENCE_LEVEL)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def simulate_splits(counts: ConfidenceCounts, risk: float, splits: int = 200, seed: int = 0) -> SplitCheck:
    """Fit on a random half of the units, look at the other half, many times.

    Example:
        >>> counts = ConfidenceCounts.zeros(40)
        >>> for unit in range(40):
        ...     counts.add(unit, np.full(50, 0.9, np.float32), np.ones(50, bool))
        >>> simulate_splits(counts, 0.02, splits=10)
        SplitCheck(splits=10, refused=0, kept=10, unknown=0.0, risk=0.0)
    """
    wrong, labelled = counts.fractions()
    random = np.random.default_rng(seed)
    unknown, risks = [], []
    for _ in range(splits):
        order = random.permutation(len(wrong))
        fitted, held_out = np.array_split(order, 2)
        level = _find_level(wrong[fitted], labelled[fitted], risk)
        if level is not None:
            unknown.append(1 - labelled[held_out, level].mean())
            risks.append(wrong[held_out, level].sum() / max(labelled[held_out, level].sum(), 1e-12))
    kept = int(sum(value <= risk for value in risks))
    means = [float(np.mean(values)) if values else float("nan") for values in (unknown, risks)]
    return SplitCheck(splits, splits - len(risks), kept, means[0], means[1])
