"""Classes of formats whose files name them: in the data's own order, or in that of classes.toml.

    >>> from dilated.data.formats._classes import classes_from_names
    >>> classes_from_names(["background", "cell"], "an example").colors
    ((0, 0, 0), (128, 0, 0))

Such formats give ids as values: the class's index in classes.toml where there is one, otherwise its index in the
data's own list. Colors that a format lacks are those of PASCAL VOC's color map.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from dilated.data.labels import Classes, load_classes
from dilated.errors import InputError
from dilated.palettes import Color, voc_color

BACKGROUND = "background"
"""Class 0 of formats in which pixels of no object are labeled nonetheless."""


class ClassesFile:
    """The classes.toml of a data folder, read once however many formats look at the folder."""

    def __init__(self, root: Path) -> None:
        self.path = root / "classes.toml"

    @cached_property
    def classes(self) -> Classes | None:
        """Its classes; None where there is no such file.

        Raises:
            InputError: the file is damaged.
        """
        return load_classes(self.path) if self.path.is_file() else None

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
        missing = [name for name in names if name not in self.classes.names]
        if missing:
            raise InputError(
                f"{self.path}: has no class {missing[0]!r} ({len(missing)} such), which {source} has; expected one "
                "[[class]] for each of its names"
            )
        return {name: self.classes.names.index(name) for name in names}


def classes_from_names(names: Sequence[str], source: str) -> Classes:
    """Classes of these names, with distinct colors.

    Raises:
        InputError: more than 255 names, or one twice.
    """
    return Classes(tuple(names), tuple(voc_color(i) for i in range(len(names))), source=source)


def require_distinct_names(names: Sequence[str], where: str) -> None:
    """Raise where a name occurs twice.

    Raises:
        InputError: the name.
    """
    duplicates = [name for i, name in enumerate(names) if name in names[:i]]
    if duplicates:
        raise InputError(f"{where}: found {duplicates[0]!r} twice; expected distinct names")


def prepend_background(names: Iterable[str]) -> list[str]:
    """The names with the background first, wherever it was."""
    return [BACKGROUND, *(name for name in names if name != BACKGROUND)]


def require_background_first(classes: Classes, root: Path) -> None:
    """Raise where classes are not those of a format of objects.

    Raises:
        InputError: the background is not first, or the only class.
    """
    if len(classes) < 2 or classes.names[0] != BACKGROUND:
        raise InputError(f"{root}: found the classes {list(classes.names)}; expected background and at least one more")


def move_background_first(classes: Classes) -> Classes:
    """Classes as formats of objects keep them: the background first, added where there is none."""
    if BACKGROUND not in classes.names:
        if len(classes) == 255:
            raise InputError(f"{classes.source}: found 255 classes; expected at most 254 beside the background")
        names, colors = (BACKGROUND, *classes.names), (find_unused_color(classes), *classes.colors)
        return reset_values(classes, names, colors)
    color_by_name = dict(zip(classes.names, classes.colors, strict=True))
    names = tuple(prepend_background(classes.names))
    return reset_values(classes, names, tuple(color_by_name[name] for name in names))


def find_unused_color(classes: Classes) -> Color:
    """A color that no class has; black where possible."""
    candidates = ((0, 0, 0), (255, 255, 255), *((i, i, i) for i in range(1, 255)))
    return next(color for color in candidates if color not in classes.colors)


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
                f"{classes.source}: {name}: found values = {list(values)}, but the labels of {source} hold no values; "
                "expected none",
                hint="leave `values` out: the order of the classes is that of their ids",
            )
