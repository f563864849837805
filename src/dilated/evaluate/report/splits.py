"""What is in the data's splits, counted for the page.

    for found in count_splits(data):
        found.split, found.pictures, found.sizes, found.shares

Of a large split the labels of some pictures are counted, spread evenly; the page says of how many. `dilated check`
reads them all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from dilated.data.dataset import Data
from dilated.data.facts import Sizes
from dilated.data.labels import IGNORE
from dilated.errors import InputError
from dilated.evaluate.report.markup import card, count, named, note, share, table, term, text

MOST = 400
"""Labels of a split that are counted."""


@dataclass(frozen=True)
class SplitCount:
    """A split; `trouble` says why it could not be counted, or which of its files could not."""

    split: str
    pictures: int
    counted: int
    sizes: Sizes | None
    pixels: tuple[int, ...]
    ignored: int
    trouble: str = ""

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the counted labelled pixels, by class; NaN without any."""
        total = sum(self.pixels)
        return tuple(one / total if total else float("nan") for one in self.pixels)

    @property
    def ignored_share(self) -> float:
        """Of all counted pixels; NaN without any."""
        total = sum(self.pixels) + self.ignored
        return self.ignored / total if total else float("nan")


def count_splits(data: Data, most: int = MOST) -> list[SplitCount]:
    """Count the labels of each split, up to `most` of them.

    A split or a file that cannot be read is told in `trouble`: the network was measured without it.
    """
    return [_count(data, split, most) for split in data.splits]


def _count(data: Data, split: str, most: int) -> SplitCount:
    try:
        pairs = data.pairs(split)
    except InputError as error:
        return SplitCount(split, 0, 0, None, (0,) * len(data.classes), 0, str(error))
    sizes: Counter[tuple[int, int]] = Counter()
    totals, counted, bad = np.zeros(IGNORE + 1, dtype=np.int64), 0, []
    for pair in pairs[:: max(1, -(-len(pairs) // most))]:
        try:
            label = pair.read_label(data.classes)
        except InputError as error:
            bad.append(str(error))
            continue
        sizes[label.shape[0], label.shape[1]] += 1
        totals += np.bincount(label.ravel(), minlength=IGNORE + 1)
        counted += 1
    trouble = f"{len(bad)} labels cannot be read, first: {bad[0]}" if bad else ""
    pixels = tuple(totals[: len(data.classes)].tolist())
    return SplitCount(split, len(pairs), counted, Sizes.of(dict(sizes)), pixels, int(totals[IGNORE]), trouble)


def section(data: Data, found: list[SplitCount], measured: str) -> str:
    """The splits in a table, the classes' shares as bars, and what there is to know."""
    head = ["split", "pictures", "width x height", term("ignored", "ignored pixels")]
    rows = [
        [
            text(one.split) + (" <small>(measured here)</small>" if one.split == measured else ""),
            count(one.pictures),
            _sizes(one.sizes),
            share(one.ignored_share),
        ]
        for one in found
    ]
    notes = [text(line) for line in data.notes]
    notes += [
        f"{text(one.split)}: sizes and pixels are of {one.counted:,} of {one.pictures:,} labels, spread evenly."
        for one in found
        if one.counted < one.pictures
    ]
    notes += [f"{text(one.split)}: {text(one.trouble)}" for one in found if one.trouble]
    layout = f"{text(data.root.name or data.root)}: layout {text(data.layout)}, {len(data.classes)} classes."
    first = card(f"<p>{layout}</p>" + table(head, rows) + "".join(note(line) for line in notes))
    return f'<div class="flow">{first}{_frequencies(data, found)}</div>'


def _frequencies(data: Data, found: list[SplitCount]) -> str:
    """Each class's share of the labelled pixels, a bar a split."""
    known = [one for one in found if sum(one.pixels)]
    longest = max((max(one.shares) for one in known), default=1.0) or 1.0
    rows = []
    for i, (name, color) in enumerate(zip(data.classes.names, data.classes.colors, strict=True)):
        bars = [
            f'<span class="bar"><i style="width:{one.shares[i] / longest:.2%}"></i></span>{share(one.shares[i])}'
            for one in known
        ]
        rows.append([named(name, color), *bars])
    head = ["class", *(text(one.split) for one in known)]
    body = table(head, rows, "bars") + note("Of the labelled pixels; the bars share one scale.")
    if len(rows) > 30:
        body = f"<details><summary>All {len(rows)} classes</summary>{body}</details>"
    return card(body, "Share of pixels by class")


def _sizes(sizes: Sizes | None) -> str:
    if sizes is None:
        return "-"
    least, median, greatest = (f"{width}x{height}" for height, width in (sizes.least, sizes.median, sizes.greatest))
    if sizes.distinct == 1:
        return median
    return f"{median} <small>(median; {least} to {greatest}, {sizes.distinct:,} sizes)</small>"
