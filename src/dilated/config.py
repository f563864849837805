"""TOML tables to frozen dataclasses and back; an unknown key or a wrong type is an error that says where.

recipe = build_dataclass(Recipe, tomllib.loads(text), "my.toml")
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from dilated.errors import InputError
from dilated.files import require_no_pipe

_T = TypeVar("_T")
_LONGEST_VALUE = 200
"""Characters of a wrong value that a message shows."""


def read_toml(path: Path, expected: str) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        InputError: the file is missing (the message says what was `expected`) or is not TOML.
    """
    require_no_pipe(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected {expected}") from error
    except (ValueError, RecursionError) as error:  # not TOML, not text, numbers of thousands of digits, brackets too
        raise InputError(f"{path}: is not TOML: {error}") from error


def build_dataclass(cls: type[_T] | types.UnionType, table: Any, where: str) -> Any:
    """An instance of a dataclass from a table of plain values.

    Args:
        cls: the dataclass, or a union of several that each have a `kind`: the table's `kind` selects one, by default
            the first.
        where: what to call the table in errors, such as its file.

    Raises:
        InputError: a key that the class does not have (with the closest that it has), a value of another type.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Size:
        ...     width: int = 1
        >>> build_dataclass(Size, {"widht": 3}, "size.toml")
        Traceback (most recent call last):
        dilated.errors.InputError: size.toml: unknown key 'widht'. Did you mean 'width'? Known: width.
    """
    if isinstance(cls, types.UnionType):
        return build_dataclass(_select_by_kind(typing.get_args(cls), table, where), table, where)
    if not isinstance(table, dict):
        raise InputError(
            f"{where}: found {_shorten(repr(table))}; expected a table with {', '.join(_field_names(cls))}"
        )
    hints = _read_hints(cls)  # type: ignore[arg-type]
    for key in table:
        if key not in hints:
            matches = difflib.get_close_matches(key, hints, n=1)
            start = f"did you mean {matches[0]!r}? Known:" if matches else "known:"
            raise InputError(
                f"{where}: unknown key {_shorten(repr(key))}", hint=f"{start} {', '.join(_field_names(cls))}"
            )
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in table:
            raise InputError(f"{where}: the key {field.name!r} is missing")
    values = {key: _convert_value(hints[key], value, f"{where}: {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except InputError as error:  # of the class's own rules, which do not know the file
        raise type(error)(f"{where}: {error.message}", error.hint, error.details) from error


@cache
def _read_hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _select_by_kind(classes: tuple[type, ...], table: Any, where: str) -> type:
    """Return the class whose default `kind` is the table's."""
    kinds: dict[str, type] = {cls.kind: cls for cls in classes}  # type: ignore[attr-defined]
    kind = table.get("kind", next(iter(kinds))) if isinstance(table, dict) else next(iter(kinds))
    if not isinstance(kind, str) or kind not in kinds:
        raise InputError(f"{where}: kind: found {_shorten(repr(kind))}; expected one of {', '.join(map(repr, kinds))}")
    return kinds[kind]


def _convert_value(kind: Any, value: Any, where: str) -> Any:
    """Return `value` as the annotated type, or raise."""
    origin, type_args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value not in type_args:
            raise InputError(
                f"{where}: found {_shorten(repr(value))}; expected one of {', '.join(map(repr, type_args))}"
            )
        return value
    if origin in (typing.Union, types.UnionType):
        if all(map(dataclasses.is_dataclass, type_args)):
            return build_dataclass(kind, value, where)
        if value is None:
            return None
        return _convert_value(next(k for k in type_args if k is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where}: found {_shorten(repr(value))}; expected a list")
        if len(type_args) == 2 and type_args[1] is Ellipsis:
            return tuple(_convert_value(type_args[0], v, f"{where}.{i}") for i, v in enumerate(value))
        if len(value) != len(type_args):
            raise InputError(f"{where}: found {len(value)} values; expected {len(type_args)}")
        return tuple(_convert_value(k, v, where) for k, v in zip(type_args, value, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise InputError(f"{where}: found {_shorten(repr(value))}; expected a table")
        return value
    if dataclasses.is_dataclass(kind):
        return build_dataclass(kind, value, where)  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise InputError(f"{where}: found {_shorten(repr(value))}; expected {kind.__name__}")
    return value


def require_valid(config: object, where: str, rules: dict[str, tuple[bool, str]]) -> None:
    """Raise for the first value of a dataclass that breaks its rule.

    Args:
        where: the name of its table in errors.
        rules: by key, whether its value is valid, and the hint where it is not.

    Raises:
        InputError: a value is not valid.
    """
    for key, (is_valid, hint) in rules.items():
        if not is_valid:
            value = getattr(config, key)
            shown = str(list(value) if isinstance(value, tuple) else value)
            raise InputError(f"{where}.{key}: found {_shorten(shown)}", hint=hint)


def _shorten(text: str) -> str:
    """Text of a file as a message shows it."""
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _field_names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def to_toml(table: dict[str, Any]) -> str:
    """TOML of a dataclass's `asdict`: plain values, then tables, then lists of tables."""
    lines: list[str] = []
    _append_table(table, "", lines)
    return "\n".join(lines).strip() + "\n"


def _append_table(table: dict[str, Any], prefix: str, lines: list[str]) -> None:
    subtables = []
    for key, value in table.items():
        is_table_array = isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)
        if isinstance(value, dict) or is_table_array:
            subtables.append((key, value))
        elif value is not None:
            lines.append(f"{key} = {_format_value(value)}")
    for key, value in subtables:
        for entry in [value] if isinstance(value, dict) else value:
            name = prefix + key
            lines += ["", f"[{name}]" if isinstance(value, dict) else f"[[{name}]]"]
            _append_table(entry, f"{name}.", lines)


def _quote_toml(text: str) -> str:
    """A TOML string: JSON's escapes, and the one character that JSON leaves and TOML forbids."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quote_toml(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_format_value(v) for v in value) + "]"
    return repr(value)
