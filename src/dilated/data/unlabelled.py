"""Images without labels that a training may learn from too, and none that it is measured on.

samples = find_unlabelled(Path("frames"))
require_not_measured(samples, open_dataset("my-data"))       # raises where one is an image of val or test
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.check.image_hash import ImageHash, find_identical, find_near_duplicates, hash_image
from dilated.data.dataset import Dataset
from dilated.data.images import IMAGE_SUFFIXES, image_size
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import plural
from dilated.input_config import InputConfig

_ANY = Classes(("any",), ((0, 0, 0),))


def find_unlabelled(folder: Path, config: InputConfig | None = None) -> list[Sample]:
    """Find the images of a folder and of the folders in it, as samples whose label is 0 at every pixel.

    Args:
        folder: with images; hidden files are none.
        config: what they hold; None for 8-bit RGB.

    Raises:
        InputError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"unlabelled: {folder}: no such folder", hint="give a folder of images")
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.suffix.lower() != ".npy" and not path.name.startswith(".")
    )
    if not paths:
        raise InputError(f"unlabelled: {folder}: found no image", hint="give a folder of images")
    return [Sample(path, path, label_reader=_read_blank, classes=_ANY, input=config) for path in paths]


def name_in_recipe(folder: Path | str) -> str:
    """The setting of a recipe that names a folder of images without labels.

    Example:
        >>> name_in_recipe("/frames")
        'unlabelled="/frames"'
    """
    return f"unlabelled={json.dumps(str(Path(folder).resolve()), ensure_ascii=False)}"


def _read_blank(path: Path) -> NDArray[np.integer]:
    """A label of 0 for every pixel of an image."""
    return np.zeros(image_size(path), np.uint8)


def require_not_measured(samples: Sequence[Sample], data: Dataset) -> None:
    """Check that no image is one that the training is measured on, by its pixels or by its looks.

    Args:
        samples: without labels.
        data: all its splits but `train` are measured on.

    Raises:
        InputError: an image that is, or looks like, one of another split; or an unreadable image.
    """
    measured = [(split, sample) for split in data.splits if split != "train" for sample in data.samples(split)]
    images = [sample for _, sample in measured] + list(samples)
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1)) as pool:
        hashes: list[ImageHash] = list(pool.map(lambda sample: hash_image(sample.read_image()), images))
    pairs = [(a, b, "is") for group in find_identical(hashes) for a in group for b in group]
    if not any(a < len(measured) <= b for a, b, _ in pairs):
        pairs += [(a, b, "looks like") for a, b, _, _ in find_near_duplicates(hashes).matches]
    crossing = [(a, b, what) for a, b, what in pairs if a < len(measured) <= b]
    if not crossing:
        return
    first, second, what = crossing[0]
    split, sample = measured[first]
    more = len({b for _, b, _ in crossing}) - 1
    raise InputError(
        f"unlabelled: {images[second].image} {what} {sample.image}, an image of the split {split!r}"
        + (f", and so {plural(more, 'other image')} of other splits" if more else ""),
        hint="take such images out of the folder: what a training is measured on must not be learned from",
    )
