"""The recipes of the package, what their files say of them, and changes to their tables; PyTorch is not imported.

find_recipe("street")                                # .../dilated/training/recipes/street.toml
apply_override(table, "stage.0.epochs=5", Recipe)    # as --set asks for it
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from dilated.config import read_toml
from dilated.errors import InputError, suggest

RECIPE_FOLDER = resources.files("dilated.training") / "recipes"


@dataclass(frozen=True)
class RecipeSummary:
    """What the file of a recipe says, without its numbers."""

    name: str
    purpose: str
    """The comment at the head of the file, on one line."""
    weights: str
    """What the training starts from."""
    stages: tuple[str, ...]


def list_recipes() -> tuple[str, ...]:
    """Return the names of the package's recipes, sorted.

    Example:
        >>> "street" in list_recipes()
        True
    """
    return tuple(sorted(p.name.removesuffix(".toml") for p in RECIPE_FOLDER.iterdir() if p.name.endswith(".toml")))


def find_recipe(name_or_path: str) -> Path:
    """Return the file of a recipe: of the package by its name, or any other by its path, which ends in .toml.

    Raises:
        InputError: the package has no recipe of that name.
    """
    if name_or_path.endswith(".toml"):
        return Path(name_or_path)
    if name_or_path not in list_recipes():
        raise InputError(
            f"recipe: there is none called {name_or_path!r} (there are {', '.join(list_recipes())})",
            hint=suggest(name_or_path, list_recipes(), otherwise="give one of them or a .toml file"),
        )
    return Path(str(RECIPE_FOLDER / f"{name_or_path}.toml"))


def summarize_recipe(name: str) -> RecipeSummary:
    """Read what the package's recipe of that name is for.

    Example:
        >>> summarize_recipe("quick").stages
        ('frontend',)
    """
    path = find_recipe(name)
    text = path.read_text(encoding="utf-8")
    head = re.match(r"(?:#.*\n)*", text)
    purpose = " ".join(line.lstrip("# ") for line in (head.group() if head else "").splitlines())
    table = read_toml(path, "a recipe")
    stages = tuple(str(stage["kind"]) for stage in table["stage"])
    return RecipeSummary(name, purpose, str(table.get("weights", "bundled")), stages)


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
        elif isinstance(node, dict):
            node = node.setdefault(part, {})
        else:
            break
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
    """Yield each key of a dataclass, nested ones too, with 0 for an index, and whether any key may follow it."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint, name = hints[field.name], prefix + field.name
        members = typing.get_args(hint)
        below = [hint] if dataclasses.is_dataclass(hint) else [m for m in members if dataclasses.is_dataclass(m)]
        is_list = typing.get_origin(hint) is tuple and bool(below)
        yield name, typing.get_origin(hint) is dict
        for member in below:
            yield from _iter_keys(member, f"{name}.0." if is_list else f"{name}.")  # type: ignore[arg-type]
