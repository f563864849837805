"""Figures image by image: which ones a network labels worst.

    rows = picture_results(result.names, result.per_picture, result.confusion.classes)
    worst(rows, 10)
    write_csv(rows, Path("images.csv"))

The mean IoU of an image is over the classes that its truth or its prediction has. The mean over images is not the
pooled mean IoU: a class that is in few images weighs otherwise.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.evaluation.confusion import intersection_and_areas, iou, nanmean, safe_divide
from dilated.evaluation.metrics import nan_to_none


@dataclass(frozen=True)
class ImageResult:
    """What was measured on one image; None where there is nothing to measure.

    `iou` is by class, None for a class that neither the truth nor the prediction has.
    """

    name: str
    mean_iou: float | None
    pixel_accuracy: float | None
    pixels: int
    iou: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        return vars(self)


def compute_image_results(
    names: Sequence[str], per_image: NDArray[np.int64], classes: Sequence[str]
) -> list[ImageResult]:
    """One result an image, in the order of `names`.

    Args:
        per_picture: (P, C, C) counts.

    Example:
        >>> (one,) = compute_image_results(["p0"], np.array([[[3, 1], [0, 0]]]), ["sky", "road"])
        >>> one.mean_iou, one.pixel_accuracy, one.pixels, one.iou
        (0.375, 0.75, 4, {'sky': 0.75, 'road': 0.0})
    """
    values = iou(per_image)
    intersection, truth, _ = intersection_and_areas(per_image)
    means, accuracies, pixels = nanmean(values), safe_divide(intersection.sum(-1), truth.sum(-1)), truth.sum(-1)
    return [
        ImageResult(
            name,
            nan_to_none(means[i]),
            nan_to_none(accuracies[i]),
            int(pixels[i]),
            {c: nan_to_none(v) for c, v in zip(classes, values[i], strict=True)},
        )
        for i, name in enumerate(names)
    ]


def select_worst(rows: Sequence[ImageResult], count: int) -> list[ImageResult]:
    """The images of least mean IoU, least first; those without a labelled pixel are left out.

    Example:
        >>> rows = [ImageResult(n, v, v, 9, {}) for n, v in (("a", 0.5), ("b", None), ("c", 0.2), ("d", 0.9))]
        >>> [row.name for row in select_worst(rows, 2)]
        ['c', 'a']
    """
    measured = [(row.mean_iou, i, row) for i, row in enumerate(rows) if row.mean_iou is not None]
    return [row for _, _, row in sorted(measured, key=lambda one: one[:2])[:count]]


def write_csv(rows: Sequence[ImageResult], path: Path) -> None:
    """A line an image: name, mean_iou, pixel_accuracy, pixels, then the IoU of each class; empty where unknown."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "mean_iou", "pixel_accuracy", "pixels", *(rows[0].iou if rows else ())])
        for row in rows:
            writer.writerow([row.name, row.mean_iou, row.pixel_accuracy, row.pixels, *row.iou.values()])
