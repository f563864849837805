"""Pictures that are in a data set more than once: what is wrong with that, and where.

    findings = duplicates(reading.seen, classes)

A picture of val that was trained on makes the figures of val too good. The same pixels in train and val are an error,
since a copy cannot be meant; pictures that only look the same are a warning, since frames of one film may be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dilated.data.alike import Print, identical, near
from dilated.data.counting import Seen
from dilated.data.finding import EXAMPLES, TRAINED, Finding, Kind, Severity
from dilated.data.labels import Classes

DIFFERENT = 0.01  # of the pixels; labels of the same picture that differ in less are drawn by two hands
READ = 100  # the most pairs of labels that are read again to tell how much they differ

SEPARATE = {*TRAINED, "test"}
EMPTY = Print(b"", 0, b"")


def duplicates(seen: Sequence[Seen], classes: Classes) -> list[Finding]:
    """Findings about pictures that are the same or nearly, across splits and within them.

    Example:
        >>> duplicates([], Classes(("sky",), ((0, 0, 255),)))
        []
    """
    prints = [one.print or EMPTY for one in seen]
    findings = _shared(seen)
    again: dict[str, list[tuple[Seen, Seen]]] = {}
    budget = READ
    for places in identical(prints):
        group = [seen[place] for place in places]
        first = min(group, key=_rank)
        other = next((one for one in group if _crosses(first, one)), None)
        if other:
            findings.append(_leak(first, other, len(group) - 2))
        by_split: dict[str, list[Seen]] = {}
        for one in group:
            for split in _roles(one):
                by_split.setdefault(split, []).append(one)
        for split, inside in by_split.items():
            again.setdefault(split, []).extend((inside[0], one) for one in inside[1:])
        labelled = [one for one in group if one.label]
        differing = next((one for one in labelled if one.label != labelled[0].label), None)
        if differing:
            budget -= 1
            findings.append(_contradiction(labelled[0], differing, classes if budget >= 0 else None))
    text = "have the same pixels as another picture of the split"
    for split, pairs in again.items():
        if pairs:
            findings.append(_repeated("same picture twice", split, pairs, len(pairs), text))
    return findings + _similar(seen, prints)


def _leak(first: Seen, second: Seen, more: int) -> Finding:
    """The same pixels in two splits; what is not trained on is wrong in figures only."""
    text = (
        f"{second.pair.image} ({_of(second)}): is the same picture as {first.pair.image} ({_of(first)})"
        + (f", like {more} more" if more else "")
        + ". Remove it from one of them: what was learnt by heart measures nothing"
    )
    severity: Severity = "error" if _roles(first) | _roles(second) >= set(TRAINED) else "warning"
    return Finding(severity, "same picture in two splits", text, (second.pair, first.pair))


def _shared(seen: Sequence[Seen]) -> list[Finding]:
    """Pairs that are themselves in both splits."""
    return [
        Finding(
            "error",
            "same picture in two splits",
            f"{one.pair.image}: is in train and in val; expected it in one of them",
            (one.pair,),
        )
        for one in seen
        if set(one.splits) >= set(TRAINED)
    ]


def _similar(seen: Sequence[Seen], prints: list[Print]) -> list[Finding]:
    """Pictures that look the same; of each held back the one most like it, and within a split how many."""
    found = near(prints)
    best: dict[int, tuple[float, int, int]] = {}
    within: dict[str, dict[int, tuple[Seen, Seen]]] = {}
    for first, second, bits, same in found.pairs:
        if _crosses(seen[first], seen[second]):
            known, held = sorted((first, second), key=lambda place: _rank(seen[place]))
            best[held] = max(best.get(held, (-1.0, 0, 0)), (same, known, bits))
        for split in _roles(seen[first]) & _roles(seen[second]):
            for place in (first, second):
                within.setdefault(split, {}).setdefault(place, (seen[first], seen[second]))
    findings = []
    for held, (same, known, bits) in sorted(best.items(), key=lambda item: (-item[1][0], item[0])):
        one, other = seen[held], seen[known]
        text = (
            f"{one.pair.image} ({_of(one)}): looks like {other.pair.image} ({_of(other)}); {bits} of 64 bits of "
            f"their hashes differ, and the correlation is {same:.3f}. Keep what belongs together in one split"
        )
        findings.append(Finding("warning", "similar picture in two splits", text, (one.pair, other.pair)))
    text = "look like another picture of the split, as frames of a film do"
    text += "" if found.complete else " (at least: too many are alike to compare all)"
    for split, pairs in sorted(within.items()):
        findings.append(_repeated("similar pictures", split, list(pairs.values()), len(pairs), text))
    return findings


def _repeated(kind: Kind, split: str, pairs: list[tuple[Seen, Seen]], count: int, text: str) -> Finding:
    first, second = pairs[0]
    whole = f"{split}: {count:,} of its pictures {text}, such as {first.pair.image} and {second.pair.image.name}"
    shown = {(one.pair.image, one.pair.stem): one.pair for both in pairs[:EXAMPLES] for one in both}
    return Finding("warning", kind, whole, tuple(shown.values())[:EXAMPLES])


def _contradiction(one: Seen, other: Seen, classes: Classes | None) -> Finding:
    """The same picture has two labels; how much they differ where that is still counted."""
    share = _difference(one, other, classes) if classes else None
    much = "" if share is None else f" in {share:.2%} of the pixels"
    text = (
        f"{one.pair.image} and {other.pair.image}: are the same picture, and their labels {one.pair.label} and "
        f"{other.pair.label} differ{much}; expected one label"
    )
    wrong = (share is None or share > DIFFERENT) and {*one.splits, *other.splits} & set(TRAINED)
    return Finding("error" if wrong else "warning", "same picture, other label", text, (one.pair, other.pair))


def _difference(one: Seen, other: Seen, classes: Classes) -> float | None:
    try:
        first, second = one.pair.read_label(classes), other.pair.read_label(classes)
    except Exception:  # such a label is a finding of its own
        return None
    return float(np.mean(first != second)) if first.shape == second.shape else None


def _roles(one: Seen) -> set[str]:
    """Its splits; those that others are the sum of, such as trainval, only where it is in no other."""
    return set(one.splits) & SEPARATE or set(one.splits)


def _crosses(one: Seen, other: Seen) -> bool:
    """Whether the two are in splits that should share nothing."""
    mine, theirs = _roles(one) & SEPARATE, _roles(other) & SEPARATE
    return bool(mine and theirs) and not mine & theirs


def _rank(one: Seen) -> int:
    """That of train first, then of val."""
    return next((rank for rank, split in enumerate(TRAINED) if split in one.splits), len(TRAINED))


def _of(one: Seen) -> str:
    return ", ".join(one.splits)
