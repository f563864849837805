"""What there is to label: images, folders, patterns, lists, videos and cameras, as one flat list.

    sources = find(["photos/", "more/**/*.jpg", "list.txt", "clip.mp4", "camera:0"])
    sources[0].name                                      # what its labels are named after, below the output folder

Nothing is opened here but lists and folders. A line of a list that names no file, and a folder that may not be read,
are sources with a `problem`, which are reported in their turn as images that cannot be read are.
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

from dilated.data.images import IMAGE_SUFFIXES
from dilated.errors import InputError

_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv")


@dataclass(frozen=True)
class Source:
    """One input.

    Args:
        path: the file; of a camera, what was given.
        name: what its outputs are named after: a path below the output folder, without suffix.
        kind: whether it is an image, or how its frames are had.
        problem: why it cannot be read, if that is known by now.
    """

    path: Path
    name: Path
    kind: Literal["image", "video", "camera"] = "image"
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
    total: int = 0


@dataclass(frozen=True)
class InputImage:
    """What is labelled at once: an image, or one frame of a video.

    Example:
        >>> still = InputImage(Source(Path("in/deep/a.jpg"), Path("deep/a")))
        >>> still.name.as_posix(), still.key
        ('deep/a', 'deep/a.jpg')
        >>> clip = Source(Path("clip.mp4"), Path("clip"), "video")
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
    def key(self) -> str:
        """Its name in a table of many images: with its suffix, with inner folders, the same wherever it is run."""
        camera = self.source.kind == "camera"
        file = self.source.name if camera else self.source.name.parent / self.source.path.name
        return f"{file.as_posix()}/{self.frame.number:06d}" if self.frame else file.as_posix()

    def __str__(self) -> str:
        return f"{self.source.path}, frame {self.frame.number}" if self.frame else str(self.source.path)


def find_sources(inputs: Sequence[Path | str], exclude: Path | None = None) -> list[Source]:
    """The sources of what was given on the command line.

    Args:
        inputs: images and videos; folders, in which images are looked for; patterns such as `photos/**/*.jpg`;
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
        >>> [source.name.as_posix() for source in find_sources([folder])]
        ['deep/a']
    """
    sources = [source for input_path in inputs for source in _expand_input(Path(input_path), exclude)]
    if not sources:
        raise InputError(
            "predict: found no input; expected images, folders of images, patterns, lists, videos or camera:0"
        )
    return list(dict.fromkeys(sources))


def _expand_input(input_path: Path, exclude: Path | None) -> list[Source]:
    if re.fullmatch(r"camera:.+", str(input_path)) or input_path.is_char_device():
        name = re.sub(r"\W", "", str(input_path).removeprefix("/dev/"))
        return [Source(input_path, Path(name), "camera")]
    if input_path.is_dir():
        return _folder_sources(input_path, exclude)
    if input_path.suffix.lower() == ".txt" and input_path.exists():
        return _list_sources(input_path)
    if input_path.exists():
        return [_file_source(input_path, Path())]
    if any(character in str(input_path) for character in "*?["):
        return _pattern_sources(input_path, exclude)
    raise InputError(
        f"{input_path}: no such file or folder; expected an image, a folder of images, a pattern, a list or a video"
    )


def _file_source(path: Path, subfolder: Path) -> Source:
    return Source(path, subfolder / path.stem, "video" if path.suffix.lower() in _VIDEO_SUFFIXES else "image")


def _folder_sources(folder: Path, exclude: Path | None) -> list[Source]:
    sources = [
        Source(path, subfolder / path.stem, problem=problem)
        for path, subfolder, problem in _walk_files(folder, exclude)
        if problem or path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not sources:
        raise InputError(f"{folder}: found no image; expected files such as {', '.join(IMAGE_SUFFIXES[:4])}")
    return sources


def _pattern_sources(pattern: Path, exclude: Path | None) -> list[Source]:
    """The images and videos that match a pattern, below its last folder without a wildcard."""
    parts = pattern.parts
    wildcard_index = next(i for i, part in enumerate(parts) if any(character in part for character in "*?["))
    folder, rest = Path(*parts[:wildcard_index]), parts[wildcard_index:]
    depth = None if "**" in rest else len(rest)
    if not folder.is_dir():
        raise InputError(f"{pattern}: found no folder {folder}; expected the one in which the pattern is looked for")
    candidates = [
        (path, subfolder, problem)
        for path, subfolder, problem in _walk_files(folder, exclude, depth)
        if problem or match_pattern((*subfolder.parts, path.name), rest)
    ]
    sources = [
        Source(path, subfolder / path.stem, problem=problem) if problem else _file_source(path, subfolder)
        for path, subfolder, problem in candidates
        if problem or path.suffix.lower() in (*IMAGE_SUFFIXES, *_VIDEO_SUFFIXES)
    ]
    if not sources:
        raise InputError(
            f"{pattern}: found {len(candidates)} files that match, none of them an image or a video; expected at least "
            "one. ** stands for any folders."
        )
    return sources


def match_pattern(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path's parts match a pattern's; `**` stands for any number of folders.

    Example:
        >>> match_pattern(("a", "b", "c.jpg"), ("a", "**", "*.jpg")), match_pattern(("a", "c.jpg"), ("a", "**", "*.jpg"))
        (True, True)
        >>> match_pattern(("a", "b", "c.jpg"), ("a", "*.jpg"))
        False
    """
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return match_pattern(parts, pattern[1:]) or (bool(parts) and match_pattern(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and match_pattern(parts[1:], pattern[1:])


def _list_sources(path: Path) -> list[Source]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8 ({error.reason}); expected a path of an image a line") from error
    sources = []
    for number, line in enumerate(lines, 1):
        entry = Path(line.strip())
        if not line.strip() or line.strip().startswith("#"):
            continue
        is_outside = entry.is_absolute() or ".." in entry.parts
        source = _file_source(path.parent / entry, Path() if is_outside else entry.parent)
        if not source.path.is_file():
            what = "a folder" if source.path.is_dir() else "no such file"
            problem = f"{path}, line {number}: found {what} at {source.path}; expected an image or a video"
            source = Source(source.path, source.name, problem=problem)
        sources.append(source)
    if not sources:
        raise InputError(f"{path}: found no path in the list; expected an image a line")
    return sources


def _walk_files(
    folder: Path,
    exclude: Path | None,
    depth: int | None = None,
    ancestors: tuple[Path, ...] = (),
    subfolder: Path = Path(),
) -> Iterator[tuple[Path, Path, str]]:
    """All files below a folder that are not hidden, with their inner folders: first a folder's own, then its folders'.

    A folder that may not be read is given with the reason. A link that leads nowhere is given as the file that it
    seems to be, for reading it says so; pipes and devices are left out, for reading them may never end.
    """
    resolved = folder.resolve()
    if resolved in ancestors or (ancestors and exclude is not None and resolved == exclude.resolve()):
        return
    try:
        entries = sorted((entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=_entry_name)
    except OSError as error:
        yield folder, subfolder.parent, f"{folder}: the folder may not be read ({error.strerror}); expected its images"
        return
    folders = [entry for entry in entries if os.path.isdir(entry)]  # entry.is_dir() fails at a link to itself
    for entry in entries:
        if os.path.isfile(entry) or not os.path.exists(entry):
            yield Path(entry), subfolder, ""
    if depth is None or depth > 1:
        for entry in folders:
            remaining_depth = None if depth is None else depth - 1
            yield from _walk_files(
                Path(entry), exclude, remaining_depth, (*ancestors, resolved), subfolder / entry.name
            )


def _entry_name(entry: os.DirEntry[str]) -> str:
    return entry.name
