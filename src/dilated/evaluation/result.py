"""What was measured of a network on images: counts by image, and the figures that follow from them.

result = evaluate(predictor, data.pairs("val"), data.classes, boundary=True)
result.confusion.mean_iou
result.intervals["mean_iou"]                         # [Interval]
json.dumps(result.to_dict(per_picture=True))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.evaluation import calibration, trimap
from dilated.evaluation.bootstrap import Interval
from dilated.evaluation.boundary import BoundaryCounts
from dilated.evaluation.calibration import ReliabilityCounts
from dilated.evaluation.confusion import ConfusionMatrix
from dilated.evaluation.metrics import compute_intervals, compute_metrics, nan_to_none, stack_image_counts
from dilated.evaluation.per_image import ImageResult, compute_image_results
from dilated.evaluation.trimap import TrimapCounts


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """What was measured.

    `per_picture` holds one (C, C) count an image, in the order of `names`; `confusion` is their sum. `boundary`,
    `trimap` and `calibration` hold a row an image too, where they were asked for. `places` says which images of
    the data these are, of its `of`; by default all.
    """

    names: tuple[str, ...]
    per_image: NDArray[np.int64]  # (images, C, C)
    confusion: ConfusionMatrix
    boundary: BoundaryCounts | None = None
    trimap: TrimapCounts | None = None
    calibration: ReliabilityCounts | None = None
    indices: tuple[int, ...] = ()
    dataset_size: int = 0

    def __post_init__(self) -> None:
        if not self.indices and not self.dataset_size:
            object.__setattr__(self, "indices", tuple(range(len(self.names))))
            object.__setattr__(self, "dataset_size", len(self.names))

    @property
    def num_unlabeled_images(self) -> int:
        """How many images have no labelled pixel; they count among the images and in no figure."""
        return int((self.per_image.sum((1, 2)) == 0).sum())

    @cached_property
    def image_counts(self) -> NDArray[np.int64]:
        """(P, K), all that the figures and their intervals need."""
        return stack_image_counts(self.per_image, self.boundary)

    @cached_property
    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """`iou`, `dice`, `precision`, `recall`, `boundary_iou` by class, `mean_iou`, ...: see `figures.figures`."""
        return compute_metrics(self.image_counts.sum(0), len(self.confusion.classes))

    @cached_property
    def intervals(self) -> dict[str, list[Interval]]:
        """The same figures with their 95% intervals over the images; empty for fewer than two images."""
        return compute_intervals(self.image_counts, len(self.confusion.classes)) if len(self.names) > 1 else {}

    @property
    def image_results(self) -> list[ImageResult]:
        """Image by image."""
        return compute_image_results(self.names, self.per_image, self.confusion.classes)

    def to_dict(self, per_image: bool = False) -> dict[str, Any]:
        """As JSON; null where a figure has nothing to be about or was not measured.

        Returns:
            `mean_iou`, `pixel_accuracy`; by class `iou`, `dice`, `precision`, `recall`, `boundary_iou`; intervals as
            [low, high]; `classes`, `_find_foreground`, `confusion`, `images`, `unlabelled_images`, `image_reader`; `trimap`, a list
            by width; `ece` and `reliability`, a list by bin. With `per_picture` a list of that name, one an image.
        """
        names, found = self.confusion.classes, self.metrics
        by_class = {
            name: _values_by_class(names, found[name]) if name in found else None
            for name in ("iou", "dice", "precision", "recall", "boundary_iou")
        }
        means = {
            name: nan_to_none(found[name][0]) if name in found else None
            for name in ("mean_iou", "pixel_accuracy", "mean_dice", "mean_boundary_iou")
        }
        table: dict[str, Any] = {
            **means,
            **by_class,
            **{f"{name}_interval": self._interval_bounds(name)[0] for name in means},
            **{
                f"{name}_intervals": dict(zip(names, self._interval_bounds(name), strict=True))
                if found.get(name) is not None
                else None
                for name in ("iou", "dice", "boundary_iou")
            },
            "boundary_width": self.boundary.width if self.boundary else None,
            "classes": list(names),
            "foreground": self.confusion.foreground,
            "confusion": self.confusion.counts.tolist(),
            "images": len(self.names),
            "unlabeled_images": self.num_unlabeled_images,
            "pixels": self.confusion.pixels,
            "trimap": self._trimap_rows(),
            "ece": nan_to_none(calibration.expected_calibration_error(self.calibration)) if self.calibration else None,
            "reliability": self._reliability_rows(),
        }
        if per_image:
            table["per_image"] = [row.to_dict() for row in self.image_results]
        return table

    def _interval_bounds(self, name: str) -> list[list[float] | None]:
        found = self.intervals.get(name)
        if found is None:
            return [None] * (len(self.metrics[name]) if name in self.metrics else 1)
        return [None if np.isnan(one.low) else [one.low, one.high] for one in found]

    def _trimap_rows(self) -> list[dict[str, Any]] | None:
        if self.trimap is None:
            return None
        rows = zip(
            self.trimap.widths,
            trimap.mean_iou_curve(self.trimap),
            trimap.pixel_accuracy_curve(self.trimap),
            self.trimap.counts[:, :, 1].sum((0, 2)),
            strict=True,
        )
        return [
            {"width": width, "mean_iou": nan_to_none(iou), "pixel_accuracy": nan_to_none(right), "pixels": int(pixels)}
            for width, iou, right, pixels in rows
        ]

    def _reliability_rows(self) -> list[dict[str, Any]] | None:
        if self.calibration is None:
            return None
        return [
            {
                "low": one.low,
                "high": one.high,
                "pixels": one.pixels,
                "confidence": nan_to_none(one.confidence),
                "accuracy": nan_to_none(one.accuracy),
            }
            for one in calibration.compute_reliability_bins(self.calibration)
        ]


def _values_by_class(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    return {name: nan_to_none(value) for name, value in zip(names, values, strict=True)}
