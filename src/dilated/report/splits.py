"""The content of the data's splits, counted for the page.

    for counts in count_splits(data):
        counts.split, counts.num_images, counts.sizes, counts.class_fractions

Of a large split the labels of some images are counted, spread evenly; the page says of how many. `dilated check`
reads them all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from dilated.data.check.statistics import ImageSizes
from dilated.data.dataset import Dataset
from dilated.data.labels import IGNORE
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
class SplitCounts:
    """Counts of a split; `problem` says why it could not be counted, or which of its files could not."""

    split: str
    num_images: int
    num_counted: int
    sizes: ImageSizes | None
    pixels: tuple[int, ...]
    ignored: int
    problem: str = ""

    @property
    def class_fractions(self) -> tuple[float, ...]:
        """Each class's fraction of the counted labelled pixels; NaN without any."""
        total = sum(self.pixels)
        return tuple(one / total if total else float("nan") for one in self.pixels)

    @property
    def ignored_fraction(self) -> float:
        """The ignored fraction of all counted pixels; NaN without any."""
        total = sum(self.pixels) + self.ignored
        return self.ignored / total if total else float("nan")


def count_splits(data: Dataset, max_labels: int = _MAX_LABELS) -> list[SplitCounts]:
    """Count the labels of each split, up to `max_labels` of them.

    A split or a file that cannot be read is named in `problem`: the network was measured without it.
    """
    return [_count_split(data, split, max_labels) for split in data.splits]


def _count_split(data: Dataset, split: str, max_labels: int) -> SplitCounts:
    try:
        samples = data.samples(split)
    except InputError as error:
        return SplitCounts(split, 0, 0, None, (0,) * len(data.classes), 0, str(error))
    sizes: Counter[tuple[int, int]] = Counter()
    totals, counted, errors = np.zeros(IGNORE + 1, dtype=np.int64), 0, []
    for sample in samples[:: max(1, -(-len(samples) // max_labels))]:
        try:
            label = sample.read_label()
        except InputError as error:
            errors.append(str(error))
            continue
        sizes[label.shape[0], label.shape[1]] += 1
        totals += np.bincount(label.ravel(), minlength=IGNORE + 1)
        counted += 1
    problem = f"{len(errors)} labels cannot be read, first: {errors[0]}" if errors else ""
    pixels = tuple(totals[: len(data.classes)].tolist())
    return SplitCounts(
        split, len(samples), counted, ImageSizes.from_counts(dict(sizes)), pixels, int(totals[IGNORE]), problem
    )


def render_splits(data: Dataset, statistics: list[SplitCounts], evaluated_split: str) -> str:
    """Render the splits as a table, the class fractions as bars, and the data's notes."""
    head = ["split", "images", "width x height", render_term("ignored", "ignored pixels")]
    rows = [
        [
            escape_text(one.split) + (" <small>(measured here)</small>" if one.split == evaluated_split else ""),
            format_count(one.num_images),
            _format_sizes(one.sizes),
            format_percent(one.ignored_fraction),
        ]
        for one in statistics
    ]
    notes = [escape_text(line) for line in data.notes]
    notes += [
        f"{escape_text(one.split)}: sizes and pixels are of {one.num_counted:,} of {one.num_images:,} labels, spread "
        "evenly."
        for one in statistics
        if one.num_counted < one.num_images
    ]
    notes += [f"{escape_text(one.split)}: {escape_text(one.problem)}" for one in statistics if one.problem]
    layout = (
        f"{escape_text(data.root.name or data.root)}: layout {escape_text(data.format)}, {len(data.classes)} classes."
    )
    first = render_card(f"<p>{layout}</p>" + render_table(head, rows) + "".join(render_note(line) for line in notes))
    return f'<div class="flow">{first}{_render_class_frequencies(data, statistics)}</div>'


def _render_class_frequencies(data: Dataset, statistics: list[SplitCounts]) -> str:
    """Render each class's fraction of the labelled pixels, one bar per split."""
    nonempty = [one for one in statistics if sum(one.pixels)]
    longest = max((max(one.class_fractions) for one in nonempty), default=1.0) or 1.0
    rows = []
    for i, (name, color) in enumerate(zip(data.classes.names, data.classes.colors, strict=True)):
        bars = [
            f'<span class="bar"><i style="width:{one.class_fractions[i] / longest:.2%}"></i></span>'
            + format_percent(one.class_fractions[i])
            for one in nonempty
        ]
        rows.append([render_class_name(name, color), *bars])
    head = ["class", *(escape_text(one.split) for one in nonempty)]
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
