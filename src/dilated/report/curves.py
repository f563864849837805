"""The charts of the page: how training went, how reliable the probabilities are, and the labels near borders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dilated.data.labels import Classes
from dilated.evaluation.boundary import TrimapCounts
from dilated.evaluation.calibration import compute_reliability_bins, expected_calibration_error
from dilated.evaluation.result import EvaluationResult
from dilated.report.charts import Axis, Bar, Chart, Line, Sparkline
from dilated.training.log import History, Point

_FIFTHS = tuple(k / 5 for k in range(6))


@dataclass(frozen=True)
class TrainingCurves:
    """Charts over the steps of a training; None where the log has nothing to draw."""

    loss: Chart | None
    """As logged, and smoothed."""
    validation: Chart | None
    learning_rate: Chart | None
    highest_learning_rate: float
    by_class: list[Sparkline]
    """The validation IoU of each class, in the order of the data; empty where no class was validated."""


@dataclass(frozen=True)
class ReliabilityCharts:
    """Charts of the probabilities and of the borders; None where nothing is labelled."""

    reliability: Chart | None
    confidence: Chart | None
    borders: Chart | None
    calibration_error: float


def draw_training(history: History, classes: Classes) -> TrainingCurves:
    """Draw the curves of a training's log."""
    x = Axis("step", 0, history.steps, whole_numbers=True)
    stages = [(step, str(stage)) for step, stage in history.stages] if len(history.stages) > 1 else []
    highest = max((value for _, value in history.lr), default=0.0)
    learning_rate = Chart(
        f"Learning rate by step, at most {highest:.3g}",
        x,
        Axis("learning rate", 0, highest * 1.04),
        [Line(_thin_points(history.lr))],
        vertical_lines=stages,
    )
    by_class = []
    if any(validation.iou for validation in history.validations):
        by_class = [_draw_class(history, x, name) for name in classes.names]
    loss, validation = _draw_loss(history, x, stages), _draw_validation(history, x, stages)
    return TrainingCurves(loss, validation, learning_rate if highest > 0 else None, highest, by_class)


def _draw_loss(history: History, x: Axis, stages: Sequence[tuple[float, str]]) -> Chart | None:
    if not history.loss:
        return None
    values = [value for _, value in history.loss]
    return Chart(
        f"Training loss by step: from {values[0]:.3g} to {values[-1]:.3g}",
        x,
        Axis("loss", min(0.0, *values), max(values) * 1.04 if max(values) > 0 else 1.0),
        [Line(_thin_points(history.loss), "faint"), Line(_thin_points(_smooth_points(history.loss)))],
        vertical_lines=stages,
    )


def _draw_validation(history: History, x: Axis, stages: Sequence[tuple[float, str]]) -> Chart | None:
    best = history.best
    if best is None or best.mean_iou is None:
        return None
    points = [(float(row.step), row.mean_iou) for row in history.validations if row.mean_iou is not None]
    low = min(value for _, value in points)
    return Chart(
        f"Validation mean IoU by step: {len(points)} validations, best {best.mean_iou:.4f} at step {best.step}",
        x,
        Axis("mean IoU", 0.0 if low < 0.4 else 0.4 if low < 0.7 else 0.7, 1.0),
        [Line(points, markers=True), Line([(best.step, best.mean_iou)], "best", markers=True)],
        vertical_lines=stages,
    )


def _draw_class(history: History, x: Axis, name: str) -> Sparkline:
    points = [(float(row.step), value) for row in history.validations if (value := row.iou.get(name)) is not None]
    ends = f"{points[0][1]:.3f} to {points[-1][1]:.3f}" if points else "none"
    return Sparkline(f"Validation IoU of {name} by step: {ends}", x, points)


def draw_reliability(result: EvaluationResult) -> ReliabilityCharts:
    """Draw how often the network is right by how sure it is, how sure it is, and how good it is near borders."""
    counts = result.calibration
    bins = [row for row in compute_reliability_bins(counts) if row.pixels] if counts else []
    if counts is None or not bins:
        return ReliabilityCharts(None, None, None, float("nan"))
    x = Axis("confidence", 0, 1, percent=True, tick_values=_FIFTHS)
    error, total = expected_calibration_error(counts), sum(row.pixels for row in bins)
    accuracy_bars, pixel_bars = [], []
    for row in bins:
        span, pixels = f"{row.low:.0%} to {row.high:.0%}", f"{row.pixels:,} pixels"
        accuracy_bars.append(Bar(row.low, row.high, row.accuracy, f"{span} sure: {row.accuracy:.1%} right, {pixels}"))
        pixel_bars.append(Bar(row.low, row.high, row.pixels / total, f"{span}: {pixels}"))
    reliability = Chart(
        f"Share of right pixels by confidence; calibration error {error:.4f}",
        x,
        Axis("right", 0, 1, percent=True, tick_values=_FIFTHS),
        [Line([(0, 0), (1, 1)], "dashed")],
        accuracy_bars,
    )
    most = max(bar.value for bar in pixel_bars)
    confidence = Chart(
        "Share of labelled pixels by confidence",
        x,
        Axis("share of pixels", 0, most * 1.04, percent=True),
        bars=pixel_bars,
    )
    return ReliabilityCharts(reliability, confidence, _draw_borders(result.trimap) if result.trimap else None, error)


def _draw_borders(counts: TrimapCounts) -> Chart | None:
    """Draw mean IoU and accuracy near true borders; widths double, so they are spaced evenly."""
    mean_iou, accuracy = (
        [(float(i), float(value)) for i, value in enumerate(counts.curve(metric)) if value == value]
        for metric in ("mean_iou", "pixel_accuracy")
    )
    if not mean_iou:
        return None
    positions = tuple(map(float, range(len(counts.widths))))
    return Chart(
        "Mean IoU and pixel accuracy near true borders, by distance",
        Axis(
            "distance to a true border, at most, pixels",
            0,
            positions[-1],
            tick_values=positions,
            tick_labels=tuple(map(str, counts.widths)),
        ),
        Axis("share", 0, 1, tick_values=_FIFTHS),
        [Line(mean_iou, markers=True), Line(accuracy, "second", markers=True)],
    )


def _smooth_points(points: Sequence[Point]) -> list[Point]:
    """Smooth a curve: the mean over the nearest twentieth of the points, fewer at the ends.

    Example:
        >>> _smooth_points([(0, 1.0), (1, 2.0), (2, 6.0)])
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


def _thin_points(points: Sequence[Point], max_points: int = 600) -> list[Point]:
    """Reduce a curve to few enough points to draw: of each run of them, the lowest and the highest.

    Example:
        >>> _thin_points([(i, float(i % 10)) for i in range(40)], max_points=4)
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
