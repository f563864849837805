"""Checks of Triton's kernels that `test_triton_kernels` runs in a process of its own, with TRITON_INTERPRET=1."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dilated.kernels.dispatch import KernelChooser
from dilated.kernels.gpu import accelerate_on_gpu
from dilated.kernels.gpu_dispatch import GPUKernelChooser, list_gpu_kernels, measure_on_gpu
from dilated.kernels.gpu_layers import CUDNN, GPUConv2d, GPUKernel
from dilated.kernels.layers import FastConv2d
from dilated.kernels.triton_context import GPUContext
from dilated.kernels.triton_conv import TileConfig
from dilated.kernels.triton_maps import max_pool, unfold, upsample_argmax
from dilated.models.context import ContextModule

DTYPE = torch.float16  # the interpreter cannot multiply bf16
TILES = (TileConfig(16, 32, 32), TileConfig(32, 16, 16, is_persistent=False), TileConfig(16, 32, 16, parts=2))
side = st.integers(1, 9)


@settings(max_examples=8, deadline=None, database=None, derandomize=True)
@given(
    st.tuples(side, side), st.integers(1, 20), st.integers(1, 20), st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.integers(1, 2), st.booleans(), st.sampled_from([-math.inf, 0.0]), st.sampled_from(TILES),
)  # fmt: skip
def check_convolutions(size, c_in, c_out, kernel, dilation, padding, n, bias, low, tile):
    conv = nn.Conv2d(c_in, c_out, kernel, padding=padding, dilation=dilation, bias=bias).requires_grad_(False).half()
    if min(s + 2 * p - d * (k - 1) for s, p, d, k in zip(size, padding, dilation, kernel, strict=True)) < 1:
        return
    x = torch.randn(n, c_in, *size).half()
    exact = conv.double()(x.double()).clamp(min=low)
    layer = GPUConv2d(FastConv2d(conv.float(), low=low), DTYPE)
    for kind in ("rows", "slabs", "gather", "columns", "matmul"):
        chosen = GPUKernel(kind, tile if kind in ("rows", "slabs", "gather") else None)
        if layer.can_run(chosen):
            assert_equal(layer.run(layer.prepare(x), chosen), exact)


def assert_equal(result: Tensor, exact: Tensor) -> None:
    assert result.shape == exact.shape
    assert result.dtype == DTYPE
    assert (result - exact).abs().max() <= 2e-3 * exact.abs().max().clamp(min=1), (result - exact).abs().max()


@settings(max_examples=4, deadline=None, database=None, derandomize=True)
@given(side, side, st.integers(1, 5), st.integers(1, 2))
def check_pooling(height, width, channels, n):
    x = torch.randn(n, channels, height, width).half()
    pooled = max_pool(x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(pooled, F.max_pool2d(x, 2, 2, ceil_mode=True))


def check_pooling_keeps_nan():
    x = torch.tensor([[[[1.0, math.nan, 2.0], [0.0, 3.0, 1.0]]]]).half()
    assert max_pool(x.contiguous(memory_format=torch.channels_last)).isnan().tolist() == [[[[True, False]]]]


@settings(max_examples=4, deadline=None, database=None, derandomize=True)
@given(side, side, st.integers(1, 9), st.integers(0, 3), st.integers(1, 3), st.integers(1, 3))
def check_unfolding(height, width, channels, padding, slabs, step):
    x = torch.randn(1, height, width, channels).half()
    size = max(1, height + 2 * padding - 2 * step), max(1, width + 2 * padding - 2 * step)
    wide = F.pad(x, (0, 16 - channels, padding, padding + 3 * step, padding, padding + 3 * step))
    parts = [wide[0, : size[0], j * step : j * step + size[1]].reshape(-1, 16) for j in range(slabs)]
    assert torch.equal(unfold(x, size, (padding, padding), (1, slabs), (0, step), 16)[0], torch.stack(parts))
    columns = unfold(x, size, (padding, padding), (1, slabs), (0, step), 16, is_column=True)
    assert torch.equal(columns[0], torch.cat(parts, 1))


@settings(max_examples=6, deadline=None, database=None, derandomize=True)
@given(side, side, st.integers(1, 6), st.integers(1, 2), st.booleans())
def check_labels(height, width, classes, n, is_last):
    logits = torch.randn(n, classes, height, width)
    logits = logits.contiguous(memory_format=torch.channels_last) if is_last else logits
    exact, axes = logits.double(), []
    for axis, samples in ((2, height), (3, width)):
        position = torch.linspace(0, samples - 1, 2 * samples + 3, dtype=torch.float64)
        low = position.floor().long()
        weight = position - low
        axes.append((low, weight.float()))
        high = (low + 1).clamp(max=samples - 1)
        shape = [-1 if i == axis else 1 for i in range(4)]
        exact = torch.lerp(exact.index_select(axis, low), exact.index_select(axis, high), weight.view(shape))
    labels = upsample_argmax(logits, *axes, torch.uint8)
    top = exact.topk(min(2, classes), 1).values
    is_clear = torch.ones_like(labels, dtype=torch.bool) if classes == 1 else top[:, 0] - top[:, 1] > 1e-5
    assert torch.equal(labels[is_clear].long(), exact.argmax(1)[is_clear])
    assert is_clear.double().mean() > 0.9


@settings(max_examples=4, deadline=None, database=None, derandomize=True)
@given(side, side, st.integers(1, 20), st.integers(1, 2), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def check_context(height, width, channels, n, dilations):
    module = nn.Sequential(nn.Identity(), ContextModule(channels, dilations=dilations, init="random")).eval()
    module.requires_grad_(False)
    x = torch.randn(n, channels, height, width).relu()
    fast = accelerate_on_gpu(module, DTYPE, CUDNN, x, has_fused_context=True)
    assert isinstance(fast[1], GPUContext)
    y, exact = fast(x), module.double()(x.double())
    assert (y - exact).abs().max() <= 5e-3 * exact.abs().max().clamp(min=1)


def check_a_module_of_another_shape_runs_by_layers():
    module = (
        nn.Sequential(nn.Identity(), ContextModule(2, width="large", dilations=[1, 2])).eval().requires_grad_(False)
    )
    x = torch.rand(1, 2, 9, 9)
    fast = accelerate_on_gpu(module, DTYPE, CUDNN, x, has_fused_context=True)
    assert not any(isinstance(part, GPUContext) for part in fast.modules())
    assert torch.allclose(fast(x).float(), module(x), atol=1e-2)


def check_the_chooser_drops_what_fails_and_keeps_times():
    layer = GPUConv2d(FastConv2d(nn.Conv2d(16, 24, 3, padding=1).requires_grad_(False), low=0.0), DTYPE)
    x = layer.prepare(torch.rand(1, 16, 6, 7))
    names = [str(kernel) for kernel in list_gpu_kernels(layer, (9, 0))]
    assert names[:2] == ["cudnn", "cudnn relu"]  # of which the second needs a GPU
    assert any(name.startswith("rows") for name in names)
    times = measure_on_gpu(layer, x, list_gpu_kernels(layer, (9, 0)))
    assert [name for name in names if times[name] == math.inf] == ["cudnn relu"]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "times.json"
        chosen = GPUKernelChooser(KernelChooser(path=path))(layer, x)
        assert GPUKernelChooser(KernelChooser(path=path))(layer, x) == chosen
        assert len(path.read_text()) > 0
    assert [str(kernel) for kernel in list_gpu_kernels(layer, (8, 0))] == ["cudnn", "cudnn relu", "columns"]


if __name__ == "__main__":
    torch.manual_seed(0)
    for check in [check for name, check in globals().items() if name.startswith("check_")]:
        check()
        print(check.__name__)
    print("passed")
