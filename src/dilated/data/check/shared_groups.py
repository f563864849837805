"""Groups that are in two splits: the figure of one split then says nothing about groups that training has not seen.

    findings = find_shared_groups(groups, splits, frame_rate=30)

A film whose frames are in train and in val makes val too easy, though no two frames are the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from dilated.data.check.finding import MAX_EXAMPLES, TRAINING_SPLITS, Finding
from dilated.data.groups import Groups
from dilated.data.sample import Sample
from dilated.files import plural

_MAX_NAMES = 4  # groups that a finding names
_DISJOINT_SPLITS = (*TRAINING_SPLITS, "test")


@dataclass(frozen=True)
class _SharedGroup:
    label: str
    held_out: int
    """Its samples in the split that is measured."""
    others: int
    """Its samples in the other split."""
    nearest: int | None
    """The least distance of their positions."""


def find_shared_groups(
    groups: Groups, splits: Sequence[Sequence[str]], samples: Sequence[Sample] = (), frame_rate: float = 0
) -> list[Finding]:
    """Find the groups that are in two splits: one finding for each pair of splits that share any.

    Args:
        groups: of all samples.
        splits: the splits of each sample, in the order of `groups`.
        samples: the samples themselves, to be shown.
        frame_rate: positions per second, where the groups are films and their positions frames; 0 where not.

    Example:
        >>> groups = Groups(("f", "f", "g"), (1, 31, 7), "file names: stem and running number")
        >>> find_shared_groups(groups, [["train"], ["val"], ["train"]], frame_rate=30)[0].text
        "val's film f is also in train (1 frame, the nearest 1 s away): 1 of the 1 image of val is of films in train"
    """
    if not groups.has_groups:
        return []
    findings = []
    for reference, held_out in combinations(_DISJOINT_SPLITS, 2):
        inside = [i for i, names in enumerate(splits) if held_out in names and reference not in names]
        outside = [i for i, names in enumerate(splits) if reference in names]
        shared = _list_shared(groups.select(inside), groups.select(outside))
        if not shared:
            continue
        labels = {group.label for group in shared}
        text = _describe(shared, (reference, held_out), len(inside), frame_rate)
        examples = tuple(samples[i] for i in inside if groups.labels[i] in labels)[:MAX_EXAMPLES] if samples else ()
        hint = f"keep each group in one split; the groups were found by {groups.source}"
        findings.append(Finding("warning", "group in two splits", text, hint, examples))
    return findings


def _list_shared(held_out: Groups, reference: Groups) -> list[_SharedGroup]:
    """The groups that are in both, that with the most samples held out first."""
    counts, members = Counter(held_out.labels), reference.sizes
    shared = [
        _SharedGroup(label, count, members[label], _find_nearest(held_out, reference, label))
        for label, count in counts.items()
        if label in members
    ]
    return sorted(shared, key=lambda group: -group.held_out)


def _find_nearest(held_out: Groups, reference: Groups, label: str) -> int | None:
    """The least distance between positions of a group in two splits."""
    first, second = (
        sorted({p for i in groups.indices[label] if (p := groups.positions[i]) is not None})
        for groups in (held_out, reference)
    )
    if not first or not second:
        return None
    return min(
        abs(position - other)
        for position in first
        for place in [bisect_left(second, position)]
        for other in second[max(place - 1, 0) : place + 1]
    )


def _describe(shared: list[_SharedGroup], splits: tuple[str, str], images: int, frame_rate: float) -> str:
    reference, held_out = splits
    kind, item = ("film", "frame") if frame_rate else ("group", "image")
    worst = shared[0]
    distance = ""
    if worst.nearest is not None and frame_rate:
        seconds = worst.nearest / frame_rate
        distance = f", the nearest {seconds:.1g} s away" if seconds < 9.5 else f", the nearest {seconds:,.0f} s away"
    elif worst.nearest is not None:
        distance = f", the nearest {plural(worst.nearest, 'running number')} away"
    text = f"{held_out}'s {kind} {worst.label} is also in {reference} ({plural(worst.others, item)}{distance})"
    if shared[1:]:
        names = ", ".join(group.label for group in shared[1 : 1 + _MAX_NAMES])
        more = f" and {len(shared) - 1 - _MAX_NAMES} more" if shared[1 + _MAX_NAMES :] else ""
        text += f", and so {'is' if len(shared) == 2 else 'are'} {names}{more}"
    affected = sum(group.held_out for group in shared)
    verb = "is" if affected == 1 else "are"
    return f"{text}: {affected:,} of the {plural(images, 'image')} of {held_out} {verb} of {kind}s in {reference}"
