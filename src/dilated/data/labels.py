"""The single authority on labels: which value in a file is which class, in which color, and what is ignored.

A data folder says so in `classes.toml`:

    ignore = [11]                    # values in the label files that count nowhere; so does 255, unless a class has it

    [[class]]
    name = "road"
    color = [128, 64, 128]
    values = [3]                     # may be several, which are merged; left out: the class's place in the list

Where the labels are masks of these very colors, `read = "colors"` stands at the top, and `ignore_colors = [[0, 0, 0]]`
for colors that count nowhere; `label_reader` are then left out.

Inside the program a label is the class's place in the list, and 255 is ignore. A value that the table does not name is
an error with the file and the pixel; nothing wraps, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.config import quote_toml, read_toml
from dilated.data.images import open_image
from dilated.data.raw_values import assert_raw_values, assert_single_frame
from dilated.errors import InputError
from dilated.palettes import Color

IGNORE = 255
LabelArray = NDArray[np.uint8]


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

    Raises:
        InputError: no class or more than 255, a name or value twice, a color out of range.

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

    def __post_init__(self) -> None:
        if not self.values:
            object.__setattr__(self, "values", tuple((i,) for i in range(len(self.names))))
        if not 1 <= len(self.names) <= IGNORE:
            raise InputError(f"{self.source}: found {len(self.names)} classes; expected 1 to {IGNORE}")
        if not len(self.names) == len(self.colors) == len(self.values):
            raise InputError(f"{self.source}: names, colors and values differ in number; expected one of each a class")
        duplicates = [name for i, name in enumerate(self.names) if name in self.names[:i]]
        if duplicates:
            raise InputError(f"{self.source}: found the name {duplicates[0]!r} twice; expected names that differ")
        if self.read not in ("values", "colors"):
            raise InputError(f'{self.source}: read: found {self.read!r}; expected "values" or "colors"')
        ignored = [("ignore_colors", color) for color in self.ignore_colors]
        for name, color in [*zip(self.names, self.colors, strict=True), *ignored]:
            if len(color) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in color):
                raise InputError(f"{self.source}: {name}: found the color {list(color)}; expected three of 0..255")
        seen: dict[int, str] = {}
        for i, values in enumerate([self.ignore, *self.values]):
            name = ("ignore", *self.names)[i]
            for value in values:
                if type(value) is not int or not 0 <= value <= 65535:
                    raise InputError(f"{self.source}: {name}: found the value {value!r:.40}; expected 0 to 65535")
                if value in seen and i:
                    raise InputError(f"{self.source}: value {value} means {seen[value]!r} and {name!r}; expected one")
                seen[value] = name

    def __len__(self) -> int:
        return len(self.names)

    def decode(self, values: NDArray[np.integer], where: str = "label") -> LabelArray:
        """Values as stored in a file -> ids, 255 where ignored.

        Raises:
            InputError: a value that the classes do not name; with its place.
        """
        table = np.full(65536, -1, dtype=np.int16)
        table[IGNORE] = IGNORE
        table[list(self.ignore)] = IGNORE
        for i, group in enumerate(self.values):
            table[list(group)] = i
        in_range = (values >= 0) & (values < len(table))
        ids = np.where(in_range, table[np.where(in_range, values, 0)], -1)
        if (ids < 0).any():
            y, x = (int(v[0]) for v in np.nonzero(ids < 0))
            known = ", ".join(
                f"{g[0] if len(g) == 1 else list(g)} {n}" for n, g in zip(self.names, self.values, strict=True)
            )
            raise InputError(
                f"{where}: found the value {int(values[y, x])} at x={x}, y={y} ({int((ids < 0).sum())} such pixels); "
                f"expected one of: {known}; ignored: {sorted({*self.ignore, IGNORE})}. "
                f"Mend the label, or name the value in {self.source}."
            )
        return ids.astype(np.uint8)


def read_label(path: Path | str, classes: Classes, size: tuple[int, int] | None = None) -> LabelArray:
    """Read a label image as class ids: (H, W) uint8, 255 where ignored.

    Args:
        size: (H, W) that the label must have, that of its image.

    Raises:
        InputError: an unreadable file, a color image, another size, a value outside the classes.
    """
    return ids(read_values(path), classes, size, path)


def read_values(path: Path | str) -> NDArray[np.int64]:
    """The values of a label image, (H, W), as the file has them: modes L, P (indices, never colors), 1 and 16-bit.

    Raises:
        InputError: an unreadable file, a color image, values that cannot be read as they are stored.
    """
    with open_image(Path(path)) as image:
        if image.mode not in ("L", "P", "1", "I;16", "I;16B", "I"):
            raise InputError(
                f"{path}: found a label of mode {image.mode!r} (colors); expected one channel of class values. "
                "Convert colors to values first, each color to the value in classes.toml."
            )
        assert_single_frame(image, path)
        assert_raw_values(image, path)
        return np.asarray(image).astype(np.int64)


def ids(
    values: NDArray[np.integer], classes: Classes, size: tuple[int, int] | None = None, path: Path | str = "label"
) -> LabelArray:
    """Values as a label file has them -> class ids, (H, W) uint8, checked against the size of the image.

    Raises:
        InputError: another size, a value outside the classes.
    """
    if size is not None and values.shape != size:
        raise make_size_error(path, values.shape[:2], size)
    return classes.decode(values, str(path))


def make_size_error(path: Path | str, found: tuple[int, ...], expected: tuple[int, int]) -> InputError:
    """The error about a label of (H, W) `found` whose image is of (H, W) `stem_description`."""
    return InputError(
        f"{path}: found a label of {found[1]}x{found[0]}; expected {expected[1]}x{expected[0]}, the size of its "
        "image. Export it again at full size, without smoothing."
    )


def load_classes(path: Path) -> Classes:
    """Read a `classes.toml`.

    Raises:
        InputError: the file is missing, is no TOML, or has a key that means nothing here.
    """
    table = read_toml(path, "the list of classes")
    _reject_unknown_keys(path, "", table, {"ignore", "class", "read", "ignore_colors"})
    entries = table.get("class", [])
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries
    ):
        raise InputError(f"{path}: expected [[class]] tables, each with a name")
    names, colors, values = [], [], []
    for i, entry in enumerate(entries):
        _reject_unknown_keys(path, f"class {entry['name']!r}: ", entry, {"name", "color", "values"})
        if "color" not in entry:
            raise InputError(f"{path}: class {entry['name']!r} has no color; expected color = [red, green, blue]")
        names.append(entry["name"])
        colors.append(_get_list(path, entry, "color", []))
        values.append(_get_list(path, entry, "values", [i]))
    ignored = _get_list(path, table, "ignore_colors", [])
    if not all(isinstance(color, list) for color in ignored):
        raise InputError(f"{path}: ignore_colors: found {list(ignored)}; expected a list of colors: [[0, 0, 0]]")
    return Classes(
        tuple(names),
        tuple(colors),
        tuple(values),
        _get_list(path, table, "ignore", []),
        source=str(path),
        read=table.get("read", "values"),
        ignore_colors=tuple(tuple(color) for color in ignored),
    )


def _get_list(path: Path, table: dict[str, Any], key: str, default: list[int]) -> tuple[Any, ...]:
    """A list of the table, as a tuple."""
    value = table.get(key, default)
    if not isinstance(value, list):
        raise InputError(f"{path}: {key}: found {value!r}; expected a list")
    return tuple(value)


def save_classes(classes: Classes, path: Path) -> None:
    """Write a `classes.toml` that `load_classes` reads back as equal."""
    lines = [f"ignore = {list(classes.ignore)}"]
    if classes.read != "values":
        lines.append(f"read = {quote_toml(classes.read)}")
    if classes.ignore_colors:
        lines.append(f"ignore_colors = {[list(color) for color in classes.ignore_colors]}")
    for name, color, values in zip(classes.names, classes.colors, classes.values, strict=True):
        lines += ["", "[[class]]", f"name = {quote_toml(name)}", f"color = {list(color)}", f"values = {list(values)}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def format_classes_template(values: Sequence[int]) -> str:
    """A `classes.toml` to start from, for the label values that were found."""
    lines = [
        f'[[class]]\nname = "class {v}"\ncolor = [{v * 67 % 256}, {v * 131 % 256}, {v * 199 % 256}]\nvalues = [{v}]'
        for v in values
    ]
    return "\n\n".join(lines)


def _reject_unknown_keys(path: Path, where: str, table: dict[str, object], keys: set[str]) -> None:
    for key in table:
        if key not in keys:
            raise InputError(f"{path}: {where}found the key {key!r}; expected one of {sorted(keys)}")
