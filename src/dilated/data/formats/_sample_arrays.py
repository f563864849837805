"""Arrays that a format writes, checked before anything is written.

for stem, image, ids in validate_arrays(samples, classes, can_ignore=True): ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from dilated.data.images import ImageArray
from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.label_ids import LabelArray, label_dtype

SampleArrays = tuple[str, ImageArray, LabelArray]
"""A sample to write: its stem, the image (H, W, 3) uint8, and its class ids (H, W) of `label_dtype`."""


class IgnoredPixelsError(InputError):
    """Ignored pixels are to be written in a format that cannot express them."""


def validate_arrays(samples: Iterable[SampleArrays], classes: Classes, can_ignore: bool) -> Iterator[SampleArrays]:
    """The samples, each checked before it is written."""
    seen = set()
    for stem, image, ids in samples:
        if not stem or stem != stem.strip() or not stem.isprintable() or Path(stem).name != stem:
            raise InputError(f"samples: found the stem {stem!r}", hint="give a file name that fits on a line")
        if stem in seen:
            raise InputError(f"samples: found the stem {stem!r} twice", hint="give distinct stems")
        seen.add(stem)
        dtype, ignored = label_dtype(len(classes)), classes.ignore_id
        if image.dtype != np.uint8 or ids.dtype != dtype or image.shape != (*ids.shape, 3) or ids.ndim != 2:
            raise InputError(
                f"samples: {stem}: found an image {image.shape} {image.dtype} and a label {ids.shape} {ids.dtype}",
                hint=f"give (H, W, 3) uint8 and (H, W) {dtype}",
            )
        outside = (ids >= len(classes)) & (ids != ignored)
        if outside.any():
            y, x = (int(v[0]) for v in np.nonzero(outside))
            raise InputError(
                f"samples: {stem}: found the id {ids[y, x]} at x={x}, y={y}",
                hint=f"give 0 to {len(classes) - 1}, or {ignored}",
            )
        if not can_ignore and (ids == ignored).any():
            y, x = (int(v[0]) for v in np.nonzero(ids == ignored))
            raise IgnoredPixelsError(
                f"samples: {stem}: found ignored pixels at x={x}, y={y}, which the format cannot express"
            )
        yield stem, image, ids
