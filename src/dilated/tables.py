"""TOML tables to frozen dataclasses and back; an unknown key or a wrong type is an error that says where.

recipe = build(Recipe, tomllib.loads(text), "my.toml")
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from dilated.errors import InputError

T = TypeVar("T")


def read_toml(path: Path, expected: str) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        InputError: the file is missing (the message says what was `expected`) or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected {expected}") from error
    except (ValueError, RecursionError) as error:  # no TOML, no text, numbers of thousands of digits, brackets too
        raise InputError(f"{path}: is no TOML: {error}") from error


def build(cls: type[T] | types.UnionType, table: Any, where: str) -> Any:
    """An instance of a dataclass from a table of plain values.

    Args:
        cls: the dataclass, or a union of some that each have a `kind`: the table's `kind` says which, by default the
            first.
        where: what to call the table in errors, such as its file.

    Raises:
        InputError: a key that the class has not (with the closest that it has), a value of another type.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Size:
        ...     width: int = 1
        >>> build(Size, {"widht": 3}, "size.toml")
        Traceback (most recent call last):
        dilated.errors.InputError: size.toml: unknown key 'widht'; did you mean 'width'? Known: width
    """
    if isinstance(cls, types.UnionType):
        return build(_of_kind(typing.get_args(cls), table, where), table, where)
    if not isinstance(table, dict):
        raise InputError(f"{where}: found {table!r}; expected a table with {', '.join(_names(cls))}")
    hints = typing.get_type_hints(cls)
    for key in table:
        if key not in hints:
            close = difflib.get_close_matches(key, hints, n=1)
            guess = f"did you mean {close[0]!r}? " if close else ""
            raise InputError(f"{where}: unknown key {key!r}; {guess}Known: {', '.join(_names(cls))}")
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in table:
            raise InputError(f"{where}: the key {field.name!r} is missing")
    return cls(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in table.items()})


def _of_kind(classes: tuple[type, ...], table: Any, where: str) -> type:
    """The class whose default `kind` is the table's."""
    kinds: dict[str, type] = {cls.kind: cls for cls in classes}  # type: ignore[attr-defined]
    kind = table.get("kind", next(iter(kinds))) if isinstance(table, dict) else next(iter(kinds))
    if not isinstance(kind, str) or kind not in kinds:
        raise InputError(f"{where}: kind: found {kind!r}; expected one of {', '.join(map(repr, kinds))}")
    return kinds[kind]


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type, or an error."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value not in inner:
            raise InputError(f"{where}: found {value!r}; expected one of {', '.join(map(repr, inner))}")
        return value
    if origin in (typing.Union, types.UnionType):
        if all(map(dataclasses.is_dataclass, inner)):
            return build(kind, value, where)
        if value is None:
            return None
        return _value(next(k for k in inner if k is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where}: found {value!r}; expected a list")
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_value(inner[0], v, f"{where}.{i}") for i, v in enumerate(value))
        if len(value) != len(inner):
            raise InputError(f"{where}: found {len(value)} values; expected {len(inner)}")
        return tuple(_value(k, v, where) for k, v in zip(inner, value, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise InputError(f"{where}: found {value!r}; expected a table")
        return value
    if dataclasses.is_dataclass(kind):
        return build(kind, value, where)  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise InputError(f"{where}: found {value!r}; expected {kind.__name__}")
    return value


def _names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def to_toml(table: dict[str, Any]) -> str:
    """TOML of a dataclass's `asdict`: plain values, then tables, then lists of tables."""
    lines: list[str] = []
    _emit(table, "", lines)
    return "\n".join(lines).strip() + "\n"


def _emit(table: dict[str, Any], prefix: str, lines: list[str]) -> None:
    later = []
    for key, value in table.items():
        listed = isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)
        if isinstance(value, dict) or listed:
            later.append((key, value))
        elif value is not None:
            lines.append(f"{key} = {_literal(value)}")
    for key, value in later:
        for entry in [value] if isinstance(value, dict) else value:
            name = prefix + key
            lines += ["", f"[{name}]" if isinstance(value, dict) else f"[[{name}]]"]
            _emit(entry, f"{name}.", lines)


def quoted(text: str) -> str:
    """A TOML string: JSON's escapes, and the one character that JSON leaves and TOML forbids."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    return repr(value)
