"""Write the lists of a division all or none: after a kill between two of them none is taken for a division.

    remove_unfinished(folder)                            # what a killed call left
    write_lists({folder / "train.txt": "a\n", folder / "val.txt": "b\n"}, folder)
    require_finished(folder)

While lists are written, `.split-unfinished.json` beside them names each with the hash of its content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from dilated.errors import InputError
from dilated.files import atomic_write, hash_file, read_json, sync_folder
from dilated.lock import LOCK_FILE, lock_folder

UNFINISHED_FILE = ".split-unfinished.json"
"""The name of the note, in the folder of the lists."""


def write_lists(texts: Mapping[Path, str], folder: Path) -> None:
    """Write list files that belong together.

    Args:
        texts: the content of each file, which is in `folder` or below it.

    Raises:
        InputError: another file of one of the names exists, or another job writes there.
    """
    existing = {path for path in texts if path.exists()}
    if other := [path for path in texts if path in existing and path.read_bytes() != texts[path].encode()]:
        raise InputError(f"{other[0]}: the file exists, and would be replaced", hint="move it away first")
    missing = [path for path in texts if path not in existing]
    if not missing:
        return
    note = {path.relative_to(folder).as_posix(): hashlib.sha256(texts[path].encode()).hexdigest() for path in missing}
    with lock_folder(folder, "splitting"):
        atomic_write(folder / UNFINISHED_FILE, json.dumps(note, indent=0) + "\n")
        for path in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, texts[path])
        (folder / UNFINISHED_FILE).unlink()
        sync_folder(folder)


def remove_unfinished(folder: Path) -> None:
    """Remove the lists that a killed call wrote before it was done, its note and its lock; what was edited stays.

    Raises:
        InputError: a damaged note, or another job that writes there.
    """
    if (folder / UNFINISHED_FILE).is_file() or (folder / LOCK_FILE).is_file():
        with lock_folder(folder, "splitting"):
            _remove_lists(folder, folder / UNFINISHED_FILE)


def _remove_lists(folder: Path, note: Path) -> None:
    if not note.is_file():
        return  # a lock alone was left, or another process has just finished them
    entries = read_json(note)
    if not isinstance(entries, dict):
        raise InputError(f"{note}: found {type(entries).__name__}; expected the hashes of lists", hint="remove it")
    for name, digest in entries.items():
        path = folder / name
        if ".." in path.parts or not path.is_relative_to(folder):
            raise InputError(f"{note}: names {name!r}, which is not in its folder", hint="remove it")
        if path.suffix == ".txt" and path.is_file() and hash_file(path) == digest:
            path.unlink()
    note.unlink()
    sync_folder(folder)


def require_finished(folder: Path) -> None:
    """Raise where only some lists of a division are there.

    Raises:
        InputError: the command that wrote them was ended before it had written all.
    """
    if (folder / UNFINISHED_FILE).is_file():
        raise InputError(
            f"{folder}: `dilated split` was ended before it had written all its lists",
            hint="run the same `dilated split` again, which finishes them",
        )
