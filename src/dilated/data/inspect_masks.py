"""What is suspicious in the labels of a data set, seen in all of them together.

    findings = suspicious(reading.tallies, classes)

A colour or an edge is no proof in one label, but is in many: so values are added up over the splits first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from dilated.data.finding import EXAMPLES, TRAINED, Finding, number, of_split
from dilated.data.formats.pairs import Pair
from dilated.data.inspect_tally import Group, Tally
from dilated.data.labels import IGNORE, Classes

NEARLY_ALL = 0.95  # of labels that hold one class and no other
ENOUGH = 10  # labels of which a share means something


def suspicious(tallies: Mapping[str, Tally], classes: Classes) -> list[Finding]:
    """Labels in JPEG or with smoothed edges, ids that are shifted, binary masks whose foreground is ignored, grey
    versions of colours, labels of a single class, pictures that their EXIF orientation turns, classes missing in val.

    Example:
        >>> suspicious({"train": Tally(Classes(("sky",), ((0, 0, 255),)))}, Classes(("sky",), ((0, 0, 255),)))
        []
    """
    findings = [*_values(tallies, classes)]
    for split, tally in tallies.items():
        findings += _jpeg(split, tally)
        findings += _blended(split, tally, classes)
        findings += _one_class(split, tally, classes)
        findings += _turned(split, tally)
    return findings + _missing_in_val(tallies, classes)


def _values(tallies: Mapping[str, Tally], classes: Classes) -> Iterator[Finding]:
    """What the values of all labels for training tell."""
    group = [tally for split, tally in tallies.items() if split in TRAINED]
    values: Counter[int] = Counter()
    for tally in group:
        values.update(tally.values)
    named = {value for values_of in classes.values for value in values_of}
    if not values or not named:
        return
    unknown = values.keys() - named - {*classes.ignore, IGNORE}
    if values.keys() == {0, IGNORE} and IGNORE not in named and len(classes) > 1:
        text = (
            f"every label holds only 0 and 255 ({values[255] / values.total():.1%} of the pixels), and 255 counts "
            f"nowhere, so only {_name(0, classes)} would be learnt. If 255 is a class, say so in {classes.source}: "
            f"values = [255] at {classes.names[1]!r}"
        )
        yield Finding("error", "binary mask", text, _holding(group, 255))
    top = max(named) + 1
    if unknown == {top} and named == set(range(top)) and not set(classes.ignore) - {IGNORE}:
        if 0 not in values:
            text = (
                f"the labels hold {min(values)} to {top} and never 0; expected 0 to {top - 1}. The classes seem to be "
                f"counted from 1: subtract 1 in the labels, or give each class in {classes.source} its values"
            )
        else:
            text = (
                f"the value {top} is in {number(_count(group, top), 'label')}, one more than the last class "
                f"{classes.names[-1]!r}; expected 0 to {top - 1}. Name it in {classes.source}: as a class that is "
                f"missing there, or as ignore = [{top}]"
            )
        yield Finding("error", "shifted classes", text, _holding(group, top))
    greys = {_grey(color): name for color, name in zip(classes.colors, classes.names, strict=True)}
    matched = {value: greys[value] for value in sorted(values) if value in greys}
    if len(unknown) >= 2 and len(unknown & matched.keys()) >= 2 and unknown <= matched.keys():
        shown = ", ".join(f"{value} ({name!r})" for value, name in list(matched.items())[:6])
        text = (
            f"the labels hold the grey versions of the classes' colours, {shown}; expected ids. Convert the coloured "
            "labels anew, each colour to its id, not to grey"
        )
        yield Finding("error", "grey colours", text, _holding(group, min(unknown)))


def _jpeg(split: str, tally: Tally) -> Iterator[Finding]:
    if tally.jpeg.count:
        text = (
            f"{split}: {tally.jpeg.count:,} of {tally.pictures:,} labels are JPEG, which changes values at "
            f"edges; expected a format that keeps them, such as PNG. Export them anew from their source: "
            f"{_files(tally.jpeg)}"
        )
        yield of_split("JPEG label", split, text, tuple(tally.jpeg.first))


def _blended(split: str, tally: Tally, classes: Classes) -> Iterator[Finding]:
    if not tally.blended.count:
        return
    known = {value for values in classes.values for value in values} | {*classes.ignore, IGNORE}
    text = (
        f"{split}: {tally.blended.count:,} of {tally.stored:,} labels have soft edges: single pixels of values "
        f"in between ({_some(tally.between)}) where two areas meet, as after resizing with smoothing, anti-aliased "
        f"drawing or JPEG. Export them anew without (nearest neighbour): {_files(tally.blended)}"
    )
    pairs = tuple(tally.blended.first)
    # One class in between may be the outline of another; several cannot.
    sure = len(tally.between) > 1 or not tally.between <= known
    yield of_split("blended label", split, text, pairs) if sure else Finding("warning", "blended label", text, pairs)


def _one_class(split: str, tally: Tally, classes: Classes) -> Iterator[Finding]:
    if len(classes) < 2 or tally.read < 2 or not tally.single:
        return
    most = max(tally.single, key=lambda i: tally.single[i].count)
    group = tally.single[most]
    if group.count == tally.read:
        text = f"{split}: every label holds {classes.names[most]!r} and no other class; expected several. "
        text += "Were the right files exported, and do the values fit the classes?"
        yield Finding("error" if split == "train" else "warning", "one class only", text, tuple(group.first))
    elif tally.read >= ENOUGH and group.count >= NEARLY_ALL * tally.read:
        text = f"{split}: {group.count:,} of {tally.read:,} labels hold {classes.names[most]!r} and no other class"
        yield Finding("warning", "one class only", text, tuple(group.first))


def _turned(split: str, tally: Tally) -> Iterator[Finding]:
    if tally.turned.count:
        text = (
            f"{split}: {tally.turned.count:,} of {tally.pictures:,} pictures have an EXIF orientation that turns them, "
            "and their size does not tell whether the label was drawn on the turned one. They are read upright, so "
            "labels must "
            f"be upright too: {_files(tally.turned, label=False)}"
        )
        yield Finding("warning", "rotated picture", text, tuple(tally.turned.first))


def _missing_in_val(tallies: Mapping[str, Tally], classes: Classes) -> list[Finding]:
    val = tallies.get("val")
    if val is None or not val.counts[:-1].any():
        return []
    absent = [repr(name) for name, pixels in zip(classes.names, val.counts, strict=False) if not pixels]
    if not absent:
        return []
    shown = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
    return [Finding("warning", "absent class", f"val: no pixel is {shown}, so no IoU can be measured of it")]


def _grey(color: tuple[int, int, int]) -> int:
    """The brightness of a colour as picture programs have it (ITU-R 601)."""
    red, green, blue = color
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _name(value: int, classes: Classes) -> str:
    return next((repr(n) for n, v in zip(classes.names, classes.values, strict=True) if value in v), "nothing")


def _holding(tallies: list[Tally], value: int) -> tuple[Pair, ...]:
    return tuple(pair for t in tallies if value in t.holding for pair in t.holding[value].first)[:EXAMPLES]


def _count(tallies: list[Tally], value: int) -> int:
    return sum(t.holding[value].count for t in tallies if value in t.holding)


def _files(group: Group, label: bool = True) -> str:
    names = [(pair.label if label else pair.image).name for pair in group.first[:3]]
    return ", ".join(names) + (", ..." if group.count > 3 else "")


def _some(values: set[int]) -> str:
    shown = sorted(values)[:8]
    return ", ".join(map(str, shown)) + (", ..." if len(values) > 8 else "")
