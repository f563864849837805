"""Files appear whole or not at all, and what a killed process left is removed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dilated import files
from dilated.files import atomic_path, atomic_write, move_into_place

KILLED = """
import os, signal, sys
from pathlib import Path
from dilated.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_one_that_writes_there(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "a.txt"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    atomic_write(tmp_path / "b.txt", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_the_temporary_file_of_a_process_that_runs_is_left_alone(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as temporary:
        subprocess.run(
            [sys.executable, "-c", f"from dilated.files import *; atomic_write({str(tmp_path / 'b.txt')!r}, '')"],
            check=True,
        )
        assert temporary.exists()
        temporary.write_text("a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def test_many_threads_that_write_leave_the_permissions_of_new_files_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o027)
    try:
        for i in range(20):
            files._umask.cache_clear()
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda j, i=i: atomic_write(tmp_path / f"{i}-{j}", ""), range(8)))
        assert os.umask(0o027) == 0o027
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}
    finally:
        os.umask(before)
        files._umask.cache_clear()


def test_the_content_and_the_name_are_brought_to_the_disk_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(stat_kind(fd)), fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (calls.append("replace"), replace(self, target))[1])
    atomic_write(tmp_path / "a.txt", "text")
    assert calls == ["file", "replace", "folder"]
    calls.clear()
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "b.txt").write_text("text")
    move_into_place(tmp_path / "part", tmp_path / "whole")
    assert calls == ["file", "folder", "replace", "folder"]


def stat_kind(fd: int) -> str:
    return "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
