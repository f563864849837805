"""Damaged recipes: an `InputError` that names the file, or a recipe that is read back as itself.

for outcome in run(seed=0, numbers=range(1000)): ...
"""

from __future__ import annotations

import copy
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from fuzz_bytes import damage
from fuzz_networks import HOSTILE_TEXTS, spots
from fuzz_outcome import Outcome, SilentError, examine

from dilated.config import to_toml
from dilated.training.config import load_recipe, recipe_to_table
from dilated.training.recipe_files import find_recipe, list_recipes

VALUES: tuple[Any, ...] = (
    *(True, False, [], {}, [[]], [{}], {"a": 1}, [1, 2], "1", [[[[1]]]], [1] * 1000, -1, 0, 1, 2, 3, 255, 256),
    *(2**31, 2**63, 2**64, 10**300, -(2**64), 0.5, 1e308, -1e308, 1e-320, float("nan"), float("inf"), -float("inf")),
)
LINES = ("[", "[[stage]]", "=", "a = ", "\ufeff", "'''", '"""', "a.b.c = 1", "[stage]", "\0", "lr = 1e999999", "1 = 1")


def run(seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """The cases of these numbers; each depends on the seed and its number alone."""
    texts = {name: find_recipe(name).read_text() for name in list_recipes()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recipe.toml")
        for number in numbers:
            random = Random(f"recipes/{seed}/{number}")
            name = random.choice(sorted(texts))
            content, changes = change(texts[name], random)
            path.write_bytes(content)
            overrides = [draw_override(random)] if random.random() < 0.2 else []
            look = lambda overrides=overrides: look_at(path, overrides)  # noqa: E731
            yield examine(number, (name, *changes, *overrides), path, look)


def change(text: str, random: Random) -> tuple[bytes, tuple[str, ...]]:
    """Change values of a recipe, its lines, or its bytes."""
    how = random.random()
    if how < 0.2:
        return damage(text.encode(), random)
    if how < 0.4:
        lines = text.splitlines()
        for _ in range(random.choice([1, 2, 3])):
            lines.insert(random.randrange(len(lines) + 1), random.choice([*LINES, *lines]))
        return "\n".join(lines).encode("utf-8", "surrogatepass"), ("lines",)
    table, done = tomllib.loads(text), []
    for _ in range(random.choice([1, 1, 2, 3])):
        places = spots(table)
        if not places:
            break
        where, key = random.choice(places)
        if random.random() < 0.1:
            del where[key]
            done.append(f"no {key}")
        else:
            where[key] = copy.deepcopy(random.choice(VALUES)) if random.random() < 0.7 else random.choice(HOSTILE_TEXTS)
            done.append(str(key))
    return write(table).encode("utf-8", "surrogatepass"), tuple(done)


def write(table: dict[str, Any]) -> str:
    """TOML of any values, inline, which is not how recipes are written but is the same."""
    return "".join(f"{inline(key)} = {inline(value)}\n" for key, value in table.items())


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{inline(str(key))} = {inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" if c < " " or c in '"\\\x7f' else c for c in value) + '"'
    return str(value).lower() if isinstance(value, bool) else repr(value)


def draw_override(random: Random) -> str:
    keys = [
        "lr",
        "stage.0.lr",
        "stage.9.lr",
        "stage.x",
        "stage",
        "network.features",
        "seed",
        "a.b.c.d",
        "",
        ".",
        "stage.-1.lr",
    ]
    values = ["1", "-1", "nan", "x", "[1", "{}", "", "1e999", "'", "true", "[[1]]", "\n", "2026-01-01", "0x"]
    return f"{random.choice(keys)}{random.choice(['=', '=', '=', ''])}{random.choice(values)}"


def look_at(path: Path, overrides: list[str]) -> None:
    """Load a recipe, write it, and load that.

    Raises:
        SilentError: another one.
    """
    try:
        recipe = load_recipe(str(path), overrides)
    except Exception as error:
        if overrides and overrides[0] in str(error):
            raise type(error)(f"{path}: {error}") from error  # what is given on the command line is named instead
        raise
    again = path.with_name("again.toml")
    again.write_text(to_toml(recipe_to_table(recipe)))
    if repr(load_recipe(str(again))) != repr(recipe):
        raise SilentError(f"{recipe} is read back as {load_recipe(str(again))}")
