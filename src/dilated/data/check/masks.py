"""What is suspicious in the labels of a data set, seen in all of them together.

findings = find_suspicious_labels(scan.accumulators, classes)

A color or an edge proves nothing in one label, but does in many: so values are added up over the splits first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from dilated.data.check.finding import MAX_EXAMPLES, TRAINING_SPLITS, Finding, Severity, choose_severity
from dilated.data.check.scan import SampleExamples, SplitAccumulator
from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import Sample
from dilated.files import plural

_MIN_SINGLE_CLASS_FRACTION = 0.95  # of labels that hold a single class
_MIN_LABELS = 10  # labels for which a fraction means something


def find_suspicious_labels(accumulators: Mapping[str, SplitAccumulator], classes: Classes) -> list[Finding]:
    """Labels in JPEG or with smoothed edges, ids that are shifted, binary masks whose foreground is ignored, grey
    versions of colors, labels of a single class, images that their EXIF orientation rotates.

    Example:
        >>> find_suspicious_labels({"train": SplitAccumulator(1)}, Classes(("sky",), ((0, 0, 255),)))
        []
    """
    findings = [*_check_values(accumulators, classes)]
    for split, accumulator in accumulators.items():
        findings += _check_jpeg(split, accumulator)
        findings += _check_blended_edges(split, accumulator, classes)
        findings += _check_single_class(split, accumulator, classes)
        findings += _check_orientation(split, accumulator)
    return findings


def _check_values(accumulators: Mapping[str, SplitAccumulator], classes: Classes) -> Iterator[Finding]:
    """What the values of all labels for training tell."""
    group = [accumulator for split, accumulator in accumulators.items() if split in TRAINING_SPLITS]
    values: Counter[int] = Counter()
    for accumulator in group:
        values.update(accumulator.values)
    known_values = {value for class_values in classes.values for value in class_values}
    if not values or not known_values:
        return
    unknown = values.keys() - known_values - set(classes.ignored_values)
    if values.keys() == {0, IGNORE} and IGNORE not in known_values and len(classes) > 1:
        text = (
            f"every label holds only 0 and 255 ({values[255] / values.total():.1%} of the pixels), and 255 is ignored, "
            f"so only {_class_name(0, classes)} would be learnt"
        )
        hint = f"if 255 is a class, write values = [255] at {classes.names[1]!r} in {classes.source}"
        yield Finding("error", "binary mask", text, hint, _examples_with_value(group, 255))
    next_value = max(known_values) + 1
    if unknown == {next_value} and known_values == set(range(next_value)) and not set(classes.ignore) - {IGNORE}:
        if 0 not in values:
            text = (
                f"the labels hold {min(values)} to {next_value} and never 0; expected 0 to {next_value - 1}: the "
                "classes seem to be counted from 1"
            )
            hint = f"subtract 1 in the labels, or give each class in {classes.source} its values"
        else:
            text = (
                f"the value {next_value} is in {plural(_count_with_value(group, next_value), 'label')}, one more than "
                f"the last class {classes.names[-1]!r}; expected 0 to {next_value - 1}"
            )
            hint = f"name it in {classes.source}: as a class that is missing there, or as ignore = [{next_value}]"
        yield Finding("error", "shifted classes", text, hint, _examples_with_value(group, next_value))
    grays = {_to_gray(color): name for color, name in zip(classes.colors, classes.names, strict=True)}
    matched = {value: grays[value] for value in sorted(values) if value in grays}
    if len(unknown) >= 2 and len(unknown & matched.keys()) >= 2 and unknown <= matched.keys():
        shown = ", ".join(f"{value} ({name!r})" for value, name in list(matched.items())[:6])
        text = f"the labels hold the grey versions of the classes' colors, {shown}; expected ids"
        hint = "convert the colored labels again, each color to its id instead of to grey"
        yield Finding("error", "grey colors", text, hint, _examples_with_value(group, min(unknown)))


def _check_jpeg(split: str, accumulator: SplitAccumulator) -> Iterator[Finding]:
    group = accumulator.jpeg_labels
    if group.count:
        text = (
            f"{split}: {group.count:,} of {accumulator.images:,} labels are JPEG, which changes values at edges: "
            f"{_list_files(group)}"
        )
        hint = "export them again from their source in a lossless format such as PNG"
        yield Finding(choose_severity(split), "JPEG label", text, hint, tuple(group.examples))


def _check_blended_edges(split: str, accumulator: SplitAccumulator, classes: Classes) -> Iterator[Finding]:
    group, blended_values = accumulator.blended_labels, accumulator.intermediate_values
    if not group.count:
        return
    known = {value for values in classes.values for value in values} | set(classes.ignored_values)
    shown = ", ".join(map(str, sorted(blended_values)[:8])) + (", ..." if len(blended_values) > 8 else "")
    text = (
        f"{split}: {group.count:,} of {accumulator.labels_with_values:,} labels have soft edges: single pixels of "
        f"values in between ({shown}) where two areas meet, as after resizing with smoothing, anti-aliased drawing or "
        f"JPEG: {_list_files(group)}"
    )
    # A single class in between may be the outline of another; several cannot.
    is_certain = len(blended_values) > 1 or not blended_values <= known
    severity = choose_severity(split) if is_certain else "warning"
    hint = "export them again without smoothing (nearest neighbor)"
    yield Finding(severity, "blended label", text, hint, tuple(group.examples))


def _check_single_class(split: str, accumulator: SplitAccumulator, classes: Classes) -> Iterator[Finding]:
    labels_read = accumulator.labels.labels_read
    if len(classes) < 2 or labels_read < 2 or not accumulator.single_class:
        return
    dominant_class = max(accumulator.single_class, key=lambda i: accumulator.single_class[i].count)
    name, group = classes.names[dominant_class], accumulator.single_class[dominant_class]
    hint = "check that the right files were exported, and that the values fit the classes"
    if group.count == labels_read:
        text = f"{split}: every label holds {name!r} and no other class; expected several"
        severity: Severity = "error" if split == "train" else "warning"
        yield Finding(severity, "one class only", text, hint, tuple(group.examples))
    elif labels_read >= _MIN_LABELS and group.count >= _MIN_SINGLE_CLASS_FRACTION * labels_read:
        text = f"{split}: {group.count:,} of {labels_read:,} labels hold {name!r} and no other class"
        yield Finding("warning", "one class only", text, hint, tuple(group.examples))


def _check_orientation(split: str, accumulator: SplitAccumulator) -> Iterator[Finding]:
    group = accumulator.ambiguous_orientation
    if group.count:
        text = (
            f"{split}: {group.count:,} of {accumulator.images:,} images have an EXIF orientation that rotates them, "
            f"and their size does not tell whether their labels were drawn upright: {_list_files(group, False)}"
        )
        hint = "make sure that their labels are upright, since images are read upright"
        yield Finding("warning", "rotated image", text, hint, tuple(group.examples))


def _to_gray(color: tuple[int, int, int]) -> int:
    """The brightness of a color as image programs compute it (ITU-R 601)."""
    red, green, blue = color
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _class_name(value: int, classes: Classes) -> str:
    return next((repr(n) for n, v in zip(classes.names, classes.values, strict=True) if value in v), "nothing")


def _examples_with_value(accumulators: list[SplitAccumulator], value: int) -> tuple[Sample, ...]:
    groups = (a.examples_by_value[value] for a in accumulators if value in a.examples_by_value)
    return tuple(sample for group in groups for sample in group.examples)[:MAX_EXAMPLES]


def _count_with_value(accumulators: list[SplitAccumulator], value: int) -> int:
    return sum(a.examples_by_value[value].count for a in accumulators if value in a.examples_by_value)


def _list_files(group: SampleExamples, label: bool = True) -> str:
    names = [(sample.label if label else sample.image).name for sample in group.examples[:3]]
    return ", ".join(names) + (", ..." if group.count > 3 else "")
