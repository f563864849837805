"""Choosing a kernel: measured once per shape, kept in a file that may be missing or damaged."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dilated.kernels import dispatch
from dilated.kernels.dispatch import KernelChooser, candidates, choose_by_count, measure_error, shape_key
from dilated.kernels.layers import TORCH, FastConv2d, Kernel
from dilated.kernels.native import load_native

W2, W4 = Kernel("winograd", (2, 2)), Kernel("winograd", (4, 4))


@pytest.fixture
def layer() -> FastConv2d:
    return FastConv2d(nn.Conv2d(8, 16, 3, padding=2, dilation=2).requires_grad_(False))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[list[Kernel]]:
    """Times without measuring: direct 1 s, torch 0.9 s, tiles of 2 and 4 take 0.5 and 0.49 s; the calls so far."""
    calls: list[list[Kernel]] = []
    seconds = {"torch": 0.9, "winograd 2x2": 0.5, "winograd 4x4": 0.49}

    def measure(layer, x, kernels):
        calls.append(kernels)
        return {kernel: seconds.get(str(kernel), 1.0) for kernel in kernels}

    monkeypatch.setattr(dispatch, "measure", measure)
    return calls


def test_a_shape_is_timed_once(tmp_path: Path, layer: FastConv2d, timed: list[list[Kernel]]):
    chooser, x = KernelChooser(path=tmp_path / "times.json"), torch.rand(1, 8, 40, 50)
    assert [chooser(layer, x) for _ in range(3)] == [W2] * 3
    assert chooser(layer, torch.rand(1, 8, 41, 51)) == W2  # near enough to count as the same
    assert len(timed) == 1
    chooser(layer, torch.rand(1, 8, 80, 50))
    assert len(timed) == 2


def test_a_larger_tile_must_gain_time(tmp_path: Path, layer: FastConv2d, timed: list[list[Kernel]]):
    assert KernelChooser(path=tmp_path / "times.json")(layer, torch.rand(1, 8, 9, 9)) == W2  # 0.49 s against 0.5 s


def test_times_are_found_by_the_next_process(tmp_path: Path, layer: FastConv2d, timed: list[list[Kernel]]):
    path, x = tmp_path / "times.json", torch.rand(1, 8, 40, 50)
    KernelChooser(path=path)(layer, x)
    other = KernelChooser(path=path)
    assert other(layer, x) == W2
    assert len(timed) == 1
    assert other.times(layer, x)["torch"] == 0.9


def test_two_processes_keep_the_times_of_both(tmp_path: Path, layer: FastConv2d, timed: list[list[Kernel]]):
    path, small, large = tmp_path / "times.json", torch.rand(1, 8, 10, 10), torch.rand(1, 8, 90, 90)
    a, b = KernelChooser(path=path), KernelChooser(path=path)
    a.times(layer, small), b.times(layer, small)  # both have read the empty file
    a(layer, small)
    b(layer, large)
    assert len(json.loads(path.read_text())) == 2


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}', '{"a": {"torch": "x"}}', "\x00"])
def test_a_damaged_file_counts_as_none(tmp_path: Path, layer: FastConv2d, timed: list[list[Kernel]], content: str):
    path = tmp_path / "times.json"
    path.write_text(content)
    assert KernelChooser(path=path)(layer, torch.rand(1, 8, 40, 50)) == W2
    assert len(json.loads(path.read_text())) == 1


def test_a_file_that_cannot_be_written_is_no_error(tmp_path: Path, layer: FastConv2d, timed: list[list[Kernel]]):
    chooser = KernelChooser(path=tmp_path / "missing" / "times.json")
    assert chooser(layer, torch.rand(1, 8, 40, 50)) == W2


def test_the_limits_of_error_and_memory_leave_kernels_out(tmp_path: Path, layer: FastConv2d, timed):
    x = torch.rand(1, 8, 40, 50)
    assert KernelChooser(max_error=0, path=tmp_path / "a")(layer, x) == TORCH
    assert KernelChooser(max_bytes=0, path=tmp_path / "b")(layer, x) == TORCH


def test_fc6_has_tiles_within_the_default_limit_of_error():
    fc6 = FastConv2d(nn.Conv2d(512, 4096, 7, dilation=4, device="meta"))
    names = [str(kernel) for kernel in candidates(fc6, KernelChooser().max_error)]
    assert "winograd 4x4" in names
    assert "winograd 6x6" not in names  # 1.4e-4


def test_a_stride_leaves_winograd_out():
    strided = FastConv2d(nn.Conv2d(8, 16, 3, stride=2))
    assert not [kernel for kernel in candidates(strided, 1.0) if kernel.kind == "winograd"]


@pytest.mark.skipif(load_native() is None, reason="no compiler")
def test_a_depthwise_layer_has_its_own_kernel():
    depthwise = FastConv2d(nn.Conv2d(8, 8, 3, groups=8))
    assert candidates(depthwise, 1.0) == [TORCH, Kernel("depthwise")]


def test_errors_grow_with_the_tile():
    errors = [measure_error((m, m), (3, 3)) for m in (2, 4, 6)]
    assert errors == sorted(errors)
    assert errors[-1] < 1e-5


def test_real_measuring_gives_every_kernel_a_time(tmp_path: Path, layer: FastConv2d):
    x = torch.rand(1, 8, 40, 50)
    threads = torch.get_num_threads()
    times = dispatch.measure(layer, x, [TORCH, W4])
    assert torch.get_num_threads() == threads
    assert all(0 <= seconds < 10 for seconds in times.values())
    assert KernelChooser(path=tmp_path / "times.json")(layer, x) in candidates(layer, 1e-4)


def test_the_key_tells_layers_apart():
    x = torch.rand(1, 8, 40, 50)
    layers = [
        nn.Conv2d(8, 16, 3),
        nn.Conv2d(8, 24, 3),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.Conv2d(8, 16, 3, dilation=2),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.Conv2d(8, 16, 3, groups=2),
        nn.Conv2d(8, 16, (3, 5)),
    ]
    keys = {shape_key(FastConv2d(conv), x) for conv in layers}
    keys.add(shape_key(FastConv2d(layers[0]), x.contiguous(memory_format=torch.channels_last)))
    assert len(keys) == len(layers) + 1


def test_copies_of_a_network_share_their_chooser(layer: FastConv2d):
    layer.kernel = KernelChooser()
    assert copy.deepcopy(layer).kernel is layer.kernel


@pytest.mark.skipif(load_native() is None, reason="no compiler")
@pytest.mark.parametrize(
    ("conv", "size", "kernel"),
    [
        (nn.Conv2d(512, 4096, 7, dilation=4, device="meta"), (90, 90), W4),
        (nn.Conv2d(64, 64, 1), (20, 20), Kernel("direct")),
        (nn.Conv2d(64, 64, 3, groups=64), (20, 20), Kernel("depthwise")),
        (nn.Conv2d(64, 64, 3, stride=2), (20, 20), TORCH),
        (nn.Conv2d(3, 64, 3), (20, 20), TORCH),
        (nn.Conv2d(64, 64, 3, padding=16, dilation=16), (16, 16), TORCH),  # every output is a phase of its own
    ],
)
def test_the_kernel_with_the_least_multiplications_is_chosen(conv: nn.Conv2d, size: tuple[int, int], kernel: Kernel):
    assert choose_by_count(FastConv2d(conv), torch.empty(1, conv.in_channels, *size, device="meta")) == kernel


def test_without_a_compiler_only_wide_kernels_run_by_winograd(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dispatch, "load_native", lambda: None)
    fc6, conv5 = (nn.Conv2d(512, c, k, dilation=d, device="meta") for c, k, d in ((4096, 7, 4), (512, 3, 2)))
    x = torch.empty(1, 512, 90, 90, device="meta")
    assert choose_by_count(FastConv2d(fc6), x) == W4
    assert choose_by_count(FastConv2d(conv5), x) == TORCH


def test_a_probe_is_cut_to_some_channels_and_rows(monkeypatch: pytest.MonkeyPatch):
    shapes = []
    monkeypatch.setattr(FastConv2d, "run", lambda self, x, kernel: shapes.append((x.shape, self.weight.shape)))
    dispatch.measure(
        FastConv2d(nn.Conv2d(512, 4096, 7, dilation=4, device="meta")), torch.rand(1, 512, 90, 90), [TORCH]
    )
    assert shapes[0] == ((1, 512, 48 + 24, 90), (128, 512, 7, 7))
