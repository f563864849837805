"""What a network file's description may hold, checked before anything is built of it.

    description = parse_description(metadata["dilated"])  # plain values, within limits
    classes, colors = read_classes(description)
    mean, std = read_normalization(description)

A file may come from anywhere. JSON lets a few bytes ask for very much: numbers of thousands of digits, lists nested
beyond what Python can walk, NaN. So texts, depths, counts and numbers have limits, far beyond what a network needs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from dilated.errors import InputError
from dilated.label_ids import MAX_CLASSES

MOST_TENSORS = 20_000
"""The number of tensors that a network file may hold; the largest of timm's networks has 3,000."""
LARGEST_HEADER = 32 * 2**20
"""Bytes of a file's header, which names its tensors and holds the description."""
_LONGEST_DESCRIPTION = 16 * 2**20
_MOST_NESTED = 32
_MOST_VALUES = 500_000
_LONGEST_NAME = 1_000
_LARGEST_INTEGER = 2**63 - 1
_LARGEST_NORMALIZATION = 1e6


def parse_description(text: str) -> dict[str, Any]:
    """Read the description's JSON.

    Raises:
        ValueError: no JSON table, one that is too large or nested too deep, or a number that is NaN, infinite or too
            large.

    Example:
        >>> parse_description('{"version": 1}')
        {'version': 1}
    """
    if len(text) > _LONGEST_DESCRIPTION:
        raise ValueError(f"{len(text):,} characters, and {_LONGEST_DESCRIPTION:,} are the most")
    try:
        description = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"lists nested more than {_MOST_NESTED} deep") from None
    if not isinstance(description, dict):
        raise ValueError(f"a {type(description).__name__}, and a table is expected")
    _require_plain(description)
    return description


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"the number {word}")


def _require_plain(description: dict[str, Any]) -> None:
    """Raise a ValueError for what is too deep, too much or no finite number; level by level, not by recursion."""
    level: list[Any] = [description]
    count = 0
    for _ in range(_MOST_NESTED):
        count += len(level)
        if count > _MOST_VALUES:
            raise ValueError(f"more than {_MOST_VALUES:,} values")
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value, *value.values()]
            elif isinstance(value, list):
                below += value
            else:
                _require_plain_value(value)
        if not below:
            return
        level = below
    raise ValueError(f"lists nested more than {_MOST_NESTED} deep")


def _require_plain_value(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is not finite")
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise ValueError("a whole number of more than 64 bits")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the text {value[:100]!r}, which is no Unicode") from None


def read_classes(
    description: Mapping[str, Any],
) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """The classes and colors of a description.

    Raises:
        ValueError: of a wrong type or number, twice the same name, or a color that is not three of 0..255.
        KeyError: the description lacks one of them.
    """
    classes, colors = description["classes"], description["colors"]
    if not isinstance(classes, list) or not 1 <= len(classes) <= MAX_CLASSES:
        raise ValueError(f"classes: {_shorten(classes)}, and a list of 1 to {MAX_CLASSES:,} names is expected")
    for name in classes:
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            raise ValueError(f"classes: {_shorten(name)}, and a name of 1 to {_LONGEST_NAME:,} characters is expected")
    if len(set(classes)) < len(classes):
        twice = next(name for i, name in enumerate(classes) if name in classes[:i])
        raise ValueError(f"classes: {_shorten(twice)} twice")
    if not isinstance(colors, list) or len(colors) != len(classes):
        raise ValueError(f"colors: {_shorten(colors)}, and a list of {len(classes):,} is expected, one per class")
    for color in colors:
        if not _is_color(color):
            raise ValueError(f"colors: {_shorten(color)}, and three whole numbers of 0 to 255 are expected")
    return tuple(classes), tuple((red, green, blue) for red, green, blue in colors)


def _is_color(color: Any) -> bool:
    return (
        isinstance(color, list)
        and len(color) == 3
        and all(type(channel) is int and 0 <= channel <= 255 for channel in color)
    )


def read_normalization(description: Mapping[str, Any]) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """The mean and standard deviation of a description, each None where the backbone's are meant.

    Raises:
        ValueError: no lists of numbers, or standard deviations that are not above 0.
        KeyError: the description lacks one of them.
    """
    mean, std = _read_numbers(description, "mean"), _read_numbers(description, "std")
    given = mean or std or ()
    require_normalization(mean or (0.0,) * len(given), std or (1.0,) * len(given), len(given))
    return mean, std


def _read_numbers(description: Mapping[str, Any], key: str) -> tuple[float, ...] | None:
    value = description[key]
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(type(number) in (int, float) for number in value):
        raise ValueError(f"{key}: {_shorten(value)}, and a number per band is expected")
    return tuple(map(float, value))


def require_normalization(mean: Sequence[float], std: Sequence[float], bands: int) -> None:
    """Raise an InputError where images of so many bands cannot be normalized by these.

    Example:
        >>> require_normalization((0.5, 0.5, 0.5), (1.0, 0.0, 1.0), 3)
        Traceback (most recent call last):
        dilated.errors.InputError: std: (1.0, 0.0, 1.0), and 3 numbers above 0 and up to 1,000,000 are expected
    """
    largest = _LARGEST_NORMALIZATION
    if len(mean) != bands or not all(abs(number) <= largest for number in mean):
        raise InputError(f"mean: {_shorten(mean)}, and {bands} numbers within {largest:,.0f} are expected")
    if len(std) != bands or not all(1 / largest <= number <= largest for number in std):
        raise InputError(f"std: {_shorten(std)}, and {bands} numbers above 0 and up to {largest:,.0f} are expected")


def read_table(description: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A table of a description.

    Raises:
        ValueError: it is no table.
        KeyError: the description lacks it.
    """
    if not isinstance(description[key], dict):
        raise ValueError(f"{key}: {_shorten(description[key])}, and a table is expected")
    return dict(description[key])


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
