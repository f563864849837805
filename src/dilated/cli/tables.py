"""What was measured, as tables for a terminal.

for part in render_evaluation(result):
    Console().print(part)
"""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from dilated.evaluation.bootstrap import Interval
from dilated.evaluation.boundary import TrimapCounts
from dilated.evaluation.calibration import (
    NUM_BINS,
    ReliabilityCounts,
    compute_reliability_bins,
    expected_calibration_error,
)
from dilated.evaluation.compare import Comparison
from dilated.evaluation.per_image import select_worst
from dilated.evaluation.result import EvaluationResult

_MEAN_TITLES = {"mean_iou": "mean IoU", "mean_boundary_iou": "mean boundary IoU", "pixel_accuracy": "pixel accuracy"}


def render_evaluation(result: EvaluationResult, worst_images: int = 0) -> list[RenderableType]:
    """Render the foreground of two classes or a note about one, the classes, the curves, and the worst images."""
    notes = list(map(escape, result.notes))
    parts: list[RenderableType] = [notes.pop(0)] if len(result.classes) == 1 else []
    foreground = result.confusion.foreground
    if foreground is not None:
        index = result.classes.index(foreground)
        parts.append(
            f"[bold]{escape(foreground)}: IoU {_metric(result, 'iou', index, 4)}, "
            f"F1 {_metric(result, 'dice', index, 4)}[/]"
        )
    means = {"mean IoU": "mean_iou", "pixel accuracy": "pixel_accuracy"}
    summary = ", ".join(f"{title} {_metric(result, key, digits=4)}" for title, key in means.items())
    parts += [_class_table(result), f"[bold]{summary}[/]"]
    if len(result.classes) == 2:
        parts.append(_precision_recall_table(result))
    if result.trimap is not None:
        parts.append(_trimap_table(result.trimap))
    if result.calibration is not None:
        parts.append(_reliability_table(result.calibration))
    if worst_images:
        parts.append(_worst_images_table(result, worst_images))
    return parts + notes


def render_comparison(comparison: Comparison) -> list[RenderableType]:
    """Render the differences by class with their intervals, the pixels that change, and what that says."""
    a, b = comparison.names
    table = _new_table(
        f"A is {escape(a)}, B is {escape(b)}; IoU on the same images", "class", "A", "B", "A less B \\[95%]"
    )
    results, differences = (comparison.candidate, comparison.baseline), comparison.differences
    for i, name in enumerate(comparison.candidate.classes):
        values = [result.format_metric("iou", i, with_interval=False) for result in results]
        table.add_row(escape(name), *values, _format_difference(differences.get("iou"), i))
    table.add_section()
    for key, title in _MEAN_TITLES.items():
        if key in comparison.candidate.metrics:
            values = [result.format_metric(key, digits=4, with_interval=False) for result in results]
            table.add_row(title, *values, _format_difference(differences.get(key), 0, 4))
    parts: list[RenderableType] = [table]
    if any(interval.excludes_zero for interval in differences.get("iou", [])):
        parts.append("* the interval leaves out 0; of classes that do not differ, one in twenty would by chance.")
    return [*parts, comparison.describe_changes(), escape(comparison.describe())]


def _class_table(result: EvaluationResult) -> Table:
    """Make a table of pixels, IoU, Dice and boundary IoU by class, with 95% intervals, then the means."""
    confusion = result.confusion
    class_fractions = confusion.counts.sum(1) / max(confusion.pixels, 1)
    unlabeled = f", {result.num_unlabeled_images} without any" if result.num_unlabeled_images else ""
    boundary = result.boundary is not None
    table = _new_table(
        f"{len(result.names)} images{unlabeled}, {confusion.pixels:,} labelled pixels",
        *("class", "pixels", "IoU \\[95%]", "Dice"),
        *["boundary IoU \\[95%]"] * boundary,
    )
    for i, name in enumerate(result.classes):
        dice = result.format_metric("dice", i, with_interval=False)
        boundary_iou = [_metric(result, "boundary_iou", i)] if boundary else []
        table.add_row(escape(name), f"{class_fractions[i]:.2%}", _metric(result, "iou", i), dice, *boundary_iou)
    table.add_section()
    dice = result.format_metric("mean_dice", with_interval=False)
    boundary_iou = [_metric(result, "mean_boundary_iou")] if boundary else []
    table.add_row("mean", "", _metric(result, "mean_iou"), dice, *boundary_iou)
    return table


def _precision_recall_table(result: EvaluationResult) -> Table:
    """Make a table of precision, recall and F1 of each of two classes."""
    table = _new_table("", "class", "precision", "recall", "F1 = Dice")
    for i, name in enumerate(result.classes):
        table.add_row(escape(name), *(_metric(result, key, i) for key in ("precision", "recall", "dice")))
    return table


def _trimap_table(counts: TrimapCounts) -> Table:
    """Make a table of mean IoU and pixel accuracy by the width of the band."""
    table = _new_table("near true borders", "within", "mean IoU", "pixel accuracy", "pixels")
    columns = counts.curve("mean_iou"), counts.curve("pixel_accuracy"), counts.pixels
    for width, mean_iou, accuracy, pixels in zip(counts.widths, *columns, strict=True):
        table.add_row(f"{width} px", _format_number(mean_iou), _format_number(accuracy), f"{pixels:,}")
    return table


def _reliability_table(counts: ReliabilityCounts) -> Table:
    """Make a table of confidence and accuracy by bin."""
    error = _format_number(expected_calibration_error(counts), 4)
    title = f"calibration error (ECE, {NUM_BINS} bins): {error}"
    table = _new_table(title, "says", "mean confidence", "is right", "pixels")
    for row in compute_reliability_bins(counts):
        if row.pixels:
            means = _format_number(row.confidence), _format_number(row.accuracy)
            table.add_row(f"{row.low:.2f} - {row.high:.2f}", *means, f"{row.pixels:,}")
    return table


def _worst_images_table(result: EvaluationResult, count: int) -> Table:
    """Make a table of the images of lowest mean IoU, each with its worst class."""
    rows = select_worst(result.image_results, count)
    table = _new_table(f"the {len(rows)} worst images", "image", "mean IoU", "pixel accuracy", "worst class")
    for row in rows:
        class_iou, name = min((class_iou, name) for name, class_iou in row.iou.items() if class_iou is not None)
        means = _format_number(row.mean_iou), _format_number(row.pixel_accuracy)
        table.add_row(escape(row.name), *means, f"{escape(name)} {class_iou:.3f}")
    return table


def _metric(result: EvaluationResult, name: str, index: int = 0, digits: int = 3) -> str:
    return escape(result.format_metric(name, index, digits))


def _format_number(number: float | None, digits: int = 3) -> str:
    return "-" if number is None or number != number else f"{number:.{digits}f}"


def _format_difference(differences: list[Interval] | None, index: int, digits: int = 3) -> str:
    if differences is None or not differences[index].is_known:
        return "-"
    return escape(format(differences[index], f"+.{digits}f")) + (" *" if differences[index].excludes_zero else "  ")


def _new_table(title: str, first_column: str, *columns: str) -> Table:
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    table.add_column(first_column)
    for column in columns:
        table.add_column(column, justify="right")
    return table
