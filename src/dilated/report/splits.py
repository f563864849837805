"""The content of the data's splits, counted for the page.

    for summary in count_splits(data):
        summary.split, summary.statistics.images, summary.statistics.class_fractions

Of a large split the labels of some images are counted, spread evenly; the page says of how many. `dilated check`
reads them all.
"""

from __future__ import annotations

from dataclasses import dataclass

from dilated.data.dataset import Dataset
from dilated.data.statistics import ImageSizes, SplitStatistics, StatisticsAccumulator
from dilated.errors import InputError
from dilated.report.markup import (
    escape_text,
    format_count,
    format_percent,
    render_card,
    render_class_name,
    render_note,
    render_table,
    render_term,
)

_MAX_LABELS = 400
"""The most labels of a split that are counted."""


@dataclass(frozen=True)
class SplitSummary:
    """What is shown of a split; `problem` says why it could not be counted, or which of its files could not."""

    split: str
    statistics: SplitStatistics
    problem: str = ""


def count_splits(data: Dataset, max_labels: int = _MAX_LABELS) -> list[SplitSummary]:
    """Count the labels of each split, up to `max_labels` of them.

    A split or a file that cannot be read is named in `problem`: the network was measured without it.
    """
    return [_count_split(data, split, max_labels) for split in data.splits]


def _count_split(data: Dataset, split: str, max_labels: int) -> SplitSummary:
    sums = StatisticsAccumulator(len(data.classes))
    try:
        samples = data.samples(split)
    except InputError as error:
        return SplitSummary(split, sums.statistics(images=0), str(error))
    errors = []
    for sample in samples[:: max(1, -(-len(samples) // max_labels))]:
        try:
            sums.add_label(sample.read_label())
        except InputError as error:
            errors.append(str(error))
    problem = f"{len(errors)} labels cannot be read, first: {errors[0]}" if errors else ""
    return SplitSummary(split, sums.statistics(len(samples)), problem)


def render_splits(data: Dataset, summaries: list[SplitSummary], evaluated_split: str) -> str:
    """Render the splits as a table, the class fractions as bars, and the data's notes."""
    head = ["split", "images", "width x height", render_term("ignored", "ignored pixels")]
    rows = [
        [
            escape_text(summary.split)
            + (" <small>(measured here)</small>" if summary.split == evaluated_split else ""),
            format_count(summary.statistics.images),
            _format_sizes(summary.statistics.sizes),
            format_percent(summary.statistics.ignored_fraction),
        ]
        for summary in summaries
    ]
    notes = [escape_text(line) for line in data.notes]
    notes += [
        f"{escape_text(summary.split)}: sizes and pixels are of {summary.statistics.labels_read:,} of {summary.statistics.images:,} labels, spread "
        "evenly."
        for summary in summaries
        if summary.statistics.labels_read < summary.statistics.images
    ]
    notes += [
        f"{escape_text(summary.split)}: {escape_text(summary.problem)}" for summary in summaries if summary.problem
    ]
    layout = (
        f"{escape_text(data.root.name or data.root)}: layout {escape_text(data.format)}, {len(data.classes)} classes."
    )
    first = render_card(f"<p>{layout}</p>" + render_table(head, rows) + "".join(render_note(line) for line in notes))
    return f'<div class="flow">{first}{_render_class_frequencies(data, summaries)}</div>'


def _render_class_frequencies(data: Dataset, summaries: list[SplitSummary]) -> str:
    """Render each class's fraction of the labelled pixels, one bar per split."""
    nonempty = [summary for summary in summaries if summary.statistics.labeled_pixels]
    fractions = [summary.statistics.class_fractions for summary in nonempty]
    longest = max(map(max, fractions), default=1.0) or 1.0
    rows = []
    for i, (name, color) in enumerate(zip(data.classes.names, data.classes.colors, strict=True)):
        bars = [
            f'<span class="bar"><i style="width:{split_fractions[i] / longest:.2%}"></i></span>'
            + format_percent(split_fractions[i])
            for split_fractions in fractions
        ]
        rows.append([render_class_name(name, color), *bars])
    head = ["class", *(escape_text(summary.split) for summary in nonempty)]
    body = render_table(head, rows, "bars") + render_note("Of the labelled pixels; the bars share one scale.")
    if len(rows) > 30:
        body = f"<details><summary>All {len(rows)} classes</summary>{body}</details>"
    return render_card(body, "Share of pixels by class")


def _format_sizes(sizes: ImageSizes | None) -> str:
    if sizes is None:
        return "-"
    least, median, greatest = sizes.as_text()
    if sizes.distinct == 1:
        return median
    return f"{median} <small>(median; {least} to {greatest}, {sizes.distinct:,} sizes)</small>"
