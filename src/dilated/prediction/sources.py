"""What to label: images, folders, patterns, lists, videos and cameras, as one flat list of sources.

    search = search_sources(["photos/", "more/**/*.jpg", "list.txt", "clip.mp4", "camera:0"])
    search.sources[0].name                                    # what its labels are named after, below the output folder

Only lists and folders are opened here. A line of a list that names no file, and a folder that cannot be read, are
sources with a `problem`; they are reported in their turn, as unreadable images are.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from fractions import Fraction
from operator import attrgetter
from pathlib import Path

from dilated.data.images import IMAGE_SUFFIXES
from dilated.data.raster.slide import SLIDE_SUFFIXES
from dilated.errors import InputError
from dilated.files import plural, printable, read_lines

_HIDDEN = "hidden by its name"
_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv")


@dataclass(frozen=True)
class _WalkedFile:
    path: Path
    subfolder: Path
    """Its folder below the one that was searched."""
    problem: str = ""
    """Why it cannot be read, if that is known."""
    left_out: str = ""
    """What it is, if that is nothing to label."""


class SourceKind(StrEnum):
    """Where images come from: files, the frames of a video, or those of a camera."""

    IMAGE = "image"
    VIDEO = "video"
    CAMERA = "camera"


@dataclass(frozen=True)
class Source:
    """One input.

    Args:
        path: the file; of a camera, what was given.
        name: what its outputs are named after: a path below the output folder, without suffix.
        kind: an image, a video or a camera.
        problem: why it cannot be read, if that is known already.
    """

    path: Path
    name: Path
    kind: SourceKind = SourceKind.IMAGE
    problem: str = ""


@dataclass(frozen=True)
class Frame:
    """The position of a frame in its video.

    Args:
        number: from 1.
        seconds: since the first frame.
        rate: frames per second of the video.
        total: how many frames the video has, if the file says so; else 0.
    """

    number: int
    seconds: Fraction
    rate: Fraction
    total: int = 0


@dataclass(frozen=True)
class InputImage:
    """An image, or one frame of a video.

    Example:
        >>> still = InputImage(Source(Path("in/deep/a.jpg"), Path("deep/a")))
        >>> still.name.as_posix(), still.key
        ('deep/a', 'deep/a.jpg')
        >>> clip = Source(Path("clip.mp4"), Path("clip"), SourceKind.VIDEO)
        >>> frame = InputImage(clip, Frame(12, Fraction(11, 25), Fraction(25)))
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
    def frame_number(self) -> int:
        """The number of a video's frame, from 1; 0 for an image."""
        return self.frame.number if self.frame else 0

    @property
    def key(self) -> str:
        """Its name in a table of many images: with suffix and inner folders, the same on every machine."""
        is_camera = self.source.kind == SourceKind.CAMERA
        file = self.source.name if is_camera else self.source.name.parent / self.source.path.name
        return f"{file.as_posix()}/{self.frame.number:06d}" if self.frame else file.as_posix()

    def __str__(self) -> str:
        return f"{self.source.path}, frame {self.frame.number}" if self.frame else str(self.source.path)


@dataclass(frozen=True)
class LeftOutFile:
    """A file of a folder that is not labelled, and what it is."""

    path: Path
    kind: str


@dataclass(frozen=True)
class SourceSearch:
    """What the inputs hold: the sources, and the files of folders that are none."""

    sources: list[Source]
    left_out: list[LeftOutFile]

    def describe_left_out(self, max_names: int = 10) -> list[str]:
        """A line for each kind of file that was left out: how many, and the first of them by name.

        Example:
            >>> files = [LeftOutFile(Path(name), "a pipe") for name in ("a", "b")]
            >>> SourceSearch([], files).describe_left_out(1)
            ['left out 2 files, each a pipe: a and 1 more']
        """
        by_kind: dict[str, list[Path]] = {}
        for file in self.left_out:
            by_kind.setdefault(file.kind, []).append(file.path)
        lines = []
        for kind, paths in by_kind.items():
            names = ", ".join(printable(str(path)) for path in paths[:max_names])
            more = f" and {len(paths) - max_names} more" if len(paths) > max_names else ""
            each = "each " if len(paths) > 1 else ""
            lines.append(f"left out {plural(len(paths), 'file')}, {each}{kind}: {names}{more}")
        return lines


def search_sources(inputs: Sequence[Path | str], exclude: Path | None = None) -> SourceSearch:
    """Find the sources of what was given on the command line, and what its folders hold beside them.

    Args:
        inputs: images and videos; folders, which are searched for images; patterns such as `photos/**/*.jpg`; `.txt`
            files with one path per line, relative to the file's folder, where blank lines and lines that start with
            # are skipped; `camera:0` or a camera's device. Linked folders are followed, but not into a folder that they
            are in; hidden files and folders are left out.
        exclude: a folder below a given folder that is not searched: the outputs of a former run.

    Returns:
        In the order given, the files of a folder by name. Files of folders and patterns keep their inner folders, and
        so do relative paths of a list. What a folder holds beside images, and what a pattern matches beside images and
        videos, is left out.

    Raises:
        InputError: a path that does not exist; a folder, pattern or list without images; no input at all.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "deep").mkdir()
        >>> (folder / "deep" / "a.JPG").touch()
        >>> (folder / "notes.txt").touch()
        >>> search = search_sources([folder])
        >>> [source.name.as_posix() for source in search.sources], [file.path.name for file in search.left_out]
        (['deep/a'], ['notes.txt'])
    """
    left_out: list[LeftOutFile] = []
    sources: list[Source] = []
    for input_path in inputs:
        search = _expand_input(Path(input_path), exclude)
        sources += search.sources
        left_out += search.left_out
    if not sources:
        raise InputError(
            "predict: no input is given", hint="give images, folders of images, patterns, lists, videos or camera:0"
        )
    sources = list(dict.fromkeys(sources))
    given = {source.path for source in sources}
    return SourceSearch(sources, [file for file in dict.fromkeys(left_out) if file.path not in given])


def _expand_input(input_path: Path, exclude: Path | None) -> SourceSearch:
    if re.fullmatch(r"camera:.+", str(input_path)) or input_path.is_char_device():
        name = re.sub(r"\W", "", str(input_path).removeprefix("/dev/"))
        return SourceSearch([Source(input_path, Path(name), SourceKind.CAMERA)], [])
    if input_path.is_dir():
        return _search_folder(input_path, exclude)
    if input_path.suffix.lower() == ".txt" and input_path.exists():
        return SourceSearch(_list_sources(input_path), [])
    if input_path.exists():
        return SourceSearch([_file_source(input_path, Path())], [])
    if any(character in str(input_path) for character in "*?["):
        return _search_pattern(input_path, exclude)
    raise InputError(
        f"{input_path}: no such file or folder", hint="give an image, a folder of images, a pattern, a list or a video"
    )


def _file_source(path: Path, subfolder: Path) -> Source:
    kind = SourceKind.VIDEO if path.suffix.lower() in _VIDEO_SUFFIXES else SourceKind.IMAGE
    return Source(path, subfolder / path.stem, kind)


def _search_folder(folder: Path, exclude: Path | None) -> SourceSearch:
    search = _select_sources(_walk_files(folder, exclude), (*IMAGE_SUFFIXES, *SLIDE_SUFFIXES))
    if not search.sources:
        names = ", ".join(file.path.name for file in search.left_out[:4])
        listing = f"; found {plural(len(search.left_out), 'other file')}: {names}" if names else ""
        raise InputError(
            f"{folder}: holds no image{listing}", hint=f"add files such as {', '.join(IMAGE_SUFFIXES[:4])}"
        )
    return search


def _search_pattern(pattern: Path, exclude: Path | None) -> SourceSearch:
    """Return the images and videos that match a pattern, below its last folder without a wildcard."""
    parts = pattern.parts
    wildcard_index = next(i for i, part in enumerate(parts) if any(character in part for character in "*?["))
    folder, rest = Path(*parts[:wildcard_index]), parts[wildcard_index:]
    if not folder.is_dir():
        raise InputError(f"{pattern}: the folder {folder} does not exist", hint="correct the start of the pattern")
    matches = [
        file
        for file in _walk_files(folder, exclude, None if "**" in rest else len(rest))
        if file.problem or _match_pattern((*file.subfolder.parts, file.path.name), rest)
    ]
    matches = [file for file in matches if file.left_out != _HIDDEN]  # as a shell's patterns leave them out
    search = _select_sources(matches, (*IMAGE_SUFFIXES, *SLIDE_SUFFIXES, *_VIDEO_SUFFIXES))
    if not search.sources:
        raise InputError(
            f"{pattern}: none of {plural(len(matches), 'matching file')} is an image or a video",
            hint="use ** for any folders",
        )
    return search


def _select_sources(files: Iterable[_WalkedFile], suffixes: Sequence[str]) -> SourceSearch:
    """Divide files into those to label, by their suffix, and the rest."""
    search = SourceSearch([], [])
    for file in files:
        suffix = file.path.suffix.lower()
        if file.problem:
            search.sources.append(Source(file.path, file.subfolder / file.path.stem, problem=file.problem))
        elif file.left_out:
            search.left_out.append(LeftOutFile(file.path, file.left_out))
        elif suffix in suffixes:
            search.sources.append(_file_source(file.path, file.subfolder))
        elif suffix in _VIDEO_SUFFIXES:
            search.left_out.append(LeftOutFile(file.path, "a video, to be given by its own name"))
        else:
            search.left_out.append(LeftOutFile(file.path, "no image by the suffix of the name"))
    return search


def _match_pattern(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a pattern; `**` stands for any number of folders.

    Example:
        >>> [_match_pattern(parts, ("a", "**", "*.jpg")) for parts in (("a", "b", "c.jpg"), ("a", "c.jpg"))]
        [True, True]
        >>> _match_pattern(("a", "b", "c.jpg"), ("a", "*.jpg"))
        False
    """
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _match_pattern(parts, pattern[1:]) or (bool(parts) and _match_pattern(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _match_pattern(parts[1:], pattern[1:])


def _list_sources(path: Path) -> list[Source]:
    sources = []
    for number, line in read_lines(path):
        if line.startswith("#"):
            continue
        entry = Path(line)
        is_outside = entry.is_absolute() or ".." in entry.parts
        source = _file_source(path.parent / entry, Path() if is_outside else entry.parent)
        if not source.path.is_file():
            what = "is a folder" if source.path.is_dir() else "does not exist"
            problem = f"{path}, line {number}: {source.path} {what}"
            source = Source(source.path, source.name, problem=problem)
        sources.append(source)
    if not sources:
        raise InputError(f"{path}: the list holds no path", hint="write the path of one image or video per line")
    return sources


def _walk_files(
    folder: Path,
    exclude: Path | None,
    depth: int | None = None,
    ancestors: tuple[Path, ...] = (),
    subfolder: Path = Path(),
) -> Iterator[_WalkedFile]:
    """Yield each file below a folder, the folder's own files first.

    A folder that cannot be read is given with the reason. A broken link is given as a file, whose reading will fail;
    pipes and devices are left out, since reading them may never end, and so are hidden files and folders.
    """
    resolved = folder.resolve()
    if resolved in ancestors or (ancestors and exclude is not None and resolved == exclude.resolve()):
        return
    try:
        entries = sorted(os.scandir(folder), key=attrgetter("name"))
    except OSError as error:
        yield _WalkedFile(folder, subfolder.parent, f"{folder}: the folder cannot be read ({error.strerror})")
        return
    folders = []
    for entry in entries:
        if entry.name.startswith("."):
            yield _WalkedFile(Path(entry), subfolder, left_out=_HIDDEN)
        elif os.path.isdir(entry):  # entry.is_dir() fails at a link to itself
            folders.append(entry)
        else:
            yield _WalkedFile(Path(entry), subfolder, left_out=_describe_special_file(entry))
    if depth is None or depth > 1:
        for entry in folders:
            remaining_depth = None if depth is None else depth - 1
            yield from _walk_files(
                Path(entry), exclude, remaining_depth, (*ancestors, resolved), subfolder / entry.name
            )


def _describe_special_file(path: os.DirEntry[str]) -> str:
    """What a file is that is neither a regular one nor missing; else ""."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # a link to nothing, or to itself
        return ""
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "")
