"""What was measured as tables for a terminal.

for part in report(result):
    Console().print(part)
"""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from dilated.evaluation import calibration, trimap
from dilated.evaluation.bootstrap import Interval
from dilated.evaluation.compare import Comparison
from dilated.evaluation.per_image import select_worst
from dilated.evaluation.result import EvaluationResult

MIN_IMAGES_FOR_INTERVAL = 20  # images, below which an interval comes out too narrow


def render_evaluation(result: EvaluationResult, worst_images: int = 0) -> list[RenderableType]:
    """All that was measured: a line for a task of two classes or of one, the classes, curves, the worst images."""
    first_column = _describe_foreground(result)
    parts: list[RenderableType] = [first_column] if first_column else []
    parts += [_class_table(result), _format_summary(result)]
    if len(result.confusion.classes) == 2:
        parts.append(_precision_recall_table(result))
    if result.trimap is not None:
        parts.append(_trimap_table(result.trimap))
    if result.calibration is not None:
        parts.append(_reliability_table(result.calibration))
    if worst_images:
        parts.append(_worst_images_table(result, worst_images))
    if 1 < len(result.names) < MIN_IMAGES_FOR_INTERVAL:
        parts.append(
            f"Intervals from {len(result.names)} images come out too narrow; measure {MIN_IMAGES_FOR_INTERVAL} or more."
        )
    return parts


def _describe_foreground(result: EvaluationResult) -> str:
    """What a task of one class or of foreground and background is about, in a line; empty for others."""
    names, foreground = result.confusion.classes, result.confusion.foreground
    if len(names) == 1:
        return (
            f"{escape(names[0])} is the only class, so every labelled pixel is right whatever the network does. Name "
            "the rest a second class, such as background, to measure something."
        )
    if foreground is None:
        return ""
    index = names.index(foreground)
    return f"[bold]{escape(foreground)}: IoU {_format_metric_with_interval(result, 'iou', index, 4)}, F1 {_format_metric_with_interval(result, 'dice', index, 4)}[/]"


def _class_table(result: EvaluationResult) -> Table:
    """Pixels, IoU, Dice and boundary IoU by class, with 95% intervals, then the means."""
    confusion = result.confusion
    class_fractions = confusion.counts.sum(1) / max(confusion.pixels, 1)
    none = f", {result.num_unlabeled_images} without any" if result.num_unlabeled_images else ""
    table = _new_table(f"{len(result.names)} images{none}, {confusion.pixels:,} labelled pixels")
    boundary = ["boundary_iou"] if result.boundary is not None else []
    for title in ("pixels", "IoU \\[95%]", "Dice", *("boundary IoU \\[95%]" for _ in boundary)):
        table.add_column(title, justify="right")
    for i, name in enumerate(confusion.classes):
        boundary_cells = [_format_metric_with_interval(result, key, i) for key in boundary]
        table.add_row(
            escape(name),
            f"{class_fractions[i]:.2%}",
            _format_metric_with_interval(result, "iou", i),
            _format_metric(result, "dice", i),
            *boundary_cells,
        )
    table.add_section()
    boundary_cells = [_format_metric_with_interval(result, f"mean_{key}", 0) for key in boundary]
    table.add_row(
        "mean",
        "",
        _format_metric_with_interval(result, "mean_iou", 0),
        _format_metric(result, "mean_dice", 0),
        *boundary_cells,
    )
    return table


def _format_summary(result: EvaluationResult) -> str:
    """Mean IoU and pixel accuracy, to be copied."""
    means = {"mean IoU": "mean_iou", "pixel accuracy": "pixel_accuracy"}
    return (
        "[bold]"
        + ", ".join(f"{title} {_format_metric_with_interval(result, key, 0, 4)}" for title, key in means.items())
        + "[/]"
    )


def _precision_recall_table(result: EvaluationResult) -> Table:
    """Precision, recall and F1 of each of two classes."""
    table = _new_table("")
    for title in ("precision", "recall", "F1 = Dice"):
        table.add_column(title, justify="right")
    for i, name in enumerate(result.confusion.classes):
        table.add_row(
            escape(name), *(_format_metric_with_interval(result, key, i) for key in ("precision", "recall", "dice"))
        )
    return table


def _trimap_table(found: trimap.TrimapCounts) -> Table:
    """Mean IoU and pixel accuracy by the width of the band."""
    table = _new_table("near true borders", "within")
    for title in ("mean IoU", "pixel accuracy", "pixels"):
        table.add_column(title, justify="right")
    pixels = found.counts[:, :, 1].sum((0, 2))
    for i, width in enumerate(found.widths):
        metrics = (trimap.mean_iou_curve(found)[i], trimap.pixel_accuracy_curve(found)[i])
        table.add_row(f"{width} px", *map(_format_number, metrics), f"{pixels[i]:,}")
    return table


def _reliability_table(found: calibration.ReliabilityCounts) -> Table:
    """Confidence and accuracy by bin."""
    table = _new_table(
        f"calibration error (ECE, {calibration.NUM_BINS} bins): {_format_number(calibration.expected_calibration_error(found), 4)}",
        "says",
    )
    for title in ("mean confidence", "is right", "pixels"):
        table.add_column(title, justify="right")
    for one in calibration.compute_reliability_bins(found):
        if one.pixels:
            table.add_row(
                f"{one.low:.2f} - {one.high:.2f}",
                _format_number(one.confidence),
                _format_number(one.accuracy),
                f"{one.pixels:,}",
            )
    return table


def _worst_images_table(result: EvaluationResult, number: int) -> Table:
    """The images of least mean IoU, each with its worst class."""
    rows = select_worst(result.image_results, number)
    table = _new_table(f"the {len(rows)} worst images", "image")
    for title in ("mean IoU", "pixel accuracy", "worst class"):
        table.add_column(title, justify="right")
    for row in rows:
        class_iou, name = min((class_iou, name) for name, class_iou in row.iou.items() if class_iou is not None)
        table.add_row(
            escape(row.name),
            _format_number(row.mean_iou),
            _format_number(row.pixel_accuracy),
            f"{escape(name)} {class_iou:.3f}",
        )
    return table


def render_comparison(paired_result: Comparison, candidate: str, baseline: str) -> list[RenderableType]:
    """The differences by class with their intervals, the pixels that change, and what that says."""
    table = _new_table(f"A is {escape(candidate)}, B is {escape(baseline)}; IoU on the same images")
    for title in ("A", "B", "A less B \\[95%]"):
        table.add_column(title, justify="right")
    differences = paired_result.differences
    for i, name in enumerate(paired_result.candidate.confusion.classes):
        table.add_row(
            escape(name),
            *(_format_metric(one, "iou", i) for one in (paired_result.candidate, paired_result.baseline)),
            _format_difference(differences.get("iou"), i),
        )
    table.add_section()
    for key, title in _MEAN_TITLES.items():
        if key in paired_result.candidate.metrics:
            table.add_row(
                title,
                *(_format_metric(one, key, 0, 4) for one in (paired_result.candidate, paired_result.baseline)),
                _format_difference(differences.get(key), 0, 4),
            )
    pixels = paired_result.changed_pixels
    changed_fraction = pixels["changed"] / max(pixels["labeled"], 1)
    changed = (
        f"{pixels['changed']:,} of {pixels['labeled']:,} labelled pixels change label ({changed_fraction:.2%}): only A is right "
        f"on {pixels['only_candidate_right']:,}, only B on {pixels['only_baseline_right']:,}, neither on "
        f"{pixels['both_wrong']:,}."
    )
    parts: list[RenderableType] = [table, changed, escape(paired_result.describe(candidate, baseline))]
    if any(one.excludes_zero for one in differences.get("iou", [])):
        parts.insert(1, "* the interval leaves out 0; of classes that do not differ, one in twenty would by chance.")
    return parts


_MEAN_TITLES = {"mean_iou": "mean IoU", "mean_boundary_iou": "mean boundary IoU", "pixel_accuracy": "pixel accuracy"}


def _format_metric_with_interval(result: EvaluationResult, key: str, index: int, digits: int = 3) -> str:
    """A figure with its interval, `0.726 [0.721, 0.732]`; `-` where there is nothing to measure."""
    number = _format_metric(result, key, index, digits)
    found = result.intervals.get(key)
    if number == "-" or found is None or found[index].low != found[index].low:
        return number
    return escape(format(found[index], f".{digits}f"))


def _format_metric(result: EvaluationResult, key: str, index: int, digits: int = 3) -> str:
    return _format_number(float(result.metrics[key][index]), digits)


def _format_number(number: float | None, digits: int = 3) -> str:
    return "-" if number is None or number != number else f"{number:.{digits}f}"


def _format_difference(differences: list[Interval] | None, index: int, digits: int = 3) -> str:
    if (
        differences is None
        or differences[index].low != differences[index].low
        or differences[index].value != differences[index].value
    ):
        return "-"
    return escape(format(differences[index], f"+.{digits}f")) + (" *" if differences[index].excludes_zero else "  ")


def _new_table(title: str, first_column: str = "class") -> Table:
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    table.add_column(first_column)
    return table
