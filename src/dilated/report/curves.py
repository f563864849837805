"""How training went: curves of loss, validation, learning rate, and of each class."""

from __future__ import annotations

from collections.abc import Sequence

from dilated.data.labels import Classes
from dilated.report.charts import Axis, Line, Point, render_line_chart, render_sparkline
from dilated.report.markup import (
    escape_text,
    format_count,
    format_number,
    render_card,
    render_class_name,
    render_note,
    render_term,
)
from dilated.training.config import Recipe
from dilated.training.log import History

_StageMarks = list[tuple[float, str]]
_MAX_UNFOLDED_CLASSES = 30
"""Classes above which their curves are folded away."""


def render_training(history: History | None, recipe: Recipe | None, classes: Classes) -> str:
    """Render the charts; a sentence where there is nothing to draw.

    Args:
        recipe: for the stages' names.
    """
    if history is None or not history.steps:
        return render_card("<p>The run holds no log of its training, so there are no curves.</p>")
    x = Axis("step", 0, history.steps, whole_numbers=True)
    stage_marks: _StageMarks = [(step, str(stage)) for step, stage in history.stages] if len(history.stages) > 1 else []
    charts = [
        _render_loss(history, x, stage_marks),
        _render_validation(history, x, stage_marks),
        _render_learning_rate(history, x, stage_marks),
    ]
    stages = _render_stages(history, recipe)
    figures_html = "".join(f"<figure>{chart}</figure>" for chart in charts if chart)
    body = render_card(f'<div class="charts">{figures_html}</div>{stages}')
    return body + _render_class_curves(history, x, classes)


def _render_loss(history: History, x: Axis, stage_marks: _StageMarks) -> str:
    if not history.loss:
        return ""
    smooth = thin_points(smooth_points(history.loss))
    top = max(value for _, value in history.loss)
    low = min(0.0, *(value for _, value in history.loss))
    chart = render_line_chart(
        [Line(thin_points(history.loss), "faint"), Line(smooth)],
        x,
        Axis("loss", low, top * 1.04 if top > 0 else 1.0),
        f"Training loss by step: from {history.loss[0][1]:.3g} to {history.loss[-1][1]:.3g}",
        stage_marks,
    )
    caption = f"Strong: {render_term('smoothed')}, {format_number(smooth[-1][1])} at the end. Faint: as logged."
    return f"<h3>{render_term('loss', 'Loss')}</h3>{chart}<figcaption>{caption}</figcaption>"


def _render_validation(history: History, x: Axis, stage_marks: _StageMarks) -> str:
    points = [(float(one.step), one.mean_iou) for one in history.validations if one.mean_iou is not None]
    best = history.best
    if best is None or best.mean_iou is None:
        return "<h3>Validation</h3><p>The log holds no validation.</p>"
    low = min(value for _, value in points)
    y = Axis("mean IoU", 0.0 if low < 0.4 else 0.4 if low < 0.7 else 0.7, 1.0)
    chart = render_line_chart(
        [Line(points, markers=True), Line([(best.step, best.mean_iou)], "best", markers=True)],
        x,
        y,
        f"Validation mean IoU by step: {len(points)} validations, best {best.mean_iou:.4f} at step {best.step}",
        stage_marks,
    )
    steps = f"step {format_count(best.step)} of {format_count(history.steps)}"
    caption = f"Best: {format_number(best.mean_iou, 4)} at {steps}; it was kept."
    truncation_note = f" The axis begins at {y.low:g}." if y.low else ""
    return f"<h3>Validation {render_term('mean IoU')}</h3>{chart}<figcaption>{caption}{truncation_note}</figcaption>"


def _render_learning_rate(history: History, x: Axis, stage_marks: _StageMarks) -> str:
    top = max((value for _, value in history.lr), default=0.0)
    if not top > 0:
        return ""
    label = f"Learning rate by step, at most {top:.3g}"
    chart = render_line_chart(
        [Line(thin_points(history.lr))], x, Axis("learning rate", 0, top * 1.04), label, stage_marks
    )
    caption = f"<figcaption>At most {format_number(top, 6)}.</figcaption>"
    return f"<h3>{render_term('learning rate', 'Learning rate')}</h3>{chart}{caption}"


def _render_stages(history: History, recipe: Recipe | None) -> str:
    """Explain the numbers above the vertical lines."""
    stage_configs = recipe.stage if recipe is not None else []
    captions = []
    for step, stage in history.stages:
        text = ""
        if stage < len(stage_configs):
            config = stage_configs[stage]
            text = f": {escape_text(config.kind)}, output stride {config.output_stride}"
        captions.append(f"<b>{stage}</b>{text}, from step {step:,}")
    return render_note(f"{render_term('stage', 'Stages')}: {'; '.join(captions)}.") if len(captions) > 1 else ""


def _render_class_curves(history: History, x: Axis, classes: Classes) -> str:
    """Render a small curve of the validation IoU of each class."""
    if not any(one.iou for one in history.validations):
        return ""
    figures = []
    for name, color in zip(classes.names, classes.colors, strict=True):
        points = [(float(one.step), value) for one in history.validations if (value := one.iou.get(name)) is not None]
        last = points[-1][1] if points else None
        label = f"Validation IoU of {name} by step" + (f": {points[0][1]:.3f} to {last:.3f}" if points else ": none")
        caption = f"<figcaption>{render_class_name(name, color)} {format_number(last)}</figcaption>"
        figures.append(f"<figure>{render_sparkline(points, x, label)}{caption}</figure>")
    body = f'<div class="sparks">{"".join(figures)}</div>'
    if len(figures) > _MAX_UNFOLDED_CLASSES:
        body = f"<details><summary>All {len(figures)} classes</summary>{body}</details>"
    remark = render_note(
        f"From 0 (bottom) to 1 (top), step 0 (left) to {history.steps:,} (right); the number is the last."
    )
    return render_card(body + remark, f"Validation {render_term('IoU')} by class")


def smooth_points(points: Sequence[Point]) -> list[Point]:
    """Smooth a curve: the mean over the nearest twentieth of the points, fewer at the ends.

    Example:
        >>> smooth_points([(0, 1.0), (1, 2.0), (2, 6.0)])
        [(0, 1.5), (1, 3.0), (2, 4.0)]
    """
    half_window = max(1, len(points) // 40)
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    result = []
    for i, (step, _) in enumerate(points):
        first, last = max(0, i - half_window), min(len(points), i + half_window + 1)
        result.append((step, (sums[last] - sums[first]) / (last - first)))
    return result


def thin_points(points: Sequence[Point], max_points: int = 600) -> list[Point]:
    """Reduce a curve to few enough points to draw: of each run of them, the lowest and the highest.

    Example:
        >>> thin_points([(i, float(i % 10)) for i in range(40)], max_points=4)
        [(0, 0.0), (9, 9.0), (20, 0.0), (29, 9.0)]
    """
    if len(points) <= max_points:
        return list(points)
    size = -(-len(points) // (max_points // 2))
    result: list[Point] = []
    for start in range(0, len(points), size):
        chunk = points[start : start + size]
        ends = {min(chunk, key=lambda point: point[1]), max(chunk, key=lambda point: point[1])}
        result += sorted(ends)
    return result
