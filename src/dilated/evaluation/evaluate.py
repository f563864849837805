"""Measure a network on a split, at the images' own resolution.

    result = evaluate(predictor, data.pairs("val"), data.classes, boundary=True, trimap=(1, 2, 4, 8))
    result.confusion.mean_iou

Several processes each measure some of the images and `merge` what they found:

    part = evaluate(predictor, pairs, classes, indices=range(rank, len(pairs), processes))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.evaluation.accumulator import EvaluationAccumulator, MetricsConfig
from dilated.evaluation.merge import merge
from dilated.evaluation.result import EvaluationResult
from dilated.prediction.predictor import Predictor

__all__ = ["EvaluationResult", "build_class_id_lut", "evaluate", "merge", "require_same_classes"]


def evaluate(
    predictor: Predictor,
    samples: Sequence[Sample],
    classes: Classes,
    on_progress: Callable[[], object] | None = None,
    *,
    boundary: bool = False,
    trimap: Sequence[int] = (),
    calibration: bool = False,
    metrics: MetricsConfig | None = None,
    indices: Iterable[int] | None = None,
) -> EvaluationResult:
    """Count every labelled pixel of every image.

    Args:
        pairs: all images of the split.
        classes: of the data; the same names as the network's, in any order.
        tick: called after each image.
        boundary: measure boundary IoU too.
        trimap: measure mean IoU within these pixels of a true border too.
        calibration: measure how true the probabilities are too.
        measures: all of these in one, with the width of the boundaries' bands, instead of them.
        indices: which of the images to measure, for `merge`; all of them if not given.

    Returns:
        Counts by the network's classes, in the network's order.

    Raises:
        InputError: classes that differ from the network's, widths that make no sense, or an unreadable image or
            label.
    """
    require_same_classes(predictor.segmenter.classes, classes)
    to_network_ids = build_class_id_lut(classes.names, predictor.segmenter.classes)
    selected = list(range(len(samples)) if indices is None else indices)
    wanted = metrics or MetricsConfig(boundary, trimap=tuple(trimap), calibration=calibration)
    accumulator = EvaluationAccumulator(predictor.segmenter.classes, len(selected), wanted)
    for i, index in enumerate(selected):
        image = samples[index].read_image()
        height, width = image.shape[:2]
        target = to_network_ids[samples[index].read_label(classes, (height, width))]
        prediction = predictor(image, logits=wanted.calibration)
        accumulator.add(i, prediction.labels, target, prediction.logits)
        if on_progress:
            on_progress()
    return accumulator.result([samples[index].name for index in selected], selected, dataset_size=len(samples))


def build_class_id_lut(source_names: Sequence[str], wanted: Sequence[str]) -> NDArray[np.uint8]:
    """(256,): ids in one order of the names -> ids in another; 255 stays 255.

    Example:
        >>> build_class_id_lut(["sky", "road"], ["road", "sky"])[[0, 1, 255]].tolist()
        [1, 0, 255]
    """
    lut = np.full(256, IGNORE, dtype=np.uint8)
    lut[: len(source_names)] = [list(wanted).index(name) for name in source_names]
    return lut


def require_same_classes(network: Sequence[str], data: Classes) -> None:
    """Raise where a network cannot be measured on data: its classes must have the data's names.

    Raises:
        InputError: names that only one of them has.
    """
    if set(network) != set(data.names):
        only_network, only_data = sorted(set(network) - set(data.names)), sorted(set(data.names) - set(network))
        raise InputError(
            f"{data.source}: the classes differ from the network's: only the data has {only_data}, only the network "
            f"has {only_network}; expected the same names. Merge or rename classes in classes.toml."
        )
