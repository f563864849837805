"""Building the compiled kernels: cached, and never needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from dilated.kernels import native
from dilated.kernels.layers import FastConv2d, Kernel


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Build in an empty folder, and forget the result."""
    monkeypatch.setenv("DILATED_CACHE", str(tmp_path))
    native.load_native.cache_clear()
    yield
    native.load_native.cache_clear()


def test_a_second_process_finds_what_the_first_has_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if not shutil.which("c++"):
        pytest.skip("no compiler")
    assert native.load_native() is not None
    files = list(tmp_path.iterdir())
    assert [path.suffix for path in files] == [".so"]
    native.load_native.cache_clear()
    monkeypatch.setattr(native.subprocess, "run", _only_version(native.subprocess.run))
    assert native.load_native() is not None
    assert list(tmp_path.iterdir()) == files


def _only_version(run):
    def checked(command, **options):
        assert command[1:] == ["--version"]
        return run(command, **options)

    return checked


def test_without_a_compiler_plain_pytorch_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert native.load_native() is None
    conv, x = nn.Conv2d(3, 4, 3).requires_grad_(False), torch.rand(1, 3, 9, 9)
    torch.testing.assert_close(FastConv2d(conv, Kernel("winograd", (2, 2)))(x), conv(x), atol=1e-5, rtol=1e-5)


def test_a_compiler_that_fails_is_reported_once_and_plain_pytorch_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CXX", "false")
    with pytest.warns(UserWarning, match="plain PyTorch is used"):
        assert native.load_native() is None
    assert native.load_native() is None
    assert not list(tmp_path.iterdir())


def test_the_compiled_kernels_can_be_switched_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DILATED_NATIVE", "0")
    assert native.load_native() is None


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DILATED_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="plain PyTorch is used"):
        assert native.load_native() is None
