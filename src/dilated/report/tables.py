"""The metrics as tiles and tables: headline, classes, confusions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dilated.data.labels import Classes
from dilated.evaluation.bootstrap import Interval
from dilated.evaluation.result import EvaluationResult
from dilated.report.markup import (
    escape_text,
    format_bounds,
    format_count,
    format_number,
    format_percent,
    render_card,
    render_class_name,
    render_note,
    render_swatch,
    render_table,
    render_term,
)

_MAX_MATRIX_CLASSES = 30
"""Classes above which the matrix gives way to a list of its greatest entries."""
_MAX_NUMBERED_CLASSES = 15
"""Classes up to which the cells hold numbers."""


def render_headline(result: EvaluationResult, split: str, used_for_selection: bool) -> str:
    """Render what a reader wants to know first.

    Args:
        used_for_selection: whether the network was chosen by its results on this split.
    """
    classes, confusion = result.confusion.classes, result.confusion
    tiles = [
        _render_tile("mean IoU", result.value("mean_iou"), result.interval("mean_iou")),
        _render_tile("pixel accuracy", result.value("pixel_accuracy"), result.interval("pixel_accuracy")),
        _render_tile(
            "mean boundary IoU",
            result.value("mean_boundary_iou"),
            result.interval("mean_boundary_iou"),
        ),
        f'<div class="tile"><div class="what">images of {escape_text(split)}</div><div class="big">'
        f'{format_count(len(result.names))}</div><div class="faint">{_format_millions(confusion.pixels)} '
        f"{render_term('labelled pixels')}</div></div>",
    ]
    if len(classes) == 2:
        for name in [confusion.foreground] if confusion.foreground else classes:
            index = classes.index(name)
            tiles += [
                _render_tile(key, result.value(key.lower(), index), result.interval(key.lower(), index), name)
                for key in ("IoU", "precision", "recall")
            ]
    parts = [f'<div class="tiles">{"".join(tiles)}</div>', _explain_interval(result)]
    parts += [f"<p>{escape_text(note)}</p>" for note in result.notes]
    if result.num_unlabeled_images:
        parts.append(
            render_note(f"{result.num_unlabeled_images:,} of the images have no labelled pixel and count in no figure.")
        )
    if used_for_selection:
        parts.append(
            render_note(
                f"The network was chosen by its mean IoU on {escape_text(split)}, so these figures flatter it a "
                "little; images "
                " that no choice has seen are fairer."
            )
        )
    return "".join(parts)


def render_class_table(result: EvaluationResult, classes: Classes) -> str:
    """Render all metrics of each class, in the order of the data."""
    order = _class_order(result, classes)
    truth = result.confusion.counts.sum(1)
    class_fractions = truth / max(result.confusion.pixels, 1)
    head = ["class", *map(render_term, ("IoU", "precision", "recall", "Dice", "boundary IoU", "share of pixels"))]

    def with_bounds(name: str, i: int = 0) -> str:
        return format_number(result.value(name, i)) + format_bounds(result.interval(name, i))

    rows = []
    for index, i in enumerate(order):
        iou = result.value("iou", i)
        bar = f'<span class="bar"><i style="width:{0 if np.isnan(iou) else iou:.1%}"></i></span>'
        rows.append(
            [
                render_class_name(classes.names[index], classes.colors[index]),
                bar + with_bounds("iou", i),
                *(format_number(result.value(key, i)) for key in ("precision", "recall", "dice")),
                with_bounds("boundary_iou", i),
                format_percent(float(class_fractions[i])),
            ]
        )
    mean_dice = format_number(result.value("mean_dice"))
    foot = ["mean", with_bounds("mean_iou"), "", "", mean_dice, with_bounds("mean_boundary_iou"), ""]
    footnote = (
        f"Small: {render_term('95% interval')} over the images. A dash: nothing to measure. The mean is over known "
        "values."
    )
    return render_card(render_table(head, rows, "figures", foot) + render_note(footnote))


def render_confusions(result: EvaluationResult, classes: Classes) -> str:
    """Render which class is taken for which: the matrix where it can be read, and its greatest entries."""
    order = _class_order(result, classes)
    counts = result.confusion.counts[np.ix_(order, order)]
    if len(order) == 1:
        return render_card("<p>With one class nothing can be confused.</p>")
    matrix = render_card(_render_matrix(counts, classes)) if len(order) <= _MAX_MATRIX_CLASSES else ""
    pairs = render_card(_render_confused_pairs(counts, classes, 10 if matrix else 25), "Most confused")
    return f'<div class="flow">{matrix}{pairs}</div>'


def _render_matrix(counts: NDArray[np.int64], classes: Classes) -> str:
    """Render a table whose cells are shaded by their fraction of the row."""
    truth = counts.sum(1)
    show_numbers = len(classes) <= _MAX_NUMBERED_CLASSES
    head = "".join(
        f'<th scope="col"><span>{render_swatch(c)}{escape_text(n)}</span></th>'
        for n, c in zip(classes.names, classes.colors, strict=True)
    )
    rows = []
    for i, name in enumerate(classes.names):
        cells = []
        for j, other in enumerate(classes.names):
            fraction = counts[i, j] / truth[i] if truth[i] else 0.0
            tooltip = f"{name} labelled as {other}: {counts[i, j]:,} pixels, {fraction:.2%} of {name}"
            cell_text = f"{fraction * 100:.0f}" if show_numbers and fraction >= 0.005 else ""
            emphasis = " class=strong" if fraction > 0.5 else ""
            style = f'style="--v:{fraction:.3f}" title="{escape_text(tooltip)}"'
            cells.append(f"<td{emphasis} {style}>{cell_text}</td>")
        rows.append(f'<tr><th scope="row">{render_class_name(name, classes.colors[i])}</th>{"".join(cells)}</tr>')
    kind = "matrix" if show_numbers else "matrix dense"
    return (
        f'<div class="wide" tabindex="0"><table class="{kind}"><thead><tr>'
        f"<th>true class (rows), predicted (columns)</th>"
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        + render_note(
            "Each row sums to 100%: of the pixels that are truly of the class, the per cent that the network gives to "
            "each class. The diagonal is the recall. Counts of pixels are in the cells' tooltips."
        )
    )


def _render_confused_pairs(counts: NDArray[np.int64], classes: Classes, max_pairs: int) -> str:
    """Render the pairs of classes with the most wrong pixels."""
    errors = counts.copy()
    np.fill_diagonal(errors, 0)
    total, truth = int(errors.sum()), counts.sum(1)
    if not total:
        return "<p>No labelled pixel is wrong.</p>"
    rows = []
    for index in np.argsort(-errors, axis=None, kind="stable")[:max_pairs]:
        i, j = (int(k) for k in np.unravel_index(index, errors.shape))
        if errors[i, j]:
            names = [render_class_name(classes.names[k], classes.colors[k]) for k in (i, j)]
            parts = (format_percent(float(errors[i, j] / truth[i])), format_percent(float(errors[i, j] / total)))
            rows.append([*names, format_count(int(errors[i, j])), *parts])
    return render_table(["truly", "labelled as", "pixels", "of class", "of all errors"], rows, "pairs")


def _explain_interval(result: EvaluationResult) -> str:
    """Say in a sentence what the interval means."""
    interval = result.interval("mean_iou")
    if interval is None:
        return f"<p>There is no {render_term('95% interval')}: that takes two images at least.</p>"
    return (
        f'<p class="lead">With other images of the same kind the mean IoU might as well have come out anywhere '
        f"between {format_number(interval.low)} and {format_number(interval.high)} ({render_term('95% interval')}); a "
        "smaller difference from another network says little by itself.</p>"
    )


def _render_tile(name: str, value: float, interval: Interval | None, class_name: str = "") -> str:
    bounds_html = ""
    line = ""
    if interval is not None:
        bounds_html = f'<div class="faint">{format_bounds(interval)}</div>'
        left, wide = interval.low * 100, max((interval.high - interval.low) * 100, 0.8)
        line = f'<div class="range"><i style="left:{left:.2f}%;width:{wide:.2f}%"></i></div>'
    prefix = f"{escape_text(class_name)}: " if class_name else ""
    return (
        f'<div class="tile"><div class="what">{prefix}{render_term(name)}</div>'
        f'<div class="big">{format_number(value)}</div>'
        f"{line}{bounds_html}</div>"
    )


def _format_millions(pixels: int) -> str:
    return f'<data value="{pixels}">{pixels / 1e6:,.1f} million</data>' if pixels >= 1_000_000 else format_count(pixels)


def _class_order(result: EvaluationResult, classes: Classes) -> list[int]:
    """Return the indices in the result of the data's classes."""
    return [result.confusion.classes.index(name) for name in classes.names]
