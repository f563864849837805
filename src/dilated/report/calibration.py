"""How reliable the network's probabilities are, and how good its labels are near borders."""

from __future__ import annotations

from dilated.evaluation import calibration
from dilated.evaluation.boundary import TrimapCounts
from dilated.evaluation.calibration import ReliabilityCounts
from dilated.evaluation.result import EvaluationResult
from dilated.report.charts import Axis, Bar, Line, render_line_chart
from dilated.report.markup import format_number, format_percent, render_card, render_term


def render_calibration(result: EvaluationResult) -> str:
    """Reliability, how sure the network is, and the trimap curve."""
    figures = (
        [_render_reliability(result.calibration), _render_confidence_histogram(result.calibration)]
        if result.calibration
        else []
    )
    if result.trimap:
        figures.append(_render_trimap(result.trimap, result.confusion.mean_iou))
    figures_html = "".join(f"<figure>{figure}</figure>" for figure in figures if figure)
    sentence = f'<p class="lead">{_describe_calibration(result.calibration)}</p>' if result.calibration else ""
    return (
        render_card(f'{sentence}<div class="charts">{figures_html}</div>')
        if figures_html
        else render_card("<p>Nothing is labelled.</p>")
    )


def _describe_calibration(counts: ReliabilityCounts) -> str:
    """What the calibration comes to."""
    nonempty_bins = [one for one in calibration.compute_reliability_bins(counts) if one.pixels]
    if not nonempty_bins:
        return "Nothing is labelled, so nothing can be said of the probabilities."
    pixels = sum(one.pixels for one in nonempty_bins)
    mean_confidence = sum(one.confidence * one.pixels for one in nonempty_bins) / pixels
    mean_accuracy = sum(one.accuracy * one.pixels for one in nonempty_bins) / pixels
    gap = mean_confidence - mean_accuracy
    verdict = (
        "its probabilities can be taken at their word, on average"
        if abs(gap) < 0.02
        else f"it is {'surer' if gap > 0 else 'less sure'} than it should be"
    )
    return (
        f"On average the network is {format_percent(mean_confidence)} sure and {format_percent(mean_accuracy)} right: "
        f"{verdict}. "
        f"{render_term('ECE')} {format_number(calibration.expected_calibration_error(counts), 4)}."
    )


def _render_reliability(counts: ReliabilityCounts) -> str:
    nonempty_bins = [one for one in calibration.compute_reliability_bins(counts) if one.pixels]
    if not nonempty_bins:
        return ""
    bars = [
        Bar(
            one.low,
            one.high,
            one.accuracy,
            f"{one.low:.0%} to {one.high:.0%} sure: {one.accuracy:.1%} right, {one.pixels:,} pixels",
        )
        for one in nonempty_bins
    ]
    tick_values = tuple(k / 5 for k in range(6))
    label = (
        f"Share of right pixels by confidence; calibration error {calibration.expected_calibration_error(counts):.4f}"
    )
    chart = render_line_chart(
        [Line([(0, 0), (1, 1)], "dashed")],
        Axis("confidence", 0, 1, percent=True, tick_values=tick_values),
        Axis("right", 0, 1, percent=True, tick_values=tick_values),
        label,
        bars=bars,
    )
    caption = "On the dashed line, the network is as often right as it says. Bars below it: too sure."
    return f"<h3>Reliability: {render_term('confidence')} and truth</h3>{chart}<figcaption>{caption}</figcaption>"


def _render_confidence_histogram(counts: ReliabilityCounts) -> str:
    nonempty_bins = [one for one in calibration.compute_reliability_bins(counts) if one.pixels]
    if not nonempty_bins:
        return ""
    total = sum(one.pixels for one in nonempty_bins)
    bars = [
        Bar(one.low, one.high, one.pixels / total, f"{one.low:.0%} to {one.high:.0%}: {one.pixels:,} pixels")
        for one in nonempty_bins
    ]
    tick_values = tuple(k / 5 for k in range(6))
    chart = render_line_chart(
        [],
        Axis("confidence", 0, 1, percent=True, tick_values=tick_values),
        Axis("share of pixels", 0, max(bar.value for bar in bars) * 1.04, percent=True),
        "Share of labelled pixels by confidence",
        bars=bars,
    )
    caption = "Where few pixels are, the bar of the reliability chart says little."
    return f"<h3>How sure it is</h3>{chart}<figcaption>{caption}</figcaption>"


def _render_trimap(counts: TrimapCounts, overall_mean_iou: float) -> str:
    """Mean IoU and accuracy near true borders; widths double, so they are spaced evenly."""
    curves = [
        [(float(i), float(value)) for i, value in enumerate(values) if value == value]
        for values in (counts.curve("mean_iou"), counts.curve("pixel_accuracy"))
    ]
    if not curves[0]:
        return ""
    tick_values, tick_labels = tuple(map(float, range(len(counts.widths)))), tuple(map(str, counts.widths))
    chart = render_line_chart(
        [Line(curves[0], markers=True), Line(curves[1], "second", markers=True)],
        Axis(
            "distance to a true border, at most, pixels",
            0,
            tick_values[-1],
            tick_values=tick_values,
            tick_labels=tick_labels,
        ),
        Axis("share", 0, 1, tick_values=tuple(k / 5 for k in range(6))),
        "Mean IoU and pixel accuracy near true borders, by distance",
    )
    caption = (
        f'<span class="key main"></span>{render_term("mean IoU")}, <span class="key second"></span>'
        f"{render_term('pixel accuracy')}. Over all pixels the mean IoU is {format_number(overall_mean_iou)}."
    )
    return f"<h3>Near borders ({render_term('trimap')})</h3>{chart}<figcaption>{caption}</figcaption>"
