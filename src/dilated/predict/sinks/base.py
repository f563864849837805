"""Where predictions go: one file a picture, or one file for all.

    sink = Palette(Path("out"))
    sink.begin(classes, colors)
    sink.write(picture, prediction)                      # out/NAME.png, whole or not at all
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
from dilated.predict.prediction import Color, Prediction
from dilated.predict.sources import Frame, Picture, Source

KINDS = ("picture", "video", "camera")


class Sink(ABC):
    """Predictions in one form.

    Args:
        out: the folder that is written to.
        kinds: of which kinds of sources it writes predictions.
    """

    scores = False
    """Whether predictions must have their scores."""

    def __init__(self, out: Path, kinds: Sequence[str] = KINDS) -> None:
        self.out, self.kinds = out, kinds

    @abstractmethod
    def path(self, picture: Picture) -> Path:
        """The file that a picture's prediction is in."""

    def claim(self, picture: Picture) -> str:
        """What no other picture may have in this form."""
        return str(self.path(picture))

    def accept(self, source: Source) -> None:  # noqa: B027 - most have nothing to do
        """Check that there is a form for a source.

        Raises:
            InputError: there is none.
        """

    def begin(self, classes: Sequence[str], colors: Sequence[Color], keep: bool = False) -> None:  # noqa: B027
        """Called once, before all else but `path`, `claim` and `accept`.

        Args:
            classes: the network's.
            colors: theirs.
            keep: whether what a former run has written is to be added to.

        Raises:
            InputError: classes that this form cannot have, or outputs of a former run that do not fit.
        """

    def has(self, picture: Picture) -> bool:
        """Whether a former run has written this picture's prediction."""
        return self.path(picture).is_file()

    @abstractmethod
    def write(self, picture: Picture, prediction: Prediction) -> None:
        """Write one prediction.

        Raises:
            OSError: it cannot be written.
            InputError: the prediction has no such form.
        """

    def end(self, source: Source, whole: bool) -> None:  # noqa: B027 - most have nothing to do
        """Called after the last frame of a video: `whole` if no frame is missing because the run was stopped."""

    def close(self) -> Path | None:
        """Write what there is to write at the end of a run, also of one that was stopped; returns the file if any."""
        return None


class FileSink(Sink):
    """One file a picture, `out/NAME` and an ending."""

    ending: str

    def __init__(self, out: Path, kinds: Sequence[str] = KINDS, ending: str = "") -> None:
        super().__init__(out, kinds)
        self.ending = ending or self.ending

    def path(self, picture: Picture) -> Path:
        name = self.out / picture.name
        return name.with_name(name.name + self.ending)

    def write(self, picture: Picture, prediction: Prediction) -> None:
        with whole(self.path(picture)) as part:
            self.save(prediction, part, picture)

    @abstractmethod
    def save(self, prediction: Prediction, path: Path, picture: Picture) -> None:
        """Write a prediction to a file, whose suffix says nothing."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place if all goes well and is removed if not.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "inner" / "a.txt"
        >>> with whole(path) as part:
        ...     _ = part.write_text("all of it")
        ...     path.exists()
        False
        >>> path.read_text(), part.exists()
        ('all of it', False)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def check(sources: Sequence[Source], sinks: Sequence[Sink]) -> None:
    """Check, before anything is written, that no two outputs are one file and that none is an input.

    Raises:
        InputError: two inputs that would become one file, an input that would be overwritten, or a source that a sink
            has no form for.
    """
    places: dict[Path, str] = {}

    def place(path: Path) -> str:
        """Where a file, or a link to one, lies."""
        if path.parent not in places:
            places[path.parent] = os.path.realpath(path.parent)
        return os.path.join(places[path.parent], path.name)

    there = [source for source in sources if not source.problem]
    inputs = {place(source.path) for source in there} | {os.path.realpath(source.path) for source in there}
    claims: dict[str, Source] = {}
    folders = {source.name: source for source in there if source.kind != "picture"}  # of frames
    for source in there:
        picture = example(source)
        for sink in sinks:
            if source.kind not in sink.kinds:
                continue
            sink.accept(source)
            claim = sink.claim(picture)
            if claim in claims:
                raise _collision(source, claims[claim], claim)
            claims[claim] = source
            if place(sink.path(picture)) in inputs:
                raise InputError(
                    f"{sink.path(picture)} would be overwritten by the labels of {source.path}; choose another --out"
                )
        above = folders.keys() & set(source.name.parents)
        if above:
            raise _collision(source, folders[above.pop()], f"files in the folder {source.name.parent} of --out")


def example(source: Source) -> Picture:
    """The picture that a source is, or its first frame."""
    return Picture(source, None if source.kind == "picture" else Frame(1, Fraction(0), Fraction(1)))


def _collision(one: Source, other: Source, claim: str) -> InputError:
    if one.path == other.path:
        return InputError(f"{one.path} would become {claim} twice; give it once")
    return InputError(
        f"{one.path} and {other.path} would both become {claim}; expected names that differ. "
        "Label them in two runs with different --out."
    )
