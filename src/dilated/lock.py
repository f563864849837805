"""One job at a time writes to a folder or a file: a lock that names its owner, and that a killed owner does not keep.

    with lock_folder(Path("runs/mine"), "training"): ...
    with lock_file(Path("labels.tif"), "labelling a raster"): ...

The operating system holds the lock (`fcntl.lockf`, over NFS too) and lets go of it when the process ends in any way.
Where it cannot, as on Windows, the owner in the lock's file decides: one of this machine that no longer runs has left
it.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from dilated.errors import InputError
from dilated.files import printable, remove_leftovers, sync_folder
from dilated.system import lock_open_file

LOCK_FILE = ".lock"
"""The file in a folder that says who writes to it."""
_held: set[str] = set()
"""The locks of this process: the operating system would give them to another thread of it again."""
_GUARD = threading.Lock()


@contextmanager
def lock_folder(folder: Path, work: str) -> Iterator[bool]:
    """Hold the lock of a folder, which is made if missing, and removed again if nothing was written to it.

    Args:
        work: what is done there, for the message to others.

    Yields:
        Whether a former owner was killed.

    Raises:
        InputError: another process holds it, or the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with lock_folder(folder, "training"), lock_folder(folder, "training"):  # doctest: +ELLIPSIS
        ...     pass
        Traceback (most recent call last):
        dilated.errors.InputError: ...: another job writes there: training, process ...
    """
    missing = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _write_error(folder, error) from error
    try:
        with _lock(folder / LOCK_FILE, folder, work) as left_behind:
            remove_leftovers(folder)
            yield left_behind
    finally:
        if missing:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def lock_file(path: Path, work: str) -> Iterator[bool]:
    """Hold the lock of a file, or of a folder that is moved into place: as `lock_folder`, by `.NAME.lock` beside it."""
    with _lock(path.with_name(f".{path.name}{LOCK_FILE}"), path, work) as left_behind:
        yield left_behind


def remove_abandoned_lock(path: Path) -> None:
    """Remove the lock of a file that a killed owner left, if there is one.

    Raises:
        InputError: another process holds it, or the folder cannot be written to.
    """
    if path.with_name(f".{path.name}{LOCK_FILE}").exists():
        with lock_file(path, "looking for a lock that was left"):
            pass


@contextmanager
def _lock(lock: Path, target: Path, work: str) -> Iterator[bool]:
    key = os.path.realpath(lock)
    with _GUARD:  # to the end of taking it: to close the file of a lock would give up one that another thread has
        if key in _held:
            raise _in_use_error(target, _read_owner(work=work))
        try:
            handle, left_behind = _take(lock, target)
        except OSError as error:
            raise _write_error(lock, error) from error
        _held.add(key)
    try:
        with suppress(OSError):  # the lock holds without its owner's name, as on a full disk
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)  # the former owner was read
            os.write(handle, json.dumps(_read_owner(work)).encode())
            sync_folder(lock.absolute().parent)
        yield left_behind
    finally:
        with _GUARD:
            if os.name == "nt":
                os.close(handle)
            with suppress(OSError):
                lock.unlink()  # before it is let go of, or it could be that of the next owner
            if os.name != "nt":
                os.close(handle)
            _held.discard(key)


def _take(lock: Path, target: Path) -> tuple[int, bool]:
    """Return the lock's open file, and whether it was there before."""
    while True:
        try:
            handle, left_behind = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), False
        except FileExistsError:
            with suppress(FileNotFoundError):
                handle, left_behind = os.open(lock, os.O_RDWR), True
                owner = _parse_owner(os.read(handle, 4096))
                try:
                    decided = lock_open_file(handle)
                except BlockingIOError:
                    os.close(handle)
                    raise _in_use_error(target, owner) from None
                if decided and _is_same_file(handle, lock):
                    return handle, left_behind
                os.close(handle)
                if not decided:
                    if _may_run(owner):
                        raise _in_use_error(target, owner, lock) from None
                    lock.unlink()
            continue
        with suppress(BlockingIOError):
            lock_open_file(handle)
            if _is_same_file(handle, lock):
                return handle, left_behind
        os.close(handle)  # another process took the new file first


def _is_same_file(handle: int, path: Path) -> bool:
    """Return whether an open file is still the one of that name; a former owner may have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def _read_owner(work: str) -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        user = "an unnamed user"
    return {
        "work": work,
        "user": user,
        "host": platform.node(),
        "boot": _boot_id(),
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _boot_id() -> str:
    """Return what changes with each start of the machine: a process id of an earlier one means nothing."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return str(round(psutil.boot_time(), -1))


def _parse_owner(text: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        owner = json.loads(text)
        if isinstance(owner, dict):
            return owner
    return {}


def _may_run(owner: dict[str, Any]) -> bool:
    """Return whether an owner may still run, as far as this machine can tell."""
    if not owner or owner.get("host") != platform.node():
        return True
    if owner.get("boot") != _boot_id():
        return False
    try:
        return abs(psutil.Process(owner["pid"]).create_time() - owner["process_started"]) < 1
    except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
        return False


def _in_use_error(target: Path, owner: dict[str, Any], lock: Path | None = None) -> InputError:
    keys = ("work", "pid", "user", "host", "since")
    known = [printable(str(owner.get(key, "unknown"))[:100]) for key in keys]
    who = "{}, process {} of {} on {}, since {}".format(*known) if owner else "it has not said which"
    hint = "wait until it has ended, or choose another place to write to"
    if lock is not None:
        hint += f"; if it runs no longer, remove {lock}"
    return InputError(f"{target}: another job writes there: {who}", hint=hint)


def _write_error(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: could not be written ({error.strerror or error})", hint="choose another place")
