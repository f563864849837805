"""What every format of data on disk answers: `Format`, of which each layout is a subclass.

data = VOC(Path("my-data"))                          # nothing is read yet
data.detect()                                        # whether the folder looks like it
data.splits, data.classes, data.notes                # read when first asked for, and then kept
data.samples("train")                                # [Sample(image, label), ...], or an error with what is missing
VOC.save(Path("copy"), "train", samples)             # writes what `VOC(Path("copy"))` reads

A new format is one subclass in a file of its own, listed in `FORMATS`. Its docstring describes the layout to users.
`detect` looks at names; `parse` reads the files that describe the folder and returns one `Parsed`: the splits, a
function that lists the samples of one, and where the names of the classes come from. `_write` writes arrays. Labels
that are images need `match_folders`, with a `ColorReader` for masks of colors; labels that are objects need a picklable
`label_reader` that draws polygons and masks with `merge_masks`, and `map_names_to_ids` for their values. The base class
does the rest: it keeps what was read, divides data whose one split is `UNDIVIDED`, refuses splits that do not exist,
applies classes.toml, writes the notes on missing colors, and checks arrays before `_write`, if the format has one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import cleandoc
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar

from PIL import Image

from dilated.data.auto_split import HASH_SPLITS, describe_hash_split, find_split_lists, select_split
from dilated.data.formats._classes import (
    ClassesFile,
    colors_by_name,
    describe_missing_classes,
    move_background_first,
    reset_values,
)
from dilated.data.formats._match import SPLITS, UNDIVIDED, MatchResult
from dilated.data.formats._sample_arrays import SampleArrays, validate_arrays
from dilated.data.grouping import group_samples
from dilated.data.groups import Groups
from dilated.data.images import ImageArray
from dilated.data.input_description import describe_samples
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.input_config import InputConfig
from dilated.label_ids import MAX_CLASSES, LabelArray


class MissingClassesError(InputError):
    """Neither a classes.toml nor the format or its files name the classes of a data set."""


class IncompleteLabelsError(InputError):
    """Nothing names the classes, and the labels cannot be looked at for their values until this is mended."""


@dataclass(frozen=True)
class Parsed:
    """What the files that describe a folder say."""

    splits: Iterable[str]
    """The splits of which at least a part exists; `UNDIVIDED` alone where nothing divides the images."""
    match: Callable[[str], MatchResult]
    """Lists the samples of one of these splits, or of `Format.expected_splits`, and everything that is missing."""
    read_classes: Callable[[], Classes | None] | None = None
    """Reads the classes that the folder's own files name, which go before the format's; None where they name none."""
    describe: Callable[[], list[str]] = list
    """What was chosen where the folder leaves a choice, a line each."""


class Format(ABC):
    """A data folder read as one layout. Each file that describes it is read once, when it is first needed.

    A subclass's docstring describes its layout; `dilated check` shows it to users.

    Args:
        root: the data folder.
        classes_file: its classes.toml, where several formats look at one folder.
    """

    name: ClassVar[str]
    fixed_classes: ClassVar[Classes | None] = None
    """What the label values mean, where the format defines it; None where the data folder does."""
    source: ClassVar[str] = ""
    """Where the data can be downloaded; empty for layouts of one's own data."""
    expected_splits: ClassVar[Sequence[str]] = ()
    """The splits of which `Parsed.match` says what is missing, even where nothing of them exists."""
    image_counts: ClassVar[Mapping[str, int]] = {}
    """The published number of images by split."""
    split_notes: ClassVar[Mapping[str, str]] = {}
    """What to know of a split whose pixels are all ignored."""
    frame_rate: ClassVar[float] = 0
    """How many running numbers of file names are a second, where the images are frames of films; 0 where not."""
    writable_splits: ClassVar[Sequence[str]] = SPLITS
    most_classes: ClassVar[int] = MAX_CLASSES
    """The most classes that it can be written with."""
    draws_objects: ClassVar[bool] = False
    """Whether labels are drawn objects, and class 0 the background."""
    takes_any_classes: ClassVar[bool] = True
    """Whether `save` writes any classes, rather than those of `fixed_classes` alone."""
    ignores_pixels: ClassVar[bool] = True
    """Whether ignored pixels can be written."""
    reads_colors: ClassVar[bool] = False
    """Whether labels may be masks of the classes' colors."""
    writes_jpeg: ClassVar[bool] = False
    """Whether images are written as JPEG, which changes their pixels slightly."""
    keeps_image_files: ClassVar[bool] = False
    """Whether an image may be a file of any bands and numbers, which is found by its stem."""
    keeps_names: ClassVar[bool] = True
    """Whether the stems of what was written are read back."""
    image_suffix: ClassVar[str] = ""
    """What the stem of each image ends in, which other formats do not need."""
    lacks_colors: ClassVar[str] = ""
    """What a note says has no colors, with its verb, where a format names classes without colors."""

    def __init__(self, root: Path, classes_file: ClassesFile | None = None) -> None:
        self.root = root
        self.classes_file = classes_file or ClassesFile(root)
        self.group_by: str | None = None
        """The rule for groups that was asked for; see `group_samples`."""
        self._matches: dict[str, MatchResult] = {}

    @abstractmethod
    def detect(self) -> bool:
        """Whether the folder looks like this format, by names and at most the beginnings and ends of a few files."""

    @abstractmethod
    def parse(self) -> Parsed:
        """Read the files that describe the folder.

        Raises:
            InputError: the file that names the splits is damaged.
        """

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        raise InputError(f"{root}: the format {cls.name} is read and not written", hint="choose another format")

    @classmethod
    def is_writable(cls) -> bool:
        """Whether `save` can write the format; others are only read."""
        return cls._write.__func__ is not Format._write.__func__  # type: ignore[attr-defined]

    @cached_property
    def _parsed(self) -> Parsed:
        parsed = self.parse()
        return replace(parsed, splits=tuple(parsed.splits))

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The splits of which at least a part exists.

        Raises:
            InputError: the file that names them is damaged.
        """
        if self._is_undivided:
            return tuple(find_split_lists(self.root) or HASH_SPLITS)
        return tuple(split for split in self._parsed.splits if split != UNDIVIDED)

    @cached_property
    def classes(self) -> Classes:
        """The classes of classes.toml where there is one, otherwise those of the format or of its own files.

        Raises:
            MissingClassesError: nothing names the classes.
            IncompleteLabelsError: nor can all labels be read.
            InputError: the file that names them is damaged.
        """
        classes = self.classes_file.classes
        if classes is None:
            read_classes = self._parsed.read_classes
            classes = (read_classes() if read_classes else None) or self.fixed_classes
        if classes is None:
            try:
                samples = [s for split in self.splits for s in self.match_split(split).require_complete()]
                proposal = describe_missing_classes(self.classes_file.path, samples)
            except InputError as error:
                raise IncompleteLabelsError(error.message, error.hint, error.details) from error
            raise MissingClassesError(*proposal)
        return classes

    @cached_property
    def input(self) -> InputConfig | None:
        """What the images hold, by classes.toml and by some training images; None for 8-bit RGB."""
        split = "train" if "train" in self.splits else next(iter(self.splits), "train")
        return describe_samples(self.match_split(split).samples, self.classes_file.input_rules)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was chosen where the folder leaves a choice, a line each."""
        notes = self._describe_hash_split() if self._is_undivided else []
        notes += self._parsed.describe()
        if self.lacks_colors and self.classes_file.classes is None:
            notes.append(
                f"{self.lacks_colors} no colors: others are given, which differ; a classes.toml overrides them."
            )
        return tuple(notes)

    def match_split(self, split: str) -> MatchResult:
        """The samples of a split, and everything that is missing.

        Raises:
            InputError: what makes it impossible to list them.
        """
        if split not in self._matches:
            self._matches[split] = self._match(split)
        return self._matches[split]

    def _match(self, split: str) -> MatchResult:
        if split not in self.splits and split not in self.expected_splits:
            raise InputError(f"{self.root}: has no split {split!r}; found {', '.join(self.splits) or 'none'}")
        if self._is_undivided:
            samples = self._undivided_samples
            groups = None if find_split_lists(self.root) else self.group(samples)
            return MatchResult(select_split(self.root, samples, split, groups))
        return self._parsed.match(split)

    @cached_property
    def _undivided_samples(self) -> list[Sample]:
        return self._parsed.match(UNDIVIDED).require_complete()

    def group(self, samples: Sequence[Sample]) -> Groups:
        """The groups of samples, each of which occurs once; see `group_samples`.

        Raises:
            InputError: a table or a rule that lacks an image.
        """
        return group_samples(samples, self.root, self.group_by, self.classes_file.group_rule)

    def _describe_hash_split(self) -> list[str]:
        if find_split_lists(self.root):
            return []
        groups = None
        with suppress(InputError):  # said when the samples are asked for
            groups = self.group(self._undivided_samples)
        return [describe_hash_split(groups)]

    @property
    def _is_undivided(self) -> bool:
        return self._parsed.splits == (UNDIVIDED,)

    def samples(self, split: str) -> list[Sample]:
        """The samples of a split, which know their classes.

        Raises:
            InputError: the split, an image or a label is missing, or a file is damaged.
        """
        complete = self.match_split(split).require_complete()
        return [replace(sample, classes=self.classes, input=self.input) for sample in complete]

    def has_listed_or_own_splits(self) -> bool:
        """Whether anything but the hashes of the stems divides the images."""
        return not self._is_undivided or bool(find_split_lists(self.root))

    @classmethod
    def save(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes | None = None) -> None:
        """Write a split that this format reads back.

        Args:
            root: the data folder, which may hold other splits already.
            split: one of `writable_splits`.
            samples: any number, each checked before it is written.
            classes: those of the ids; by default the format's own. A classes.toml is not written here.

        Raises:
            IgnoredPixelsError: ignored pixels, which this format cannot express.
            InputError: another split, classes that the format cannot hold, a stem that is not a file name or occurs
                twice, an image or label of another shape, an id outside the classes.
        """
        classes = classes or cls.fixed_classes
        if split not in cls.writable_splits:
            raise InputError(f"{root}: found the split {split!r}", hint=f"give one of {', '.join(cls.writable_splits)}")
        if classes is None:
            raise InputError(f"{root}: the format {cls.name} has no classes of its own", hint="pass the classes")
        if len(classes) > cls.most_classes:
            raise InputError(
                f"{root}: {cls.name} holds at most {cls.most_classes} classes, and there are {len(classes)}",
                hint="choose a format such as folders",
            )
        cls._write(root, split, validate_arrays(samples, classes, cls.can_ignore(classes)), classes)

    @classmethod
    def can_ignore(cls, classes: Classes) -> bool:
        """Whether ignored pixels can be written with these classes."""
        return cls.ignores_pixels

    @classmethod
    def adapt_classes(cls, classes: Classes) -> Classes:
        """The classes as this format keeps them: in its order, with its values."""
        if cls.fixed_classes is None:
            return move_background_first(classes) if cls.draws_objects else reset_values(classes)
        if cls.takes_any_classes and colors_by_name(classes) != colors_by_name(cls.fixed_classes):
            return reset_values(classes)
        return cls.fixed_classes

    @classmethod
    def describe_layout(cls) -> str:
        """The folders and files of this format, for people: its docstring without the examples."""
        return cleandoc(cls.__doc__ or "").split("\n\nExample:")[0]


def save_pairs(
    samples: Iterable[SampleArrays],
    images: Path,
    labels: Path,
    encode: Callable[[LabelArray], LabelArray | Image.Image],
    label_suffix: str = "",
    image_type: str = "png",
) -> list[str]:
    """Write each image into one folder and its label as PNG into another, and create both folders.

    Args:
        encode: ids (H, W) -> the label as it is written: values (H, W), colors (H, W, 3) or a palette image.
        label_suffix: what follows the stem in the label's name.

    Returns:
        The stems.
    """
    make_folders(images, labels)
    stems = []
    for stem, image, ids in samples:
        save_image(image, images / f"{stem}.{image_type}")
        save_image(encode(ids), labels / f"{stem}{label_suffix}.png")
        stems.append(stem)
    return stems


def require_writable_names(classes: Classes, root: Path, reserved: Iterable[str] = (), without: str = "") -> None:
    """Raise where a name of a class cannot be written on a line of a text file.

    Args:
        reserved: names that mean something else.
        without: characters that mean something else.

    Raises:
        InputError: the name.
    """
    for name in classes.names:
        if name in reserved or name != name.strip() or not name.isprintable() or set(without) & set(name):
            raise InputError(
                f"{root}: the class {name!r} cannot be written",
                hint="give names that fit on a line, without spaces around them"
                + "".join(f", without `{c}`" for c in without),
            )


def make_folders(*folders: Path) -> None:
    """Create folders, and those above them, where they do not exist."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)


def save_image(array: ImageArray | LabelArray | Image.Image, path: Path) -> None:
    """Write an image of the kind that the file's suffix says; JPEG at quality 95."""
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    options = {"quality": 95} if path.suffix == ".jpg" else {}
    image.save(path, None, **options)


def require_field(where: str, entry: object, key: str, kind: type | UnionType) -> Any:
    """A value of an object of a JSON file, if it exists and is of the kind expected.

    Raises:
        InputError: it is missing, or of another kind.
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        kinds = getattr(kind, "__name__", kind)
        raise InputError(f"{where}: {key!r} is {value!r:.60} in {entry!r:.80}, not of the type {kinds}")
    return value
