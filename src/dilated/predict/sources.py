"""What there is to label: pictures, folders, patterns, lists, videos and cameras, as one flat list.

    sources = find(["photos/", "more/**/*.jpg", "list.txt", "clip.mp4", "camera:0"])
    sources[0].name                                      # what its labels are named after, below the output folder

Nothing is opened here but lists and folders. A line of a list that names no file, and a folder that may not be read,
are sources with a `problem`, which are reported in their turn as pictures that cannot be read are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Literal

from dilated.data.images import SUFFIXES
from dilated.errors import InputError

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv")


@dataclass(frozen=True)
class Source:
    """One input.

    Args:
        path: the file; of a camera, what was given.
        name: what its outputs are named after: a path below the output folder, without suffix.
        kind: whether it is a picture, or how its frames are had.
        problem: why it cannot be read, if that is known by now.
    """

    path: Path
    name: Path
    kind: Literal["picture", "video", "camera"] = "picture"
    problem: str = ""


@dataclass(frozen=True)
class Frame:
    """A frame's place in its video.

    Args:
        number: from 1.
        seconds: from the first frame.
        rate: the video's frames a second.
        of: how many frames there will be, as far as the file says; else 0.
    """

    number: int
    seconds: Fraction
    rate: Fraction
    of: int = 0


@dataclass(frozen=True)
class Picture:
    """What is labelled at once: a picture, or one frame of a video.

    Example:
        >>> still = Picture(Source(Path("in/deep/a.jpg"), Path("deep/a")))
        >>> still.name.as_posix(), still.key
        ('deep/a', 'deep/a.jpg')
        >>> clip = Source(Path("clip.mp4"), Path("clip"), "video")
        >>> frame = Picture(clip, Frame(12, Fraction(11, 25), Fraction(25)))
        >>> frame.name.as_posix(), frame.key, str(frame)
        ('clip/000012', 'clip.mp4/000012', 'clip.mp4, frame 12')
    """

    source: Source
    frame: Frame | None = None

    @property
    def name(self) -> Path:
        """What its outputs are named after, below the output folder."""
        return self.source.name / f"{self.frame.number:06d}" if self.frame else self.source.name

    @property
    def key(self) -> str:
        """Its name in a table of many pictures: with its suffix, with inner folders, the same wherever it is run."""
        camera = self.source.kind == "camera"
        file = self.source.name if camera else self.source.name.parent / self.source.path.name
        return f"{file.as_posix()}/{self.frame.number:06d}" if self.frame else file.as_posix()

    def __str__(self) -> str:
        return f"{self.source.path}, frame {self.frame.number}" if self.frame else str(self.source.path)


def find(inputs: Sequence[Path | str], leave_out: Path | None = None) -> list[Source]:
    """The sources of what was given on the command line.

    Args:
        inputs: pictures and videos; folders, in which pictures are looked for; patterns such as `photos/**/*.jpg`;
            `.txt` files with a path a line, relative to the file's folder, where blank lines and those that start with
            # say nothing; `camera:0` or a camera's device. Linked folders are followed, but not into a folder that they
            are in; hidden files and folders are left out.
        leave_out: a folder whose files are no inputs where it lies inside a folder given: the outputs of a former run.

    Returns:
        In the order given, the files of a folder by name. Files of folders and patterns keep their inner folders, and
        so do relative paths of a list.

    Raises:
        InputError: a path that does not exist, nothing to label in a folder, pattern or list, or no input at all.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "deep").mkdir()
        >>> (folder / "deep" / "a.JPG").touch()
        >>> [source.name.as_posix() for source in find([folder])]
        ['deep/a']
    """
    sources = [source for given in inputs for source in _find(Path(given), leave_out)]
    if not sources:
        raise InputError(
            "predict: found no input; expected pictures, folders of pictures, patterns, lists, videos or camera:0"
        )
    return list(dict.fromkeys(sources))


def _find(given: Path, leave_out: Path | None) -> list[Source]:
    if re.fullmatch(r"camera:.+", str(given)) or given.is_char_device():
        name = re.sub(r"\W", "", str(given).removeprefix("/dev/"))
        return [Source(given, Path(name), "camera")]
    if given.is_dir():
        return _folder(given, leave_out)
    if given.suffix.lower() == ".txt" and given.exists():
        return _list(given)
    if given.exists():
        return [_file(given, Path())]
    if any(character in str(given) for character in "*?["):
        return _pattern(given, leave_out)
    raise InputError(
        f"{given}: no such file or folder; expected a picture, a folder of pictures, a pattern, a list or a video"
    )


def _file(path: Path, inner: Path) -> Source:
    return Source(path, inner / path.stem, "video" if path.suffix.lower() in VIDEOS else "picture")


def _folder(folder: Path, leave_out: Path | None) -> list[Source]:
    found = [
        Source(path, inner / path.stem, problem=problem)
        for path, inner, problem in _walk(folder, leave_out)
        if problem or path.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise InputError(f"{folder}: found no picture; expected files such as {', '.join(SUFFIXES[:4])}")
    return found


def _pattern(pattern: Path, leave_out: Path | None) -> list[Source]:
    """The pictures and videos that match a pattern, below its last folder without a wildcard."""
    parts = pattern.parts
    fixed = next(i for i, part in enumerate(parts) if any(character in part for character in "*?["))
    folder, rest = Path(*parts[:fixed]), parts[fixed:]
    depth = None if "**" in rest else len(rest)
    if not folder.is_dir():
        raise InputError(f"{pattern}: found no folder {folder}; expected the one in which the pattern is looked for")
    matching = [
        (path, inner, problem)
        for path, inner, problem in _walk(folder, leave_out, depth)
        if problem or matches((*inner.parts, path.name), rest)
    ]
    found = [
        Source(path, inner / path.stem, problem=problem) if problem else _file(path, inner)
        for path, inner, problem in matching
        if problem or path.suffix.lower() in (*SUFFIXES, *VIDEOS)
    ]
    if not found:
        raise InputError(
            f"{pattern}: found {len(matching)} files that match, none of them a picture or a video; expected at least "
            "one. ** stands for any folders."
        )
    return found


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path's parts match a pattern's; `**` stands for any number of folders.

    Example:
        >>> matches(("a", "b", "c.jpg"), ("a", "**", "*.jpg")), matches(("a", "c.jpg"), ("a", "**", "*.jpg"))
        (True, True)
        >>> matches(("a", "b", "c.jpg"), ("a", "*.jpg"))
        False
    """
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return matches(parts, pattern[1:]) or (bool(parts) and matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


def _list(path: Path) -> list[Source]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is no text in UTF-8 ({error.reason}); expected a path of a picture a line"
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        entry = Path(line.strip())
        if not line.strip() or line.strip().startswith("#"):
            continue
        outside = entry.is_absolute() or ".." in entry.parts
        source = _file(path.parent / entry, Path() if outside else entry.parent)
        if not source.path.is_file():
            what = "a folder" if source.path.is_dir() else "no such file"
            problem = f"{path}, line {number}: found {what} at {source.path}; expected a picture or a video"
            source = Source(source.path, source.name, problem=problem)
        found.append(source)
    if not found:
        raise InputError(f"{path}: found no path in the list; expected a picture a line")
    return found


def _walk(
    folder: Path, leave_out: Path | None, depth: int | None = None, above: tuple[Path, ...] = (), inner: Path = Path()
) -> Iterator[tuple[Path, Path, str]]:
    """All files below a folder that are not hidden, with their inner folders: first a folder's own, then its folders'.

    A folder that may not be read is given with the reason. A link that leads nowhere is given as the file that it
    seems to be, for reading it says so; pipes and devices are left out, for reading them may never end.
    """
    here = folder.resolve()
    if here in above or (above and leave_out is not None and here == leave_out.resolve()):
        return
    try:
        entries = sorted((entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=_name)
    except OSError as error:
        yield folder, inner.parent, f"{folder}: the folder may not be read ({error.strerror}); expected its pictures"
        return
    folders = [entry for entry in entries if os.path.isdir(entry)]  # entry.is_dir() fails at a link to itself
    for entry in entries:
        if os.path.isfile(entry) or not os.path.exists(entry):
            yield Path(entry), inner, ""
    if depth is None or depth > 1:
        for entry in folders:
            below = None if depth is None else depth - 1
            yield from _walk(Path(entry), leave_out, below, (*above, here), inner / entry.name)


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name
