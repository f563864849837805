"""Which image belongs to which label, and everything that is missing, so that a check can list it.

matches = match_labels(list_image_files(images), list_image_files(labels), labels, label_suffix="_L")
matches.samples                                      # those that are complete
matches.require_complete()                           # the same, or an error where something is missing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.images import is_folder, list_image_files
from dilated.data.labels import read_values
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import atomic_write, read_lines


@dataclass(frozen=True)
class MatchResult:
    """The samples of a split, and a line for each thing that is missing, which starts with the file."""

    samples: list[Sample]
    problems: list[str]

    def require_complete(self) -> list[Sample]:
        """The samples.

        Raises:
            InputError: something is missing; with the first problem, and how many more there are.
        """
        if self.problems:
            more = len(self.problems) - 1
            hint = f" ({more} more such; `dilated check` lists all)" if more else ""
            raise InputError(self.problems[0] + hint)
        return self.samples


def list_images(folder: Path, what: str) -> tuple[list[Path], list[str]]:
    """The images in a folder, or the problem that it does not exist; `what` says what it should hold."""
    if not folder.is_dir():
        return [], [f"{folder}: no such folder; expected {what}"]
    return list_image_files(folder), []


def match_labels(
    images: Iterable[Path],
    labels: Iterable[Path],
    folder: Path,
    label_suffix: str = "",
    label_reader: Callable[[Path], NDArray[np.integer]] = read_values,
) -> MatchResult:
    """Match images with labels whose stem is the image's and a suffix, in the images' order.

    Args:
        folder: where the labels should be, for messages.
        label_suffix: what the stem of a label ends in.
        label_reader: how the labels are read.

    Example:
        >>> match_labels([Path("a.png"), Path("b.png")], [Path("a_L.png"), Path("c_L.png")], Path("m"), "_L").problems
        ['b.png: has no label; expected m/b_L.png', 'c_L.png: has no image; expected one of the stem c']
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
            samples.append(Sample(image, by_stem[image.stem], label_reader))
        seen.setdefault(image.stem, image)
    problems += [
        f"{label}: has no image; expected one of the stem {stem}" for stem, label in by_stem.items() if stem not in seen
    ]
    return MatchResult(samples, problems)


def match_folders(
    images: Path,
    labels: Path,
    what: tuple[str, str],
    label_suffix: str = "",
    label_reader: Callable[[Path], NDArray[np.integer]] = read_values,
    listing: Path | None = None,
) -> MatchResult:
    """Match the images of one folder with the labels of another.

    Args:
        what: what the folders should hold, for messages.
        label_suffix: what the stem of a label ends in.
        label_reader: how the labels are read.
        listing: a list file of the images to keep; None for all.
    """
    image_paths, image_problems = list_images(images, what[0])
    label_paths, label_problems = list_images(labels, what[1])
    if image_problems or label_problems:
        return MatchResult([], image_problems + label_problems)
    problems: list[str] = []
    if listing is not None:
        image_paths, problems = read_image_list(listing, image_paths)
        label_paths = filter_labels(label_paths, image_paths, label_suffix)
    matches = match_labels(image_paths, label_paths, labels, label_suffix, label_reader)
    return MatchResult(matches.samples, problems + matches.problems)


def index_by_stem(images: Iterable[Path]) -> dict[str, Path]:
    """The images by their stems.

    Raises:
        InputError: two images of one stem.
    """
    by_stem: dict[str, Path] = {}
    for image in images:
        if image.stem in by_stem:
            raise InputError(f"{image}: is the second image of this stem, beside {by_stem[image.stem].name}")
        by_stem[image.stem] = image
    return by_stem


def read_image_list(listing: Path, images: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The images that a list file names, in its order: by stem or by file name, with or without folders, one per line.

    Returns:
        The images, and a problem for each line that names none.

    Raises:
        InputError: the list is not text, or two images have one stem.
    """
    by_stem = index_by_stem(images)
    chosen, problems = [], []
    for number, name in read_lines(listing):
        stem = find_stem(name, by_stem)
        if stem in by_stem:
            chosen.append(by_stem[stem])
        else:
            problems.append(f"{listing}, line {number}: found {name!r}, and no such image; expected one that exists")
    return chosen, problems


def find_stem(name: str, stems: Iterable[str]) -> str:
    """The stem that a line of a list means: the line itself where that is a stem, else the stem of its file name."""
    return name if name in stems else Path(name).stem


def read_stems(listing: Path, source: str) -> list[str]:
    """The stems in a list file, one per line, for files whose place and suffix are known.

    Raises:
        InputError: no such file, not text, a line that is not a stem or occurs twice.
    """
    hint = f"get the list from {source}"
    if not listing.exists():
        raise InputError(f"{listing}: no such list; expected the stems of its split", hint=hint)
    stems: dict[str, None] = {}
    for number, stem in read_lines(listing):
        if Path(stem).name != stem or stem in stems:
            problem = "a second time" if stem in stems else "; expected a stem without folders"
            raise InputError(f"{listing}, line {number}: found {stem[:80]!r} {problem}", hint=hint)
        stems[stem] = None
    return list(stems)


def write_stems(listing: Path, stems: Iterable[str]) -> None:
    """Write a list file, one stem per line."""
    atomic_write(listing, "".join(f"{stem}\n" for stem in stems))


def filter_labels(labels: Iterable[Path], images: Iterable[Path], label_suffix: str = "") -> list[Path]:
    """The labels of these images, so that those of other splits are not reported as superfluous."""
    stems = {image.stem for image in images}
    return [label for label in labels if label.stem.removesuffix(label_suffix) in stems]


def require_files(paths: Sequence[Path], listing: Path, source: str) -> None:
    """Raise where files are missing that a list names.

    Raises:
        InputError: the first that is missing, or its folder, how many are missing, and where to get them.
    """
    names_by_folder = {folder: list_names(folder) for folder in {path.parent for path in paths}}
    missing = [path for path in paths if path.name not in names_by_folder[path.parent]]
    if missing:
        first_missing = missing[0]
        folder_exists = is_folder(first_missing.parent)
        problem = f"{first_missing}: no such file" if folder_exists else f"{first_missing.parent}: no such folder"
        raise InputError(
            f"{problem}; {len(missing)} of the {len(paths)} such files that {listing} names are missing, the first is "
            f"{first_missing.name}",
            hint=f"get them from {source}",
        )


def list_names(folder: Path) -> set[str]:
    """The names in a folder; none where there is no folder."""
    return {path.name for path in folder.iterdir()} if is_folder(folder) else set()
