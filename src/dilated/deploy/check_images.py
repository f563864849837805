"""The images that an exported file is tried on, and those that int8 takes its ranges from.

chosen = find_images(Path("my-data"), "val")
chosen.images, chosen.dataset                          # of a data folder; its labels are in chosen.samples
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar

import numpy as np

from dilated.data.dataset import Dataset, open_dataset
from dilated.data.images import list_image_files
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import plural
from dilated.input_config import InputConfig
from dilated.prediction.image_input import to_pixels

_MOST_IMAGES = 20
_T = TypeVar("_T")


@dataclass(frozen=True)
class ChosenImages:
    """Some of the images at a place."""

    images: list[Path]
    samples: list[Sample]
    """The same with their labels; empty where there are none."""
    dataset: Dataset | None = None
    notes: tuple[str, ...] = ()
    """What was assumed."""


def find_images(place: Path, split: str) -> ChosenImages:
    """Choose at most 20 images, evenly spaced.

    Args:
        place: a data folder, a folder of images or an image.
        split: the part of a data folder.

    Raises:
        InputError: no such place, or no image in it.
    """
    if place.is_file():
        return ChosenImages([place], [])
    try:
        dataset = open_dataset(place)
        samples = _space_evenly(dataset.samples(split))
    except InputError as error:
        images = _space_evenly(list_image_files(place)) if place.is_dir() else []
        if not images:
            raise
        return ChosenImages(images, [], None, (f"{place} is taken for a folder of images, as data: {error.message}",))
    return ChosenImages([sample.image for sample in samples], samples, dataset)


def find_checked(check: Path | None, split: str, config: InputConfig | None) -> ChosenImages:
    """Return the images that the price is measured on: the sample photographs if none are given.

    Args:
        check: a data folder, a folder of images or an image; None if not given.
        split: the part of a data folder.
        config: what the network reads; None for 8-bit RGB.

    Raises:
        InputError: none are given, and the network reads no photographs; or no image at the place.
    """
    if check is not None:
        return find_images(check, split)
    if config is not None:
        raise InputError(
            f"export: the network reads {config.describe()}, and the sample photographs are 8-bit RGB",
            hint="give images of that kind as --check",
        )
    entries = sorted((resources.files("dilated") / "samples").iterdir(), key=lambda entry: entry.name)
    images = [Path(str(entry)) for entry in entries if entry.name.endswith((".jpg", ".png"))]
    return ChosenImages(images, [], None, ("measured on the sample photographs; --check takes yours",))


def find_calibration(calibrate: Path | None, check: Path | None, checked: list[Path]) -> ChosenImages:
    """Return the images that ranges are taken from: those given, else the training images of the data that is checked.

    Args:
        calibrate: a data folder, of which `train` is read, a folder of images or an image; None if not given.
        check: the place of the images that the price is measured on, where it was given.
        checked: the images that the price is measured on, which are taken where there are no others.

    Raises:
        InputError: no image at the place that was given for it.
    """
    chosen: ChosenImages | None = None
    if calibrate is not None:
        chosen = find_images(calibrate, "train")
    elif check is not None and check.is_dir():
        try:
            chosen = find_images(check, "train")
        except InputError:
            chosen = None
        chosen = None if chosen is None or chosen.dataset is None else chosen
    images = checked if chosen is None else chosen.images
    note = f"ranges of int8 are from {plural(len(images), 'image')}"
    if chosen is None:
        note += ", the same that the price is measured on: give others as --calibrate"
    return ChosenImages(images, [], None, (*(chosen.notes if chosen else ()), note))


def cut_images(images: list[Path], size: tuple[int, int], config: InputConfig | None, folder: Path) -> list[Path]:
    """Save the middle part of each image as an array, for files that take images of one size.

    Args:
        size: height and width of the part.
        config: what the network reads; None for 8-bit RGB.
        folder: where the arrays go.

    Raises:
        InputError: an image that is smaller.
    """
    parts = []
    for i, path in enumerate(images):
        pixels = to_pixels(path, config)
        top, left = ((have - want) // 2 for have, want in zip(pixels.shape[:2], size, strict=True))
        if min(top, left) < 0:
            raise InputError(
                f"{path}: {pixels.shape[0]}x{pixels.shape[1]} pixels, less than the file's {size[0]}x{size[1]}",
                hint="give a smaller --size, or larger images as --check",
            )
        parts.append(folder / f"part{i}.npy")
        np.save(parts[-1], pixels[top : top + size[0], left : left + size[1]])
    return parts


def _space_evenly(items: list[_T]) -> list[_T]:
    return items[:: max(1, len(items) // _MOST_IMAGES)][:_MOST_IMAGES]
