"""Changes to a recipe's table, as `--set stage.0.epochs=5` asks for them."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Iterator
from typing import Any

from dilated.errors import InputError


def apply_override(table: dict[str, Any], text: str, recipe_class: type) -> None:
    """Change a recipe's table in place.

    Args:
        text: `a.b=c`; the value is TOML, or a bare word.
        recipe_class: the dataclass that the table is for.

    Raises:
        InputError: no `=`, a key that no recipe has (with the closest that there is), or a stage that is not there.

    Example:
        >>> from dilated.training.config import Recipe
        >>> table = {"stage": [{"kind": "frontend"}]}
        >>> apply_override(table, "stage.0.epochs=5", Recipe)
        >>> table
        {'stage': [{'kind': 'frontend', 'epochs': 5}]}
    """
    key, separator, value_text = text.partition("=")
    key = key.strip()
    if not separator:
        raise InputError(f"--set {text}: there is no value", hint="write KEY=VALUE, such as stage.0.epochs=2")
    _check_key(key, text, recipe_class)
    node: Any = table
    *path, last = key.split(".")
    for part in path:
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise InputError(f"--set {text}: there is no {part!r}", hint=f"give a number from 0 to {len(node) - 1}")
            node = node[int(part)]
        else:
            node = node.setdefault(part, {})
    if not isinstance(node, dict):
        raise InputError(f"--set {text}: {'.'.join(path)} is no table", hint="give a key such as stage.0.epochs")
    try:
        node[last] = tomllib.loads(f"value = {value_text}")["value"]
    except tomllib.TOMLDecodeError:
        node[last] = value_text  # a bare word is a string


def _check_key(key: str, text: str, recipe_class: type) -> None:
    """Raise where no recipe has such a key, with the closest one that there is."""
    general = ".".join("0" if part.isdigit() else part for part in key.split("."))
    known = list(_iter_keys(recipe_class))
    if any(general == name or (is_open and general.startswith(f"{name}.")) for name, is_open in known):
        return
    names = [name for name, _ in known]
    last = general.rpartition(".")[2]
    same_last = [name for name in names if name.rpartition(".")[2] == last]
    closest = same_last or difflib.get_close_matches(general, names, n=1)
    closest = closest or [name for name in names if name.rpartition(".")[2] in difflib.get_close_matches(last, names)]
    raise InputError(
        f"--set {text}: a recipe has no key {key!r}",
        hint=f"did you mean {closest[0]}?" if closest else f"give one of {', '.join(n for n in names if '.' not in n)}",
    )


def _iter_keys(cls: type, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Each key of a dataclass and those below it, with 0 for the index of a list, and whether any key may follow it."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint, name = hints[field.name], prefix + field.name
        members = typing.get_args(hint)
        below = [hint] if dataclasses.is_dataclass(hint) else [m for m in members if dataclasses.is_dataclass(m)]
        is_list = typing.get_origin(hint) is tuple and bool(below)
        yield name, typing.get_origin(hint) is dict
        for member in below:
            yield from _iter_keys(member, f"{name}.0." if is_list else f"{name}.")  # type: ignore[arg-type]
