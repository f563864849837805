"""Where predictions go: one file an image, or one file for all.

    sink = Palette(Path("out"))
    sink.begin(classes, colors)
    sink.write(image, prediction)                      # out/NAME.png, whole or not at all
    sink.close()

Sinks may be written to by several threads at once.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from dilated.errors import InputError
from dilated.palettes import Color
from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import Frame, InputImage, Source

SOURCE_KINDS = ("image", "video", "camera")


class PredictionWriter(ABC):
    """Predictions in one form.

    Args:
        out: the folder that is written to.
        kinds: of which kinds of sources it writes predictions.
    """

    logits = False
    """Whether predictions must have their logits."""

    def __init__(self, out: Path, kinds: Sequence[str] = SOURCE_KINDS) -> None:
        self.out, self.kinds = out, kinds

    @abstractmethod
    def path(self, image: InputImage) -> Path:
        """The file that an image's prediction is in."""

    def output_key(self, image: InputImage) -> str:
        """What no other image may have in this form."""
        return str(self.path(image))

    def check_source(self, source: Source) -> None:  # noqa: B027 - most have nothing to do
        """Check that there is a form for a source.

        Raises:
            InputError: there is none.
        """

    def open(self, classes: Sequence[str], colors: Sequence[Color], append: bool = False) -> None:  # noqa: B027
        """Called once, before all else but `path`, `claim` and `check_source`.

        Args:
            classes: the network's.
            colors: theirs.
            keep: whether what a former run has written is to be added to.

        Raises:
            InputError: classes that this form cannot have, or outputs of a former run that do not fit.
        """

    def has(self, image: InputImage) -> bool:
        """Whether a former run has written this image's prediction."""
        return self.path(image).is_file()

    @abstractmethod
    def write(self, image: InputImage, prediction: Prediction) -> None:
        """Write one prediction.

        Raises:
            OSError: it cannot be written.
            InputError: the prediction has no such form.
        """

    def finish_video(self, source: Source, atomic_write: bool) -> None:  # noqa: B027 - most have nothing to do
        """Called after the last frame of a video: `whole` if no frame is missing because the run was stopped."""

    def close(self) -> Path | None:
        """Write what there is to write at the end of a run, also of one that was stopped; returns the file if any."""
        return None


class PerImageWriter(PredictionWriter):
    """One file an image, `out/NAME` and an ending."""

    suffix: str

    def __init__(self, out: Path, kinds: Sequence[str] = SOURCE_KINDS, suffix: str = "") -> None:
        super().__init__(out, kinds)
        self.suffix = suffix or self.suffix

    def path(self, image: InputImage) -> Path:
        name = self.out / image.name
        return name.with_name(name.name + self.suffix)

    def write(self, image: InputImage, prediction: Prediction) -> None:
        with atomic_write(self.path(image)) as temporary:
            self.save(prediction, temporary, image)

    @abstractmethod
    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        """Write a prediction to a file, whose suffix says nothing."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place if all goes well and is removed if not.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "inner" / "a.txt"
        >>> with atomic_write(path) as temporary:
        ...     _ = temporary.write_text("all of it")
        ...     path.exists()
        False
        >>> path.read_text(), temporary.exists()
        ('all of it', False)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_outputs(sources: Sequence[Source], writers: Sequence[PredictionWriter]) -> None:
    """Check, before anything is written, that no two outputs are one file and that none is an input.

    Raises:
        InputError: two inputs that would become one file, an input that would be overwritten, or a source that a sink
            has no form for.
    """
    resolved_parents: dict[Path, str] = {}

    def resolve(path: Path) -> str:
        """Where a file, or a link to one, lies."""
        if path.parent not in resolved_parents:
            resolved_parents[path.parent] = os.path.realpath(path.parent)
        return os.path.join(resolved_parents[path.parent], path.name)

    readable = [source for source in sources if not source.problem]
    inputs = {resolve(source.path) for source in readable} | {os.path.realpath(source.path) for source in readable}
    owners: dict[str, Source] = {}
    folders = {source.name: source for source in readable if source.kind != "image"}  # of frames
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
                    f"{writer.path(image)} would be overwritten by the labels of {source.path}; choose another --out"
                )
        clashes = folders.keys() & set(source.name.parents)
        if clashes:
            raise _collision_error(source, folders[clashes.pop()], f"files in the folder {source.name.parent} of --out")


def first_image(source: Source) -> InputImage:
    """The image that a source is, or its first frame."""
    return InputImage(source, None if source.kind == "image" else Frame(1, Fraction(0), Fraction(1)))


def _collision_error(one: Source, other: Source, output_key: str) -> InputError:
    if one.path == other.path:
        return InputError(f"{one.path} would become {output_key} twice; give it once")
    return InputError(
        f"{one.path} and {other.path} would both become {output_key}; expected names that differ. "
        "Label them in two runs with different --out."
    )
