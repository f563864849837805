"""What all writers of predictions share: one file per image, or one file for a run.

    writer = PerImageWriter(Path("out"), LABEL_FORMATS["palette"])
    writer.open(classes, colors)
    writer.write(image, prediction)                    # out/NAME.png, whole or not at all
    writer.close()

Writers may be called by several threads at once.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Generic, TextIO, TypeVar

from dilated.errors import InputError
from dilated.files import atomic_path
from dilated.palettes import Color
from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import Frame, InputImage, Source, SourceKind

_T = TypeVar("_T")


class PredictionWriter(ABC):
    """Writes predictions in one format.

    Args:
        out: the folder that is written to.
        kinds: the kinds of sources whose predictions it writes.
    """

    needs_logits = False
    """Whether predictions must have their logits."""

    def __init__(self, out: Path, kinds: Sequence[SourceKind] = tuple(SourceKind)) -> None:
        self.out, self.kinds = out, kinds

    @abstractmethod
    def path(self, image: InputImage) -> Path:
        """Return the file that an image's prediction goes to."""

    def output_key(self, image: InputImage) -> str:
        """Return what no two images may have in common in this format."""
        return str(self.path(image))

    def check_source(self, source: Source) -> None:  # noqa: B027 - most have nothing to check
        """Check that a source can be written in this format.

        Raises:
            InputError: it cannot.
        """

    def open(self, classes: Sequence[str], colors: Sequence[Color], append: bool = False) -> None:  # noqa: B027
        """Prepare for the predictions of a network; called once, before `has`, `write` and `close`.

        Args:
            classes: the names of the network's classes.
            colors: their colors.
            append: whether what a former run has written is added to.

        Raises:
            InputError: classes that this format cannot have, or outputs of a former run that do not fit.
        """

    def has(self, image: InputImage) -> bool:
        """Return whether a former run has written this image's prediction."""
        return self.path(image).is_file()

    @abstractmethod
    def write(self, image: InputImage, prediction: Prediction) -> None:
        """Write one prediction.

        Raises:
            OSError: it cannot be written.
            InputError: the prediction cannot have this format.
        """

    def finish_video(self, source: Source, complete: bool) -> None:  # noqa: B027 - most have nothing to do
        """Called after the last frame of a video; `complete` is false if the run was stopped before its end."""

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Write what is written at the end of a run, also of a run that was stopped."""


@dataclass(frozen=True)
class ImageFormat:
    """A format of one file per image.

    Args:
        suffix: what follows the image's name.
        save: writes a prediction to a temporary path, whose suffix is not that of the format.
        needs_logits: whether predictions must have their logits.
        package: what must be installed for it.
        video_error: the start of the message by which videos are refused; empty if it can hold frames.
    """

    suffix: str
    save: Callable[[Prediction, Path, InputImage], object]
    needs_logits: bool = False
    package: str = ""
    video_error: str = ""


class PerImageWriter(PredictionWriter):
    """One file per image, `out/NAME` and a suffix."""

    def __init__(
        self, out: Path, image_format: ImageFormat, kinds: Sequence[SourceKind] = tuple(SourceKind), suffix: str = ""
    ) -> None:
        super().__init__(out, kinds)
        self.format, self.suffix = image_format, suffix or image_format.suffix
        self.needs_logits = image_format.needs_logits

    def path(self, image: InputImage) -> Path:
        name = self.out / image.name
        return name.with_name(name.name + self.suffix)

    def check_source(self, source: Source) -> None:
        if self.format.video_error and source.kind != SourceKind.IMAGE:
            raise InputError(f"{self.format.video_error} the {source.kind} {source.path}", hint="give images")

    def open(self, classes: Sequence[str], colors: Sequence[Color], append: bool = False) -> None:
        if self.format.package and find_spec(self.format.package) is None:
            raise InputError(
                f"{self.suffix} files need {self.format.package}, which is not installed",
                hint="run: pip install 'dilated[geo]'",
            )

    def write(self, image: InputImage, prediction: Prediction) -> None:
        with output_file(self.path(image)) as temporary:
            self.format.save(prediction, temporary, image)


class PerRunWriter(PredictionWriter, Generic[_T]):
    """One file per run, `out/file_name`, written at its end with an entry for each image, sorted by name."""

    file_name: str
    entry_noun: str

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.file = out / self.file_name
        self.classes: Sequence[str] = ()
        self.entries: dict[str, _T] = {}

    def path(self, image: InputImage) -> Path:
        return self.file

    def output_key(self, image: InputImage) -> str:
        return f"the {self.entry_noun} {image.key} of {self.file}"

    def open(self, classes: Sequence[str], colors: Sequence[Color], append: bool = False) -> None:
        self.classes = classes
        if not append or not self.file.exists():
            return
        hint = "leave out --skip-existing, or choose another --out"
        try:
            self.entries, names = self.read()
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(f"{self.file}: not what a former run has written ({error})", hint=hint) from error
        if names != list(classes):
            raise InputError(f"{self.file}: the classes are not this network's {', '.join(classes)}", hint=hint)

    def has(self, image: InputImage) -> bool:
        return image.key in self.entries

    def write(self, image: InputImage, prediction: Prediction) -> None:
        self.entries[image.key] = self.make_entry(prediction)

    def close(self) -> None:
        if not self.entries:
            return
        self.entries = dict(sorted(self.entries.items()))
        with output_file(self.file) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            self.dump(file)

    @abstractmethod
    def make_entry(self, prediction: Prediction) -> _T:
        """Return what is kept of a prediction until the end."""

    @abstractmethod
    def read(self) -> tuple[dict[str, _T], list[str]]:
        """Read the entries and the classes of a file that a former run has written; any `ValueError` if it has not."""

    @abstractmethod
    def dump(self, file: TextIO) -> None:
        """Write all entries."""


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """Make the folder of an output, and give a temporary path that replaces it at the end, see `atomic_path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        yield temporary


def check_outputs(sources: Sequence[Source], writers: Sequence[PredictionWriter]) -> None:
    """Check, before anything is written, that no two outputs are one file and that none is an input.

    Raises:
        InputError: two inputs that would become one file, an input that would be overwritten, or a source that a
            writer has no format for.
    """
    resolved_parents: dict[Path, str] = {}

    def resolve(path: Path) -> str:
        """Return where a file, or a link to one, lies."""
        if path.parent not in resolved_parents:
            resolved_parents[path.parent] = os.path.realpath(path.parent)
        return os.path.join(resolved_parents[path.parent], path.name)

    readable = [source for source in sources if not source.problem]
    inputs = {resolve(source.path) for source in readable} | {os.path.realpath(source.path) for source in readable}
    owners: dict[str, Source] = {}
    folders = {source.name: source for source in readable if source.kind != SourceKind.IMAGE}  # of frames
    for source in readable:
        image = first_image(source)
        for writer in writers:
            if source.kind not in writer.kinds:
                continue
            writer.check_source(source)
            output_key = writer.output_key(image)
            if output_key in owners:
                raise _collision_error(source, owners[output_key], output_key)
            owners[output_key] = source
            if resolve(writer.path(image)) in inputs:
                raise InputError(
                    f"{writer.path(image)} would be overwritten by the labels of {source.path}",
                    hint="choose another --out",
                )
        clashes = folders.keys() & set(source.name.parents)
        if clashes:
            raise _collision_error(source, folders[clashes.pop()], f"files in the folder {source.name.parent} of --out")


def first_image(source: Source) -> InputImage:
    """Return the image that a source is, or its first frame."""
    return InputImage(source, None if source.kind == SourceKind.IMAGE else Frame(1, Fraction(0), Fraction(1)))


def _collision_error(source: Source, other: Source, output_key: str) -> InputError:
    if source.path == other.path:
        return InputError(f"{source.path} would become {output_key} twice", hint="give it once")
    return InputError(
        f"{source.path} and {other.path} would both become {output_key}",
        hint="label them in two runs with different --out",
    )
