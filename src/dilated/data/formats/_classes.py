"""Classes of formats whose files name them, and masks of colors or values, read and written.

    >>> from dilated.data.formats._classes import classes_from_names
    >>> classes_from_names(["background", "cell"], "an example").colors
    ((0, 0, 0), (128, 0, 0))

Formats that name classes give ids as values: the class's index in classes.toml where there is one, otherwise its index
in the data's own list. Colors that a format lacks are those of PASCAL VOC's color map.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.images import open_image
from dilated.data.input_description import InputRules, build_input_rules
from dilated.data.labels import (
    IGNORE,
    Classes,
    ClassesFileContent,
    ObjectRules,
    draft_classes,
    find_duplicate,
    format_classes,
    load_classes_file,
    read_values,
)
from dilated.data.mask_channels import refuse_hidden, split_alpha
from dilated.data.raw_values import assert_raw_values, assert_single_frame
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.label_ids import MAX_CLASSES, LabelArray
from dilated.palettes import VOC_CLASSES, Color, voc_color

PASCAL_CLASSES = Classes(VOC_CLASSES, tuple(voc_color(i) for i in range(21)), ignore=(IGNORE,), source="PASCAL VOC")
"""Those of VOC, SBD and the paper's COCO."""
BACKGROUND = "background"
"""Class 0 of formats in which pixels of no object are labeled nonetheless."""
BACKGROUND_LABELS = ("_background_", "__background__")
"""What labelme and the tools around it call the background."""
OBJECTS_NOTE = "Pixels of no object are the class background; where objects overlap the smaller is on top."


class ClassesFile:
    """The classes.toml of a data folder, read once however many formats look at the folder."""

    def __init__(self, root: Path) -> None:
        self.path = root / "classes.toml"

    @property
    def classes(self) -> Classes | None:
        """Its classes; None where there is no such file, or one that has nothing but rules for drawn objects.

        Raises:
            InputError: the file is damaged.
        """
        return self._content.classes

    @property
    def object_rules(self) -> ObjectRules:
        """How objects are read that leave a choice.

        Raises:
            InputError: the file is damaged.
        """
        return self._content.object_rules

    @property
    def group_rule(self) -> str | None:
        """The regular expression that finds an image's group in its name; None where the file has none.

        Raises:
            InputError: the file is damaged.
        """
        return self._content.group_rule

    @property
    def input_rules(self) -> InputRules | None:
        """What it says of the images; None where it says nothing.

        Raises:
            InputError: the file is damaged.
        """
        table = self._content.input_table
        return None if table is None else build_input_rules(table, self.path)

    @property
    def set_tables(self) -> tuple[Any, ...]:
        """The data sets that it joins; none where it describes the folder itself.

        Raises:
            InputError: the file is damaged.
        """
        return self._content.set_tables

    def joins_sets(self) -> bool:
        """Whether it joins data sets; False for a damaged file, of which who reads the classes says what is wrong."""
        with suppress(InputError):
            return bool(self.set_tables)
        return False

    @cached_property
    def _content(self) -> ClassesFileContent:
        return load_classes_file(self.path) if self.path.is_file() else ClassesFileContent()

    def map_names_to_ids(self, names: Sequence[str], source: str) -> dict[str, int]:
        """The id of each class that the data names.

        Args:
            names: in the data's own order.
            source: the file that they come from, for messages.

        Raises:
            InputError: a classes.toml that lacks one of them, or gives values to names.
        """
        if self.classes is None:
            return {name: i for i, name in enumerate(names)}
        require_default_values(self.classes, source)
        ids = {name: i for i, name in enumerate(self.classes.names)}
        missing = [name for name in names if name not in ids]
        if missing:
            raise InputError(
                f"{self.path}: has no class {missing[0]!r} ({len(missing)} such), which {source} has",
                hint="write one [[class]] for each of its names",
            )
        return {name: ids[name] for name in names}


def classes_from_names(names: Sequence[str], source: str) -> Classes:
    """Classes of these names, with distinct colors.

    Raises:
        InputError: more than 65,535 names, or one twice.
    """
    return Classes(tuple(names), tuple(voc_color(i) for i in range(len(names))), source=source)


def require_distinct_names(names: Sequence[str], where: str) -> None:
    """Raise where a name occurs twice.

    Raises:
        InputError: the name.
    """
    if (duplicate := find_duplicate(names)) is not None:
        raise InputError(f"{where}: the name {duplicate!r} occurs twice", hint="give each class a name of its own")


def class_name(label: str) -> str:
    """The class that a label means: labelme and its converters write the background with marks around it.

    Example:
        >>> class_name("_background_"), class_name("cell")
        ('background', 'cell')
    """
    return BACKGROUND if label in BACKGROUND_LABELS else label


def prepend_background(names: Iterable[str]) -> list[str]:
    """The names with the background first, wherever it was."""
    return [BACKGROUND, *(name for name in names if name != BACKGROUND)]


def require_background_first(classes: Classes, root: Path) -> None:
    """Raise where classes are not those of a format of objects.

    Raises:
        InputError: the background is not first, or the only class.
    """
    if len(classes) < 2 or classes.names[0] != BACKGROUND:
        raise InputError(
            f"{root}: the classes are {list(classes.names)}", hint="give background, then at least one more"
        )


def move_background_first(classes: Classes) -> Classes:
    """Classes as formats of objects keep them: the background first, added where there is none."""
    if BACKGROUND not in classes.names:
        if len(classes) == MAX_CLASSES:
            raise InputError(
                f"{classes.source}: {MAX_CLASSES} classes leave no room for the background", hint="merge two"
            )
        names, colors = (BACKGROUND, *classes.names), (find_unused_color(classes), *classes.colors)
        return reset_values(classes, names, colors)
    color_by_name = dict(zip(classes.names, classes.colors, strict=True))
    names = tuple(prepend_background(classes.names))
    return reset_values(classes, names, tuple(color_by_name[name] for name in names))


def find_unused_color(classes: Classes) -> Color:
    """A color that no class has; black where possible."""
    candidates = ((0, 0, 0), (255, 255, 255), *((i, i, i) for i in range(1, 255)))
    used = set(classes.colors)
    return next(color for color in (*candidates, *map(voc_color, range(MAX_CLASSES + 1))) if color not in used)


def reset_values(
    classes: Classes, names: tuple[str, ...] | None = None, colors: tuple[Color, ...] | None = None
) -> Classes:
    """The classes with their ids as values, whatever their files had; with other names and colors where given."""
    names, colors = names or classes.names, colors or classes.colors
    return replace(
        classes, names=names, colors=colors, values=(), ignore=(), read="values", ignore_colors=(), source="classes"
    )


def require_default_values(classes: Classes, source: str) -> None:
    """Raise where classes have values of their own, which labels that hold no values cannot mean.

    Raises:
        InputError: a class with other values than its id.
    """
    for i, (name, values) in enumerate(zip(classes.names, classes.values, strict=True)):
        if values != (i,):
            raise InputError(
                f"{classes.source}: {name}: found values = {list(values)}, but the labels of {source} hold no values",
                hint="leave `values` out: the order of the classes is that of their ids",
            )


def require_distinct_colors(classes: Classes) -> None:
    """Raise where two classes, or a class and an ignored color, have one color, which masks could not tell apart.

    Raises:
        InputError: the two and their color.
    """
    seen: dict[Color, str] = {}
    ignored = (("ignore_colors", color) for color in classes.ignore_colors)
    for name, color in [*zip(classes.names, classes.colors, strict=True), *ignored]:
        if color in seen:
            raise InputError(
                f"{classes.source}: {seen[color]!r} and {name!r} are both {color}", hint="give each a color of its own"
            )
        seen[color] = name


@dataclass(frozen=True)
class ColorReader:
    """Read a mask of colors as values: the `label_reader` of formats that keep labels so.

    Args:
        names: what each color means, for messages.
        colors: the colors.
        values: the value of each color; by default its index.
        transparent: what fully transparent pixels of a color are: "ignore", "color", or "refuse".
        ignored: the value of ignored pixels.
        unknown_hint: what to do about a color that is none of these.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp()) / "mask.png"
        >>> Image.fromarray(np.array([[[128, 64, 128], [128, 128, 128]]], np.uint8)).save(path)
        >>> ColorReader(("Sky", "Road"), ((128, 128, 128), (128, 64, 128)))(path).tolist()
        [[1, 0]]
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    values: tuple[int, ...] = ()
    transparent: str = "refuse"
    ignored: int = IGNORE
    unknown_hint: str = "save masks without smoothing when they are resized, and not as JPEG"

    def __call__(self, path: Path) -> NDArray[np.int64]:
        """Read a mask, (H, W).

        Raises:
            InputError: an unreadable file, an image of values, or an unknown or transparent color, with its position.
        """
        with open_image(path) as image:
            if image.mode not in ("RGB", "RGBA", "P"):
                raise InputError(
                    f"{path}: the label has the mode {image.mode!r} (values), not colors such as "
                    f"{_format_color(self.colors[0])} for {self.names[0]}",
                    hint="get the original, if it was converted already",
                )
            assert_single_frame(image, path)
            assert_raw_values(image, path)
            mask, hidden = split_alpha(image)
        if self.transparent == "ignore":
            mask = np.where(hidden[..., None], np.array(self.colors[0], dtype=np.uint8), mask)
        codes = _pack_rgb(mask)
        known = _pack_rgb(np.array(self.colors, dtype=np.uint8))
        order = np.argsort(known)
        indices = order[np.searchsorted(known[order], codes).clip(max=len(order) - 1)]
        unknown = known[indices] != codes
        values = np.array(self.values or range(len(self.colors)), dtype=np.int64)[indices]
        is_question = hidden & (unknown | (values != self.ignored))  # not where it is ignored either way
        refuse_hidden(mask, is_question, path, self.transparent)
        if unknown.any():
            y, x = (int(v[0]) for v in np.nonzero(unknown))
            distance = ((np.array(self.colors, dtype=np.int64) - mask[y, x].astype(np.int64)) ** 2).sum(1)
            i = int(distance.argmin())
            raise InputError(
                f"{path}: found the color {_format_color(mask[y, x])} at x={x}, y={y} ({int(unknown.sum())} such "
                f"pixels of unknown colors); the nearest known is {_format_color(self.colors[i])} {self.names[i]}",
                hint=self.unknown_hint,
            )
        return np.where(hidden, self.ignored, values) if self.transparent == "ignore" else values


def encode_ids(ids: LabelArray, classes: Classes, ignored: int) -> LabelArray:
    """Ids -> values as files of these classes have them, which `classes.decode` reads back as the same ids.

    Args:
        ids: (H, W) class ids.
        ignored: the value that is written for ignored pixels.

    Returns:
        (H, W) uint8, or uint16 where a value is above 255.

    Example:
        >>> classes = Classes(("road", "car"), ((128, 64, 128), (0, 0, 142)), ((7,), (26, 29)), ignore=(0,))
        >>> encode_ids(np.array([[1, 0, 255]], np.uint8), classes, 0).tolist()
        [[26, 7, 0]]
    """
    values = [group[0] for group in classes.values]
    dtype = np.uint8 if max(*values, ignored) <= 255 else np.uint16
    table: LabelArray = np.full(classes.ignore_id + 1, ignored, dtype=dtype)
    table[: len(values)] = values
    return table[ids]


def parse_color(words: Sequence[str]) -> Color | None:
    """The color of three words, if each is a number of 0 to 255."""
    if len(words) != 3 or not all(word.isdecimal() and len(word) < 9 and int(word) < 256 for word in words):
        return None
    red, green, blue = map(int, words)
    return red, green, blue


def colors_by_name(classes: Classes) -> dict[str, Color]:
    """The color of each class."""
    return dict(zip(classes.names, classes.colors, strict=True))


def make_palette_image(values: LabelArray, colors: Iterable[Sequence[int]]) -> Image.Image:
    """Values (H, W) as a palette image."""
    image = Image.fromarray(values)
    image.putpalette([channel for color in colors for channel in color])
    return image


def describe_missing_classes(path: Path, samples: list[Sample]) -> tuple[str, str, str]:
    """What to write into the missing classes.toml, from the values of a few labels: message, hint and details."""
    values: set[int] = set()
    for sample in samples[:20]:
        with suppress(InputError):  # reported when it is read
            values |= set(np.unique(read_values(sample.label)).tolist())
    if values != {0, IGNORE}:  # which is a mask of one kind of object
        values -= {IGNORE}
    text = f"{path}: no such file, and nothing else names the classes. The first labels hold {sorted(values)[:40]}"
    if not values:
        return text, "", ""
    start = format_classes(draft_classes(sorted(values)[:3])) + ("\n..." if len(values) > 3 else "")
    hint = "start the file with these lines, one [[class]] for each value, and in `ignore` those that count nowhere"
    return text, hint, start


def _pack_rgb(colors: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(..., 3) -> (...), one number per color."""
    return colors.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def _format_color(color: Color | NDArray[np.uint8]) -> str:
    return f"({', '.join(str(int(c)) for c in color)})"
