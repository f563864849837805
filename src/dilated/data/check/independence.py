"""How many of the images are independent, and what a clean split of them would be.

    groups = join_alike(groups, find_duplicates(records).pairs)
    print(*describe_independence(groups, splits, root), sep="\\n")

Images that look alike are no independent evidence, whatever their names say; nor are two that both look like a third:
chains of likeness, as of the frames of a film, are one group.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dilated.data.check.finding import TRAINING_SPLITS
from dilated.data.groups import Groups
from dilated.data.union import UnionFind
from dilated.data.units import SamplingUnits
from dilated.files import plural

_DISJOINT_SPLITS = (*TRAINING_SPLITS, "test")
_MEASURED_SPLITS = ("val", "test")
_REASON = "likeness: images that look like one another, in chains"


def join_alike(groups: Groups, pairs: Sequence[tuple[int, int]]) -> Groups:
    """Join the groups of images that look alike, directly or by others between them.

    Args:
        groups: of all images, as found in names and files.
        pairs: indices of images that look alike.

    Returns:
        The same groups where no pair joins two; otherwise each named after its first, with likeness among the reasons.

    Example:
        >>> groups = Groups(("a", "b", "c", "d"), (None,) * 4, "each image on its own")
        >>> join_alike(groups, [(0, 2), (2, 3)]).labels
        ('a', 'b', 'a', 'a')
    """
    numbers = {label: number for number, label in enumerate(groups.indices)}
    union = UnionFind(len(numbers))
    joined = [union.join(numbers[groups.labels[i]], numbers[groups.labels[j]]) for i, j in pairs]
    if not any(joined):
        return groups
    names = list(numbers)
    labels = tuple(names[union.find(numbers[label])] for label in groups.labels)
    merged = Counter(union.find(number) for number in range(len(names)))
    positions = tuple(
        position if merged[union.find(numbers[label])] == 1 else None
        for label, position in zip(groups.labels, groups.positions, strict=True)
    )
    source = f"{groups.source}; {_REASON}" if groups.has_groups else _REASON
    return replace(groups, labels=labels, positions=positions, source=source)


def describe_independence(groups: Groups, splits: Sequence[Sequence[str]], root: Path) -> list[str]:
    """Say what intervals of each measured split are over, and where groups are in two splits, what a clean split is.

    Args:
        groups: of all images.
        splits: the splits of each.
        root: the data folder, for the commands.

    Returns:
        Sentences; none where each image is on its own.

    Example:
        >>> groups = Groups(("f", "f", "g", "h"), (None,) * 4, "the rule 'x'")
        >>> lines = describe_independence(groups, [["train"], ["val"], ["train"], ["val"]], Path("data"))
        >>> lines[0]
        "All: 4 images in 3 groups, worth about 2.7 groups of equal size (the rule 'x')."
        >>> lines[1]
        'val: No intervals: 2 images say nothing of chance.'
        >>> lines[2].partition("; ")[0]
        'A clean split has each of the 3 groups in one split'
    """
    if not groups.has_groups:
        return []
    sizes = groups.sizes
    lines = [
        f"All: {plural(len(groups), 'image')} in {plural(len(sizes), 'group')}, worth about "
        f"{_round(groups.effective_number)} groups of equal size ({groups.source})."
    ]
    for split in _MEASURED_SPLITS:
        members = [index for index, names in enumerate(splits) if split in names]
        if members:
            lines.append(f"{split}: {SamplingUnits(groups.select(members)).summarize().describe()}")
    shared = _list_shared(groups, splits)
    if not shared:
        return lines
    if len(sizes) == 1:
        return [*lines, "All images are of one group, so no split of them is clean: get images of another."]
    affected = sum(sizes[label] for label in shared)
    verb = "is" if len(shared) == 1 else "are"
    folder = shlex.quote(str(root))
    commands = [f"dilated split {folder} --by group --out lists", f"then dilated train {folder} --lists lists"]
    if _REASON in groups.source:  # which only the check looks for
        commands.insert(0, f"dilated check {folder} --write-groups")
        commands[1] = f"then {commands[1]}"
    lines.append(
        f"A clean split has each of the {plural(len(sizes), 'group')} in one split; now {plural(len(shared), 'group')} "
        f"{verb} in two, with {plural(affected, 'image')}. Make one: {', '.join(commands)}"
    )
    return lines


def _list_shared(groups: Groups, splits: Sequence[Sequence[str]]) -> list[str]:
    """The groups that are in two splits that should have nothing in common."""
    places: dict[str, set[str]] = {}
    for label, names in zip(groups.labels, splits, strict=True):
        places.setdefault(label, set()).update(set(names) & set(_DISJOINT_SPLITS))
    return [label for label, names in places.items() if len(names) > 1]


def _round(number: float) -> str:
    """Write a number with two digits or all before the point: 2.7, 31, 1,204."""
    return f"{number:.2g}" if number < 9.95 else f"{number:,.0f}"
