"""Which image belongs to which label, and everything that is missing, so that a check can list it.

matches = match_folders(images, labels, ("the images", "their labels"), label_suffix="_L")
matches.samples                                      # those that are complete
matches.require_complete()                           # the same, or an error where something is missing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.auto_split import resolve_list
from dilated.data.formats._stems import EQUAL_STEMS, StemRule, find_stem_rule
from dilated.data.images import is_folder, list_image_files
from dilated.data.labels import read_values
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import atomic_write, plural, read_lines

SPLITS = ("train", "val", "test")
UNDIVIDED = "default"
"""The split of data that neither folders nor files divide."""
SPLIT_ALIASES = {
    **{split: split for split in (*SPLITS, UNDIVIDED)},
    "training": "train",
    "valid": "val",
    "validation": "val",
    "testing": "test",
}
"""The split that each name of a folder or a list file means, in lower case."""


def find_split(words: Iterable[str]) -> str:
    """The split that one of the words names, such as the folders of a path; `UNDIVIDED` for none.

    Example:
        >>> find_split(("images", "Validation")), find_split(("images",))
        ('val', 'default')
    """
    return next((split for word in words if (split := SPLIT_ALIASES.get(word.lower()))), UNDIVIDED)


@dataclass(frozen=True)
class MatchResult:
    """The samples of a split, and a line for each thing that is missing, which starts with the file."""

    samples: list[Sample]
    problems: list[str] = field(default_factory=list)

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


def match_folders(
    images: Path,
    labels: Path,
    what: tuple[str, str],
    label_suffix: str | None = "",
    label_reader: Callable[[Path], NDArray[np.integer]] = read_values,
    listing: Path | None = None,
    keep: Callable[[str], bool] | None = None,
) -> MatchResult:
    """Match the images of one folder with the labels of another, by stem.

    Args:
        what: what the folders should hold, for messages.
        label_suffix: what the stem of a label ends in; None for what `find_stem_rule` finds.
        label_reader: how the labels are read.
        listing: a list file of the images to keep; None for all.
        keep: whether to keep the images and labels of a stem; None for all.

    Raises:
        InputError: the list is not text, or two images have one stem.
    """
    missing = find_missing_folders((images, labels), what)
    if listing is not None and not listing.is_file():
        missing.append(f"{listing}: no such file; expected the stems of images in {images}, one per line")
    if missing:
        return MatchResult([], missing)
    problems: list[str] = []
    image_paths, label_paths = list_image_files(images), list_image_files(labels)
    causes = _explain_no_pair(images, image_paths, labels, label_paths)
    rule = find_stem_rule(image_paths, label_paths) if label_suffix is None else StemRule(label_suffix=label_suffix)
    if listing is not None:
        image_paths, problems = resolve_list(listing, index_by_stem(image_paths))
        keep = {image.stem for image in image_paths}.__contains__
    if keep is not None:
        image_paths = [path for path in image_paths if keep(path.stem)]
        label_paths = [path for path in label_paths if keep(rule.image_stem(path.stem))]
    matches = match_labels(image_paths, label_paths, labels, rule, label_reader)
    return MatchResult(matches.samples, (problems if matches.samples else causes + problems) + matches.problems)


def _explain_no_pair(images: Path, image_paths: list[Path], labels: Path, label_paths: list[Path]) -> list[str]:
    """Why no image has a label, where it is arrays in place of images, or a mask for each object; else nothing."""
    if not image_paths:
        others = sorted(path for path in images.iterdir() if path.is_file() and not path.name.startswith("."))
        contents = f"{plural(len(others), 'other file')}, such as {others[0].name}" if others else ""
        way_out = ": write each array with numpy.save" if others and others[0].suffix == ".npz" else ""
        return [f"{images}: holds no image, but {contents}{way_out}"] if others else []
    if len(image_paths) == 1 < len(label_paths):
        return [
            f"{labels}: holds {len(label_paths)} masks for the one image {image_paths[0].name}, as of single objects; "
            f"expected one mask: join them by numpy.maximum, as values of the classes, into {image_paths[0].stem}.png"
        ]
    return []


def find_missing_folders(folders: Iterable[Path], what: Iterable[str]) -> list[str]:
    """A problem for each folder that does not exist; `what` says what each should hold."""
    return [
        f"{folder}: no such folder; expected {content}"
        for folder, content in zip(folders, what, strict=True)
        if not folder.is_dir()
    ]


def match_labels(
    images: Iterable[Path],
    labels: Iterable[Path],
    folder: Path,
    rule: StemRule = EQUAL_STEMS,
    label_reader: Callable[[Path], NDArray[np.integer]] = read_values,
) -> MatchResult:
    """Match images with labels whose stems follow a rule, in the images' order.

    Example:
        >>> rule = StemRule(label_suffix="_L")
        >>> match_labels([Path("a.png"), Path("b.png")], [Path("a_L.png"), Path("c_L.png")], Path("m"), rule).problems
        ['b.png: has no label; expected m/b_L.png', 'c_L.png: has no image; expected one of the stem c']
    """
    by_key: dict[str, Path] = {}
    samples, problems = [], []
    for label in labels:
        key = rule.label_key(label.stem)
        if key in by_key:
            stem = rule.image_stem(label.stem)
            problems.append(f"{label}: is the second label of {stem}, beside {by_key[key].name}; expected one")
        by_key.setdefault(key, label)
    seen: dict[str, Path] = {}
    for image in images:
        key = rule.image_key(image.stem)
        if key in seen:
            problems.append(f"{image}: is the second image of this stem, beside {seen[key].name}")
        elif key not in by_key:
            problems.append(f"{image}: has no label; expected {folder / rule.label_stem(image.stem)}.png")
        else:
            samples.append(Sample(image, by_key[key], label_reader))
        seen.setdefault(key, image)
    problems += [
        f"{label}: has no image; expected one of the stem {rule.image_stem(label.stem)}"
        for key, label in by_key.items()
        if key not in seen
    ]
    return MatchResult(samples, problems)


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


def read_stems(listing: Path, source: str) -> list[str]:
    """The stems in a list file, one per line, for files whose place and suffix are known.

    Raises:
        InputError: no such file, not text, a line that is not a stem or occurs twice.
    """
    hint = f"get the list from {source}"
    if not listing.exists():
        raise InputError(f"{listing}: no such list", hint=hint)
    stems: dict[str, None] = {}
    for number, stem in read_lines(listing):
        if Path(stem).name != stem or stem in stems:
            problem = "a second time" if stem in stems else ", which is not a stem without folders"
            raise InputError(f"{listing}, line {number}: found {stem[:80]!r} {problem}", hint=hint)
        stems[stem] = None
    return list(stems)


def index_by_split(named_paths: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """The path of each split, for files or folders that are named after it; other names are left out.

    Raises:
        InputError: two paths of one split.
    """
    by_split: dict[str, Path] = {}
    for name, path in named_paths:
        split = SPLIT_ALIASES.get(name.lower())
        if split in by_split:
            raise InputError(
                f"{path}: is a second file of {split}, beside {by_split[split]}", hint="move one of them away"
            )
        if split:
            by_split[split] = path
    return by_split


def write_stems(listing: Path, stems: Iterable[str]) -> None:
    """Write a list file, one stem per line."""
    atomic_write(listing, "".join(f"{stem}\n" for stem in stems))


def require_files(paths: Sequence[Path], listing: Path, source: str) -> None:
    """Raise where files are missing that a list names.

    Raises:
        InputError: the first that is missing, or its folder, how many are missing, and where to get them.
    """
    names_by_folder = {folder: list_names(folder) for folder in {path.parent for path in paths}}
    missing = [path for path in paths if path.name not in names_by_folder[path.parent]]
    if missing:
        folder = missing[0].parent
        problem = f"{missing[0]}: no such file" if is_folder(folder) else f"{folder}: no such folder"
        raise InputError(
            f"{problem}; {len(missing)} of the {len(paths)} such files that {listing} names are missing, the first is "
            f"{missing[0].name}",
            hint=f"get them from {source}",
        )


def list_names(folder: Path) -> set[str]:
    """The names in a folder; none where there is no folder."""
    return {path.name for path in folder.iterdir()} if is_folder(folder) else set()
