"""Data sets of different classes as one, joined by the tables [[set]] of a classes.toml.

    [[class]]                                    # the classes of all, as in any classes.toml, without `values`
    name = "background"
    color = [0, 0, 0]
    ...

    [[set]]
    path = "nuclei"                              # a data folder or zip file, from this file's folder
    [[set]]
    path = "../dirt.zip"
    format = "coco_json"                         # where the folder alone does not tell
    classes = { dust = "dirt", hair = "ignore" } # what its classes are here; those of the same name need no entry

A set that lacks classes of others has their pixels in its background. So such a background is not read as background,
but as "background or one of the classes that this set does not label": of it training learns only what it is not, and
in metrics it counts nowhere. `background = ["background", "dirt"]` says so of chosen classes, and
`background = "background"` that a set holds nothing of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.config import build_dataclass
from dilated.data.formats._classes import BACKGROUND, ClassesFile, require_default_values
from dilated.data.formats._format import Format, Parsed
from dilated.data.formats._match import SPLITS, MatchResult
from dilated.data.groups import Groups
from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import LAST_ALTERNATIVE, Sample
from dilated.errors import InputError, suggest
from dilated.label_ids import LabelArray, label_dtype

_IGNORED = "ignore"
_MAX_CLASSES = 62
"""Of data with alternatives: the bits of a positive int64, of which a target has one for each class."""


@dataclass(frozen=True)
class JoinedSet:
    """A table [[set]].

    Raises:
        InputError: a class that is neither a name nor a list of names.
    """

    path: str
    """The data folder or zip file, from the folder of classes.toml."""
    format: str | None = None
    """Its format, where the folder alone does not tell."""
    classes: dict[str, Any] = field(default_factory=dict)
    """What its classes are in the joined data: a class, a list of classes of which one is meant, or "ignore"."""

    def __post_init__(self) -> None:
        for name, target in self.classes.items():
            names = [target] if isinstance(target, str) else target
            if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
                raise InputError(
                    f"set {self.path}: classes.{name}: found {target!r:.60}", hint="give a class, a list, or ignore"
                )


def read_joined_sets(classes_file: ClassesFile) -> list[JoinedSet]:
    """The data sets that a classes.toml joins; none where it describes its own folder.

    Raises:
        InputError: a damaged file, an unknown key, or a set twice.
    """
    tables = enumerate(classes_file.set_tables, 1)
    sets: list[JoinedSet] = [build_dataclass(JoinedSet, t, f"{classes_file.path}: set {i}") for i, t in tables]
    paths = [s.path for s in sets]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{classes_file.path}: the set {path!r} occurs twice", hint="name each set once")
    return sets


@dataclass(frozen=True)
class _JoinedReader:
    """Read a label of a set as ids of the joined classes, and as 254, 253, ... where it may be one of several.

    Args:
        reader: the set's own `label_reader`.
        classes: the set's own.
        table: the value of each of its ids, also of the ignored one.
    """

    reader: Any
    classes: Classes
    table: LabelArray

    def __call__(self, path: Path) -> NDArray[np.integer]:
        return self.table[self.classes.decode(self.reader(path), str(path))]


class JoinedSets(Format):
    """Data sets of different classes, joined by the tables [[set]] of classes.toml.

    Args:
        root: the folder of classes.toml.
        classes_file: it.
        sets: its tables.
        parts: each set as its own format reads it.

    Raises:
        InputError: no classes, classes with values, or a class of a set that has no place among them.
    """

    name = "joined"

    def __init__(
        self, root: Path, classes_file: ClassesFile, sets: Sequence[JoinedSet], parts: Sequence[Format]
    ) -> None:
        super().__init__(root, classes_file)
        joined = classes_file.classes
        if joined is None:
            raise InputError(
                f"{classes_file.path}: has tables [[set]] and no [[class]]", hint="write one for each class of all sets"
            )
        require_default_values(joined, "joined data sets")
        self.sets, self.parts = sets, parts
        path = classes_file.path
        self._mappings = [
            _map_classes(s, p.classes.names, joined.names, path) for s, p in zip(sets, parts, strict=True)
        ]
        several = {ids for mapping in self._mappings for ids in mapping.values() if len(ids) > 1}
        self.alternatives = tuple(sorted(several))
        if several and len(joined) > min(_MAX_CLASSES, IGNORE - len(several)):
            raise InputError(
                f"{path}: {len(joined)} classes are too many for pixels that may be of several",
                hint='map the background of each set that lacks classes to "ignore", or to "background"',
            )

    @cached_property
    def classes(self) -> Classes:
        """The joined classes; the values of alternatives are ignored by all but training."""
        joined = self.classes_file.classes
        assert joined is not None
        return replace(joined, ignore=tuple(LAST_ALTERNATIVE - number for number in range(len(self.alternatives))))

    def detect(self) -> bool:
        """Whether classes.toml has tables [[set]]."""
        return bool(self.classes_file.set_tables)

    def parse(self) -> Parsed:
        """The splits that any of the sets has."""
        existing = {split for part in self.parts for split in part.splits}
        splits = [s for s in SPLITS if s in existing] + sorted(existing - {*SPLITS})
        return Parsed(splits, self._match_sets, describe=self._describe)

    def group(self, samples: Sequence[Sample]) -> Groups:
        """The groups of each set by its own rules, unless another rule was asked for; the set's path is before them."""
        if self.group_by is not None or self.classes_file.group_rule is not None:
            return super().group(samples)
        labels = [""] * len(samples)
        positions: list[int | None] = [None] * len(samples)
        sources: dict[str, None] = {}
        for joined_set, part in zip(self.sets, self.parts, strict=True):
            keys = {s.key for split in part.splits for s in part.match_split(split).samples}
            places = [i for i, sample in enumerate(samples) if sample.key in keys]
            groups = part.group([samples[i] for i in places])
            sources[f"{groups.source} ({joined_set.path})"] = None
            for i, label, position in zip(places, groups.labels, groups.positions, strict=True):
                labels[i], positions[i] = f"{joined_set.path}: {label}", position
        return Groups(tuple(labels), tuple(positions), ", ".join(sources))

    def _match_sets(self, split: str) -> MatchResult:
        samples, problems = [], []
        for part, mapping in zip(self.parts, self._mappings, strict=True):
            if split not in part.splits:
                continue
            match = part.match_split(split)
            table = self._build_table(part.classes, mapping)
            rules = (self.classes_file.path, *([part.classes_file.path] if part.classes_file.path.is_file() else []))
            samples += [
                replace(
                    sample,
                    label_reader=_JoinedReader(sample.label_reader, part.classes, table),
                    alternatives=self.alternatives,
                    rules=rules,
                )
                for sample in match.samples
            ]
            problems += match.problems
        return MatchResult(samples, problems)

    def _build_table(self, classes: Classes, mapping: Mapping[str, tuple[int, ...]]) -> LabelArray:
        joined = self.classes
        table = np.full(classes.ignore_id + 1, joined.ignore_id, dtype=label_dtype(len(joined)))
        for i, name in enumerate(classes.names):
            ids = mapping[name]
            if len(ids) > 1:
                table[i] = LAST_ALTERNATIVE - self.alternatives.index(ids)
            elif ids:
                table[i] = ids[0]
        return table

    def _describe(self) -> list[str]:
        """What each set labels, a line each."""
        lines = []
        for joined_set, part, mapping in zip(self.sets, self.parts, self._mappings, strict=True):
            named = [
                f"{name} is {' or '.join(self.classes.names[i] for i in ids) or 'ignored'}"
                for name, ids in mapping.items()
            ]
            lines.append(f"{joined_set.path} ({part.name}): {'; '.join(named)}.")
            lines += [f"{joined_set.path}: {note}" for note in part.notes]
        if self.alternatives:
            lines.append(
                "Pixels that may be of several classes teach only which classes they are not, and count in no metric."
            )
        return lines


def _map_classes(
    joined_set: JoinedSet, names: Sequence[str], joined: Sequence[str], path: Path
) -> dict[str, tuple[int, ...]]:
    """The joined classes that each class of a set may be, as ids; none where it is ignored."""
    where = f"{path}: set {joined_set.path}"
    unknown = [name for name in joined_set.classes if name not in names]
    if unknown:
        raise InputError(
            f"{where}: classes: the set has no class {unknown[0]!r}",
            hint=suggest(unknown[0], names, f"its classes are {', '.join(names)}"),
        )
    mapping: dict[str, tuple[int, ...]] = {}
    for name in names:
        target = joined_set.classes.get(name, name)
        if target == _IGNORED:
            mapping[name] = ()
            continue
        targets = [target] if isinstance(target, str) else target
        missing = [t for t in targets if t not in joined]
        if missing:
            raise InputError(
                f"{where}: its class {name!r} is {missing[0]!r}, which is no [[class]] of this file",
                hint=f'write classes = {{ {name} = "..." }} with one of {", ".join(joined)}, or "{_IGNORED}"',
            )
        mapping[name] = tuple(sorted({joined.index(t) for t in targets}))
    if BACKGROUND in mapping and BACKGROUND not in joined_set.classes:
        labelled = {i for name, ids in mapping.items() if len(ids) == 1 and name != BACKGROUND for i in ids}
        mapping[BACKGROUND] = tuple(i for i in range(len(joined)) if i not in labelled)
    return mapping
