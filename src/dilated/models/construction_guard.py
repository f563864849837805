"""Forbid files, sockets, processes and unpickling while a network is built by what a file says.

    with forbid_side_effects("net.safetensors"):
        network = timm.create_model(...)

The list of allowed factories and options is the first line of defence; this is the second, for what a library does
that the list does not know. It is an audit hook (PEP 578) for this thread: the interpreter asks it before it opens a
file or a socket, starts a process or a thread (which would have no guard), or looks up a class for a pickle. Reads by
the import system pass, for libraries import parts of themselves when these are first used; so do lines of source that a
warning shows.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from dilated.errors import InputError

_FORBIDDEN = (
    *("socket.", "subprocess.", "shutil.", "tempfile.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser."),
    *("pickle.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "os.fork", "pty."),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
    *("os.utime", "os.putenv", "os.unsetenv", "sqlite3.", "_posixsubprocess."),
)
"""How the names of events begin that nothing may cause."""
_READS = ("open", "os.listdir", "os.scandir", "marshal.", "ctypes.dlopen")
"""How the names of events begin that only the import system may cause."""
_IMPORT_FILES = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
_state = threading.local()


class _ForbiddenError(RuntimeError):
    """Stops what is forbidden where it is tried."""


@contextmanager
def forbid_side_effects(where: str) -> Iterator[None]:
    """Forbid files, sockets, processes and unpickling in this thread until the block ends.

    Args:
        where: what is being built, for messages.

    Raises:
        InputError: something forbidden was tried; it has not been done.

    Example:
        >>> with forbid_side_effects("net.safetensors"):
        ...     open("/etc/passwd")
        Traceback (most recent call last):
        dilated.errors.InputError: net.safetensors: tried to open '/etc/passwd' ...
    """
    _install_hook()
    outer: list[str] | None = getattr(_state, "attempts", None)
    attempts: list[str] = []
    _state.attempts = attempts
    try:
        yield
    except Exception as error:
        if not attempts:
            raise
        raise _refusal(where, attempts) from error
    finally:
        _state.attempts = outer
    if attempts:  # the library went on without it
        raise _refusal(where, attempts)


@contextmanager
def permit_side_effects() -> Iterator[None]:
    """Permit everything inside a guarded block again, for code that the user has named as trusted."""
    attempts: list[str] | None = getattr(_state, "attempts", None)
    _state.attempts = None
    try:
        yield
    finally:
        _state.attempts = attempts


def _refusal(where: str, attempts: list[str]) -> InputError:
    return InputError(
        f"{where}: tried to {attempts[0]}, which a network that is built from a file's description may not do",
        hint="give a network of another factory, or, if you trust this one, name its package in DILATED_TRUST",
    )


@functools.cache
def _install_hook() -> None:
    sys.addaudithook(_on_event)  # there is no way to remove a hook; without a guard it returns at once
    start = threading.Thread.start

    @functools.wraps(start)
    def start_unguarded(thread: threading.Thread) -> None:
        """Python 3.11 has no event for a new thread, which would have no guard."""
        attempts: list[str] | None = getattr(_state, "attempts", None)
        if attempts is not None and not _is_importing(sys._getframe(1)):
            attempts.append(f"start the thread {thread.name!r}")
            raise _ForbiddenError(attempts[-1])
        start(thread)

    setattr(threading.Thread, "start", start_unguarded)  # noqa: B010 -- a method of the standard library


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    attempts: list[str] | None = getattr(_state, "attempts", None)
    if attempts is None:
        return
    is_read = event.startswith(_READS)
    if not is_read and not event.startswith(_FORBIDDEN):
        return
    _state.attempts = None  # what the hook itself does is not asked about
    try:
        frame = sys._getframe(1)
        allowed = frame.f_code.co_filename in _IMPORT_FILES or (
            is_read and not _writes(event, arguments) and (_is_importing(frame) or _is_loaded_source(arguments))
        )
    finally:
        _state.attempts = attempts
    if allowed:
        return
    subject = f" {str(arguments[0])[:200]!r}" if arguments else ""
    attempts.append(f"open{subject}" if event == "open" else f"cause {event}{subject}")
    raise _ForbiddenError(attempts[-1])


def _writes(event: str, arguments: tuple[Any, ...]) -> bool:
    if event != "open":
        return False
    _, mode, flags = arguments
    by_flags = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) != 0
    return by_flags or (isinstance(mode, str) and any(letter in mode for letter in "wax+"))


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename in _IMPORT_FILES:
            return True
        frame = frame.f_back
    return False


def _is_loaded_source(arguments: tuple[Any, ...]) -> bool:
    """Whether a file is the source of a module that is loaded, whose lines warnings and tracebacks show."""
    path = arguments[0] if arguments else None
    return (
        isinstance(path, str)
        and path.endswith(".py")
        and any(getattr(module, "__file__", None) == path for module in list(sys.modules.values()))
    )
