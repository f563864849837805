"""The shapes of labelme's files as label maps: polygons, rectangles, circles, masks, and lines of a stated width."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._classes import BACKGROUND, class_name
from dilated.data.formats._format import require_field
from dilated.data.images import ImageArray, image_size, open_image, read_image
from dilated.data.labels import ObjectRules, make_size_error
from dilated.data.masks import Mask, merge_masks, rasterize_line, rasterize_polygon
from dilated.errors import InputError
from dilated.files import read_json
from dilated.label_ids import LabelArray

IGNORE_LABEL = "__ignore__"
_LINES = {"line": "two points", "linestrip": "two points or more", "point": "one point", "points": "points"}
"""Shapes that have no pixels of their own, and what defines them."""
_POINTS = {
    "polygon": "three points or more",
    "rectangle": "two points, or four",
    "oriented_rectangle": "four points",
    "rotation": "four points",  # what X-AnyLabeling calls it
    "quadrilateral": "four points",
    "circle": "two points",
    "mask": "two points",
    **_LINES,
}
_MANY = 1 << 30
_COUNTS = {"three points or more": (3, _MANY), "two points, or four": (2, 4), "four points": (4, 4)}
_COUNTS |= {"two points": (2, 2), "one point": (1, 1), "two points or more": (2, _MANY), "points": (1, _MANY)}
_COCO_FILES = ("instances_", "_annotations.coco")
_SEARCHED_FILES, _SEARCHED_BYTES = 4, 4096


def is_labelme_folder(folder: Path) -> bool:
    """Whether one of the first JSON files of a folder begins as labelme's do."""
    return any(_is_labelme_file(path) for path in islice(sorted(folder.glob("*.json")), _SEARCHED_FILES))


def list_labelme_files(folder: Path) -> list[Path]:
    """The JSON files of a folder of labelme's, sorted by name."""
    return [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]


def _is_labelme_file(path: Path) -> bool:
    if path.name.startswith(_COCO_FILES):  # huge, and opened once alone
        return False
    try:
        with path.open("rb") as file:
            beginning = file.read(_SEARCHED_BYTES)
    except OSError:  # a folder, or a link to nothing
        return False
    return b'"shapes"' in beginning or b'"imageData"' in beginning


def read_shapes(path: Path) -> dict[str, Any]:
    """A file, with the parts that are used checked.

    Raises:
        InputError: the file is damaged, or a shape has no label.
    """
    data: dict[str, Any] = read_json(path)
    for number, shape in enumerate(require_field(f"{path}: the file", data, "shapes", list)):
        require_field(f"{path}: shapes[{number}]", shape, "label", str)
    return data


def read_embedded_image(path: Path) -> ImageArray:
    """The image inside a file of labelme, (H, W, 3) uint8.

    Raises:
        InputError: the file has none, or a damaged one.
    """
    return read_image(_open_embedded(path, read_json(path)))


def shape_kind(shape: dict[str, Any]) -> str:
    """The type of a shape; files of old versions have none for polygons."""
    kind = shape.get("shape_type")
    return "polygon" if kind is None or kind == "" else str(kind)


def lacks_mask(shape: dict[str, Any], rules: ObjectRules) -> bool:
    """Whether a shape has no pixels of its own: a line or point without a width, or a polygon of one or two points."""
    kind, points = shape_kind(shape), _parse_points(shape.get("points"))
    if kind in _LINES:
        return rules.line_width is None
    return kind == "polygon" and points is not None and len(points) < 3


@dataclass(frozen=True)
class ShapeReader:
    """Read a file of shapes as a label map."""

    image: Path | None
    """The image, whose size is compared; None for the one inside the file."""
    ids: tuple[tuple[str, int], ...]
    """The classes' names and ids, and the value of `__ignore__`."""
    rules: ObjectRules
    """What lines and points are."""

    def __call__(self, path: Path) -> LabelArray:
        """The label map (H, W).

        Raises:
            InputError: a damaged file, an image of another size, or a shape that cannot be drawn.
        """
        data = read_shapes(path)
        size = image_size(self.image) if self.image else _embedded_size(path, data)
        _require_size(path, (data.get("imageHeight"), data.get("imageWidth")), size)
        ids = dict(self.ids)
        masks = self._rasterize_shapes(path, data["shapes"], ids, size)
        return merge_masks(masks, size, ids[BACKGROUND], smaller_on_top=False)

    def _rasterize_shapes(
        self, path: Path, shapes: list[dict[str, Any]], ids: dict[str, int], size: tuple[int, int]
    ) -> Iterator[tuple[int, Mask]]:
        for number, shape in enumerate(shapes):
            name = class_name(shape["label"])
            where = f"{path}: shapes[{number}] {shape['label']!r}"
            if name not in ids:
                raise InputError(f"{where}: is no class", hint=f"give one of {', '.join(dict(self.ids))}")
            if not (lacks_mask(shape, self.rules) and self.rules.objects_without_mask == "skip"):
                yield ids[name], _rasterize_shape(shape, size, where, self.rules.line_width)


def _open_embedded(path: Path, data: dict[str, Any]) -> BytesIO:
    """The bytes of the image inside a file."""
    content = data.get("imageData")
    try:
        file = BytesIO(base64.b64decode(content, validate=True) if isinstance(content, str) else b"")
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{path}: imageData: is not base64 ({error})") from error
    file.name = f"{path}: imageData"
    return file


def _embedded_size(path: Path, data: dict[str, Any]) -> tuple[int, int]:
    pixels = read_image(_open_embedded(path, data))
    return pixels.shape[0], pixels.shape[1]


def _require_size(path: Path, stated_size: tuple[Any, Any], size: tuple[int, int]) -> None:
    """Raise where a file states another (H, W) than its image has."""
    if stated_size in ((None, None), size):
        return
    if not all(isinstance(side, int) for side in stated_size):
        raise InputError(f"{path}: found imageHeight and imageWidth {stated_size}", hint="give whole numbers")
    error = make_size_error(path, stated_size, size)
    if stated_size == size[::-1]:
        raise InputError(f"{error} The image may have been turned since (EXIF).")
    raise error


def _rasterize_shape(shape: dict[str, Any], size: tuple[int, int], where: str, line_width: float | None) -> Mask:
    """The pixels whose centers a shape contains, (H, W)."""
    kind = shape_kind(shape)
    if kind not in _POINTS or not isinstance(shape.get("shape_type") or "", str):
        known = ", ".join(dict.fromkeys(_POINTS))
        raise InputError(
            f"{where}: found a shape of the type {shape.get('shape_type')!r}; expected {known}",
            hint="draw it as one of these",
        )
    points = _parse_points(shape.get("points"))
    least, most = _COUNTS[_POINTS[kind]]
    if points is None or not least <= len(points) <= most or (kind == "rectangle" and len(points) == 3):
        skip = ', or write `objects_without_mask = "skip"` into classes.toml' if kind == "polygon" else ""
        raise InputError(
            f"{where}: found the points {str(shape.get('points'))[:80]} of a {kind}",
            hint=f"give {_POINTS[kind]}{skip}",
        )
    if kind in _LINES and line_width is None:
        raise InputError(
            f"{where}: found a shape of the type {kind!r}, which has no pixels of its own",
            hint="write `line_width = 10`, the width in pixels that labelme gives lines and points, or "
            '`objects_without_mask = "skip"`, which leaves them out, into classes.toml',
        )
    if kind == "mask":
        return _paste_mask(shape.get("mask"), points, size, where)
    if kind in _LINES and line_width is not None:
        lines = [points] if kind.startswith("line") else [point[None] for point in points]
        return np.logical_or.reduce([rasterize_line(line, line_width, size) for line in lines])
    draw: Callable[[NDArray[np.float64], tuple[int, int]], Mask] = rasterize_polygon
    if kind == "circle":
        draw = _rasterize_circle
    elif len(points) == 2:  # a rectangle
        (x0, y0), (x1, y1) = points.tolist()
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return draw(points, size)


def _rasterize_circle(points: NDArray[np.float64], size: tuple[int, int]) -> Mask:
    """A circle given by its center and a point on it."""
    (x0, y0), (x1, y1) = points.tolist()
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    mask: Mask = (x - x0) ** 2 + (y - y0) ** 2 <= (x1 - x0) ** 2 + (y1 - y0) ** 2
    return mask


def _paste_mask(content: object, points: NDArray[np.float64], size: tuple[int, int], where: str) -> Mask:
    """A mask at its first point, cut off at the image's borders.

    The second point is the last pixel. Versions of labelme differ by one pixel there, and cut masks off at the borders
    or not; anything else is an error.
    """
    patch = _decode_mask(content, where)
    (left, top), (right, bottom) = np.round(points).astype(int).tolist()
    stated = (bottom - top + 1, right - left + 1)
    at_border = (min(bottom + 1, size[0]) - top, min(right + 1, size[1]) - left)
    matches = [
        abs(actual - side) <= 1 or actual == visible
        for actual, side, visible in zip(patch.shape, stated, at_border, strict=True)
    ]
    if not all(matches):
        raise InputError(
            f"{where}: found a mask of {patch.shape[1]}x{patch.shape[0]} between points that are "
            f"{stated[1]}x{stated[0]} pixels apart",
            hint="draw it again",
        )
    patch = patch[: max(stated[0], 0), : max(stated[1], 0)]
    mask = np.zeros(size, dtype=np.bool_)
    patch = patch[max(-top, 0) :, max(-left, 0) :]
    target = mask[max(top, 0) :, max(left, 0) :]
    height, width = (min(a, b) for a, b in zip(patch.shape, target.shape, strict=True))
    target[:height, :width] = patch[:height, :width]
    return mask


def _decode_mask(content: object, where: str) -> Mask:
    """A mask (h, w) from the base64 text of an image."""
    if not isinstance(content, str):
        raise InputError(f"{where}: found the mask {content!r:.40}", hint="give an image as base64")
    try:
        file = BytesIO(base64.b64decode(content, validate=True))
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{where}: the mask is not base64 ({error})") from error
    file.name = f"{where}: the mask"
    with open_image(file) as image:
        if len(image.getbands()) != 1:
            raise InputError(f"{where}: found a mask of mode {image.mode!r}", hint="give one channel")
        return np.asarray(image).astype(np.bool_)


def _parse_points(values: object) -> NDArray[np.float64] | None:
    """Points as (n, 2), if they are."""
    try:
        points = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return points if points.ndim == 2 and points.shape[1] == 2 and (np.abs(points) < 1e6).all() else None
