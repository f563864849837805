"""What was measured as tables for a terminal.

for part in report(result):
    Console().print(part)
"""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from dilated.evaluate import calibration, trimap
from dilated.evaluate.bootstrap import Interval
from dilated.evaluate.compare import Comparison
from dilated.evaluate.evaluation import Evaluation
from dilated.evaluate.pictures import worst

FEW = 20  # pictures, below which an interval comes out too narrow


def report(result: Evaluation, worst_pictures: int = 0) -> list[RenderableType]:
    """All that was measured: a line for a task of two classes or of one, the classes, curves, the worst pictures."""
    first = headline(result)
    parts: list[RenderableType] = [first] if first else []
    parts += [by_class(result), summary(result)]
    if len(result.confusion.classes) == 2:
        parts.append(both_ways(result))
    if result.trimap is not None:
        parts.append(trimap_table(result.trimap))
    if result.calibration is not None:
        parts.append(reliability_table(result.calibration))
    if worst_pictures:
        parts.append(worst_table(result, worst_pictures))
    if 1 < len(result.names) < FEW:
        parts.append(f"Intervals from {len(result.names)} pictures come out too narrow; measure {FEW} or more.")
    return parts


def headline(result: Evaluation) -> str:
    """What a task of one class or of foreground and background is about, in a line; empty for others."""
    names, front = result.confusion.classes, result.confusion.foreground
    if len(names) == 1:
        return (
            f"{escape(names[0])} is the only class, so every labelled pixel is right whatever the network does. Name "
            "the rest a second class, such as background, to measure something."
        )
    if front is None:
        return ""
    place = names.index(front)
    return f"[bold]{escape(front)}: IoU {value(result, 'iou', place, 4)}, F1 {value(result, 'dice', place, 4)}[/]"


def by_class(result: Evaluation) -> Table:
    """Pixels, IoU, Dice and boundary IoU by class, with 95% intervals, then the means."""
    confusion = result.confusion
    shares = confusion.counts.sum(1) / max(confusion.pixels, 1)
    none = f", {result.unlabelled} without any" if result.unlabelled else ""
    sheet = _sheet(f"{len(result.names)} pictures{none}, {confusion.pixels:,} labelled pixels")
    boundary = ["boundary_iou"] if result.boundary is not None else []
    for title in ("pixels", "IoU \\[95%]", "Dice", *("boundary IoU \\[95%]" for _ in boundary)):
        sheet.add_column(title, justify="right")
    for i, name in enumerate(confusion.classes):
        edges = [value(result, key, i) for key in boundary]
        sheet.add_row(escape(name), f"{shares[i]:.2%}", value(result, "iou", i), _number(result, "dice", i), *edges)
    sheet.add_section()
    edges = [value(result, f"mean_{key}", 0) for key in boundary]
    sheet.add_row("mean", "", value(result, "mean_iou", 0), _number(result, "mean_dice", 0), *edges)
    return sheet


def summary(result: Evaluation) -> str:
    """Mean IoU and pixel accuracy, to be copied."""
    means = {"mean IoU": "mean_iou", "pixel accuracy": "pixel_accuracy"}
    return "[bold]" + ", ".join(f"{title} {value(result, key, 0, 4)}" for title, key in means.items()) + "[/]"


def both_ways(result: Evaluation) -> Table:
    """Precision, recall and F1 of each of two classes."""
    sheet = _sheet("")
    for title in ("precision", "recall", "F1 = Dice"):
        sheet.add_column(title, justify="right")
    for i, name in enumerate(result.confusion.classes):
        sheet.add_row(escape(name), *(value(result, key, i) for key in ("precision", "recall", "dice")))
    return sheet


def trimap_table(found: trimap.TrimapCounts) -> Table:
    """Mean IoU and pixel accuracy by the width of the band."""
    sheet = _sheet("near true borders", "within")
    for title in ("mean IoU", "pixel accuracy", "pixels"):
        sheet.add_column(title, justify="right")
    pixels = found.counts[:, :, 1].sum((0, 2))
    for i, width in enumerate(found.widths):
        figures = (trimap.curve(found)[i], trimap.accuracy(found)[i])
        sheet.add_row(f"{width} px", *map(_shown, figures), f"{pixels[i]:,}")
    return sheet


def reliability_table(found: calibration.ReliabilityCounts) -> Table:
    """Confidence and accuracy by bin."""
    sheet = _sheet(f"calibration error (ECE, {calibration.BINS} bins): {_shown(calibration.error(found), 4)}", "says")
    for title in ("mean confidence", "is right", "pixels"):
        sheet.add_column(title, justify="right")
    for one in calibration.bins(found):
        if one.pixels:
            sheet.add_row(
                f"{one.low:.2f} - {one.high:.2f}", _shown(one.confidence), _shown(one.accuracy), f"{one.pixels:,}"
            )
    return sheet


def worst_table(result: Evaluation, number: int) -> Table:
    """The pictures of least mean IoU, each with its worst class."""
    rows = worst(result.pictures, number)
    sheet = _sheet(f"the {len(rows)} worst pictures", "picture")
    for title in ("mean IoU", "pixel accuracy", "worst class"):
        sheet.add_column(title, justify="right")
    for row in rows:
        figure, name = min((figure, name) for name, figure in row.iou.items() if figure is not None)
        sheet.add_row(
            escape(row.name), _shown(row.mean_iou), _shown(row.pixel_accuracy), f"{escape(name)} {figure:.3f}"
        )
    return sheet


def comparison(both: Comparison, ours: str, theirs: str) -> list[RenderableType]:
    """The differences by class with their intervals, the pixels that change, and what that says."""
    sheet = _sheet(f"A is {escape(ours)}, B is {escape(theirs)}; IoU on the same pictures")
    for title in ("A", "B", "A less B \\[95%]"):
        sheet.add_column(title, justify="right")
    gaps = both.differences
    for i, name in enumerate(both.ours.confusion.classes):
        sheet.add_row(
            escape(name), *(_number(one, "iou", i) for one in (both.ours, both.theirs)), _gap(gaps.get("iou"), i)
        )
    sheet.add_section()
    for key, title in MEANS.items():
        if key in both.ours.figures:
            sheet.add_row(
                title, *(_number(one, key, 0, 4) for one in (both.ours, both.theirs)), _gap(gaps.get(key), 0, 4)
            )
    pixels = both.changed_pixels
    share = pixels["changed"] / max(pixels["labelled"], 1)
    changed = (
        f"{pixels['changed']:,} of {pixels['labelled']:,} labelled pixels change label ({share:.2%}): only A is right "
        f"on {pixels['only_ours_right']:,}, only B on {pixels['only_theirs_right']:,}, neither on "
        f"{pixels['both_wrong']:,}."
    )
    parts: list[RenderableType] = [sheet, changed, escape(both.sentence(ours, theirs))]
    if any(one.leaves_out_0 for one in gaps.get("iou", [])):
        parts.insert(1, "* the interval leaves out 0; of classes that do not differ, one in twenty would by chance.")
    return parts


MEANS = {"mean_iou": "mean IoU", "mean_boundary_iou": "mean boundary IoU", "pixel_accuracy": "pixel accuracy"}


def value(result: Evaluation, key: str, place: int, digits: int = 3) -> str:
    """A figure with its interval, `0.726 [0.721, 0.732]`; `-` where there is nothing to measure."""
    number = _number(result, key, place, digits)
    found = result.intervals.get(key)
    if number == "-" or found is None or found[place].low != found[place].low:
        return number
    return escape(format(found[place], f".{digits}f"))


def _number(result: Evaluation, key: str, place: int, digits: int = 3) -> str:
    return _shown(float(result.figures[key][place]), digits)


def _shown(number: float | None, digits: int = 3) -> str:
    return "-" if number is None or number != number else f"{number:.{digits}f}"


def _gap(gaps: list[Interval] | None, place: int, digits: int = 3) -> str:
    if gaps is None or gaps[place].low != gaps[place].low or gaps[place].value != gaps[place].value:
        return "-"
    return escape(format(gaps[place], f"+.{digits}f")) + (" *" if gaps[place].leaves_out_0 else "  ")


def _sheet(title: str, first: str = "class") -> Table:
    sheet = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    sheet.add_column(first)
    return sheet
