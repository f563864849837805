"""data.yaml as Ultralytics and Roboflow have it: the names of the classes, and where the images are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dilated.data.formats._classes import class_name, require_distinct_names
from dilated.errors import InputError

CONFIG_FILES = ("data.yaml", "data.yml", "dataset.yaml")


def find_config(root: Path) -> Path | None:
    """The data.yaml of a data folder, if it has one."""
    return next((root / name for name in CONFIG_FILES if (root / name).is_file()), None)


class _WordLoader(yaml.BaseLoader):
    """Read every word of a YAML file as the text that was written: `yes`, `off` and `1` are names, not values."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for i, (key, _) in enumerate(node.value):
            if keys[i] in keys[:i] or not isinstance(keys[i], str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"found the key {keys[i]!r:.60} twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


def read_config(path: Path) -> dict[str, Any]:
    """The table of a data.yaml: its keys and values are texts as they were written, lists or tables of such.

    YAML takes an unquoted `yes`, `no`, `on`, `off`, `null` or `1` for something other than a text; as the name of a
    class or a folder each is read as the word.

    Raises:
        InputError: not UTF-8, not YAML, a key that occurs twice, or not a table.
    """
    try:
        table = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_WordLoader)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text", hint="save the file as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{path}{line}: not YAML ({error.problem})") from error
    except (yaml.YAMLError, OSError, RecursionError) as error:
        raise InputError(f"{path}: not YAML ({str(error) or 'nested too deeply'})") from error
    if not isinstance(table, dict):
        raise InputError(f"{path}: found {table!r:.60}", hint="give the names and folders of a data set for YOLO")
    return table


def parse_class_names(config: dict[str, Any], path: Path, needs_all: bool = True) -> dict[int, str]:
    """The names of a data.yaml by their numbers, in their order.

    Args:
        needs_all: whether the numbers run from 0 on without a gap.

    Raises:
        InputError: no names, another number, or a name that occurs twice.
    """
    names = config.get("names")
    if not isinstance(names, list | dict) or not names:
        raise InputError(f"{path}: names: found {names!r}", hint="give a list of the classes, or a map from 0 on")
    table = {str(i): name for i, name in enumerate(names)} if isinstance(names, list) else names
    numbers = [int(key) if key.isdecimal() and len(key) < 6 else -1 for key in table]
    if min(numbers) < 0 or (needs_all and sorted(numbers) != list(range(len(numbers)))):
        raise InputError(f"{path}: names: found the keys {list(table)[:20]}", hint=f"give 0 to {len(table) - 1}")
    for name in table.values():
        if not isinstance(name, str) or not name:
            raise InputError(f"{path}: names: found {name!r:.60}", hint="give names of classes")
    require_distinct_names(list(table.values()), f"{path}: names")
    return {number: class_name(name) for number, name in sorted(zip(numbers, table.values(), strict=True))}
