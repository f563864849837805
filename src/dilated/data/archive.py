"""Zip files as data sets: unpacked once into a folder that is kept, so that later runs find the same files.

    folder = unpack_archive(Path("export.zip"))          # ~/.cache/dilated/data/export-0a1b2c3d4e5f
    folder = unpack_archive(Path("export.zip"))          # at once: it is there

The folder's name comes from what the archive lists, so the same archive gives the same folder wherever it lies. It is
below `DILATED_CACHE` where that is set, otherwise below the cache folder of the user. An archive is refused before
anything is written where a name leads out of the folder or is a link, a file is encrypted, or what it unpacks to is out
of proportion or does not fit the disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from dilated.errors import InputError
from dilated.files import cache_folder, make_temporary_folder, move_into_place, printable, remove_leftovers

_MOST_FILES = 2_000_000
_UNSUSPECTED_BYTES = 1 << 30
"""Up to this size any ratio is taken: a mask of one color is a thousand times its file."""
_GREATEST_RATIO = 100
_SPARE_BYTES = 1 << 28
"""To leave on the disk."""
_CHUNK_BYTES = 1 << 20
_NO_DATA = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}
"""What file managers add to archives."""
_PERMISSIONS = 16
"""Where Unix's mode begins in the attributes of a file."""


def is_archive(path: Path) -> bool:
    """Whether a path is a zip file, whatever it is called."""
    try:
        return path.is_file() and zipfile.is_zipfile(path)
    except OSError:
        return False


def unpack_archive(path: Path) -> Path:
    """Unpack a zip file, unless that has been done.

    Returns:
        The folder with its files. What a user adds to it, such as a classes.toml, stays there.

    Raises:
        InputError: an archive that is damaged, encrypted or not to be trusted, or a disk that is full.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _list_entries(path, archive)
            remove_leftovers(_data_folder())
            target = _data_folder() / f"{_shorten(path.stem)}-{_digest(entries)}"
            if not _is_complete(target, entries):
                _unpack(archive, entries, target, path)
            return target
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, UnicodeError) as error:
        raise InputError(f"{path}: cannot be unpacked ({error})", hint="download it again") from error
    except OSError as error:
        where = error.filename or path
        raise InputError(
            f"{path}: cannot be unpacked ({where}: {error.strerror or error})",
            hint="set DILATED_CACHE to a folder with space, or unpack it and give its folder",
        ) from error


def join_archives(folder: Path) -> Path | None:
    """Join the zip files of a folder, and whatever else it holds, as a data set comes that is downloaded in parts.

    Returns:
        A folder of links to what each archive holds at its top, and to the folder's other entries, as they are now;
        None where the folder has no archives.

    Raises:
        InputError: an archive that cannot be unpacked, or two that hold the same name.
    """
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    archives = [path for path in entries if path.suffix.lower() == ".zip" and is_archive(path)]
    if not archives:
        return None
    targets = {path.name: path.absolute() for path in entries if path not in archives}
    origins = dict.fromkeys(targets, folder)
    for archive in archives:
        for path in sorted(unpack_archive(archive).iterdir()):
            if path.name in targets:
                raise InputError(
                    f"{archive}: holds {printable(path.name)!r}, and so does {origins[path.name]}",
                    hint="unpack the archives into one folder, and give that",
                )
            targets[path.name], origins[path.name] = path, archive
    digest = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:12]
    joined = _data_folder() / f"{_shorten(folder.absolute().name)}-{digest}"
    if not joined.is_dir() or {path.name: path.readlink() for path in joined.iterdir()} != targets:
        part = make_temporary_folder(joined)
        for name, target in targets.items():
            (part / name).symlink_to(target)
        shutil.rmtree(joined, ignore_errors=True)
        part.rename(joined)
    return joined


def _data_folder() -> Path:
    return cache_folder().absolute() / "data"


def _shorten(stem: str) -> str:
    """The beginning of a name, with what a folder's name may hold."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in stem)[:40].strip(".") or "archive"


def _list_entries(path: Path, archive: zipfile.ZipFile) -> list[tuple[PurePosixPath, zipfile.ZipInfo]]:
    """The files of an archive with the paths that they get.

    Raises:
        InputError: a file that is not to be unpacked, or more than can be trusted.
    """
    entries: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        where = f"{path}: {printable(name)[:200]!r}"
        target = PurePosixPath(name)
        if target.is_absolute() or ".." in target.parts or "\0" in name or name[1:2] == ":":
            raise InputError(f"{where}: leads out of the archive's folder", hint="do not trust this archive")
        if info.is_dir() or name.endswith("/") or set(target.parts) & _NO_DATA:
            continue
        kind = stat.S_IFMT(info.external_attr >> _PERMISSIONS)
        if kind not in (0, stat.S_IFREG):
            raise InputError(f"{where}: is a link or a device and not a file", hint="pack it again with the files")
        if info.flag_bits & 1:
            raise InputError(f"{where}: is encrypted", hint="unpack it with its password, and give the folder")
        if target in entries or not target.parts:
            raise InputError(f"{where}: occurs twice, or has no name", hint="pack it again")
        entries[target] = info
    parents = {parent for target in entries for parent in target.parents}
    if colliding := next((target for target in entries if target in parents), None):
        raise InputError(f"{path}: {str(colliding)!r} is a file and a folder", hint="pack it again")
    _require_proportion(path, list(entries.values()))
    return list(entries.items())


def _require_proportion(path: Path, infos: Sequence[zipfile.ZipInfo]) -> None:
    """Raise where an archive unpacks to more than its size lets expect: a bomb."""
    size, total = path.stat().st_size, sum(info.file_size for info in infos)
    if not infos:
        raise InputError(f"{path}: holds no files", hint="download it again")
    if len(infos) > _MOST_FILES or (total > _UNSUSPECTED_BYTES and total > _GREATEST_RATIO * size):
        raise InputError(
            f"{path}: unpacks {size:,} bytes to {total:,} in {len(infos):,} files, out of proportion",
            hint="unpack it yourself if you trust it, and give the folder",
        )


def _digest(entries: Sequence[tuple[PurePosixPath, zipfile.ZipInfo]]) -> str:
    """What tells archives apart: the names, sizes and checksums of their files."""
    digest = hashlib.sha256()
    for target, info in sorted(entries, key=lambda entry: str(entry[0])):
        digest.update(f"{target}\0{info.file_size}\0{info.CRC}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:12]


def _is_complete(folder: Path, entries: Sequence[tuple[PurePosixPath, zipfile.ZipInfo]]) -> bool:
    """Whether a folder has all files of an archive, by their sizes."""
    try:
        return all((folder / target).stat().st_size == info.file_size for target, info in entries)
    except OSError:
        return False


def _unpack(
    archive: zipfile.ZipFile, entries: Sequence[tuple[PurePosixPath, zipfile.ZipInfo]], target: Path, path: Path
) -> None:
    """Unpack into a folder beside the target, which then takes its place.

    Raises:
        InputError: the disk has no space for it.
        OSError: the folder cannot be written to.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    total, free = sum(info.file_size for _, info in entries), shutil.disk_usage(target.parent).free
    if total + _SPARE_BYTES > free:
        raise InputError(
            f"{path}: unpacks to {total:,} bytes, and {target.parent} has {free:,}",
            hint="set DILATED_CACHE to a folder with more space, or unpack it yourself and give the folder",
        )
    folder = make_temporary_folder(target)
    part = folder / "new"
    try:
        part.mkdir()
        for name, info in entries:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, (part / name).open("wb") as sink:
                shutil.copyfileobj(source, sink, _CHUNK_BYTES)
        if target.exists():  # what was left of it, with what the user added
            _keep_additions(target, part)
            target.rename(folder / "old")
        move_into_place(part, target)
    except OSError:
        if not _is_complete(target, entries):  # otherwise another process was first
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep_additions(old: Path, new: Path) -> None:
    """Copy the files at the top of a folder that another lacks."""
    for path in old.iterdir():
        if path.is_file() and not (new / path.name).exists():
            shutil.copy2(path, new / path.name)
