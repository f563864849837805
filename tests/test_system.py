"""The source runs where Linux's own calls are missing, and where new processes do not inherit the memory of the old."""

from __future__ import annotations

import ast
import multiprocessing
import pickle
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import environment

import dilated
from dilated import system
from dilated.data import loader
from dilated.data.augment import AugmentConfig
from dilated.data.loader import iter_batch_keys, iter_batches
from dilated.data.torch_dataset import TrainingSamples

SOURCE = Path(__file__).resolve().parents[1] / "src" / "dilated"
NOT_EVERYWHERE = {
    *("fcntl", "resource", "pwd", "grp", "termios", "tty", "syslog", "posix", "msvcrt", "winreg"),
    *("os.fork", "os.forkpty", "os.sysconf", "os.mkfifo", "os.mknod", "os.getuid", "os.geteuid", "os.getgid"),
    *("os.uname", "os.killpg", "os.setsid", "os.getpgid", "os.wait", "os.sched_getaffinity", "os.posix_fadvise"),
    *("os.statvfs", "os.pread", "os.pwrite", "os.sendfile", "os.nice", "os.getloadavg", "os.chown"),
    *("signal.SIGKILL", "signal.SIGHUP", "signal.SIGUSR1", "signal.SIGUSR2", "signal.SIGALRM", "signal.SIGCHLD"),
    *("signal.alarm", "signal.setitimer", "signal.pause", "signal.pthread_sigmask"),
}
"""Modules and names that Windows or macOS lacks."""


def _hazards(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if not any(name.rpartition(".")[2] in text for name in NOT_EVERYWHERE):
        return
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                used = [name.name for name in names]
            case ast.ImportFrom(module=str(module), names=names):
                used = [module, *(f"{module}.{name.name}" for name in names)]
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                used = [f"{module}.{name}"]
            case _:
                continue
        yield from (f"{path.name}:{node.lineno}: {name}" for name in used if name in NOT_EVERYWHERE)


def test_what_some_systems_lack_is_used_in_one_module_only() -> None:
    others = [path for path in sorted(SOURCE.rglob("*.py")) if path.name != "system.py"]
    assert [hazard for path in others for hazard in _hazards(path)] == []


def test_such_uses_are_found(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("import os\nfrom signal import SIGKILL\nimport resource as r\nos.kill(1, SIGKILL)\nos.fork()\n")
    assert list(_hazards(path)) == ["bad.py:2: signal.SIGKILL", "bad.py:3: resource", "bad.py:5: os.fork"]


def test_without_the_calls_of_posix_memory_is_still_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on Windows; psutil has the peak there alone."""
    monkeypatch.setattr(system, "resource", None)
    monkeypatch.setattr(system, "fcntl", None)
    assert system.free_address_space() is None
    assert dilated.environment.free_memory(torch.device("cpu")) > 0
    with (tmp_path / "lock").open("w") as file:
        assert not system.lock_open_file(file.fileno())


def test_the_module_is_imported_without_the_modules_of_posix(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fcntl", "resource"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type] -- what makes an import fail
    names = runpy.run_path(str(SOURCE / "system.py"))
    assert names["fcntl"] is names["resource"] is names["free_address_space"]() is None


def test_the_address_space_that_is_left_is_the_limit_less_what_is_mapped() -> None:
    if system.resource is None:
        pytest.skip("this system has no limits of the address space")
    limit = 64 * 2**40
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit}, resource.RLIM_INFINITY)); "
        "import psutil; from dilated.system import free_address_space as free; "
        f"print({limit} - free() - psutil.Process().memory_info().vms)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=120, check=True
    )
    assert abs(int(run.stdout)) < 2**27


def test_what_a_loader_gives_its_workers_can_be_pickled(folder: Path) -> None:
    """Windows and macOS start workers anew: all that they need is pickled."""
    samples = TrainingSamples(dilated.open_dataset(folder).samples("train"), AugmentConfig(crop=(32, 48)), seed=0)
    image, label = pickle.loads(pickle.dumps(loader._ErrorsAsValues(samples)))[(1, 7)]
    expected_image, expected_label = samples[(1, 7)]
    assert torch.equal(image, expected_image)
    assert torch.equal(label, expected_label)
    pickle.dumps((loader._collate, loader._ignore_signals))


@pytest.mark.slow
def test_workers_that_are_spawned_give_the_batches_of_none(folder: Path) -> None:
    samples = TrainingSamples(dilated.open_dataset(folder).samples("train"), AugmentConfig(crop=(32, 48)), seed=0)
    before = multiprocessing.get_start_method()
    expected = list(iter_batches(samples, iter_batch_keys(6, 2, 0, 0, 3), workers=0))
    multiprocessing.set_start_method("spawn", force=True)
    try:
        batches = list(iter_batches(samples, iter_batch_keys(6, 2, 0, 0, 3), workers=1))
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert len(batches) == 3
    for (image, label), (expected_image, expected_label) in zip(batches, expected, strict=True):
        assert torch.equal(image, expected_image)
        assert torch.equal(label, expected_label)


@pytest.mark.slow
def test_a_training_with_spawned_workers_learns_the_same(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    code = """
import multiprocessing, sys
from pathlib import Path
import dilated
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    options = dilated.TrainOptions(device="cpu", report=False)
    dilated.train(sys.argv[2], sys.argv[4], recipe=sys.argv[3], options=options)
"""
    script = tmp_path / "job.py"
    script.write_text(code, encoding="utf-8")
    files = []
    for method in ("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn", "spawn"):
        out = tmp_path / f"run{len(files)}"
        command = [sys.executable, str(script), method, str(folder), str(recipe_file), str(out)]
        subprocess.run(command, env=environment(), timeout=280, check=True, capture_output=True)
        files.append(dilated.load(str(out)).state_dict())
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
