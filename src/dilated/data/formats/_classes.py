"""Formats whose labels name their classes: the names come from the data, or in another order from classes.toml.

    >>> from pathlib import Path
    >>> from dilated.data.formats._classes import classes_from_names
    >>> classes_from_names(["background", "cell"], "an example").colors
    ((0, 0, 0), (128, 0, 0))

Such formats give ids as values: the class's place in classes.toml where there is one, else its place in the data's
own list. Colors that a format lacks are those of PASCAL VOC's color map.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from dilated.data.labels import Classes, load_classes
from dilated.errors import InputError
from dilated.palettes import voc_color

BACKGROUND = "background"
"""Class 0 of formats in which pixels of no object are labelled nonetheless."""


def classes_from_names(names: Sequence[str], source: str) -> Classes:
    """Classes of these names, with colors that differ.

    Raises:
        InputError: more than 255 names, or one twice.
    """
    return Classes(tuple(names), tuple(voc_color(i) for i in range(len(names))), source=source)


def prepend_background(names: Iterable[str]) -> list[str]:
    """The names with the background first, though it be among them."""
    return [BACKGROUND, *(name for name in names if name != BACKGROUND)]


def move_background_first(classes: Classes) -> Classes:
    """Classes as formats of objects keep them: the background first, added where there is none."""
    if BACKGROUND not in classes.names:
        if len(classes) == 255:
            raise InputError(f"{classes.source}: found 255 classes; expected at most 254 beside the background")
        unused_color = next(c for c in ((0, 0, 0), (1, 1, 1), *map(voc_color, range(256))) if c not in classes.colors)
        return reset_values(classes, (BACKGROUND, *classes.names), (unused_color, *classes.colors))
    color_by_name = dict(zip(classes.names, classes.colors, strict=True))
    names = prepend_background(classes.names)
    return reset_values(classes, tuple(names), tuple(color_by_name[name] for name in names))


def reset_values(
    classes: Classes,
    names: tuple[str, ...] | None = None,
    colors: tuple[tuple[int, int, int], ...] | None = None,
) -> Classes:
    """The classes with their ids as values, whatever their files have had; other names and colors where given."""
    names, colors = names or classes.names, colors or classes.colors
    return replace(
        classes, names=names, colors=colors, values=(), ignore=(), read="values", ignore_colors=(), source="classes"
    )


def map_names_to_ids(root: Path, names: Sequence[str], source: str) -> dict[str, int]:
    """The id of each class that the data names.

    Args:
        names: in the data's own order.
        source: where they are from, for messages.

    Raises:
        InputError: a classes.toml that lacks one of them, or gives values to names.
    """
    path = root / "classes.toml"
    if not path.is_file():
        return {name: i for i, name in enumerate(names)}
    classes = load_classes(path)
    require_default_values(classes, source)
    missing = [name for name in names if name not in classes.names]
    if missing:
        raise InputError(
            f"{path}: has no class {missing[0]!r} ({len(missing)} such), which {source} has; expected one [[class]] "
            "for each of its names"
        )
    return {name: classes.names.index(name) for name in names}


def require_default_values(classes: Classes, source: str) -> None:
    """Raise where classes have values of their own, which labels that hold no values cannot mean."""
    for i, (name, values) in enumerate(zip(classes.names, classes.values, strict=True)):
        if values != (i,):
            raise InputError(
                f"{classes.source}: {name}: found values = {list(values)}, but the labels of {source} hold no values; "
                "expected none. Leave `label_reader` out: the order of the classes is that of their ids."
            )
