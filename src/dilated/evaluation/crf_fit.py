"""Choosing a dense CRF's parameters from a small grid, on images that the choice is not measured on.

    counts = CRFCounts.empty(classes, names)
    counts.add(row, logits, image, target)               # of each image: the network alone, and with each CRF
    fit = counts.fit(units, groups)
    fit.crf, fit.gain                                    # the best on all images, and its gain on left-out ones

Of each image the counts with every CRF of the grid are kept. For each fold, that of the greatest mean IoU on the other
folds is chosen and counted on the fold: a gain measured so has no part of the images it was chosen by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dilated.data.groups import Groups
from dilated.evaluation.folds import TuningUnits
from dilated.evaluation.intervals import Interval, compute_differences
from dilated.evaluation.metrics import compute_metrics
from dilated.evaluation.pair_counts import pair_labels
from dilated.label_ids import LabelArray
from dilated.models.dense_crf import DenseCRF

GRID = tuple(
    DenseCRF(iterations=5, bilateral_weight=weight, bilateral_position=position, bilateral_color=color)
    for position, color in ((20.0, 8.0), (80.0, 13.0))
    for weight in (1.0, 3.0, 10.0)
)
"""What is tried; 5 iterations, after which few labels change."""


@dataclass(frozen=True)
class CRFFit:
    """What was chosen, and what choosing gains."""

    crf: DenseCRF
    """Of the greatest mean IoU on all images."""
    gain: Interval
    """Of mean IoU over the network without a CRF: cross-fitted, paired, over the units."""

    @property
    def is_kept(self) -> bool:
        """Whether a gain is shown."""
        return self.gain.low > 0

    def __str__(self) -> str:
        known = f"[{self.gain.low:+.4f}, {self.gain.high:+.4f}]" if self.gain.is_known else "no interval"
        verdict = "kept" if self.is_kept else "not kept: no gain is shown"
        return f"crf: mean IoU {self.gain.value:+.4f} {known} on left-out images; {verdict}"


@dataclass(frozen=True)
class CRFCounts:
    """The counts of each image without a CRF and with each of the grid.

    Args:
        classes: the network's.
        counts: (1 + grid, P, 3 C), as `LabelPairs.class_counts`; first without a CRF.
        grid: what is tried.
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    grid: tuple[DenseCRF, ...]

    @classmethod
    def empty(cls, classes: Sequence[str], num_images: int, grid: Sequence[DenseCRF] = GRID) -> CRFCounts:
        """Counts of so many images, all zero."""
        size = 1 + len(grid), num_images, 3 * len(classes)
        return cls(tuple(classes), np.zeros(size, dtype=np.int64), tuple(grid))

    def add(
        self,
        row: int,
        logits: Tensor,
        image: NDArray[np.uint8],
        target: LabelArray,
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        """Count an image.

        Args:
            row: of the image in the counts.
            logits: (C, H, W) of the network.
            image: (H, W, 3) uint8.
            target: (H, W) true ids, ignored where not labelled.
            valid: (H, W), the pixels that have data; all if not given.
        """
        self._count(0, row, logits, target)
        for index, crf in enumerate(self.grid, 1):
            self._count(index, row, crf.refine(logits, image, valid), target)

    def _count(self, index: int, row: int, logits: Tensor, target: LabelArray) -> None:
        labels = logits.argmax(0).cpu().numpy()
        self.counts[index, row] = pair_labels(labels, target, len(self.classes)).class_counts

    def fit(self, units: TuningUnits, groups: Groups) -> CRFFit:
        """Choose for each fold on the others, and at last on all."""
        chosen = np.empty_like(self.counts[0])
        for fold in range(units.num_folds):
            is_left_out = units.fold_of_image == fold
            best = self._best(~is_left_out)
            chosen[is_left_out] = self.counts[1 + best, is_left_out]
        differences = compute_differences([chosen], [self.counts[0]], len(self.classes), groups)
        everything = np.ones(len(units.fold_of_image), bool)
        return CRFFit(self.grid[self._best(everything)], differences.metrics["mean_iou"][0])

    def _best(self, images: NDArray[np.bool_]) -> int:
        means = compute_metrics(self.counts[1:, images].sum(1), len(self.classes))["mean_iou"][:, 0]
        return int(np.nanargmax(means)) if np.isfinite(means).any() else 0
