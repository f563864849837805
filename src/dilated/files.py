"""Files, read and written in one way: whole or not at all, and with an error that names the file.

atomic_write(path, text)                             # at any moment the old file or the new one, never half of it
with atomic_path(path) as temporary:                 # for libraries that write to a path themselves
    image.save(temporary, format="PNG")
for number, line in read_lines(path): ...
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from dilated.errors import InputError

_LOCK = threading.Lock()
_MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"
"""Marks the temporary files of this machine: of another one, it cannot be told whether their process still runs."""
_swept_folders: set[Path] = set()
"""Folders in which this process has looked for what killed ones left."""


def cache_folder() -> Path:
    """Where what can be made again is kept, which may not exist yet: $DILATED_CACHE, by default ~/.cache/dilated."""
    given = os.environ.get("DILATED_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dilated"


@contextmanager
def atomic_path(path: Path | str, in_folder: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, which replaces it when the block ends and is removed when the block raises.

    The content is on the disk before the name is: after a loss of power the file is the old one or the new one. What a
    killed process of this machine left in the folder is removed when the next one writes there.

    Args:
        in_folder: give a path in a folder of its own, for a library that puts temporary files of its own beside it.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_path(folder / "a.txt") as temporary:
        ...     _ = temporary.write_text("whole")
        >>> [(p.name, p.read_text()) for p in folder.iterdir()]
        [('a.txt', 'whole')]
    """
    path = Path(path)
    mode = _new_file_mode(path)
    folder = path.absolute().parent
    remove_leftovers(folder)
    prefix = _temporary_prefix(path)
    if in_folder:
        name = tempfile.mkdtemp(dir=folder, prefix=prefix, suffix=".part")
        temporary = Path(name, path.name)
    else:
        handle, name = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=".part")
        os.close(handle)
        temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(mode)
        _sync(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        if in_folder:
            shutil.rmtree(name, ignore_errors=True)
    sync_folder(folder)


def make_temporary_folder(path: Path) -> Path:
    """Make a folder beside the one that it is to become by `move_into_place`; as `atomic_path` where it is left over.

    Raises:
        OSError: the folder of both cannot be written to.
    """
    folder = path.absolute().parent
    remove_leftovers(folder)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=_temporary_prefix(path), suffix=".part"))
    temporary.chmod(0o777 & ~_umask())
    return temporary


def atomic_write(path: Path | str, content: str | bytes) -> None:
    """Write a file that appears whole or not at all; text is UTF-8 with the line ends that it has.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def describe_write_error(path: Path, error: OSError) -> str:
    """Say that a file could not be written, and why."""
    return f"{path}: could not be written ({error.strerror or error})"


def require_no_pipe(path: Path) -> None:
    """Refuse what would be waited for without end: a pipe, a socket or a device; links are followed.

    Raises:
        InputError: it is one of them. What is missing is left to whoever opens it.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a pipe, a socket or a device", hint="give a file, or save what it gives as one")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; of a folder that of the files in it.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if path.is_dir():
            parts = [f"{p.relative_to(path).as_posix()} {hash_file(p)}" for p in sorted(path.rglob("*")) if p.is_file()]
            return hashlib.sha256("\n".join(parts).encode()).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_lines(path: Path | str) -> list[tuple[int, str]]:
    r"""The lines of a text file that hold something, each with its number from 1.

    Byte order marks, CRLF line ends and white space around a line are no part of it.

    Raises:
        InputError: a missing file, or one that is not UTF-8 text.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "list.txt"
        >>> _ = path.write_bytes(b"\xef\xbb\xbfa.png\r\n\r\n b.png \r\n")
        >>> read_lines(path)
        [(1, 'a.png'), (3, 'b.png')]
    """
    path = Path(path)
    require_no_pipe(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text", hint="save the file as UTF-8") from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def read_json(path: Path | str) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: a missing or damaged file.
    """
    path = Path(path)
    require_no_pipe(path)
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a whole JSON file ({error})") from error


def printable(text: str) -> str:
    r"""Text that can be shown anywhere: no control characters, and no bytes that are no characters.

    Example:
        >>> print(printable("a.png"), printable("a\x1b[2Jb\n.png"), printable(chr(0xDCE9)))
        a.png a\x1b[2Jb\n.png \udce9
    """
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return "".join(escaped).encode("utf-8", "backslashreplace").decode("utf-8")


def printable_lines(text: str) -> str:
    r"""Text of several lines as `printable` shows it, with its line breaks kept.

    Example:
        >>> printable_lines("a\x1b[2J\n  b")
        'a\\x1b[2J\n  b'
    """
    return "\n".join(map(printable, text.split("\n")))


def plural(count: int, noun: str) -> str:
    """A count and its noun.

    Example:
        >>> plural(1, "label"), plural(2000, "label"), plural(2, "class")
        ('1 label', '2,000 labels', '2 classes')
    """
    ending = "" if count == 1 else "es" if noun.endswith(("s", "x", "ch")) else "s"
    return f"{count:,} {noun}{ending}"


def move_into_place(temporary: Path, path: Path) -> None:
    """Replace `path` by a file or folder that is complete; it is on the disk before the name is.

    Raises:
        OSError: it cannot be moved there.
    """
    if temporary.is_dir():
        for folder, _, names in os.walk(temporary):
            for name in names:
                _sync(Path(folder, name))
            sync_folder(Path(folder))
    else:
        _sync(temporary)
    temporary.replace(path)
    sync_folder(path.absolute().parent)


def sync_folder(folder: Path) -> None:
    """Keep the names in a folder over a loss of power, where folders can be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _temporary_prefix(path: Path) -> str:
    return f".{path.name[:60]}.{_MACHINE}-{os.getpid()}-"


def _new_file_mode(path: Path) -> int:
    """The permissions that the file has, or that a new one would have."""
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        return 0o666 & ~_umask()


@functools.cache
def _umask() -> int:
    with _LOCK:  # it can only be read by setting it, and two threads that do so at once would leave it at 0
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes of this machine left in a folder, once per process."""
    folder = folder.absolute()
    pattern = re.compile(rf"\..*\.{_MACHINE}-(\d+)-\w+\.part")
    with _LOCK, suppress(OSError):
        if folder in _swept_folders:
            return
        _swept_folders.add(folder)
        for entry in os.scandir(folder):
            match = pattern.fullmatch(entry.name)
            # This process has none yet; in a container, a killed one often had the same number.
            if match and (int(match[1]) == os.getpid() or not psutil.pid_exists(int(match[1]))):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
