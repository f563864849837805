"""A data set on disk: its format, its splits, its classes, and its samples.

    data = open_dataset("my-data")                       # the format is recognized
    data.samples("train")                                # [Sample(image, label), ...]
    data["train"]                                        # a torch.utils.data.Dataset of (image, label)

Each file that describes the data set is read once. An image is read when its sample is asked for; an error names the
file that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dilated.data.archive import is_archive, join_archives, unpack_archive
from dilated.data.formats import FORMATS, IMPLIED_FORMATS, Format
from dilated.data.formats._classes import ClassesFile
from dilated.data.formats._match import SPLIT_ALIASES
from dilated.data.formats._offers import name_unread_export, offer_pair
from dilated.data.formats.ade20k_full import ADE20KFull
from dilated.data.formats.folders import Folders
from dilated.data.groups import Groups
from dilated.data.joined import JoinedSets, read_joined_sets
from dilated.data.labels import Classes, save_classes
from dilated.data.sample import Sample, SampleKey
from dilated.errors import InputError, suggest
from dilated.files import plural
from dilated.input_config import InputConfig

if TYPE_CHECKING:
    from dilated.data.torch_dataset import SplitDataset


CLASSES_FILE = "classes.toml"
_OTHER_ARCHIVES = (".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")


class UnknownLayoutError(InputError):
    """A folder looks like no known layout of data."""


@dataclass(frozen=True)
class DatasetDivision:
    """Splits that are others than those of the data folder.

    Args:
        parts: the samples of train, val and perhaps test.
        source: what makes the same division again: `lists`, a folder, or `fold`, such as `2/5`.
    """

    parts: Mapping[str, Sequence[Sample]]
    source: Mapping[str, str]


@dataclass(frozen=True)
class Dataset:
    """A data folder whose format is known.

    Args:
        contents: the folder as its format reads it.
        classes: the classes of the labels.
        notes: what was chosen where the folder leaves a choice, a line each, for people to read.
        division: train and val where they are others than the folder's, and test where that is too.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> root = Path(tempfile.mkdtemp())
        >>> FORMATS["voc"].save(root, "train", [("a", np.zeros((2, 3, 3), np.uint8), np.full((2, 3), 15, np.uint8))])
        >>> data = open_dataset(root)
        >>> data.format, data.splits, data.samples("train")[0].read_label().max().item()
        ('voc', ('train',), 15)
        >>> image, label = data["train"][0]
        >>> image.shape, label.dtype
        (torch.Size([3, 2, 3]), torch.int64)
    """

    contents: Format = field(repr=False)
    classes: Classes
    notes: tuple[str, ...] = ()
    division: DatasetDivision | None = field(default=None, repr=False)

    def groups(self, split: str) -> Groups:
        """The groups of the samples of a split, in their order: what is not independent of each other.

        They are found over all splits, so that a film has one name in all of them; see `group_samples`.

        Raises:
            InputError: the split is missing or empty, or a table or rule of groups lacks an image.
        """
        place_by_key, groups = self._all_groups
        return groups.select([place_by_key[sample.key] for sample in self.samples(split)])

    @cached_property
    def _all_groups(self) -> tuple[dict[SampleKey, int], Groups]:
        """The groups of all samples, and the place of each sample."""
        samples = {s.key: s for split in self.contents.splits for s in self.contents.match_split(split).samples}
        return {key: place for place, key in enumerate(samples)}, self.contents.group(list(samples.values()))

    @property
    def root(self) -> Path:
        return self.contents.root

    @property
    def format(self) -> str:
        return self.contents.name

    @property
    def input(self) -> InputConfig | None:
        """What the images hold; None for 8-bit RGB. See `dilated.data.input_description`.

        Raises:
            InputError: images that have no such bands, or more than a network reads.
        """
        return self.contents.input

    @property
    def splits(self) -> tuple[str, ...]:
        if self.division is None:
            return self.contents.splits
        kept = [split for split in self.contents.splits if split == "test" and split not in self.division.parts]
        return (*self.division.parts, *kept)

    def samples(self, split: str) -> list[Sample]:
        """The images of a split with their labels, never none.

        Raises:
            InputError: the split is missing or empty, or an image lacks its label.
        """
        if split not in self.splits:
            raise InputError(f"{self.root}: has no split {split!r}; found {', '.join(self.splits) or 'none'}")
        try:
            if self.division is not None and split in self.division.parts:
                samples = list(self.division.parts[split])
            else:
                samples = self.contents.samples(split)
        except OSError as error:
            raise InputError(f"{error.filename or self.root}: cannot be read ({error.strerror or error})") from error
        if not samples:
            raise InputError(
                f"{self.root}: the split {split!r} is empty; expected at least one image",
                hint="add images and labels to it; data without folders of splits is divided by group, and "
                "`dilated split` divides it as you say",
            )
        return samples

    def __getitem__(self, split: str) -> SplitDataset:
        """A split as a torch data set of (image, label).

        Raises:
            InputError: the split is missing or empty, or an image lacks its label.
        """
        from dilated.data.torch_dataset import SplitDataset  # here, for torch takes seconds

        return SplitDataset(self.samples(split))


def require_disjoint_splits(data: Dataset) -> None:
    """Raise where an image is in train and in val: a metric on it would measure nothing.

    Raises:
        InputError: the first such image, and how many there are.
    """
    train = {(sample.image, sample.stem) for sample in data.samples("train")}
    shared = [sample for sample in data.samples("val") if (sample.image, sample.stem) in train]
    if shared:
        raise InputError(
            f"{data.root}: {plural(len(shared), 'image')} in train and in val, the first is {shared[0].image}",
            hint="remove each from one of the two",
        )


def open_dataset(root: Path | str, format: str | None = None, group_by: str | None = None) -> Dataset:
    """Recognize the format of a data folder and read its classes.

    A `classes.toml` in the folder overrides the classes of the format.

    Args:
        root: the data folder, or a zip file of it, which is unpacked into a folder that is kept.
        format: one of `FORMATS`, where the folder alone does not tell.
        group_by: what tells which images belong together, as films and patients do: a CSV file with a line `name,group`
            for each image; `name`, `exif` or `image`; or a regular expression that finds the group in a name. By
            default what the folder's groups.csv or classes.toml says, or what is found.

    Raises:
        MissingClassesError: nothing names the classes; with what to write into a classes.toml.
        InputError: no such folder, an unknown format, or a file that is damaged.
    """
    contents, other_formats = read_folder(Path(root), format)
    contents.group_by = group_by
    data = bind_classes(contents)
    notes = describe_location(Path(root), contents.root)
    if other_formats:
        notes.append(
            f"Read as {contents.name}, though it looks like {', '.join(other_formats)} too: name the format if that is "
            "meant."
        )
    return replace(data, notes=(*notes, *data.notes))


def locate_data(path: Path) -> Path:
    """The folder of a data set: the path itself, or where its zip file, or the zip files in it, are unpacked.

    An archive that holds a single folder is that folder.

    Raises:
        InputError: an archive that cannot be unpacked.
    """
    if path.is_dir():
        is_in_parts = (
            any(path.glob("*.zip"))
            and not ClassesFile(path).joins_sets()
            and not any(map(_has_samples, detect_formats(path)))
        )
        return (join_archives(path) if is_in_parts else None) or path
    if not is_archive(path):
        return path
    folder = unpack_archive(path)
    while (inner := _only_folder(folder)) and (detect_formats(inner) or not detect_formats(folder)):
        folder = inner
    return folder


def _has_samples(contents: Format) -> bool:
    """Whether a reading of a folder has images with labels, or files that say which and are damaged."""
    try:
        return any(contents.match_split(split).samples for split in contents.splits)
    except InputError:
        return True


def _only_folder(folder: Path) -> Path | None:
    """The one folder that a folder holds and nothing else, unless it is named after a split."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    is_only = len(entries) == 1 and entries[0].is_dir() and entries[0].name.lower() not in SPLIT_ALIASES
    return entries[0] if is_only else None


def describe_location(path: Path, folder: Path) -> list[str]:
    """A line that says where data was unpacked, if they were."""
    return [] if path == folder else [f"{path} is read unpacked, in {folder}, which is kept."]


def bind_classes(contents: Format) -> Dataset:
    """A folder as its format reads it, with its classes.

    Raises:
        MissingClassesError: nothing names the classes; with what to write into a classes.toml.
        InputError: a file that is damaged.
    """
    classes = contents.classes
    if classes.read == "colors" and not contents.reads_colors:
        raise InputError(
            f'{classes.source}: found read = "colors" in data of the format {contents.name}, whose labels are not such '
            "masks; expected no such line, or images/ and labels/, the format colors"
        )
    return Dataset(contents, classes, contents.notes)


def detect_formats(root: Path, classes_file: ClassesFile | None = None) -> list[Format]:
    """The folder as each format reads it that it looks like, the one to take first."""
    classes_file = classes_file or ClassesFile(root)
    readings = (format_class(root, classes_file) for format_class in FORMATS.values())
    return [reading for reading in readings if reading.detect()]


def read_folder(root: Path, format: str | None = None) -> tuple[Format, list[str]]:
    """Choose the format of a data folder.

    Returns:
        The folder as its format reads it, and the names of other formats that it looks like too.

    Raises:
        UnknownLayoutError: the folder looks like no format.
        InputError: no such folder, or an unknown format.
    """
    root = locate_data(root)
    if root.is_file():
        is_other = root.suffix.lower() in _OTHER_ARCHIVES
        hint = "unpack it, and give the folder; of archives only zip files are opened" if is_other else ""
        raise InputError(
            f"{root}: is neither a data folder nor a whole zip file", hint=hint or "give a folder, or download it again"
        )
    if not root.is_dir():
        raise InputError(f"{root}: no such folder", hint="give a data folder with images and labels")
    classes_file = ClassesFile(root)
    if format in (None, JoinedSets.name) and classes_file.joins_sets():
        return _read_joined(root, classes_file), []
    if format is not None:
        if format not in FORMATS:
            raise InputError(
                f"format: {format!r} is not a known format", hint=suggest(format, FORMATS, f"give {_list_formats()}")
            )
        return FORMATS[format](root), []
    detected = detect_formats(root, classes_file)
    if not detected:
        names = ", ".join(sorted(p.name for p in root.iterdir())[:6]) or "nothing"
        raise UnknownLayoutError(
            f"{root}: holds no known layout of data; found {names}",
            hint=name_unread_export(root)
            or offer_pair(root)
            or "expected images/ and labels/ (with train/ and val/ inside or outside them, or with train.txt and "
            f"val.txt beside them), or the layout of {_list_formats()}",
        )
    implied = {"folders", "colors", *IMPLIED_FORMATS.get(detected[0].name, ())}
    return detected[0], [reading.name for reading in detected[1:] if reading.name not in implied]


def _read_joined(root: Path, classes_file: ClassesFile) -> Format:
    """The data sets that a folder's classes.toml joins."""
    sets = read_joined_sets(classes_file)
    parts = []
    for joined_set in sets:
        folder, where = root / Path(joined_set.path).expanduser(), f"{classes_file.path}: set {joined_set.path}"
        if ClassesFile(folder).joins_sets():
            raise InputError(f"{where}: joins data sets itself", hint="name its sets here instead")
        part, others = read_folder(folder, joined_set.format)
        if others:
            raise InputError(
                f"{where}: looks like {', '.join([part.name, *others])}",
                hint=f'write format = "{part.name}" or the one that is meant',
            )
        parts.append(part)
    return JoinedSets(root, classes_file, sets, parts)


def _list_formats() -> str:
    return f"one of {', '.join(FORMATS)}"


def write_classes_draft(root: Path) -> Classes:
    """Write `classes.toml` with a class for each value or color of the labels; 0 and 255 are background and object.

    Raises:
        InputError: the file exists, the folder has no label images, a label cannot be read, or too many values.
    """
    root = locate_data(root)
    target = root / CLASSES_FILE
    if target.exists():
        raise InputError(f"{target}: the file exists, and a draft would replace it", hint="move it away first")
    contents = next((c for c in (ADE20KFull(root), Folders(root)) if c.detect()), None)
    if contents is None:
        raise InputError(
            f"{root}: holds no images/ and labels/", hint="only a folder of this layout needs classes.toml"
        )
    classes = contents.draft_classes()
    save_classes(classes, target)
    return classes
