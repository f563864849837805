"""What the tables of the page show besides the metrics: counts of the data's splits, and confusions of classes.

Of a large split the labels of some images are counted, spread evenly; the page says of how many. `dilated check`
reads them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.data.dataset import Dataset
from dilated.data.labels import Classes
from dilated.data.statistics import SplitStatistics, StatisticsAccumulator
from dilated.errors import InputError
from dilated.evaluation.result import EvaluationResult

_MAX_LABELS = 400
"""The most labels of a split that are counted."""
_MAX_MATRIX_CLASSES = 30
"""Classes above which the matrix gives way to a list of its greatest entries."""
_MAX_NUMBERED_CLASSES = 15
"""Classes up to which the cells hold numbers."""


@dataclass(frozen=True)
class SplitSummary:
    """What is shown of a split; `problem` says why it could not be counted, or which of its files could not."""

    split: str
    statistics: SplitStatistics
    problem: str = ""


def count_splits(data: Dataset, max_labels: int = _MAX_LABELS) -> list[SplitSummary]:
    """Count the labels of each split, up to `max_labels` of them.

    A split or a file that cannot be read is named in `problem`: the network was measured without it.
    """
    return [_count_split(data, split, max_labels) for split in data.splits]


def _count_split(data: Dataset, split: str, max_labels: int) -> SplitSummary:
    sums = StatisticsAccumulator(len(data.classes))
    try:
        samples = data.samples(split)
    except InputError as error:
        return SplitSummary(split, sums.statistics(images=0), str(error))
    errors = []
    for sample in samples[:: max(1, -(-len(samples) // max_labels))]:
        try:
            sums.add_label(sample.read_label())
        except InputError as error:
            errors.append(str(error))
    problem = f"{len(errors)} labels cannot be read, first: {errors[0]}" if errors else ""
    return SplitSummary(split, sums.statistics(len(samples)), problem)


@dataclass(frozen=True)
class ConfusedPair:
    """Pixels that are truly of one class and predicted as another, by their indices."""

    truth: int
    prediction: int
    pixels: int
    fraction_of_class: float
    fraction_of_errors: float


@dataclass(frozen=True)
class Confusions:
    """Which class is taken for which; classes are in the order of the data."""

    counts: NDArray[np.int64]
    """(C, C) pixels by true class (rows) and predicted class (columns)."""
    fractions: NDArray[np.float64]
    """(C, C): the counts over the pixels of their row, 0 in a row without any; empty where they do not fit."""
    truth_fractions: list[float]
    """Each class's fraction of the labelled pixels, by the truth."""
    most_confused: list[ConfusedPair]
    fits_matrix: bool
    fits_numbers: bool


def find_confusions(result: EvaluationResult, classes: Classes) -> Confusions:
    """Order the confusion matrix as the data's classes, and find the pairs with the most wrong pixels."""
    place = {name: i for i, name in enumerate(result.classes)}
    order = [place[name] for name in classes.names]
    counts = result.confusion.counts[np.ix_(order, order)]
    truth = counts.sum(1)
    fits_matrix = len(order) <= _MAX_MATRIX_CLASSES
    fractions = counts / np.maximum(truth, 1)[:, None] if fits_matrix else np.zeros((0, 0))
    rows, columns = np.nonzero(counts)
    rows, columns = rows[rows != columns], columns[rows != columns]
    errors = counts[rows, columns]
    pairs = []
    for k in np.argsort(-errors, kind="stable")[: 10 if fits_matrix else 25].tolist():
        i, j, pixels = int(rows[k]), int(columns[k]), int(errors[k])
        pairs.append(ConfusedPair(i, j, pixels, pixels / int(truth[i]), pixels / int(errors.sum())))
    truth_fractions = (truth / max(result.confusion.pixels, 1)).tolist()
    return Confusions(counts, fractions, truth_fractions, pairs, fits_matrix, len(order) <= _MAX_NUMBERED_CLASSES)
