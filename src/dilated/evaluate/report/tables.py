"""The figures as tiles and tables: headline, classes, confusions.

headline(result, data.classes, "val")
per_class(result, data.classes)
confusions(result, data.classes)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dilated.data.labels import Classes
from dilated.evaluate.bootstrap import Interval
from dilated.evaluate.evaluation import Evaluation
from dilated.evaluate.report.markup import bounds, card, count, named, note, number, share, swatch, table, term, text
from dilated.evaluate.sheets import FEW

READABLE = 30
"""Classes above which the matrix gives way to a list of its greatest entries."""
WRITTEN = 15
"""Classes up to which the cells hold numbers."""


def headline(result: Evaluation, split: str, chosen: bool) -> str:
    """What a person wants to know first.

    Args:
        chosen: whether the network was chosen by this very split.
    """
    classes, confusion = result.confusion.classes, result.confusion
    tiles = [
        _tile("mean IoU", _value(result, "mean_iou", 0), _interval(result, "mean_iou", 0)),
        _tile("pixel accuracy", _value(result, "pixel_accuracy", 0), _interval(result, "pixel_accuracy", 0)),
        _tile("mean boundary IoU", _value(result, "mean_boundary_iou", 0), _interval(result, "mean_boundary_iou", 0)),
        f'<div class="tile"><div class="what">pictures of {text(split)}</div><div class="big">'
        f'{count(len(result.names))}</div><div class="faint">{_million(confusion.pixels)} '
        f"{term('labelled pixels')}</div></div>",
    ]
    if len(classes) == 2:
        for name in [confusion.foreground] if confusion.foreground else classes:
            place = classes.index(name)
            tiles += [
                _tile(key, _value(result, key.lower(), place), _interval(result, key.lower(), place), name)
                for key in ("IoU", "precision", "recall")
            ]
    parts = [f'<div class="tiles">{"".join(tiles)}</div>', _meaning(result)]
    if len(classes) == 1:
        parts.append(
            f"<p>{text(classes[0])} is the only class, so every labelled pixel is right whatever the network does. "
            "Name the rest a second class, such as background, to measure something.</p>"
        )
    if result.unlabelled:
        parts.append(note(f"{result.unlabelled:,} of the pictures have no labelled pixel and count in no figure."))
    if chosen:
        parts.append(
            note(
                f"The network was chosen by its mean IoU on {text(split)}, so these figures flatter it a little; "
                "pictures that no choice has seen are fairer."
            )
        )
    return "".join(parts)


def per_class(result: Evaluation, classes: Classes) -> str:
    """All figures of each class, in the order of the data."""
    order = _order(result, classes)
    truth = result.confusion.counts.sum(1)
    shares = truth / max(result.confusion.pixels, 1)
    head = ["class", *map(term, ("IoU", "precision", "recall", "Dice", "boundary IoU", "share of pixels"))]
    rows = []
    for place, i in enumerate(order):
        iou = _value(result, "iou", i)
        bar = f'<span class="bar"><i style="width:{0 if np.isnan(iou) else iou:.1%}"></i></span>'
        rows.append(
            [
                named(classes.names[place], classes.colors[place]),
                f"{bar}{number(iou)}{bounds(_interval(result, 'iou', i))}",
                *(number(_value(result, key, i)) for key in ("precision", "recall", "dice")),
                f"{number(_value(result, 'boundary_iou', i))}{bounds(_interval(result, 'boundary_iou', i))}",
                share(float(shares[i])),
            ]
        )
    foot = [
        "mean",
        f"{number(_value(result, 'mean_iou', 0))}{bounds(_interval(result, 'mean_iou', 0))}",
        "",
        "",
        number(_value(result, "mean_dice", 0)),
        f"{number(_value(result, 'mean_boundary_iou', 0))}{bounds(_interval(result, 'mean_boundary_iou', 0))}",
        "",
    ]
    said = (
        f"Small: {term('95% interval')} over the pictures. A dash: nothing to measure. The mean is over known values."
    )
    return card(table(head, rows, "figures", foot) + note(said))


def confusions(result: Evaluation, classes: Classes) -> str:
    """Which class is taken for which: the matrix where it can be read, and its greatest entries."""
    order = _order(result, classes)
    counts = result.confusion.counts[np.ix_(order, order)]
    if len(order) == 1:
        return card("<p>With one class nothing can be confused.</p>")
    matrix = card(_matrix(counts, classes)) if len(order) <= READABLE else ""
    pairs = card(_pairs(counts, classes, 10 if matrix else 25), "Most confused")
    return f'<div class="flow">{matrix}{pairs}</div>'


def _matrix(counts: NDArray[np.int64], classes: Classes) -> str:
    """A table whose cells are shaded by the share of their row."""
    truth = counts.sum(1)
    written = len(classes) <= WRITTEN
    head = "".join(
        f'<th scope="col"><span>{swatch(c)}{text(n)}</span></th>'
        for n, c in zip(classes.names, classes.colors, strict=True)
    )
    rows = []
    for i, name in enumerate(classes.names):
        cells = []
        for j, other in enumerate(classes.names):
            part = counts[i, j] / truth[i] if truth[i] else 0.0
            told = f"{name} labelled as {other}: {counts[i, j]:,} pixels, {part:.2%} of {name}"
            shown = f"{part * 100:.0f}" if written and part >= 0.005 else ""
            strong = " class=strong" if part > 0.5 else ""
            cells.append(f'<td{strong} style="--v:{part:.3f}" title="{text(told)}">{shown}</td>')
        rows.append(f'<tr><th scope="row">{named(name, classes.colors[i])}</th>{"".join(cells)}</tr>')
    kind = "matrix" if written else "matrix dense"
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr><th>true class (rows), predicted (columns)</th>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
        + note(
            "Each row sums to 100%: of the pixels that are truly of the class, the per cent that the network gives to "
            "each class. The diagonal is the recall. Counts of pixels are in the cells' tooltips."
        )
    )


def _pairs(counts: NDArray[np.int64], classes: Classes, most: int) -> str:
    """The pairs of classes with the most wrong pixels."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    total, truth = int(wrong.sum()), counts.sum(1)
    if not total:
        return "<p>No labelled pixel is wrong.</p>"
    rows = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:most]:
        i, j = (int(k) for k in np.unravel_index(place, wrong.shape))
        if wrong[i, j]:
            names = [named(classes.names[k], classes.colors[k]) for k in (i, j)]
            parts = (share(float(wrong[i, j] / truth[i])), share(float(wrong[i, j] / total)))
            rows.append([*names, count(int(wrong[i, j])), *parts])
    return table(["truly", "labelled as", "pixels", "of class", "of all errors"], rows, "pairs")


def _meaning(result: Evaluation) -> str:
    """One sentence on what the interval says."""
    found = _interval(result, "mean_iou", 0)
    if found is None or found.low != found.low:
        return f"<p>There is no {term('95% interval')}: that takes two pictures at least.</p>"
    few = (
        f" Of as few as {len(result.names)} pictures it comes out too narrow; measure {FEW} or more."
        if len(result.names) < FEW
        else ""
    )
    return (
        f'<p class="lead">With other pictures of the same kind the mean IoU might as well have come out anywhere '
        f"between {number(found.low)} and {number(found.high)} ({term('95% interval')}); a smaller difference from "
        f"another network says little by itself.{few}</p>"
    )


def _tile(name: str, value: float, interval: Interval | None, of: str = "") -> str:
    ends = ""
    line = ""
    if interval is not None and interval.low == interval.low:
        ends = f'<div class="faint">{bounds(interval)}</div>'
        left, wide = interval.low * 100, max((interval.high - interval.low) * 100, 0.8)
        line = f'<div class="range"><i style="left:{left:.2f}%;width:{wide:.2f}%"></i></div>'
    whose = f"{text(of)}: " if of else ""
    return (
        f'<div class="tile"><div class="what">{whose}{term(name)}</div><div class="big">{number(value)}</div>'
        f"{line}{ends}</div>"
    )


def _million(pixels: int) -> str:
    return f'<data value="{pixels}">{pixels / 1e6:,.1f} million</data>' if pixels >= 1_000_000 else count(pixels)


def _order(result: Evaluation, classes: Classes) -> list[int]:
    """The places in the result of the data's classes."""
    return [result.confusion.classes.index(name) for name in classes.names]


def _value(result: Evaluation, key: str, place: int) -> float:
    return float(result.figures[key][place])


def _interval(result: Evaluation, key: str, place: int) -> Interval | None:
    found = result.intervals.get(key)
    return found[place] if found else None
