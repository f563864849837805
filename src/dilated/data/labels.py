"""Classes and labels: which value in a label file is which class, in which color, and what is ignored.

A data folder says so in `classes.toml`:

    ignore = [11]                    # values in the label files that are ignored; 255 is too, unless a class has it

    [[class]]
    name = "road"
    color = [128, 64, 128]
    values = [3]                     # several are merged; by default the class's place in the list

Where the labels are masks of these colors, the file begins with `read = "colors"`, and with
`ignore_colors = [[0, 0, 0]]` for colors that are ignored; `values` are then left out.
`transparent = "ignore"` or `"color"` says what pixels of a mask are that are fully transparent and yet carry a color.
`channel = 0` reads the values from the first channel of label files that have several, such as SYNTHIA's of 16 bits.

Of drawn objects `crowds = "class"` or `"ignore"` says what COCO's crowds are, and `objects_without_mask = "skip"`
leaves out objects that have none. `groups = "^(p[0-9]+)_"` is a regular expression that finds, in an image's name, what
it belongs to: a film, a patient, a site. A file with nothing but these three keeps the data's own classes.

Inside the program a label is the class's place in the list, and 255 is ignored. A value that the table does not name is
an error with the file and the pixel; nothing wraps, nothing is guessed. More than 255 classes have ids of 16 bits, and
65535 is ignored, in their label files too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dilated.config import build_dataclass, read_toml, to_toml
from dilated.data.band_header import read_png_values
from dilated.data.images import open_image
from dilated.data.mask_channels import (
    OPAQUE_MODES,
    is_deep_png,
    make_color_error,
    pick_channel,
    refuse_hidden,
    split_alpha,
)
from dilated.data.raw_values import assert_raw_values, assert_single_frame
from dilated.errors import InputError
from dilated.files import atomic_write
from dilated.label_ids import MAX_CLASSES, LabelArray, ignore_id, label_dtype
from dilated.palettes import Color, distinct_colors

IGNORE = 255
"""What is ignored of up to 255 classes, and the value of files that is by default."""


@dataclass(frozen=True)
class Classes:
    """The classes of a data set.

    Args:
        names: one per class; a class's id is its place.
        colors: (red, green, blue) of 0..255, one per class.
        values: the values in label files that mean the class; by default its id.
        ignore: the values in label files that mean "not labelled".
        read: whether label files hold the values, or the colors.
        ignore_colors: the colors that mean "not labelled" where label files hold colors.
        transparent: what fully transparent pixels of a mask are that carry a color: "ignore", "color", or "refuse".
        channel: the channel of label files with several that holds the values, from 0; by default all must be equal.

    Raises:
        InputError: no class or more than 65,535, a duplicate name or value, a color out of range.

    Example:
        >>> classes = Classes(("sky", "road"), ((70, 130, 180), (128, 64, 128)), ignore=(9,))
        >>> classes.decode(np.array([[0, 1, 9, 255]])).tolist()
        [[0, 1, 255, 255]]
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    values: tuple[tuple[int, ...], ...] = ()
    ignore: tuple[int, ...] = ()
    source: str = field(default="classes", compare=False)
    read: str = "values"
    ignore_colors: tuple[Color, ...] = ()
    transparent: str = "refuse"
    channel: int | None = None

    def __post_init__(self) -> None:
        if not self.values:
            object.__setattr__(self, "values", tuple((i,) for i in range(len(self.names))))
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise InputError(f"{self.source}: found {len(self.names)} classes; expected 1 to {MAX_CLASSES}")
        if not len(self.names) == len(self.colors) == len(self.values):
            raise InputError(
                f"{self.source}: names, colors and values differ in number; expected one of each per class"
            )
        if (duplicate := find_duplicate(self.names)) is not None:
            raise InputError(f"{self.source}: found the name {duplicate!r} twice; expected names that differ")
        if self.read not in ("values", "colors"):
            raise InputError(f'{self.source}: read: found {self.read!r}; expected "values" or "colors"')
        if self.transparent not in ("refuse", "ignore", "color"):
            raise InputError(f'{self.source}: transparent: found {self.transparent!r}; expected "ignore" or "color"')
        if self.channel not in (None, 0, 1, 2):
            raise InputError(f"{self.source}: channel: found {self.channel}; expected 0, 1 or 2")
        ignored = [("ignore_colors", color) for color in self.ignore_colors]
        for name, color in [*zip(self.names, self.colors, strict=True), *ignored]:
            if len(color) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in color):
                raise InputError(f"{self.source}: {name}: found the color {list(color)}; expected three of 0..255")
        seen: dict[int, str] = {}
        for i, (name, values) in enumerate(zip(("ignore", *self.names), (self.ignore, *self.values), strict=True)):
            for value in values:
                if type(value) is not int or not 0 <= value <= 65535:
                    raise InputError(f"{self.source}: {name}: found the value {value!r:.40}; expected 0 to 65535")
                if value in seen and i:
                    raise InputError(f"{self.source}: value {value} means {seen[value]!r} and {name!r}; expected one")
                seen[value] = name

    def __len__(self) -> int:
        return len(self.names)

    @property
    def ignore_id(self) -> int:
        """The id of ignored pixels: 255, or 65535 of more than 255 classes."""
        return ignore_id(len(self))

    @property
    def ignored_values(self) -> tuple[int, ...]:
        """The values in files that are ignored, unless a class has them."""
        return tuple(sorted({*self.ignore, IGNORE, self.ignore_id}))

    def value_table(self) -> NDArray[np.int32]:
        """(65536,): the id of each value that a file may hold, `ignore_id` where it is ignored, -1 if unknown."""
        table = np.full(65536, -1, dtype=np.int32)
        table[list(self.ignored_values)] = self.ignore_id
        for i, group in enumerate(self.values):
            table[list(group)] = i
        return table

    def find_ids(self, values: NDArray[np.integer]) -> NDArray[np.int32]:
        """Find the ids of values of a file; -1 for a value that the classes do not name."""
        table = self.value_table()
        in_range = (values >= 0) & (values < len(table))
        return np.where(in_range, table[np.where(in_range, values, 0)], np.int32(-1))

    def decode(self, values: NDArray[np.integer], where: str = "label") -> LabelArray:
        """Turn the values of a file into ids, `ignore_id` where ignored.

        Raises:
            InputError: a value that the classes do not name, with its position.
        """
        ids = self.find_ids(values)
        if (ids < 0).any():
            y, x = (int(v[0]) for v in np.nonzero(ids < 0))
            named = list(zip(self.values, self.names, strict=True))
            known = ", ".join(f"{g[0] if len(g) == 1 else list(g)} {n}" for g, n in named[:IGNORE])
            known += f", and {len(named) - IGNORE} more" if len(named) > IGNORE else ""
            raise InputError(
                f"{where}: found the value {int(values[y, x])} at x={x}, y={y} ({int((ids < 0).sum())} such pixels); "
                f"expected one of: {known}; ignored: {list(self.ignored_values)}",
                hint=f"correct the label, or name the value in {self.source}",
            )
        return ids.astype(label_dtype(len(self)))


def find_duplicate(names: Sequence[str]) -> str | None:
    """Return the first name that has occurred before; None where all differ."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def read_values(
    path: Path | str, transparent: str = "refuse", channel: int | None = None, ignored: int = IGNORE
) -> NDArray[np.int64]:
    """Read a label image's values, (H, W), as the file stores them.

    Modes L, P (indices, never colors), 1 and 16-bit; also gray with alpha, and colors of 8 or 16 bits whose three
    channels are equal everywhere, which are that value.

    Args:
        transparent: what fully transparent pixels are that carry a value: "ignore", "color" (their value), or "refuse".
        channel: the channel of colors that holds the values, from 0; None where all must be equal.
        ignored: the value of ignored pixels.

    Raises:
        InputError: an unreadable file, a color image, values that cannot be read as they are stored, or transparent
            pixels that carry a value.
    """
    return read_stored_values(path, transparent, channel, ignored).astype(np.int64)


def read_stored_values(
    path: Path | str, transparent: str = "refuse", channel: int | None = None, ignored: int = IGNORE
) -> NDArray[np.integer]:
    """Read what `read_values` reads in the type that the file has, such as uint8."""
    with open_image(Path(path)) as image:
        if image.mode not in ("L", "P", "1", "I;16", "I;16B", "I", *OPAQUE_MODES):
            raise make_color_error(path, image.mode)
        assert_single_frame(image, path)
        if image.mode in OPAQUE_MODES and is_deep_png(image):
            return pick_channel(read_png_values(Path(path)), path, image.mode, channel)
        assert_raw_values(image, path)
        if image.mode not in OPAQUE_MODES:
            stored = np.asarray(image)
            return stored.astype(np.uint8) if stored.dtype == bool else stored
        colors, hidden = split_alpha(image)
        values = pick_channel(colors, path, image.mode, channel)
        refuse_hidden(colors, hidden, path, transparent)
        return (
            np.where(hidden, np.min_scalar_type(ignored).type(ignored), values) if transparent == "ignore" else values
        )


def decode_label(
    values: NDArray[np.integer], classes: Classes, size: tuple[int, int] | None = None, path: Path | str = "label"
) -> LabelArray:
    """Turn the values of a label file into class ids, (H, W), checked against the size of the image.

    Raises:
        InputError: another size, a value outside the classes.
    """
    if size is not None and values.shape != size:
        raise make_size_error(path, values.shape[:2], size)
    return classes.decode(values, str(path))


def make_size_error(path: Path | str, size: tuple[int, ...], expected: tuple[int, int]) -> InputError:
    """Make the error about a label of the (H, W) `size` whose image is of (H, W) `expected`."""
    return InputError(
        f"{path}: found a label of {size[1]}x{size[0]}; expected {expected[1]}x{expected[0]}, the size of its image",
        hint="export it again at full size, without smoothing",
    )


@dataclass(frozen=True)
class _ClassTable:
    """A table [[class]] of a `classes.toml`."""

    name: str
    color: Color
    values: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ObjectRules:
    """How drawn objects are read that leave a choice, as a `classes.toml` says."""

    crowds: Literal["auto", "class", "ignore"] = "auto"
    """What `iscrowd = 1` means; `auto`: ignored in COCO's own files, the class in all others."""
    objects_without_mask: Literal["refuse", "skip"] = "refuse"
    """Whether an object that has no mask, such as a line, is an error or left out."""
    line_width: float | None = None
    """How many pixels wide lines are drawn, and points across; None where they have no mask."""

    def __post_init__(self) -> None:
        if self.line_width is not None and not 0 < self.line_width <= 1000:
            raise InputError(f"line_width: found {self.line_width}", hint="give pixels, more than 0 and at most 1000")


@dataclass(frozen=True)
class _Settings:
    """What a `classes.toml` holds beside its classes."""

    ignore: tuple[int, ...] = ()
    read: str = "values"
    ignore_colors: tuple[Color, ...] = ()
    transparent: str = "refuse"
    channel: int | None = None


class ClassesFileContent(NamedTuple):
    """What a `classes.toml` says."""

    classes: Classes | None = None
    """None where the file has nothing but rules."""
    object_rules: ObjectRules = ObjectRules()
    """How drawn objects are read."""
    group_rule: str | None = None
    """The regular expression that finds an image's group in its name."""
    input_table: dict[str, Any] | None = None
    """The table [input], see `dilated.data.input_description`."""
    set_tables: tuple[Any, ...] = ()
    """The tables [[set]], see `dilated.data.joined`."""


def load_classes_file(path: Path) -> ClassesFileContent:
    """Read a `classes.toml` of a data folder: its classes, and its rules for objects, groups and images.

    Raises:
        InputError: the file is missing or is not TOML, or it has an unknown key or a value of another type.
    """
    table = read_toml(path, "the list of classes")
    images, sets = table.pop("input", None), table.pop("set", ())
    if not isinstance(sets, list | tuple):
        raise InputError(f"{path}: set: found {sets!r:.40}", hint="write a table [[set]] for each data set")
    given = _pop_object_rules(table)
    rules: ObjectRules = build_dataclass(ObjectRules, given, str(path))
    groups = table.pop("groups", None)
    if groups is not None and (not isinstance(groups, str) or not groups):
        raise InputError(f"{path}: groups: found {groups!r:.40}", hint="give a regular expression in quotes")
    has_rules = bool(given) or images is not None or groups is not None
    classes = None if has_rules and not table else _build_classes(table, path)
    return ClassesFileContent(classes, rules, groups, images, tuple(sets))


def _pop_object_rules(table: dict[str, Any]) -> dict[str, Any]:
    """Take the keys of `ObjectRules` out of a table."""
    return {name: table.pop(name) for name in vars(ObjectRules()) if name in table}


def _build_classes(table: dict[str, Any], path: Path) -> Classes:
    """Build the classes of the rest of a table."""
    entries = table.pop("class", [])
    if not isinstance(entries, list):
        raise InputError(f"{path}: class: found {entries!r:.40}", hint="write a table [[class]] for each class")
    settings: _Settings = build_dataclass(_Settings, table, str(path))
    classes: list[_ClassTable] = [
        build_dataclass(_ClassTable, entry, f"{path}: class {number}") for number, entry in enumerate(entries, 1)
    ]
    return Classes(
        names=tuple(c.name for c in classes),
        colors=tuple(c.color for c in classes),
        values=tuple((i,) if c.values is None else c.values for i, c in enumerate(classes)),
        source=str(path),
        **vars(settings),
    )


def save_classes(classes: Classes, path: Path) -> None:
    """Write a `classes.toml`, atomically, that `load_classes_file` reads back as equal."""
    atomic_write(path, format_classes(classes))


def format_classes(classes: Classes) -> str:
    """Format the text of a `classes.toml`."""
    rows = zip(classes.names, classes.colors, classes.values, strict=True)
    table: dict[str, Any] = {
        "ignore": classes.ignore,
        "read": None if classes.read == "values" else classes.read,
        "ignore_colors": classes.ignore_colors or None,
        "transparent": None if classes.transparent == "refuse" else classes.transparent,
        "channel": classes.channel,
        "class": [{"name": name, "color": color, "values": values} for name, color, values in rows],
    }
    return to_toml(table)


def draft_classes(values: Collection[int]) -> Classes:
    """Draft the classes of labels that hold these values; masks of 0 and 255 have a background and an object.

    Raises:
        InputError: no value, or more than 65,535.

    Example:
        >>> draft_classes([0, 255]).names, draft_classes([0, 3, 255]).values
        (('background', 'object'), ((0,), (3,)))
    """
    if set(values) == {0, IGNORE}:
        names, class_values = ["background", "object"], [0, IGNORE]
    else:
        class_values = sorted(set(values) - {IGNORE})
        if len(class_values) > IGNORE:  # of so many classes 255 is one
            class_values = sorted(set(values) - {MAX_CLASSES})
        names = [f"class {value}" for value in class_values]
    colors = distinct_colors(max(len(names), 1))
    return Classes(tuple(names), tuple(colors[: len(names)]), tuple((value,) for value in class_values))
