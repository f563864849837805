"""ADE20K in full: masks whose red and green say one of over 3,000 classes, of which classes.toml chooses some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._format import Format, MissingClassesError, Parsed
from dilated.data.formats._match import SPLITS, UNDIVIDED, MatchResult, find_split
from dilated.data.formats._tree import walk_folders
from dilated.data.images import is_file, open_image
from dilated.data.labels import IGNORE, Classes, format_classes
from dilated.data.raw_values import assert_raw_values
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import read_json
from dilated.palettes import distinct_colors

_SUFFIX = "_seg"
_DEPTH = 6
_DRAFT_LABELS, _DRAFT_CLASSES, _SHOWN_CLASSES = 200, 150, 8
_Row = tuple[str, tuple[int, ...], float]
"""The name, number and fraction of the pixels of a class."""
_OTHER = 0
"""The number of pixels of no object."""


class ADE20KFull(Format):
    """ADE20K in full, as the 2016 and 2021 releases have it, with over 3,000 classes.

        images/ADE/{training,validation}/.../NAME.jpg  NAME_seg.png        2021, with NAME.json
        images/{training,validation}/.../NAME.jpg  NAME_seg.png            2016, with NAME_atr.txt and NAME_parts_1.png

    Zhou et al., "Semantic understanding of scenes through the ADE20K dataset", 2019. A class's number is
    R / 10 * 256 + G of the mask's color; blue numbers the instances, and the masks of parts are not read. classes.toml
    says which classes to read, by their numbers as `values`: `dilated check --write-classes` drafts the most frequent
    ones. All other pixels are ignored, which a note says.
    """

    name = "ade20k_full"
    source = "https://groups.csail.mit.edu/vision/datasets/ADE20K/"
    expected_splits = ("train", "val")

    def detect(self) -> bool:
        return next(self._labels, None) is not None

    def parse(self) -> Parsed:
        splits = {find_split(label.relative_to(self.root).parts) for label in self._labels}
        existing = [split for split in SPLITS if split in splits] or [UNDIVIDED] * (UNDIVIDED in splits)
        return Parsed(existing, self._match_labels, self._refuse_missing_classes, self._describe)

    @property
    def _labels(self) -> Iterator[Path]:
        """The masks that lie beside their image and what only ADE20K has."""
        for folder in walk_folders(self.root, _DEPTH):
            for label in sorted(folder.path.glob(f"*{_SUFFIX}.png")) if folder.has_images else ():
                image = _image_of(label)
                if image is not None and _is_ade20k(image):
                    yield label

    def _match_labels(self, split: str) -> MatchResult:
        reader = self._reader
        images = {p: _image_of(p) for p in self._labels if find_split(p.relative_to(self.root).parts) == split}
        return MatchResult([Sample(image, label, reader) for label, image in images.items() if image])

    @cached_property
    def _reader(self) -> _NumberReader:
        try:
            classes = self.classes_file.classes
        except InputError:
            classes = None  # reported when the classes are asked for
        if classes is None:
            return _NumberReader(None, IGNORE)
        values = frozenset(value for group in classes.values for value in group)
        ignored = next((value for value in (*classes.ignore, IGNORE) if value not in values), None)
        if ignored is None:
            raise InputError(f"{classes.source}: no value is ignored", hint=f"write `ignore = [{_OTHER}]` at its top")
        return _NumberReader(values, ignored)

    def _refuse_missing_classes(self) -> Classes:
        draft, fractions = self._draft()
        lines = [f"  {group[0]}  {name}  {fraction:.2%}" for name, group, fraction in fractions[:_SHOWN_CLASSES]]
        first = Classes(draft.names[:2], draft.colors[:2], draft.values[:2], draft.ignore)
        raise MissingClassesError(
            f"{self.classes_file.path}: no such file, and ADE20K in full has over 3,000 classes (R / 10 * 256 + G of "
            "each mask's color), too many to train on. The most frequent here, with fractions of the pixels:\n"
            + "\n".join(lines)
            + f"\n`dilated check --write-classes` drafts {len(draft)}. Start with:\n\n{format_classes(first)}"
        )

    def draft_classes(self) -> Classes:
        """Draft the classes: the most frequent ones of some masks."""
        return self._draft()[0]

    def _draft(self) -> tuple[Classes, list[_Row]]:
        """The most frequent classes, and the name, number and fraction of the pixels of each."""
        labels = list(self._labels)
        labels = labels[:: max(1, len(labels) // _DRAFT_LABELS)]
        counts: Counter[int] = Counter()
        names: dict[int, str] = {}
        for label in labels:
            numbers, pixels = np.unique(_read_numbers(label), return_counts=True)
            counts.update(dict(zip(numbers.tolist(), pixels.tolist(), strict=True)))
            names |= _read_names(label)
        total = sum(counts.values())
        del counts[_OTHER]
        rows: list[_Row] = []
        for number, count in counts.most_common(_DRAFT_CLASSES):
            name = names.get(number, f"class {number}")
            rows.append(
                (name if list(names.values()).count(name) < 2 else f"{name} {number}", (number,), count / total)
            )
        if not rows:
            raise InputError(f"{self.root}: the masks hold no object", hint="get the data again")
        colors = tuple(distinct_colors(len(rows)))
        values = tuple(row[1] for row in rows)
        return Classes(tuple(row[0] for row in rows), colors, values, ignore=(_OTHER,)), rows

    def _describe(self) -> list[str]:
        return ["Pixels of classes that classes.toml does not name are ignored."]


@dataclass(frozen=True)
class _NumberReader:
    """Read a mask as the classes' numbers."""

    values: frozenset[int] | None
    """The numbers that mean something; None for all."""
    ignored: int
    """The value of all others."""

    def __call__(self, path: Path) -> NDArray[np.int64]:
        """The numbers (H, W)."""
        numbers = _read_numbers(path)
        if self.values is None:
            return numbers
        return np.where(np.isin(numbers, list(self.values)), numbers, self.ignored)


def _read_numbers(path: Path) -> NDArray[np.int64]:
    """The number of the class of each pixel, (H, W).

    Raises:
        InputError: an unreadable file, or one without ADE20K's colors.
    """
    with open_image(path) as image:
        if image.mode != "RGB":
            raise InputError(f"{path}: found a mask of mode {image.mode!r}", hint="give ADE20K's own, of colors")
        assert_raw_values(image, path)
        colors = np.asarray(image).astype(np.int64)
    wrong = colors[..., 0] % 10 != 0
    if wrong.any():
        y, x = (int(v[0]) for v in np.nonzero(wrong))
        raise InputError(
            f"{path}: found the red {int(colors[y, x, 0])} at x={x}, y={y}, which is no multiple of 10",
            hint="get the mask again, and do not resize or smooth it",
        )
    return colors[..., 0] // 10 * 256 + colors[..., 1]


def _read_names(label: Path) -> dict[int, str]:
    """The names by number that the JSON file beside a mask of 2021 gives."""
    path = label.with_name(f"{label.stem.removesuffix(_SUFFIX)}.json")
    if not path.is_file():
        return {}
    data = read_json(path)
    annotation = data.get("annotation") if isinstance(data, dict) else None
    objects = annotation.get("object") if isinstance(annotation, dict) else None
    names = {}
    for entry in objects if isinstance(objects, list) else []:
        number, name = (entry.get(key) for key in ("name_ndx", "name")) if isinstance(entry, dict) else (None, None)
        if isinstance(number, int) and isinstance(name, str) and name:
            names[number] = name.split(",")[0].strip()
    return names


def _image_of(label: Path) -> Path | None:
    """The image of a mask, if it is there."""
    name = label.stem.removesuffix(_SUFFIX)
    candidates = (label.with_name(f"{name}{suffix}") for suffix in (".jpg", ".jpeg", ".JPG", ".JPEG"))
    return next((path for path in candidates if is_file(path)), None)


def _is_ade20k(image: Path) -> bool:
    """Whether an image is called as ADE20K's are, or has a file beside it that only ADE20K's have."""
    beside = (image.with_name(f"{image.stem}{end}") for end in ("_parts_1.png", "_atr.txt"))
    return image.name.startswith("ADE_") or any(is_file(path) for path in beside)
