"""What of the GPU's kernels needs no Triton: names, choices, and copies that run on any device."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import NoReturn

import pytest
import torch
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.kernels import native
from dilated.kernels.gpu import accelerate_on_gpu, choose_half_precision
from dilated.kernels.gpu_dispatch import list_gpu_kernels
from dilated.kernels.gpu_layers import CUDNN, FUSED_CUDNN, GPUConv2d, GPUKernel, choose_cudnn
from dilated.kernels.graphs import GraphCache
from dilated.kernels.labels import upsample_argmax
from dilated.kernels.layers import FastConv2d


def test_kernels_are_read_as_they_are_written() -> None:
    pytest.importorskip("triton")
    for text in (
        "cudnn",
        "cudnn relu",
        "matmul",
        "columns",
        "rows 128x256x64 s3 w8 g8 e2 pf",
        "gather 64x16x32 s2 w4 g8 e1",
    ):
        assert str(GPUKernel.parse(text)) == text


@pytest.mark.parametrize("text", ["", "rowz 128x128x64 s3 w4 g8 e1", "rows 128"])
def test_other_words_are_no_kernel(text: str) -> None:
    pytest.importorskip("triton")
    with pytest.raises(ValueError):  # noqa: PT011
        GPUKernel.parse(text)


def test_the_fused_kernel_is_for_layers_with_bias_and_relu() -> None:
    x = torch.rand(1, 4, 5, 5)
    conv = nn.Conv2d(4, 4, 3).requires_grad_(False)
    assert choose_cudnn(GPUConv2d(FastConv2d(conv, low=0.0), torch.bfloat16), x) == FUSED_CUDNN
    assert choose_cudnn(GPUConv2d(FastConv2d(conv), torch.bfloat16), x) == CUDNN
    conv = nn.Conv2d(4, 4, 3, bias=False).requires_grad_(False)
    assert choose_cudnn(GPUConv2d(FastConv2d(conv, low=0.0), torch.bfloat16), x) == CUDNN


def test_a_copy_in_half_precision_folds_batch_norm_and_relu() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    net.eval().requires_grad_(False)
    net[1].running_mean.uniform_(-1, 1)
    x = torch.rand(2, 3, 9, 8)
    fast = accelerate_on_gpu(net, torch.bfloat16, CUDNN, x)
    y = fast(x)
    assert y.dtype == torch.bfloat16
    assert (y.float() - net(x)).abs().max() < 0.02
    assert [type(layer).__name__ for layer in fast] == ["GPUConv2d", "Identity", "Identity", "GPUConv2d"]
    assert isinstance(net[0], nn.Conv2d)


def test_a_network_in_training_mode_is_refused() -> None:
    with pytest.raises(InputError, match="evaluation mode"):
        accelerate_on_gpu(nn.Conv2d(3, 8, 3), torch.bfloat16, CUDNN)


def test_a_processor_has_no_half_precision_of_a_gpu() -> None:
    assert choose_half_precision(torch.device("cpu")) is None


def test_nothing_is_recorded_on_a_processor() -> None:
    calls = []
    run = GraphCache(lambda x: calls.append(x) or x + 1)
    for _ in range(3):
        assert torch.equal(run(torch.zeros(2)), torch.ones(2))
    assert len(calls) == 3


def test_without_triton_a_layer_has_the_kernels_of_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "dilated.kernels.triton_conv", raising=False)
    native._is_triton_installed.cache_clear()
    layer = GPUConv2d(FastConv2d(nn.Conv2d(3, 8, 3, padding=1).requires_grad_(False)), torch.bfloat16)
    try:
        assert list_gpu_kernels(layer, (9, 0)) == [CUDNN]
    finally:
        native._is_triton_installed.cache_clear()


class _OnGPU(Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


def test_labels_are_made_without_triton_where_it_cannot_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> NoReturn:
        raise RuntimeError("Failed to find C compiler.")

    kernels = SimpleNamespace(upsample_argmax=fail)
    monkeypatch.setitem(sys.modules, "dilated.kernels.triton_maps", kernels)
    monkeypatch.setattr(native, "_is_triton_installed", lambda: True)
    monkeypatch.setattr(native, "_TRITON_FAULTS", [])
    logits = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    axes = torch.linspace(0, 3, 9), torch.linspace(0, 4, 11)
    with pytest.warns(UserWarning, match="Triton cannot run here .Failed to find C compiler"):
        labels = upsample_argmax(logits.as_subclass(_OnGPU), *axes)
    assert labels.as_subclass(Tensor).equal(upsample_argmax(logits, *axes))
    assert not native.has_triton()


@pytest.mark.gpu
def test_fast_changes_few_labels_on_a_gpu_and_replays_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    import numpy as np

    from dilated import Predictor

    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    plain = Predictor("street", device="cuda", precision="fp32")(image).labels
    fast = Predictor("street", device="cuda", precision="fast")
    labels = [fast(image).labels for _ in range(3)]  # plain, recorded, replayed
    assert (labels[0] != plain).mean() < 0.02
    assert (labels[0] != labels[2]).mean() < 0.001
