"""Two jobs never write to one place, and a killed one stands in nobody's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import environment
from PIL import Image

from dilated import system
from dilated.cli.main import main
from dilated.errors import InputError
from dilated.lock import LOCK_FILE, lock_file, lock_folder

HOLDER = """
import sys, time
from pathlib import Path
from dilated.lock import lock_file, lock_folder
with (lock_folder if sys.argv[1] == "folder" else lock_file)(Path(sys.argv[2]), "training"):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def held(kind: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A second process that holds a lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind, str(path)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with held("folder", run) as first:
        with (
            pytest.raises(InputError, match=rf"run: another job writes there: training, process {first.pid} of \w+ on"),
            lock_folder(run, "training"),
        ):
            pass
        first.kill()
        first.wait()
        assert (run / LOCK_FILE).exists()
        with lock_folder(run, "training") as left_behind:
            assert left_behind
            assert str(os.getpid()) in (run / LOCK_FILE).read_text()
    assert list(run.iterdir()) == []


def test_a_refusal_does_not_take_the_lock_from_its_owner(tmp_path: Path) -> None:
    """A POSIX lock is lost when its process closes any file of it."""
    with lock_file(tmp_path / "a.tif", "one"):
        for _ in range(2):
            with (
                pytest.raises(InputError, match=f"one|two.*process {os.getpid()}"),
                lock_file(tmp_path / "a.tif", "two"),
            ):
                pass
        script = HOLDER.replace("time.sleep(600)", "")
        second = subprocess.run(
            [sys.executable, "-c", script, "file", str(tmp_path / "a.tif")],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert f"process {os.getpid()}" in second.stderr
    assert list(tmp_path.iterdir()) == []


def test_of_many_threads_that_start_at_once_one_gets_it(tmp_path: Path) -> None:
    got, refused, start, end = [], [], threading.Barrier(8), threading.Event()

    def take() -> None:
        start.wait()
        try:
            with lock_folder(tmp_path, "work"):
                got.append(1)
                end.wait(20)
        except InputError:
            refused.append(1)
            if len(refused) == 7:
                end.set()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)


def test_of_many_processes_one_at_a_time_has_it(tmp_path: Path) -> None:
    """They count in a file that nothing else protects."""
    (tmp_path / "count").write_text("0")
    script = """
import sys, time
from pathlib import Path
from dilated.errors import InputError
from dilated.lock import lock_file
count = Path(sys.argv[1])
for _ in range(100):
    while True:
        try:
            with lock_file(count, "counting"):
                number = int(count.read_text())
                time.sleep(0.0002)
                count.write_text(str(number + 1))
            break
        except InputError:
            time.sleep(0.0005)
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "count")], env=environment()) for _ in range(3)
    ]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "300"


@pytest.mark.parametrize("locks", ["none", "not here"])
def test_without_locks_of_the_system_the_owner_decides(
    locks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if locks == "none":
        monkeypatch.setattr(system, "fcntl", None)
    else:

        def fail(*_: object) -> None:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(system.fcntl, "lockf", fail)
    path = tmp_path / LOCK_FILE
    with lock_folder(tmp_path, "work"):
        owner = json.loads(path.read_text())
    assert owner["pid"] == os.getpid()
    gone = next(pid for pid in range(4_000_000, 5_000_000) if not psutil.pid_exists(pid))
    for changes, stale in (
        ({}, False),
        ({"pid": gone}, True),
        ({"process_started": 5.0}, True),  # its number was given to another process
        ({"boot": "an earlier start of the machine"}, True),
        ({"host": "elsewhere"}, False),
        ({"host": "elsewhere", "pid": gone}, False),
    ):
        path.write_text(json.dumps(owner | changes))
        if stale:
            with lock_folder(tmp_path, "work"):
                assert json.loads(path.read_text()) == owner | {"since": json.loads(path.read_text())["since"]}
        else:
            with (
                pytest.raises(InputError, match=r"if it runs no longer, remove .*\.lock"),
                lock_folder(tmp_path, "work"),
            ):
                pass
    path.write_text("")  # killed while it wrote
    with pytest.raises(InputError, match="it has not said which"), lock_folder(tmp_path, "work"):
        pass


def test_what_a_lock_file_holds_does_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    with held("folder", tmp_path):
        (tmp_path / LOCK_FILE).write_text(
            '{"work": "\\u001b]0;owned\\u0007", "pid": [1], "host": "' + "x" * 5000 + '"}'
        )
        with pytest.raises(InputError) as raised, lock_folder(tmp_path, "work"):
            pass
    assert "\x1b" not in str(raised.value)
    assert len(str(raised.value)) < 700


def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: could not be written"), lock_folder(tmp_path / "file", "work"):
        pass
    with pytest.raises(InputError, match=r"could not be written"), lock_file(tmp_path / "file" / "a", "work"):
        pass


def refuse(pid: int, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 1
    assert f"process {pid}" in capsys.readouterr().err


def test_a_training_of_a_run_that_another_one_writes_is_refused(
    folder: Path, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    for options in (("--recipe", recipe_file), ("--recipe", recipe_file, "--resume"), ("--plan-only",)):
        with held("folder", out) as first:
            refuse(first.pid, capsys, "train", folder, "--out", out, *options)
            assert [path.name for path in out.iterdir()] == [LOCK_FILE]


def test_a_prediction_a_raster_and_a_conversion_are_refused_where_another_one_writes(
    folder: Path, network_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    predict = ("predict", network_file, tmp_path / "a.png", "--out", out)
    for kind, path, arguments in (
        ("folder", out, predict),
        ("file", out / "a.tif", (*predict, "--save", "tif", "--tile", "64")),
        ("file", tmp_path / "voc", ("convert-data", folder, tmp_path / "voc", "--format", "camvid")),
    ):
        path.parent.mkdir(exist_ok=True)
        with held(kind, path) as first:
            refuse(first.pid, capsys, *arguments)
    assert not list(tmp_path.rglob("*.part"))
