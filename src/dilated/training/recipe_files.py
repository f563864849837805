"""The recipes of the package, by name, and what their files say of them; PyTorch is not imported.

find_recipe("street")                                # .../dilated/training/recipes/street.toml
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

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
    """The names of the package's recipes, sorted.

    Example:
        >>> "street" in list_recipes()
        True
    """
    return tuple(sorted(p.name.removesuffix(".toml") for p in RECIPE_FOLDER.iterdir() if p.name.endswith(".toml")))


def find_recipe(name_or_path: str) -> Path:
    """The file of a recipe: of the package by its name, or any other by its path, which ends in .toml.

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
