"""What a guarded block may do: compute and import, and nothing that reaches beyond the process."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dilated.errors import InputError
from dilated.models.construction_guard import forbid_side_effects, permit_side_effects


class Named:
    """Something that a pickle names."""


PICKLE = pickle.dumps(Named())
ACTIONS: dict[str, Callable[[Path], object]] = {
    "read": lambda path: path.read_bytes(),
    "write": lambda path: path.write_bytes(b""),
    "read a descriptor": lambda path: os.open(path, os.O_RDONLY),
    "list": lambda path: os.listdir(path.parent),
    "scan": lambda path: os.scandir(path.parent),
    "make a folder": lambda path: path.with_name("folder").mkdir(),
    "remove": lambda path: path.unlink(),
    "rename": lambda path: path.rename(path.with_name("other")),
    "link": lambda path: path.with_name("link").symlink_to(path),
    "socket": lambda path: socket.socket(),
    "resolve": lambda path: socket.getaddrinfo("localhost", 80),
    "process": lambda path: subprocess.run(["true"], check=True),
    "shell": lambda path: os.system("true"),
    "fork": lambda path: os.fork() or os._exit(0),
    "unpickle": lambda path: pickle.loads(PICKLE),
    "thread": lambda path: threading.Thread(target=path.unlink).start(),
    "pool": lambda path: ThreadPoolExecutor(1).submit(path.unlink).result(),
    "environment": lambda path: os.environ.update(DILATED_TRUST="os"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("there")
    return tmp_path / "a.txt"


@pytest.mark.parametrize("name", ACTIONS)
def test_what_reaches_beyond_the_process_is_refused_and_not_done(name: str, path: Path) -> None:
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    with pytest.raises(InputError, match="net: tried to"), forbid_side_effects("net"):
        ACTIONS[name](path)
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before
    assert os.environ.get("DILATED_TRUST") != "os"


def test_an_attempt_that_the_code_itself_forgives_is_refused_too(path: Path) -> None:
    with pytest.raises(InputError, match=r"net: tried to open '.*a\.txt'"), forbid_side_effects("net"):
        assert _read_or_nothing(path) == ""


def _read_or_nothing(path: Path) -> str:
    try:
        return path.read_text()
    except Exception:
        return ""


def test_imports_and_warnings_pass() -> None:
    with forbid_side_effects("net"), warnings.catch_warnings():
        warnings.simplefilter("default")
        import imaplib  # not imported by anything else

        warnings.warn("shown with its line of source", stacklevel=1)
    assert imaplib.IMAP4_PORT == 143


def test_other_threads_and_what_follows_are_free(path: Path) -> None:
    go, texts = threading.Event(), []

    def read() -> None:
        go.wait()
        texts.append(path.read_text())

    thread = threading.Thread(target=read)
    thread.start()
    with forbid_side_effects("net"):
        go.set()
        thread.join()
    assert texts == ["there"]
    with pytest.raises(InputError), forbid_side_effects("net"):
        path.read_text()
    assert path.read_text() == "there"


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(KeyError, match="x"), forbid_side_effects("net"):
        raise KeyError("x")


def test_what_the_user_trusts_is_permitted_and_what_follows_is_not(path: Path) -> None:
    with forbid_side_effects("net"), permit_side_effects():
        assert path.read_text() == "there"
    with pytest.raises(InputError, match="tried to open"), forbid_side_effects("net"):
        _read_permitted_and_write(path)
    assert path.read_text() == "there"


def _read_permitted_and_write(path: Path) -> None:
    with permit_side_effects():
        path.read_text()
    path.write_text("gone")
