"""What is suspicious in the labels of a data set, seen in all of them together.

    findings = suspicious(reading.tallies, classes)

A color or an edge is no proof in one label, but is in many: so values are added up over the splits first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from dilated.data.check.accumulator import SampleExamples, SplitAccumulator
from dilated.data.check.finding import MAX_EXAMPLES, TRAINING_SPLITS, Finding, make_split_finding
from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import Sample
from dilated.files import plural

_MIN_SINGLE_CLASS_FRACTION = 0.95  # of labels that hold one class and no other
_MIN_LABELS = 10  # labels of which a share means something


def find_suspicious_labels(accumulators: Mapping[str, SplitAccumulator], classes: Classes) -> list[Finding]:
    """Labels in JPEG or with smoothed edges, ids that are shifted, binary masks whose foreground is ignored, grey
    versions of colors, labels of a single class, images that their EXIF orientation turns, classes missing in val.

    Example:
        >>> find_suspicious_labels({"train": SplitAccumulator(Classes(("sky",), ((0, 0, 255),)))}, Classes(("sky",), ((0, 0, 255),)))
        []
    """
    findings = [*_check_values(accumulators, classes)]
    for split, accumulator in accumulators.items():
        findings += _check_jpeg(split, accumulator)
        findings += _check_blended_edges(split, accumulator, classes)
        findings += _check_single_class(split, accumulator, classes)
        findings += _check_orientation(split, accumulator)
    return findings + _find_classes_missing_in_val(accumulators, classes)


def _check_values(accumulators: Mapping[str, SplitAccumulator], classes: Classes) -> Iterator[Finding]:
    """What the values of all labels for training tell."""
    group = [accumulator for split, accumulator in accumulators.items() if split in TRAINING_SPLITS]
    values: Counter[int] = Counter()
    for accumulator in group:
        values.update(accumulator.values)
    known_values = {value for values_of in classes.values for value in values_of}
    if not values or not known_values:
        return
    unknown = values.keys() - known_values - {*classes.ignore, IGNORE}
    if values.keys() == {0, IGNORE} and IGNORE not in known_values and len(classes) > 1:
        text = (
            f"every label holds only 0 and 255 ({values[255] / values.total():.1%} of the pixels), and 255 counts "
            f"nowhere, so only {_class_name(0, classes)} would be learnt. If 255 is a class, say so in {classes.source}: "
            f"values = [255] at {classes.names[1]!r}"
        )
        yield Finding("error", "binary mask", text, _examples_with_value(group, 255))
    next_value = max(known_values) + 1
    if unknown == {next_value} and known_values == set(range(next_value)) and not set(classes.ignore) - {IGNORE}:
        if 0 not in values:
            text = (
                f"the labels hold {min(values)} to {next_value} and never 0; expected 0 to {next_value - 1}. The classes seem to be "
                f"counted from 1: subtract 1 in the labels, or give each class in {classes.source} its values"
            )
        else:
            text = (
                f"the value {next_value} is in {plural(_count_with_value(group, next_value), 'label')}, one more than the last class "
                f"{classes.names[-1]!r}; expected 0 to {next_value - 1}. Name it in {classes.source}: as a class that is "
                f"missing there, or as ignore = [{next_value}]"
            )
        yield Finding("error", "shifted classes", text, _examples_with_value(group, next_value))
    grays = {_to_gray(color): name for color, name in zip(classes.colors, classes.names, strict=True)}
    matched = {value: grays[value] for value in sorted(values) if value in grays}
    if len(unknown) >= 2 and len(unknown & matched.keys()) >= 2 and unknown <= matched.keys():
        shown = ", ".join(f"{value} ({name!r})" for value, name in list(matched.items())[:6])
        text = (
            f"the labels hold the grey versions of the classes' colors, {shown}; expected ids. Convert the colored "
            "labels anew, each color to its id, not to grey"
        )
        yield Finding("error", "grey colors", text, _examples_with_value(group, min(unknown)))


def _check_jpeg(split: str, accumulator: SplitAccumulator) -> Iterator[Finding]:
    if accumulator.jpeg_labels.count:
        text = (
            f"{split}: {accumulator.jpeg_labels.count:,} of {accumulator.images:,} labels are JPEG, which changes values at "
            f"edges; expected a format that keeps them, such as PNG. Export them anew from their source: "
            f"{_list_files(accumulator.jpeg_labels)}"
        )
        yield make_split_finding("JPEG label", split, text, tuple(accumulator.jpeg_labels.examples))


def _check_blended_edges(split: str, accumulator: SplitAccumulator, classes: Classes) -> Iterator[Finding]:
    if not accumulator.blended_labels.count:
        return
    known = {value for values in classes.values for value in values} | {*classes.ignore, IGNORE}
    text = (
        f"{split}: {accumulator.blended_labels.count:,} of {accumulator.labels_with_values:,} labels have soft edges: single pixels of values "
        f"in between ({_list_values(accumulator.intermediate_values)}) where two areas meet, as after resizing with smoothing, anti-aliased "
        f"drawing or JPEG. Export them anew without (nearest neighbour): {_list_files(accumulator.blended_labels)}"
    )
    samples = tuple(accumulator.blended_labels.examples)
    # One class in between may be the outline of another; several cannot.
    is_certain = len(accumulator.intermediate_values) > 1 or not accumulator.intermediate_values <= known
    yield (
        make_split_finding("blended label", split, text, samples)
        if is_certain
        else Finding("warning", "blended label", text, samples)
    )


def _check_single_class(split: str, accumulator: SplitAccumulator, classes: Classes) -> Iterator[Finding]:
    if len(classes) < 2 or accumulator.labels_read < 2 or not accumulator.single_class:
        return
    dominant_class = max(accumulator.single_class, key=lambda i: accumulator.single_class[i].count)
    group = accumulator.single_class[dominant_class]
    if group.count == accumulator.labels_read:
        text = f"{split}: every label holds {classes.names[dominant_class]!r} and no other class; expected several. "
        text += "Were the right files exported, and do the values fit the classes?"
        yield Finding("error" if split == "train" else "warning", "one class only", text, tuple(group.examples))
    elif accumulator.labels_read >= _MIN_LABELS and group.count >= _MIN_SINGLE_CLASS_FRACTION * accumulator.labels_read:
        text = f"{split}: {group.count:,} of {accumulator.labels_read:,} labels hold {classes.names[dominant_class]!r} and no other class"
        yield Finding("warning", "one class only", text, tuple(group.examples))


def _check_orientation(split: str, accumulator: SplitAccumulator) -> Iterator[Finding]:
    if accumulator.ambiguous_orientation.count:
        text = (
            f"{split}: {accumulator.ambiguous_orientation.count:,} of {accumulator.images:,} images have an EXIF orientation that turns them, "
            "and their size does not tell whether the label was drawn on the turned one. They are read upright, so "
            "labels must "
            f"be upright too: {_list_files(accumulator.ambiguous_orientation, label=False)}"
        )
        yield Finding("warning", "rotated image", text, tuple(accumulator.ambiguous_orientation.examples))


def _find_classes_missing_in_val(accumulators: Mapping[str, SplitAccumulator], classes: Classes) -> list[Finding]:
    val = accumulators.get("val")
    if val is None or not val.counts[:-1].any():
        return []
    absent = [repr(name) for name, pixels in zip(classes.names, val.counts, strict=False) if not pixels]
    if not absent:
        return []
    shown = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
    return [Finding("warning", "absent class", f"val: no pixel is {shown}, so no IoU can be measured of it")]


def _to_gray(color: tuple[int, int, int]) -> int:
    """The brightness of a color as image programs have it (ITU-R 601)."""
    red, green, blue = color
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _class_name(value: int, classes: Classes) -> str:
    return next((repr(n) for n, v in zip(classes.names, classes.values, strict=True) if value in v), "nothing")


def _examples_with_value(accumulators: list[SplitAccumulator], value: int) -> tuple[Sample, ...]:
    return tuple(
        sample for t in accumulators if value in t.examples_by_value for sample in t.examples_by_value[value].examples
    )[:MAX_EXAMPLES]


def _count_with_value(accumulators: list[SplitAccumulator], value: int) -> int:
    return sum(t.examples_by_value[value].count for t in accumulators if value in t.examples_by_value)


def _list_files(group: SampleExamples, label: bool = True) -> str:
    names = [(sample.label if label else sample.image).name for sample in group.examples[:3]]
    return ", ".join(names) + (", ..." if group.count > 3 else "")


def _list_values(values: set[int]) -> str:
    shown = sorted(values)[:8]
    return ", ".join(map(str, shown)) + (", ..." if len(values) > 8 else "")
