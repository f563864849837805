"""What was measured, as lines and tables for a terminal.

for part in render_evaluation(result):
    Console().print(part)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from dilated.cli.console import make_table, plain
from dilated.evaluation.boundary import TrimapCounts
from dilated.evaluation.calibration import (
    NUM_BINS,
    ReliabilityCounts,
    compute_reliability_bins,
    expected_calibration_error,
)
from dilated.evaluation.compare import Comparison
from dilated.evaluation.intervals import Interval
from dilated.evaluation.result import EvaluationResult, select_worst

_MEAN_TITLES = {"mean_iou": "mean IoU", "mean_boundary_iou": "mean boundary IoU", "pixel_accuracy": "pixel accuracy"}


def render_evaluation(result: EvaluationResult, worst_images: int = 0) -> list[Text | Table]:
    """Render the foreground of two classes or a note about one, the classes, the curves, and the worst images."""
    metric, notes = result.format_metric, [plain(note) for note in result.notes]
    parts: list[Text | Table] = [notes.pop(0)] if len(result.classes) == 1 else []
    foreground = result.confusion.foreground
    if foreground is not None:
        i = result.classes.index(foreground)
        parts.append(plain(f"{foreground}: IoU {metric('iou', i, 4)}, F1 {metric('dice', i, 4)}", "bold"))
    means = f"mean IoU {metric('mean_iou', digits=4)}, pixel accuracy {metric('pixel_accuracy', digits=4)}"
    parts += [_class_table(result), plain(means, "bold")]
    if len(result.classes) == 2:
        keys = ("precision", "recall", "dice")
        rows = ((name, *(metric(key, i) for key in keys)) for i, name in enumerate(result.classes))
        parts.append(_table("", ("class", "precision", "recall", "F1 = Dice"), rows))
    if result.trimap is not None:
        parts.append(_trimap_table(result.trimap))
    if result.calibration is not None:
        parts.append(_reliability_table(result.calibration))
    if worst_images:
        parts.append(_worst_images_table(result, worst_images))
    return parts + notes


def render_comparison(comparison: Comparison) -> list[Text | Table]:
    """Render the differences by class with their intervals, the pixels that change, and what that says."""
    differences = comparison.differences

    def row(title: str, key: str, index: int, digits: int, intervals: list[Interval] | None) -> tuple[str, ...]:
        values = (_format_number(value, digits) for value in comparison.mean_values(key, index))
        return title, *values, _format_difference(intervals, index, digits)

    classes, iou = comparison.candidate.classes, differences.get("iou")
    rows = [*(row(name, "iou", i, 3, iou) for i, name in enumerate(classes)), None]
    for key, title in _MEAN_TITLES.items():
        if key in comparison.candidate.metrics:
            rows.append(row(title, key, 0, 4, differences.get(key)))
    title = "A is {}, B is {}; IoU on the same images".format(*comparison.names)
    parts: list[Text | Table] = [_table(title, ("class", "A", "B", "A less B [95%]"), rows)]
    if any(interval.excludes_zero for interval in iou or ()):
        parts.append(plain("* the interval excludes 0; of classes that do not differ, one in twenty would by chance."))
    return [*parts, plain(comparison.describe_changes()), plain(comparison.describe())]


def _class_table(result: EvaluationResult) -> Table:
    """Make a table of pixels, IoU, Dice and boundary IoU by class, with 95% intervals, then the means."""
    confusion, metric = result.confusion, result.format_metric
    fractions = confusion.counts.sum(1) / max(confusion.pixels, 1)
    unlabeled = f", {result.num_unlabeled_images} without any" if result.num_unlabeled_images else ""
    title = f"{len(result.names)} images{unlabeled}, {confusion.pixels:,} labelled pixels"
    columns = ["class", "pixels", "IoU [95%]", "Dice"]
    rows = [
        [name, f"{fractions[i]:.2%}", metric("iou", i), metric("dice", i, with_interval=False)]
        for i, name in enumerate(result.classes)
    ]
    means = ["mean", "", metric("mean_iou"), metric("mean_dice", with_interval=False)]
    if result.boundary is not None:
        columns.append("boundary IoU [95%]")
        rows = [[*row, metric("boundary_iou", i)] for i, row in enumerate(rows)]
        means.append(metric("mean_boundary_iou"))
    return _table(title, columns, [*rows, None, means])


def _trimap_table(counts: TrimapCounts) -> Table:
    """Make a table of mean IoU and pixel accuracy by the width of the band."""
    curves = counts.curve("mean_iou"), counts.curve("pixel_accuracy"), counts.pixels
    rows = (
        (f"{width} px", _format_number(mean_iou), _format_number(accuracy), f"{pixels:,}")
        for width, mean_iou, accuracy, pixels in zip(counts.widths, *curves, strict=True)
    )
    return _table("near true borders", ("within", "mean IoU", "pixel accuracy", "pixels"), rows)


def _reliability_table(counts: ReliabilityCounts) -> Table:
    """Make a table of confidence and accuracy by bin."""
    error = _format_number(expected_calibration_error(counts), 4)
    rows = (
        (f"{b.low:.2f} - {b.high:.2f}", _format_number(b.confidence), _format_number(b.accuracy), f"{b.pixels:,}")
        for b in compute_reliability_bins(counts)
        if b.pixels
    )
    columns = ("confidence", "mean confidence", "accuracy", "pixels")
    return _table(f"calibration error (ECE, {NUM_BINS} bins): {error}", columns, rows)


def _worst_images_table(result: EvaluationResult, count: int) -> Table:
    """Make a table of the images of lowest mean IoU, each with its worst class."""
    rows = []
    for image in select_worst(result.image_results, count):
        iou, name = min((iou, name) for name, iou in image.iou.items() if iou is not None)
        means = _format_number(image.mean_iou), _format_number(image.pixel_accuracy)
        rows.append((image.name, *means, f"{name} {iou:.3f}"))
    columns = ("image", "mean IoU", "pixel accuracy", "worst class")
    return _table(f"the {len(rows)} worst images", columns, rows)


def _format_number(number: float | None, digits: int = 3) -> str:
    return "-" if number is None or number != number else f"{number:.{digits}f}"


def _format_difference(differences: list[Interval] | None, index: int, digits: int) -> str:
    if differences is None or np.isnan(differences[index].value):
        return "-"
    if not differences[index].is_known:
        return f"{differences[index].value:+.{digits}f}"
    return format(differences[index], f"+.{digits}f") + (" *" if differences[index].excludes_zero else "  ")


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object] | None]) -> Table:
    return make_table(columns, rows, title, compact=True)
