"""Metrics of each image: which ones a network labels worst.

    rows = compute_image_results(result.names, result.per_image, result.classes)
    select_worst(rows, 10)
    write_csv(rows, Path("images.csv"))

The mean IoU of an image is over the classes that its truth or its prediction has. The mean over images is not the
pooled mean IoU: a class that occurs in few images has another weight in it.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.evaluation.metrics import compute_metrics, nan_to_none, stack_image_counts
from dilated.files import atomic_path


@dataclass(frozen=True)
class ImageResult:
    """What was measured on one image; None where there is nothing to measure."""

    name: str
    mean_iou: float | None
    pixel_accuracy: float | None
    pixels: int
    iou: dict[str, float | None]
    """By class; None for a class that neither the truth nor the prediction has."""

    def to_dict(self) -> dict[str, Any]:
        return vars(self)


def compute_image_results(
    names: Sequence[str], per_image: NDArray[np.int64], classes: Sequence[str]
) -> list[ImageResult]:
    """Compute one result per image, in the order of `names`.

    Args:
        per_image: (P, C, C) counts.

    Example:
        >>> (row,) = compute_image_results(["p0"], np.array([[[3, 1], [0, 0]]]), ["sky", "road"])
        >>> row.mean_iou, row.pixel_accuracy, row.pixels, row.iou
        (0.375, 0.75, 4, {'sky': 0.75, 'road': 0.0})
    """
    metrics = compute_metrics(stack_image_counts(per_image), len(classes))
    pixels = per_image.sum((1, 2)).tolist()
    return [
        ImageResult(
            name,
            nan_to_none(metrics["mean_iou"][i, 0]),
            nan_to_none(metrics["pixel_accuracy"][i, 0]),
            pixels[i],
            dict(zip(classes, map(nan_to_none, metrics["iou"][i]), strict=True)),
        )
        for i, name in enumerate(names)
    ]


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
