"""What was measured of a network on images: counts per image, and the metrics that follow from them.

result = dilated.evaluate("street", "my-data")
print(result)                                        # the metrics by class, with intervals
result.confusion.mean_iou
result.intervals["mean_iou"]                         # [Interval]
json.dumps(result.to_dict(per_image=True))
select_worst(result.image_results, 10)
write_csv(result.image_results, Path("images.csv"))
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.groups import Groups, find_groups
from dilated.data.units import UnitSummary
from dilated.evaluation.boundary import BoundaryCounts, TrimapCounts
from dilated.evaluation.calibration import ReliabilityCounts, compute_reliability_bins, expected_calibration_error
from dilated.evaluation.confusion import ConfusionMatrix
from dilated.evaluation.intervals import Interval, MetricIntervals, compute_intervals
from dilated.evaluation.metrics import CLASS_METRICS, MEAN_METRICS, compute_metrics, nan_to_none
from dilated.files import atomic_path, printable


@dataclass(frozen=True)
class ImageResult:
    """What was measured on one image; None where there is nothing to measure.

    The mean IoU is over the classes that the image's truth or prediction has. The mean of it over images is not the
    pooled mean IoU: a class that occurs in few images has another weight in it.
    """

    name: str
    mean_iou: float | None
    pixel_accuracy: float | None
    pixels: int
    iou: dict[str, float | None]
    """By class; None for a class that neither the truth nor the prediction has."""


@dataclass(frozen=True, eq=False, repr=False)
class EvaluationResult:
    """What was measured, with one row per image in all counts."""

    classes: tuple[str, ...]
    """Names, in the order of the ids."""
    names: tuple[str, ...]
    """Of the images."""
    indices: tuple[int, ...]
    """The positions of the images in the data."""
    dataset_size: int
    """Number of images that the data has."""
    pooled: NDArray[np.int64]
    """(C, C): pixels by true class (rows) and predicted class (columns), over all images."""
    class_counts: NDArray[np.int64]
    """(P, 3 C): correct, true and predicted pixels by class of each image."""
    boundary: BoundaryCounts | None = None
    trimap: TrimapCounts | None = None
    calibration: ReliabilityCounts | None = None
    known_groups: Groups | None = None
    """The groups of the images, where more is known than the names of these images tell."""

    @cached_property
    def confusion(self) -> ConfusionMatrix:
        """The confusion matrix pooled over the images."""
        truth = self.class_counts[:, len(self.classes) : 2 * len(self.classes)].sum(0)
        return ConfusionMatrix(self.classes, self.pooled, truth - self.pooled.sum(1))

    @property
    def num_unlabeled_images(self) -> int:
        """Number of images without a labelled pixel; they count as images but change no metric."""
        return int((self._pixels_by_image == 0).sum())

    @property
    def _pixels_by_image(self) -> NDArray[np.int64]:
        pixels: NDArray[np.int64] = self.class_counts[:, len(self.classes) : 2 * len(self.classes)].sum(1)
        return pixels

    @cached_property
    def image_counts(self) -> NDArray[np.int64]:
        """(P, K): all that the metrics and their intervals need."""
        bands = (self.boundary.intersection, self.boundary.union) if self.boundary else ()
        return np.concatenate([self.class_counts, *bands], axis=1)

    @cached_property
    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """The metrics by name: `iou`, `dice`, `precision`, ... by class, `mean_iou`, ...: see `compute_metrics`."""
        return compute_metrics(self.image_counts.sum(0), len(self.classes))

    @property
    def groups(self) -> Groups:
        """Which of the images are not independent of each other."""
        return self.known_groups if self.known_groups is not None else find_groups(self.names)

    def with_groups(self, groups: Groups) -> EvaluationResult:
        """The same with other groups of the images, which change the intervals alone."""
        return replace(self, known_groups=groups)

    @property
    def intervals(self) -> dict[str, list[Interval]]:
        """The same metrics with their 95% intervals over `units`; bounds are NaN where nothing can be said."""
        return self._intervals.metrics

    @property
    def units(self) -> UnitSummary:
        """What the intervals are over, how many of these there are, and what they are worth."""
        return self._intervals.units

    @cached_property
    def _intervals(self) -> MetricIntervals:
        return compute_intervals(self.image_counts, len(self.classes), self.groups)

    @property
    def image_results(self) -> list[ImageResult]:
        """The metrics of each image, in the order of `names`."""
        metrics = compute_metrics(self.class_counts, len(self.classes))
        columns = metrics["mean_iou"][:, 0], metrics["pixel_accuracy"][:, 0], self._pixels_by_image, metrics["iou"]
        return [
            ImageResult(
                name, nan_to_none(mean_iou), nan_to_none(accuracy), int(pixels), self._by_class(map(nan_to_none, iou))
            )
            for name, mean_iou, accuracy, pixels, iou in zip(self.names, *columns, strict=True)
        ]

    @property
    def notes(self) -> list[str]:
        """What a reader of these metrics should know, a sentence each."""
        notes = []
        if len(self.classes) == 1:
            notes.append(
                f"{self.classes[0]} is the only class, so every labelled pixel is right whatever the network does. "
                "Name the rest a second class, such as background, to measure something."
            )
        return [*notes, self.units.describe()]

    def value(self, name: str, index: int = 0) -> float:
        """Return a metric, of the class at an index or of all; NaN where it could not be measured."""
        return float(self.metrics[name][index])

    def interval(self, name: str, index: int = 0) -> Interval | None:
        """Return a metric with its interval; None where it has none."""
        interval = self.intervals[name][index]
        return interval if interval.is_known else None

    def format_metric(self, name: str, index: int = 0, digits: int = 3, with_interval: bool = True) -> str:
        """Write a metric with its interval where it has one, `0.726 [0.721, 0.732]`; `-` where it is not known."""
        value, interval = self.value(name, index), self.interval(name, index)
        if np.isnan(value):
            return "-"
        return f"{interval:.{digits}f}" if interval is not None and with_interval else f"{value:.{digits}f}"

    def __str__(self) -> str:
        """The means and the IoU of each class, with intervals, as plain text."""
        width = max(map(len, self.classes), default=0)
        lines = [
            f"mean IoU {self.format_metric('mean_iou')}, pixel accuracy {self.format_metric('pixel_accuracy')}, "
            f"{len(self.names):,} images, {self.confusion.pixels:,} labelled pixels",
            *(f"  {name:{width}}  IoU {self.format_metric('iou', i)}" for i, name in enumerate(self.classes)),
        ]
        return "\n".join(map(printable, lines + self.notes))

    def __repr__(self) -> str:
        mean_iou = self.format_metric("mean_iou", with_interval=False)
        return f"EvaluationResult({len(self.names)} images, {len(self.classes)} classes, mean_iou={mean_iou})"

    def to_dict(self, per_image: bool = False) -> dict[str, Any]:
        """Convert to JSON values; null where a metric is not known or was not measured.

        Returns:
            `mean_iou`, `pixel_accuracy`, `mean_dice`, `mean_boundary_iou`; by class `iou`, `dice`, `precision`,
            `recall`, `boundary_iou`; intervals as [low, high]; `classes`, `foreground`, `confusion` (of more than 255
            classes null, and `confusion_pairs`, a list of [truth, prediction, pixels] by ids), `images`,
            `unlabeled_images`, `pixels`; `groups`, the number of them, `effective_n`, the independent images that would
            be worth as much, and `interval_over`, both in words; `trimap`, a list by width; `ece` and `reliability`, a
            list by bin. With `per_image` a list of that name, with one entry per image.
        """
        metrics, bounds = self.metrics, self._interval_bounds
        table: dict[str, Any] = {
            name: nan_to_none(metrics[name][0]) if name in metrics else None for name in MEAN_METRICS
        }
        for name in CLASS_METRICS:
            table[name] = self._by_class(map(nan_to_none, metrics[name])) if name in metrics else None
        table |= {f"{name}_interval": bounds(name)[0] for name in MEAN_METRICS}
        for name in ("iou", "dice", "boundary_iou"):
            table[f"{name}_intervals"] = self._by_class(bounds(name)) if name in metrics else None
        table |= {
            "boundary_width": self.boundary.width if self.boundary else None,
            "classes": list(self.classes),
            "foreground": self.confusion.foreground,
            **self._confusion_table(),
            "images": len(self.names),
            "unlabeled_images": self.num_unlabeled_images,
            "pixels": self.confusion.pixels,
            **self.units.to_dict(),
            "trimap": self._trimap_rows(),
            "ece": nan_to_none(expected_calibration_error(self.calibration)) if self.calibration else None,
            "reliability": self._reliability_rows(),
        }
        if per_image:
            table["per_image"] = [dict(vars(row)) for row in self.image_results]
        return table

    def _confusion_table(self) -> dict[str, Any]:
        """The confusion matrix as rows; of more than 255 classes the pairs that occur."""
        counts = self.confusion.counts
        if len(self.classes) <= 255:
            return {"confusion": counts.tolist()}
        places = np.nonzero(counts)
        return {"confusion": None, "confusion_pairs": np.column_stack([*places, counts[places]]).tolist()}

    def _by_class(self, values: Iterable[Any]) -> dict[str, Any]:
        return dict(zip(self.classes, values, strict=True))

    def _interval_bounds(self, name: str) -> list[list[float] | None]:
        intervals = self.intervals.get(name)
        if intervals is None:
            return [None] * (len(self.metrics[name]) if name in self.metrics else 1)
        return [None if np.isnan(interval.low) else [interval.low, interval.high] for interval in intervals]

    def _trimap_rows(self) -> list[dict[str, Any]] | None:
        if self.trimap is None:
            return None
        columns = self.trimap.curve("mean_iou"), self.trimap.curve("pixel_accuracy"), self.trimap.pixels
        return [
            {"width": width, "mean_iou": nan_to_none(iou), "pixel_accuracy": nan_to_none(right), "pixels": int(pixels)}
            for width, iou, right, pixels in zip(self.trimap.widths, *columns, strict=True)
        ]

    def _reliability_rows(self) -> list[dict[str, Any]] | None:
        if self.calibration is None:
            return None
        bins = compute_reliability_bins(self.calibration)
        means = ("confidence", "accuracy")
        return [{**vars(row), **{name: nan_to_none(getattr(row, name)) for name in means}} for row in bins]


def select_worst(rows: Sequence[ImageResult], count: int) -> list[ImageResult]:
    """Select the images of lowest mean IoU, lowest first; those without a labelled pixel are left out.

    Example:
        >>> rows = [ImageResult(n, v, v, 9, {}) for n, v in (("a", 0.5), ("b", None), ("c", 0.2), ("d", 0.9))]
        >>> [row.name for row in select_worst(rows, 2)]
        ['c', 'a']
    """
    measured = [(row.mean_iou, i, row) for i, row in enumerate(rows) if row.mean_iou is not None]
    return [row for _, _, row in sorted(measured, key=lambda entry: entry[:2])[:count]]


def write_csv(rows: Sequence[ImageResult], path: Path) -> None:
    """Write one line per image: name, mean_iou, pixel_accuracy, pixels, the IoU of each class; empty if not known."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "mean_iou", "pixel_accuracy", "pixels", *(rows[0].iou if rows else ())])
        for row in rows:
            writer.writerow([row.name, row.mean_iou, row.pixel_accuracy, row.pixels, *row.iou.values()])
