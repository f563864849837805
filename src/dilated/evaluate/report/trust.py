"""Whether the network's probabilities can be trusted, and how it fares near borders.

section(result)                                      # of an evaluation with calibration and a trimap
"""

from __future__ import annotations

from dilated.evaluate import calibration, trimap
from dilated.evaluate.calibration import ReliabilityCounts
from dilated.evaluate.evaluation import Evaluation
from dilated.evaluate.report.charts import Axis, Bar, Line, line_chart
from dilated.evaluate.report.markup import card, number, share, term
from dilated.evaluate.trimap import TrimapCounts


def section(result: Evaluation) -> str:
    """Reliability, how sure the network is, and the trimap curve."""
    figures = [_reliability(result.calibration), _sureness(result.calibration)] if result.calibration else []
    if result.trimap:
        figures.append(_trimap(result.trimap, result.confusion.mean_iou))
    found = "".join(f"<figure>{figure}</figure>" for figure in figures if figure)
    sentence = f'<p class="lead">{_sentence(result.calibration)}</p>' if result.calibration else ""
    return card(f'{sentence}<div class="charts">{found}</div>') if found else card("<p>Nothing is labelled.</p>")


def _sentence(counts: ReliabilityCounts) -> str:
    """What the calibration comes to."""
    known = [one for one in calibration.bins(counts) if one.pixels]
    if not known:
        return "Nothing is labelled, so nothing can be said of the probabilities."
    pixels = sum(one.pixels for one in known)
    sure = sum(one.confidence * one.pixels for one in known) / pixels
    right = sum(one.accuracy * one.pixels for one in known) / pixels
    gap = sure - right
    verdict = (
        "its probabilities can be taken at their word, on average"
        if abs(gap) < 0.02
        else f"it is {'surer' if gap > 0 else 'less sure'} than it should be"
    )
    return (
        f"On average the network is {share(sure)} sure and {share(right)} right: {verdict}. "
        f"{term('ECE')} {number(calibration.error(counts), 4)}."
    )


def _reliability(counts: ReliabilityCounts) -> str:
    known = [one for one in calibration.bins(counts) if one.pixels]
    if not known:
        return ""
    bars = [
        Bar(
            one.low,
            one.high,
            one.accuracy,
            f"{one.low:.0%} to {one.high:.0%} sure: {one.accuracy:.1%} right, {one.pixels:,} pixels",
        )
        for one in known
    ]
    marks = tuple(k / 5 for k in range(6))
    label = f"Share of right pixels by confidence; calibration error {calibration.error(counts):.4f}"
    chart = line_chart(
        [Line([(0, 0), (1, 1)], "dashed")],
        Axis("confidence", 0, 1, percent=True, places=marks),
        Axis("right", 0, 1, percent=True, places=marks),
        label,
        bars=bars,
    )
    said = "On the dashed line, the network is as often right as it says. Bars below it: too sure."
    return f"<h3>Reliability: {term('confidence')} and truth</h3>{chart}<figcaption>{said}</figcaption>"


def _sureness(counts: ReliabilityCounts) -> str:
    known = [one for one in calibration.bins(counts) if one.pixels]
    if not known:
        return ""
    total = sum(one.pixels for one in known)
    bars = [
        Bar(one.low, one.high, one.pixels / total, f"{one.low:.0%} to {one.high:.0%}: {one.pixels:,} pixels")
        for one in known
    ]
    marks = tuple(k / 5 for k in range(6))
    chart = line_chart(
        [],
        Axis("confidence", 0, 1, percent=True, places=marks),
        Axis("share of pixels", 0, max(bar.value for bar in bars) * 1.04, percent=True),
        "Share of labelled pixels by confidence",
        bars=bars,
    )
    said = "Where few pixels are, the bar of the reliability chart says little."
    return f"<h3>How sure it is</h3>{chart}<figcaption>{said}</figcaption>"


def _trimap(counts: TrimapCounts, whole: float) -> str:
    """Mean IoU and accuracy near true borders; widths double, so they are spaced evenly."""
    curves = [
        [(float(i), float(value)) for i, value in enumerate(values) if value == value]
        for values in (trimap.curve(counts), trimap.accuracy(counts))
    ]
    if not curves[0]:
        return ""
    places, names = tuple(map(float, range(len(counts.widths)))), tuple(map(str, counts.widths))
    chart = line_chart(
        [Line(curves[0], dots=True), Line(curves[1], "second", dots=True)],
        Axis("distance to a true border, at most, pixels", 0, places[-1], places=places, names=names),
        Axis("share", 0, 1, places=tuple(k / 5 for k in range(6))),
        "Mean IoU and pixel accuracy near true borders, by distance",
    )
    said = (
        f'<span class="key main"></span>{term("mean IoU")}, <span class="key second"></span>'
        f"{term('pixel accuracy')}. Over all pixels the mean IoU is {number(whole)}."
    )
    return f"<h3>Near borders ({term('trimap')})</h3>{chart}<figcaption>{said}</figcaption>"
