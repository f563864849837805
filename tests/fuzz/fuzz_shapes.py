"""Polygons, masks over each other and runs, worked out without the program, slow and plain; see `fuzz_truth.py`."""

from __future__ import annotations

import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def table(root: Path) -> dict[str, Any] | None:
    """classes.toml, if there is one."""
    path = root / "classes.toml"
    return tomllib.loads(path.read_text("utf-8")) if path.is_file() else None


def plain(name: str) -> str:
    """A file's name without backslashes and steps that lead nowhere, such as `./` and `x/../`."""
    return posixpath.normpath(name.replace("\\", "/"))


def names_it(image: Path, name: str) -> bool:
    """Whether a file name is that of an image; a root and steps out of the folder before it lead nowhere."""
    return image.as_posix().endswith("/" + re.sub(r"^(\.\./|/)+", "", plain(name)))


def known_as(value: object) -> tuple[bool, int, str]:
    """What an id is compared and sorted by: numbers, also as text, then other texts."""
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    is_number = text.isdecimal() or isinstance(value, int | float)
    return (False, int(float(text)), "") if is_number else (True, 0, text)


def inside(corners: list[Any], size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centre is in a polygon, even-odd."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    mask = np.zeros(size, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        if y0 != y1:
            mask ^= ((y0 <= y) & (y < y1)) & (x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return mask


def over(layers: list[tuple[int, np.ndarray]], ground: int, size: tuple[int, int]) -> np.ndarray:
    """Masks over each other, the smaller on top, of equals the later."""
    label = np.full(size, ground, dtype=np.uint8)
    for value, mask in sorted(layers, key=lambda layer: -int(layer[1].sum())):
        label[mask] = value
    return label


def upright(path: Path) -> tuple[int, int]:
    """(H, W) of an image as it is seen."""
    with Image.open(path) as image:
        width, height = image.size
        turned = image.format != "TIFF" and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def order(root: Path, names: list[str]) -> list[str]:
    """The names in the order of classes.toml, where there is one."""
    own = table(root)
    return [entry["name"] for entry in own["class"]] if own else names


def runs(counts: list[int], size: tuple[int, int]) -> np.ndarray:
    """The mask of COCO's runs."""
    flat: list[bool] = []
    for i, count in enumerate(counts):
        flat += [i % 2 == 1] * count
    assert len(flat) == size[0] * size[1]
    return np.array(flat).reshape(size[1], size[0]).T


def unpacked(text: str) -> list[int]:
    """The runs of COCO's compressed text."""
    found: list[int] = []
    at = 0
    while at < len(text):
        number = place = 0
        more = True
        while more:
            code = ord(text[at]) - 48
            assert 0 <= code < 64
            number |= (code & 31) << 5 * place
            more = bool(code & 32)
            at, place = at + 1, place + 1
            if not more and code & 16:
                number -= 1 << 5 * place
        found.append(number + found[-2] if len(found) > 2 else number)
    return found
