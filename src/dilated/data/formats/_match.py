"""Which image belongs to which label, and all that is missing, so that a check can list it.

found = match(pictures_in(images), pictures_in(labels), labels, mark="_L")
found.pairs                                          # those that are whole
found.whole()                                        # the same, or an error where something is missing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import list_image_files
from dilated.data.labels import read_values
from dilated.data.sample import Sample
from dilated.errors import InputError


@dataclass(frozen=True)
class MatchResult:
    """The pairs of a split, and a line for each thing that is missing, which starts with the file."""

    samples: list[Sample]
    problems: list[str]

    def require_complete(self) -> list[Sample]:
        """The pairs.

        Raises:
            InputError: something is missing; with the first, and how many more.
        """
        if self.problems:
            more = len(self.problems) - 1
            hint = f" ({more} more such; `dilated check` lists all)" if more else ""
            raise InputError(self.problems[0] + hint)
        return self.samples


def list_images(folder: Path, what: str) -> tuple[list[Path], list[str]]:
    """The images in a folder, or the problem that it is not there; `what` says what it should hold."""
    if not folder.is_dir():
        return [], [f"{folder}: no such folder; expected {what}"]
    return list_image_files(folder), []


def match_labels(
    images: Iterable[Path],
    labels: Iterable[Path],
    folder: Path,
    label_suffix: str = "",
    values: Callable[[Path], NDArray[np.integer]] = read_values,
) -> MatchResult:
    """Match images with labels whose stem is the image's and a mark, in the images' order.

    Args:
        folder: where the labels should be, for messages.
        mark: what the stem of a label has at its end.
        values: how the labels are read.

    Example:
        >>> match_labels([Path("a.png"), Path("b.png")], [Path("a_L.png"), Path("c_L.png")], Path("masks"), "_L").problems
        ['b.png: has no label; expected masks/b_L.png', 'c_L.png: has no image; expected one of the stem c']
    """
    by_stem: dict[str, Path] = {}
    samples, problems = [], []
    for label in labels:
        stem = label.stem.removesuffix(label_suffix)
        if stem in by_stem:
            problems.append(f"{label}: is the second label of {stem}, beside {by_stem[stem].name}; expected one")
        by_stem.setdefault(stem, label)
    seen: dict[str, Path] = {}
    for image in images:
        if image.stem in seen:
            problems.append(f"{image}: is the second image of this stem, beside {seen[image.stem].name}")
        elif image.stem not in by_stem:
            problems.append(f"{image}: has no label; expected {folder / (image.stem + label_suffix)}.png")
        else:
            samples.append(Sample(image, by_stem[image.stem], values))
        seen.setdefault(image.stem, image)
    problems += [
        f"{label}: has no image; expected one of the stem {stem}" for stem, label in by_stem.items() if stem not in seen
    ]
    return MatchResult(samples, problems)


def read_image_list(listing: Path, images: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The images that a list file names, in its order, by stem or by file name with or without folders, one a line.

    Returns:
        The images, and a problem for each line that names none.

    Raises:
        InputError: the list is no text, or two images have one stem.
    """
    by_stem: dict[str, Path] = {}
    for image in images:
        if image.stem in by_stem:
            raise InputError(f"{image}: is the second image of this stem, beside {by_stem[image.stem].name}")
        by_stem[image.stem] = image
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{listing}: is no UTF-8 text ({error}); expected a list of images") from error
    chosen, problems = [], []
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        stem = name if name in by_stem else Path(name).stem
        if stem in by_stem:
            chosen.append(by_stem[stem])
        else:
            problems.append(f"{listing}, line {number}: found {name!r}, and no such image; expected one that is there")
    return chosen, problems


def write_stem_list(listing: Path, stems: Iterable[str]) -> None:
    """Write a list file, one stem a line, which `listed` reads."""
    listing.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def filter_labels(labels: Iterable[Path], images: Iterable[Path], label_suffix: str = "") -> list[Path]:
    """The labels of these images, so that those of other splits are not called superfluous."""
    stems = {image.stem for image in images}
    return [label for label in labels if label.stem.removesuffix(label_suffix) in stems]
