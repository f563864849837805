"""The figures that are all called mean IoU, side by side: tools disagree, so each has the name of who computes it so.

for variant in compute_variants(result):
    print(variant.value, variant.who, variant.what)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.evaluation.metrics import compute_metrics
from dilated.evaluation.result import EvaluationResult

CITYSCAPES_CATEGORIES = {
    "flat": ("road", "sidewalk"),
    "construction": ("building", "wall", "fence"),
    "object": ("pole", "traffic light", "traffic sign"),
    "nature": ("vegetation", "terrain"),
    "sky": ("sky",),
    "human": ("person", "rider"),
    "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
}
"""The categories of Cityscapes' 19 classes, whose IoU is in Table 8 of the paper."""


@dataclass(frozen=True)
class Variant:
    """A figure as others define it; NaN where their definition gives none."""

    key: str
    value: float
    who: str
    """The benchmarks and packages that compute it so."""
    what: str


def compute_variants(result: EvaluationResult) -> list[Variant]:
    """Compute what other tools would print for the same counts."""
    metrics, num_classes = result.metrics, len(result.classes)
    iou, recall = metrics["iou"], metrics["recall"]
    truth = result.class_counts[:, num_classes : 2 * num_classes]
    frequency = truth.sum(0) / max(int(truth.sum()), 1)
    accuracy, with_absent = float(metrics["pixel_accuracy"][0]), float(np.nan_to_num(iou).mean())
    by_image = compute_metrics(result.class_counts, num_classes)
    in_truth = np.where(truth > 0, by_image["iou"], np.nan)
    foreground = [i for i, name in enumerate(result.classes) if i or not _is_background(name)]
    return [
        Variant(
            "mean_iou",
            float(metrics["mean_iou"][0]),
            "this package, Cityscapes class IoU, torchmetrics JaccardIndex, scikit-learn jaccard_score (macro)",
            "pooled over images; mean over the classes in the truth or the predictions",
        ),
        Variant(
            "mean_iou_all_classes",
            float(iou.mean()),
            "PASCAL VOC development kit",
            "pooled over images; mean over all classes, unknown where one is in neither",
        ),
        Variant(
            "mean_iou_absent_as_0",
            with_absent,
            "ADE20K scene parsing",
            "pooled over images; mean over all classes, of which absent ones count 0",
        ),
        Variant(
            "ade20k_score", (accuracy + with_absent) / 2, "ADE20K challenge", "mean of pixel accuracy and the above"
        ),
        Variant("mean_accuracy", _mean(recall), "FCN, ADE20K", "mean over the classes in the truth of their recall"),
        Variant(
            "frequency_weighted_iou",
            float(np.nansum(frequency * iou)) if truth.sum() else float("nan"),
            "FCN",
            "IoU of each class weighted by its true pixels",
        ),
        Variant(
            "mean_over_images",
            _mean(by_image["mean_iou"][:, 0]),
            "torchmetrics MeanIoU and others, image by image",
            "mean over images of the mean IoU over the classes in the image's truth or prediction",
        ),
        Variant(
            "mean_over_images_then_classes",
            _mean(np.array([_mean(column) for column in in_truth.T])),
            "Wang et al. 2023, mIoU^C",
            "by class the mean over the images whose truth has it; then the mean over classes",
        ),
        Variant(
            "mean_dice_by_image",
            _mean(np.array([_mean(by_image["dice"][:, i]) for i in foreground])),
            "nnU-Net",
            "Dice of each image, mean over images, then over classes but the background",
        ),
    ]


def find_categories(
    classes: Sequence[str], given: Mapping[str, Sequence[str]] | None = None
) -> Mapping[str, Sequence[str]]:
    """Return the classes of each category: those given, or Cityscapes' where the classes are its 19; else none."""
    if given is not None:
        return given
    names = {name for category in CITYSCAPES_CATEGORIES.values() for name in category}
    return CITYSCAPES_CATEGORIES if names == set(classes) else {}


def find_category_ids(classes: Sequence[str], categories: Mapping[str, Sequence[str]]) -> NDArray[np.int64]:
    """Find the category of each class, for `LabelPairs.to_categories`.

    Returns:
        (C + 1,) from 0; the number of categories for a class in none, and at the end.

    Example:
        >>> find_category_ids(["road", "sky", "car"], {"flat": ["road"], "other": ["car"]}).tolist()
        [0, 2, 1, 2]
    """
    of_name = {name: i for i, members in enumerate(categories.values()) for name in members}
    return np.array([*(of_name.get(name, len(categories)) for name in classes), len(categories)], dtype=np.int64)


def _is_background(name: str) -> bool:
    return name.strip().lower() in ("background", "_background_", "bg")


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
