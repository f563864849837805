"""How training went, drawn: loss, validation, learning rate, and each class.

section(read_history(run), recipe, data.classes)
"""

from __future__ import annotations

from typing import Any

from dilated.data.labels import Classes
from dilated.evaluate.report.charts import Axis, Line, line_chart, spark
from dilated.evaluate.report.history import History, smoothed, thinned
from dilated.evaluate.report.markup import card, count, named, note, number, term, text

Marks = list[tuple[float, str]]
MANY = 30
"""Classes above which their curves are folded away."""


def section(history: History | None, recipe: dict[str, Any], classes: Classes) -> str:
    """The charts; a sentence where there is nothing to draw.

    Args:
        recipe: the recipe's table, for the stages' names; may be empty.
    """
    if history is None or not history.steps:
        return card("<p>The run holds no log of its training, so there are no curves.</p>")
    x = Axis("step", 0, history.steps)
    at: Marks = [(step, str(stage)) for step, stage in history.stages] if len(history.stages) > 1 else []
    charts = [_loss(history, x, at), _validation(history, x, at), _rate(history, x, at)]
    stages = _stages(history, recipe)
    found = "".join(f"<figure>{chart}</figure>" for chart in charts if chart)
    body = card(f'<div class="charts">{found}</div>{stages}')
    return body + _classes(history, x, classes)


def _loss(history: History, x: Axis, at: Marks) -> str:
    if not history.loss:
        return ""
    smooth = thinned(smoothed(history.loss))
    top = max(value for _, value in history.loss)
    low = min(0.0, *(value for _, value in history.loss))
    chart = line_chart(
        [Line(thinned(history.loss), "faint"), Line(smooth)],
        x,
        Axis("loss", low, top * 1.04 if top > 0 else 1.0),
        f"Training loss by step: from {history.loss[0][1]:.3g} to {history.loss[-1][1]:.3g}",
        at,
    )
    said = f"Strong: {term('smoothed')}, {number(smooth[-1][1])} at the end. Faint: as logged."
    return f"<h3>{term('loss', 'Loss')}</h3>{chart}<figcaption>{said}</figcaption>"


def _validation(history: History, x: Axis, at: Marks) -> str:
    points = [(float(one.step), one.mean_iou) for one in history.validations if one.mean_iou is not None]
    best = history.best
    if best is None or best.mean_iou is None:
        return "<h3>Validation</h3><p>The log holds no validation.</p>"
    low = min(value for _, value in points)
    y = Axis("mean IoU", 0.0 if low < 0.4 else 0.4 if low < 0.7 else 0.7, 1.0)
    chart = line_chart(
        [Line(points, dots=True), Line([(best.step, best.mean_iou)], "best", dots=True)],
        x,
        y,
        f"Validation mean IoU by step: {len(points)} validations, best {best.mean_iou:.4f} at step {best.step}",
        at,
    )
    said = f"Best: {number(best.mean_iou, 4)} at step {count(best.step)} of {count(history.steps)}; it was kept."
    cut = f" The axis begins at {y.low:g}." if y.low else ""
    return f"<h3>Validation {term('mean IoU')}</h3>{chart}<figcaption>{said}{cut}</figcaption>"


def _rate(history: History, x: Axis, at: Marks) -> str:
    top = max((value for _, value in history.rate), default=0.0)
    if not top > 0:
        return ""
    label = f"Learning rate by step, at most {top:.3g}"
    chart = line_chart([Line(thinned(history.rate))], x, Axis("learning rate", 0, top * 1.04), label, at)
    return f"<h3>{term('learning rate', 'Learning rate')}</h3>{chart}<figcaption>At most {number(top, 6)}.</figcaption>"


def _stages(history: History, recipe: dict[str, Any]) -> str:
    """What the numbers above the upright lines mean."""
    tables = recipe.get("stage")
    said = []
    for step, stage in history.stages:
        table = tables[stage] if isinstance(tables, list) and stage < len(tables) else {}
        kind, stride = table.get("kind"), table.get("output_stride")
        what = ": " + text(kind) + (f", output stride {text(stride)}" if stride else "") if kind else ""
        said.append(f"<b>{stage}</b>{what}, from step {step:,}")
    return note(f"{term('stage', 'Stages')}: {'; '.join(said)}.") if len(said) > 1 else ""


def _classes(history: History, x: Axis, classes: Classes) -> str:
    """A small curve of the validation IoU for each class."""
    if not any(one.iou for one in history.validations):
        return ""
    figures = []
    for name, color in zip(classes.names, classes.colors, strict=True):
        points = [(float(one.step), value) for one in history.validations if (value := one.iou.get(name)) is not None]
        last = points[-1][1] if points else None
        label = f"Validation IoU of {name} by step" + (f": {points[0][1]:.3f} to {last:.3f}" if points else ": none")
        figures.append(
            f"<figure>{spark(points, x, label)}<figcaption>{named(name, color)} {number(last)}</figcaption></figure>"
        )
    body = f'<div class="sparks">{"".join(figures)}</div>'
    if len(figures) > MANY:
        body = f"<details><summary>All {len(figures)} classes</summary>{body}</details>"
    remark = note(f"From 0 (bottom) to 1 (top), step 0 (left) to {history.steps:,} (right); the number is the last.")
    return card(body + remark, f"Validation {term('IoU')} by class")
