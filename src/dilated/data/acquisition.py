"""Which images were taken together: what cameras and rasters write into files of their time and their place.

    groups = group_by_acquisition(names, [read_acquisition(path) for path in paths])

Images of one camera that follow each other within half an hour are of one session; images within 100 m of each other
are of one site, whenever they were taken; georeferenced rasters that touch are of one mosaic. Only headers are read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from dilated.data.groups import Groups
from dilated.data.images import open_image
from dilated.data.union import UnionFind
from dilated.errors import InputError

_SUFFIXES = {".jpg", ".jpeg", ".tif", ".tiff", ".heic", ".heif", ".webp"}
_MAX_GAP = 30 * 60  # seconds between images of one session
_SITE_SIZE = 100.0  # meters between images of one site
_METERS_PER_DEGREE = 111_320.0
_MAKE, _MODEL, _EXIF, _GPS, _TIME, _SERIAL = 0x010F, 0x0110, 0x8769, 0x8825, 0x9003, 0xA431
_PIXEL_SCALE, _TIE_POINT, _GEO_KEYS = 33550, 33922, 34735


@dataclass(frozen=True)
class Acquisition:
    """How an image was taken, as far as its file says."""

    camera: str = ""
    """Make, model and serial number."""
    seconds: float | None = None
    """When, in seconds since any fixed moment."""
    time: str = ""
    """When, for people."""
    place: tuple[float, float] | None = None
    """Latitude and longitude in degrees."""
    bounds: tuple[float, float, float, float] | None = None
    """West, south, east and north of a raster, in the units of its reference system."""
    system: tuple[int, ...] = ()
    """The keys of a raster's reference system."""


def read_acquisition(path: Path) -> Acquisition:
    """Read how an image was taken, from its header; nothing where it says nothing or is damaged.

    Example:
        >>> read_acquisition(Path("drawing.png"))
        Acquisition(camera='', seconds=None, time='', place=None, bounds=None, system=())
    """
    if path.suffix.lower() not in _SUFFIXES:
        return Acquisition()
    with suppress(InputError, OSError, ValueError, SyntaxError, KeyError, TypeError), open_image(path) as image:
        if image.format == "TIFF" and _PIXEL_SCALE in image.tag_v2:  # type: ignore[attr-defined]
            return _read_georeference(image)
        return _read_exif(image.getexif())
    return Acquisition()


def group_by_acquisition(names: Sequence[str], acquisitions: Sequence[Acquisition]) -> Groups | None:
    """Group images by session, site and mosaic; images whose file says nothing are their own groups.

    Returns:
        The groups, each with the name of its first image in the order of time, and the seconds since that as positions;
        None where no two images are together.

    Example:
        >>> shots = [Acquisition("Canon", seconds) for seconds in (0.0, 60.0, 90_000.0)]
        >>> groups = group_by_acquisition(["a", "b", "c"], shots)
        >>> groups.labels, groups.positions, groups.source
        (('a', 'a', 'c'), (0, 60, 0), 'EXIF: one camera, less than 30 minutes apart')
    """
    union = UnionFind(len(names))
    reasons = []
    if _join_sessions(union, acquisitions):
        reasons.append("EXIF: one camera, less than 30 minutes apart")
    if _join_sites(union, acquisitions):
        reasons.append("EXIF: less than 100 m apart")
    if _join_mosaics(union, acquisitions):
        reasons.append("georeference: rasters that touch")
    if not reasons:
        return None
    labels = [""] * len(names)
    positions: list[int | None] = [None] * len(names)
    for members in union.groups():
        times = {i: seconds for i in members if (seconds := acquisitions[i].seconds) is not None}
        start = min(times, key=lambda i: (times[i], names[i])) if times else members[0]
        for i in members:
            labels[i] = names[start]
            positions[i] = round(times[i] - times[start]) if i in times else None
    return Groups(tuple(labels), tuple(positions), "; ".join(reasons))


def _read_exif(exif: Image.Exif) -> Acquisition:
    details = exif.get_ifd(_EXIF)
    words = (str(value).strip("\0 ") for value in (exif.get(_MAKE), exif.get(_MODEL), details.get(_SERIAL)) if value)
    text = str(details.get(_TIME) or "").strip("\0 ")
    seconds = None
    with suppress(ValueError):
        seconds = (datetime.strptime(text[:19], "%Y:%m:%d %H:%M:%S") - datetime(1970, 1, 1)).total_seconds()
    return Acquisition(" ".join(words), seconds, text if seconds is not None else "", _read_place(exif.get_ifd(_GPS)))


def _read_place(gps: dict[int, Any]) -> tuple[float, float] | None:
    if not {1, 2, 3, 4} <= gps.keys():
        return None
    latitude, longitude = (
        sum(float(part) / 60**i for i, part in enumerate(gps[tag])) * (-1 if gps[tag - 1] in ("S", "W") else 1)
        for tag in (2, 4)
    )
    is_valid = math.isfinite(latitude + longitude) and abs(latitude) <= 90 and (latitude, longitude) != (0, 0)
    return (latitude, longitude) if is_valid else None


def _read_georeference(image: Image.Image) -> Acquisition:
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    scale, tie = tags[_PIXEL_SCALE], tags[_TIE_POINT]
    west, north = tie[3] - tie[0] * scale[0], tie[4] + tie[1] * scale[1]
    bounds = (west, north - image.height * scale[1], west + image.width * scale[0], north)
    return Acquisition(bounds=bounds, system=tuple(int(key) for key in tags.get(_GEO_KEYS, ())))


def _join_sessions(union: UnionFind, acquisitions: Sequence[Acquisition]) -> bool:
    known = [(shot.camera, shot.seconds, i) for i, shot in enumerate(acquisitions) if shot.seconds is not None]
    joined = False
    for (camera, seconds, i), (next_camera, next_seconds, j) in pairwise(sorted(known)):
        if camera == next_camera and next_seconds - seconds <= _MAX_GAP:
            joined = union.join(i, j) or joined
    return joined


def _join_sites(union: UnionFind, acquisitions: Sequence[Acquisition]) -> bool:
    """Join images within `_SITE_SIZE`, by cells of that size, each compared with itself and its neighbors."""
    cells: dict[tuple[int, int], list[tuple[float, float, int]]] = {}
    joined = False
    for i, shot in enumerate(acquisitions):
        if shot.place is None:
            continue
        latitude, longitude = shot.place
        band = round(latitude)  # one scale for a degree of latitude; a site on its border may be missed
        y, x = latitude * _METERS_PER_DEGREE, longitude * _METERS_PER_DEGREE * math.cos(math.radians(band))
        row, column = int(y // _SITE_SIZE), int(x // _SITE_SIZE)
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                for other_y, other_x, j in cells.get((row + down, column + across), ()):
                    if math.hypot(y - other_y, x - other_x) <= _SITE_SIZE:
                        joined = union.join(i, j) or joined
        seen = cells.setdefault((row, column), [])
        if all((y, x) != point[:2] for point in seen[-1:]):
            seen.append((y, x, i))
    return joined


def _join_mosaics(union: UnionFind, acquisitions: Sequence[Acquisition]) -> bool:
    """Join rasters of one reference system whose bounds touch or overlap, or nearly, by a sweep from west to east."""
    sizes = Counter(shot.system for shot in acquisitions if shot.bounds)
    joined = False
    for system in sizes:
        boxes = [(*shot.bounds, i) for i, shot in enumerate(acquisitions) if shot.bounds and shot.system == system]
        active: list[tuple[float, float, float, float, int]] = []
        for box in sorted(boxes):
            west, south, east, north, i = box
            slack = 0.1 * min(east - west, north - south)
            active = [other for other in active if other[2] >= west - slack]
            for _, other_south, _, other_north, j in active:
                if other_south <= north + slack and south <= other_north + slack:
                    joined = union.join(i, j) or joined
            active.append(box)
    return joined
