"""Measure a network on a split, at the images' own resolution.

    metrics = MetricsConfig(boundary=True, trimap=(1, 2, 4, 8))
    result = evaluate(predictor, dataset.samples("val"), dataset.classes, metrics)
    result.confusion.mean_iou

Several processes can each measure some of the images; `merge` makes one result of theirs, to the last count what one
process would count:

    part = evaluate(predictor, samples, classes, indices=range(rank, len(samples), num_processes))
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from dilated.data.groups import Groups, find_groups
from dilated.data.labels import Classes
from dilated.data.sample import Sample, ignore_missing, name_from_root
from dilated.errors import InputError
from dilated.evaluation.boundary import (
    DEFAULT_BOUNDARY_WIDTH,
    BoundaryCounts,
    TrimapCounts,
    band_width_in_pixels,
    boundary_counts,
    trimap_counts,
    validate_widths,
)
from dilated.evaluation.calibration import ReliabilityCounts, reliability_counts
from dilated.evaluation.confusion import ConfusionMatrix
from dilated.evaluation.pair_counts import LabelPairs, pair_labels
from dilated.evaluation.result import EvaluationResult
from dilated.input_config import BandArray, InputConfig
from dilated.label_ids import LabelArray, ignore_id, ignore_id_of, label_dtype
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor
from dilated.prediction.prefetch import map_ordered
from dilated.progress import ProgressCallback, track

_MOST_READERS = 8
"""Threads that read images ahead of a network on a GPU; on a CPU, reading would take the network's own processors."""
_MOST_NAMES = 10
"""Classes that an error names."""


@dataclass(frozen=True)
class MetricsConfig:
    """What to measure besides the confusion matrix.

    Raises:
        InputError: widths that make no sense.
    """

    boundary: bool = False
    """Measure boundary IoU: the IoU of the bands inside the outlines of truth and prediction."""
    boundary_width: float = DEFAULT_BOUNDARY_WIDTH
    """Width of the boundary bands: below 1 a fraction of the image's diagonal, else pixels."""
    trimap: tuple[int, ...] = ()
    """Measure mean IoU within each of these distances to a true border too, in pixels, such as 1 2 4 8."""
    calibration: bool = False
    """Measure how reliable the probabilities are, which needs the logits of all classes."""

    def __post_init__(self) -> None:
        band_width_in_pixels((1, 1), self.boundary_width)
        validate_widths(self.trimap)


class EvaluationAccumulator:
    """The counts of `num_images` images, all zero at first.

    Args:
        classes: names, in the order of the ids.
        num_images: images that will be added.
        metrics: what to measure; the confusion matrix alone if not given.

    Example:
        >>> accumulator = EvaluationAccumulator(["sky", "road"], 1, MetricsConfig(boundary=True))
        >>> accumulator.add(0, np.array([[0, 1]]), np.array([[0, 255]]))
        >>> result = accumulator.result(["p0"], [0], find_groups(["p0"]))
        >>> result.confusion.counts.tolist(), result.boundary.intersection.tolist()
        ([[1, 0], [0, 0]], [[1, 0]])
    """

    def __init__(self, classes: Sequence[str], num_images: int, metrics: MetricsConfig | None = None) -> None:
        self.classes, config, size = tuple(classes), metrics or MetricsConfig(), len(classes)
        self.pooled = ConfusionMatrix(classes)
        self.class_counts = np.zeros((num_images, 3 * size), dtype=np.int64)
        self.boundary = BoundaryCounts.zeros(num_images, size, config.boundary_width) if config.boundary else None
        self.trimap = TrimapCounts.zeros(num_images, size, config.trimap) if config.trimap else None
        self.calibration = ReliabilityCounts.zeros(num_images) if config.calibration else None

    def add(self, index: int, labels: ArrayLike, target: ArrayLike, logits: Tensor | None = None) -> None:
        """Count one image.

        Args:
            index: the image's row in the counts.
            labels: (H, W) predicted ids.
            target: (H, W) true ids, ignored where not labelled.
            logits: (C, H, W) before the softmax, where the calibration is measured.

        Raises:
            ValueError: shapes that differ, an id outside the classes, or missing logits.
        """
        size = len(self.classes)
        self.add_pairs(index, pair_labels(labels, target, size))
        if self.boundary is not None:
            self.boundary.set_image(index, boundary_counts(labels, target, size, self.boundary.width))
        if self.trimap is not None:
            self.trimap.set_image(index, trimap_counts(labels, target, size, self.trimap.widths))
        if self.calibration is not None:
            if logits is None:
                raise ValueError("calibration: found no logits; expected those of all classes")
            self.calibration.set_image(index, reliability_counts(logits, labels, target))

    def add_pairs(self, index: int, pairs: LabelPairs) -> None:
        """Count one image's confusion matrix alone."""
        self.pooled.add(pairs)
        self.class_counts[index] = pairs.class_counts

    def add_counts(
        self, index: int, pairs: LabelPairs, boundary: BoundaryCounts | None, trimap: TrimapCounts | None
    ) -> None:
        """Add what has been counted of one image."""
        self.add_pairs(index, pairs)
        if self.boundary is not None and boundary is not None:
            self.boundary.set_image(index, boundary)
        if self.trimap is not None and trimap is not None:
            self.trimap.set_image(index, trimap)

    def result(self, names: Sequence[str], indices: Sequence[int], groups: Groups) -> EvaluationResult:
        """Return what was counted.

        Args:
            names: of the images.
            indices: the positions of the images in the data.
            groups: of all images that the data has.
        """
        counts = self.pooled.counts, self.class_counts, self.boundary, self.trimap, self.calibration
        return EvaluationResult(
            self.classes, tuple(names), tuple(indices), len(groups), *counts, groups.select(list(indices))
        )


def evaluate(
    predictor: Predictor,
    samples: Sequence[Sample],
    classes: Classes,
    metrics: MetricsConfig | None = None,
    on_progress: ProgressCallback | None = None,
    on_prediction: Callable[[int, Prediction], object] | None = None,
    indices: Iterable[int] | None = None,
) -> EvaluationResult:
    """Count every labelled pixel of every image.

    Args:
        samples: all images of the split.
        classes: the data's classes: the same names as the network's, in any order.
        metrics: what to measure; the confusion matrix alone if not given.
        on_progress: called after each image with how many are done and how many there are.
        on_prediction: called after each image with its index in `samples` and its prediction.
        indices: which of the images to measure, for `merge`; all of them if not given.

    Returns:
        Counts by the network's classes, in the network's order.

    Raises:
        InputError: classes that differ from the network's, or an unreadable image or label.
    """
    require_same_classes(predictor.segmenter.classes, classes)
    config = metrics or MetricsConfig()
    selected = list(range(len(samples)) if indices is None else indices)
    accumulator = EvaluationAccumulator(predictor.segmenter.classes, len(selected), config)
    labeled = iter_predictions([predictor], [samples[index] for index in selected], classes, config.calibration)
    for row, (target, (prediction,)) in enumerate(track(labeled, len(selected), on_progress)):
        logits = prediction.logits
        scaled = None if logits is None else logits / prediction.temperature
        accumulator.add(row, prediction.labels, target, scaled)
        if on_prediction is not None:
            on_prediction(selected[row], prediction)
    names = [samples[index].name for index in selected]
    return accumulator.result(names, selected, find_groups_by_name(samples))


def find_groups_by_name(samples: Sequence[Sample]) -> Groups:
    """Find the groups of samples by their names, with the folders below the one that all have in common.

    `Dataset.groups` knows more: tables, rules and what cameras wrote; `EvaluationResult.with_groups` takes it.
    """
    folders = [os.path.abspath(sample.image.parent) for sample in samples]
    root = Path(os.path.commonpath(folders)) if folders else Path()
    return find_groups([name_from_root(sample, root) for sample in samples])


def merge(parts: Sequence[EvaluationResult]) -> EvaluationResult:
    """Put the images of several results into the data's order.

    Args:
        parts: of the same data, measured in the same way; together each image once. A part may have no images.

    Raises:
        ValueError: no part, parts of different data or metrics, an image in two parts or in none.

    Example:
        >>> a = EvaluationResult(("sky",), ("p1",), (1,), 2, np.array([[5]]), np.array([[5, 5, 5]]))
        >>> b = EvaluationResult(("sky",), ("p0",), (0,), 2, np.array([[3]]), np.array([[3, 3, 3]]))
        >>> merged = merge([a, b])
        >>> merged.names, merged.confusion.counts.tolist()
        (('p0', 'p1'), [[8]])
    """
    if not parts:
        raise ValueError("merge: found no part; expected at least one")
    reference = _common_settings(parts[0])
    for part in parts[1:]:
        if _common_settings(part) != reference:
            raise ValueError(
                f"merge: found parts of {reference} and {_common_settings(part)}; expected the same of all"
            )
    counter = Counter(index for part in parts for index in part.indices)
    for index, count in counter.items():
        if count > 1:
            raise ValueError(f"merge: found image {index} in two parts; expected each once")
    size = parts[0].dataset_size
    missing = [index for index in range(size) if index not in counter]
    if missing:
        raise ValueError(f"merge: found image {missing[0]} in no part ({len(missing)} such of {size})")
    names = [name for part in parts for name in part.names]
    order = np.argsort(list(counter), kind="stable").tolist()
    boundary = [part.boundary for part in parts if part.boundary]
    trimap = [part.trimap for part in parts if part.trimap]
    calibration = [part.calibration for part in parts if part.calibration]
    return EvaluationResult(
        parts[0].classes,
        tuple(names[i] for i in order),
        tuple(sorted(counter)),
        size,
        reduce(np.add, [part.pooled for part in parts]),
        np.concatenate([part.class_counts for part in parts])[order],
        BoundaryCounts.concatenate(boundary, order) if boundary else None,
        TrimapCounts.concatenate(trimap, order) if trimap else None,
        ReliabilityCounts.concatenate(calibration, order) if calibration else None,
        _join_groups([part.groups for part in parts], order),
    )


def _join_groups(parts: Sequence[Groups], order: Sequence[int]) -> Groups:
    """Join the groups of the images of several parts, then put them into this order."""
    labels = tuple(label for part in parts for label in part.labels)
    positions = tuple(position for part in parts for position in part.positions)
    return Groups(labels, positions, parts[0].source).select(order)


def _common_settings(part: EvaluationResult) -> dict[str, object]:
    """Return what parts must have in common."""
    return {
        "classes": part.classes,
        "images": part.dataset_size,
        "boundary": part.boundary.width if part.boundary else None,
        "trimap": part.trimap.widths if part.trimap else None,
        "calibration": part.calibration is not None,
    }


def iter_predictions(
    predictors: Sequence[Predictor], samples: Iterable[Sample], classes: Classes, logits: bool
) -> Iterator[tuple[LabelArray, list[Prediction]]]:
    """Read each image once and label it with every predictor.

    Yields:
        The true (H, W) ids in the first network's order of classes, and the predictions.

    Raises:
        InputError: an unreadable image or label.
    """
    to_network_ids = build_class_id_lut(classes.names, predictors[0].segmenter.classes)
    inputs = list(dict.fromkeys(predictor.segmenter.input for predictor in predictors))

    def read_sample(sample: Sample) -> dict[InputConfig | None, tuple[BandArray, LabelArray]]:
        return {config: _read_for_network(sample, config) for config in inputs}

    is_on_cpu = all(predictor.device.type == "cpu" for predictor in predictors)
    threads = 0 if is_on_cpu else max(1, min(_MOST_READERS, (os.cpu_count() or 2) - 1))
    for read in map_ordered(read_sample, samples, threads, 2 * threads) if threads else map(read_sample, samples):
        predictions = [predictor(read[predictor.segmenter.input][0], logits=logits) for predictor in predictors]
        target = next(iter(read.values()))[1]
        for _, label in read.values():  # a pixel counts where all networks have data
            target = np.where(label == ignore_id_of(label), label, target)
        yield to_network_ids[target], predictions


def _read_for_network(sample: Sample, config: InputConfig | None) -> tuple[BandArray, LabelArray]:
    """Read an image as a network takes it, and its label, ignored where the image has no data.

    Raises:
        InputError: an unreadable file, or an image of other bands or of another range than the network's.
    """
    if config == sample.input:
        image, label = sample.read()
    else:
        image, label = replace(sample, input=config).read()
        label = ignore_missing(image, label, sample.input if config else None)
    if config is not None:
        config.require_range(image, str(sample.image))
    return image, label


def build_class_id_lut(source_names: Sequence[str], target_names: Sequence[str]) -> LabelArray:
    """Build a lookup table from ids in one order of the names to ids in another; the ignored id stays as it is.

    Returns:
        (256,) uint8, or (65536,) uint16 of more than 255 classes.

    Example:
        >>> build_class_id_lut(["sky", "road"], ["road", "sky"])[[0, 1, 255]].tolist()
        [1, 0, 255]
    """
    size, place = len(source_names), {name: i for i, name in enumerate(target_names)}
    lut = np.full(ignore_id(size) + 1, ignore_id(size), dtype=label_dtype(size))
    lut[:size] = [place[name] for name in source_names]
    return lut


def require_same_classes(network: Sequence[str], data: Classes) -> None:
    """Check that a network can be measured on data: its classes must have the data's names.

    Raises:
        InputError: names that only one of them has.
    """
    if set(network) != set(data.names):
        ours, theirs = set(network), set(data.names)
        raise InputError(
            f"{data.source}: the classes differ from the network's: only the data has {_name_some(theirs - ours)}, "
            f"only the network has {_name_some(ours - theirs)}",
            hint="merge or rename classes in classes.toml",
        )


def _name_some(names: set[str]) -> str:
    """The first names of a set as Python writes a list, and how many more there are."""
    shown, left_out = sorted(names)[:_MOST_NAMES], len(names) - _MOST_NAMES
    return f"{shown} and {left_out:,} more" if left_out > 0 else f"{shown}"
