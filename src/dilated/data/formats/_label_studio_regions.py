"""The regions of an annotation of Label Studio, as shapes in pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from dilated.data.formats._annotations import NamedObject
from dilated.data.formats._bitmaps import EncodedPNG, PackedRuns
from dilated.data.formats._objects import ObjectCounts, Polygons, Shape
from dilated.data.formats._shapes import Ellipse, make_box, parse_number, parse_points, parse_whole_numbers
from dilated.errors import InputError

_SHAPE_TYPES = {"polygon", "brush", "rectangle", "ellipse", "keypoint", "vector", "bitmask"}
_DATA_URL = re.compile(r"data:image/png;base64,")


def read_regions(
    where: str, regions: Sequence[dict[str, Any]], counts: ObjectCounts
) -> tuple[tuple[int, int] | None, list[NamedObject]]:
    """The size of the image (H, W), None where no region says it, and the objects in their order.

    Args:
        where: the file and the task, for messages.
        regions: the fields of each region, and those of its value, in one.
        counts: counts regions that are left out.

    Raises:
        InputError: a region that cannot be drawn, of several labels, or of another size than the ones before.
    """
    labeled = {repr(region.get("id")) for region in regions if _labels(region)}
    size: tuple[int, int] | None = None
    objects = []
    for number, region in enumerate(regions):
        labels = _labels(region)
        is_shape = str(region.get("type", "")).lower() in _SHAPE_TYPES
        if not labels and (not is_shape or (region.get("id") is not None and repr(region["id"]) in labeled)):
            continue  # a choice or a text about a region, or the bare shape of a labeled one
        place = f"{where}: region {region.get('id') or number}"
        region_size = _read_size(place, region)
        if size is not None and region_size != size:
            raise InputError(f"{place}: is of an image of {region_size}, and the regions before of {size}")
        size = region_size
        if len(labels) > 1:
            raise InputError(f"{place}: has the labels {', '.join(labels)}", hint="give each region one label")
        if not labels:
            counts.skip(place, "regions without a label", "has no label")
            continue
        shape = _read_shape(place, region, size)
        if shape is None:
            counts.skip(place, "key points and open lines", "has no area")
        else:
            objects.append(NamedObject(labels[0], f"region {region.get('id') or number}", shape))
    return size, objects


def _labels(region: dict[str, Any]) -> list[str]:
    """The labels of a region: under `labels`, `polygonlabels`, `brushlabels` or another such key."""
    lists = [value for key, value in region.items() if key.endswith("labels") and isinstance(value, list)]
    return [label for value in lists for label in value if isinstance(label, str)]


def _read_size(place: str, region: dict[str, Any]) -> tuple[int, int]:
    if region.get("image_rotation"):
        raise InputError(
            f"{place}: its image is turned by {region['image_rotation']!r} degrees in Label Studio",
            hint="turn it back there, or turn the file and label it again",
        )
    if region.get("item_index"):
        raise InputError(f"{place}: is of image {region['item_index']!r} of a task of several", hint="split the task")
    sides = parse_whole_numbers(
        place, [region.get("original_height"), region.get("original_width")], "original_height, original_width"
    ).tolist()
    if not all(0 < side < 1_000_000 for side in sides):
        raise InputError(f"{place}: the size of its image is {sides[1]}x{sides[0]}")
    return sides[0], sides[1]


def _read_shape(place: str, region: dict[str, Any], size: tuple[int, int]) -> Shape | None:
    """What draws a region; None where it has no area. Positions are percentages of the image's sides."""
    scale = size[1] / 100, size[0] / 100

    def number(name: str, axis: int | None = None) -> float:
        value = parse_number(place, region.get(name, 0 if name == "rotation" else None), name)
        return value if axis is None else value * scale[axis]

    if "rle" in region:
        if not isinstance(region["rle"], list):
            raise InputError(f"{place}: its rle is {region['rle']!r:.60}", hint="give a list of bytes")
        runs = parse_whole_numbers(place, region["rle"], "its rle")
        if ((runs < 0) | (runs > 255)).any():
            raise InputError(f"{place}: its rle holds numbers that are no bytes", hint="give 0 to 255")
        return PackedRuns(runs.astype(np.uint8).tobytes())
    if "imageDataURL" in region:
        return EncodedPNG(_DATA_URL.sub("", str(region["imageDataURL"]), count=1), None)
    if "radiusX" in region:
        radii = number("radiusX", 0), number("radiusY", 1)
        if not min(radii) > 0:
            raise InputError(f"{place}: radiusX and radiusY are {radii} pixels", hint="give numbers above 0")
        return Ellipse((number("x", 0), number("y", 1)), radii, number("rotation"))
    if "points" in region:
        vertices = region["points"]
        if region.get("closed", True) is False:
            return None
        if isinstance(vertices, list) and any(isinstance(vertex, dict) for vertex in vertices):  # of a vector
            return None
        return Polygons((parse_points(place, vertices, 3, "polygon") * scale,))
    if "height" in region:
        left, top = number("x", 0), number("y", 1)
        return make_box(left, top, number("width", 0), number("height", 1), number("rotation"), (left, top))
    return None
