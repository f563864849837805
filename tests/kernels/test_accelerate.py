"""An accelerated copy computes what the network computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.kernels.accelerate import accelerate
from dilated.kernels.chain import RowBandChain, chain_pointwise
from dilated.kernels.dispatch import KernelChooser
from dilated.kernels.layers import FastConv2d


@pytest.fixture
def chooser(tmp_path: Path) -> KernelChooser:
    return KernelChooser(path=tmp_path / "times.json")


def randomize_norms(module: nn.Module) -> nn.Module:
    """Statistics and weights that are not those of a fresh batch norm."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 1.5)
            if norm.weight is not None:
                norm.weight.data.uniform_(0.8, 1.2)
                norm.bias.data.normal_(0, 0.2)
    return module.eval()


def relative_error(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max())


def count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(m, kind) for m in module.modules())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_and_activation_are_folded(chooser: KernelChooser, affine: bool, bias: bool):
    net = randomize_norms(nn.Sequential(nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8, affine=affine), nn.ReLU6()))
    x = torch.rand(2, 3, 20, 30)
    fast = accelerate(net, x, chooser=chooser)
    assert [type(m) for m in fast] == [FastConv2d, nn.Identity, nn.Identity]
    assert (fast[0].low, fast[0].high) == (0, 6)
    with torch.inference_mode():
        assert relative_error(net(x), fast(x)) < 1e-5


@pytest.mark.parametrize(
    "name",
    [
        "test_resnet",
        "test_efficientnet",
        "test_convnext",
        "test_byobnet",
        "test_mambaout",
        "mobilenetv3_small_050",
        "vgg11_bn",
    ],
)
def test_networks_of_timm_give_the_same_features(chooser: KernelChooser, name: str):
    torch.manual_seed(0)
    net = randomize_norms(timm.create_model(name, features_only=True))
    x = torch.rand(1, 3, 96, 64)
    fast = accelerate(net, x, chooser=chooser)
    assert count(fast, FastConv2d) == count(net, nn.Conv2d)
    with torch.inference_mode():
        for a, b in zip(net(x), fast(x), strict=True):
            assert relative_error(a, b) < 1e-3


def test_the_original_is_unchanged_and_shares_its_weights(chooser: KernelChooser):
    net = randomize_norms(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x = torch.rand(1, 3, 9, 9)
    fast = accelerate(net, x, chooser=chooser)
    assert [type(m) for m in net] == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.BatchNorm2d]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())
    assert fast[0].bias.data_ptr() == net[0].bias.data_ptr()


class Branches(nn.Module):
    """A convolution whose output is read before its batch norm as well, by a layer or by a plain function."""

    def __init__(self, by_layer: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        self.other = nn.Conv2d(8, 8, 1) if by_layer else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.relu(self.norm(y)) + (self.other(y) if self.other is not None else y)


def test_an_output_that_two_layers_read_is_not_folded(chooser: KernelChooser):
    net, x = randomize_norms(Branches(by_layer=True)), torch.rand(1, 3, 20, 20)
    fast = accelerate(net, x, chooser=chooser)
    assert isinstance(fast.norm, nn.BatchNorm2d)
    with torch.inference_mode():
        assert relative_error(net(x), fast(x)) < 1e-5


def test_a_folding_that_changes_the_output_is_refused(chooser: KernelChooser):
    with pytest.raises(InputError, match="the output changes by"):
        accelerate(randomize_norms(Branches(by_layer=False)), torch.rand(1, 3, 20, 20), chooser=chooser)


class Twice(nn.Module):
    """One convolution used twice, with a batch norm after the first use only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(self.conv(x)))


def test_a_layer_that_runs_twice_is_not_folded(chooser: KernelChooser):
    net, x = randomize_norms(Twice()), torch.rand(1, 4, 20, 20)
    fast = accelerate(net, x, chooser=chooser)
    assert isinstance(fast.norm, nn.BatchNorm2d)
    with torch.inference_mode():
        assert relative_error(net(x), fast(x)) < 1e-5


class Standardized(nn.Conv2d):
    """A convolution whose forward is not that of its settings."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight - self.weight.mean(), self.bias)


def test_a_convolution_with_a_forward_of_its_own_is_kept(chooser: KernelChooser):
    net, x = (
        nn.Sequential(Standardized(3, 8, 3), nn.Conv2d(8, 2, 3, padding=1, padding_mode="reflect")).eval(),
        torch.rand(1, 3, 9, 9),
    )
    fast = accelerate(net, x, chooser=chooser)
    assert [type(m) for m in fast] == [Standardized, nn.Conv2d]


def test_a_network_in_training_or_in_double_is_refused():
    for net in (nn.Sequential(nn.Conv2d(3, 8, 3)), nn.Sequential(nn.Conv2d(3, 8, 3)).eval().double()):
        with pytest.raises(InputError, match="evaluation mode, in float32 and on the CPU"):
            accelerate(net)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_bands_of_rows_give_the_rows_of_the_image(padding: int, rows: int):
    net = nn.Sequential(
        FastConv2d(nn.Conv2d(5, 1024, 7, padding=padding, dilation=2).requires_grad_(False), low=0.0),
        nn.Dropout(),
        FastConv2d(nn.Conv2d(1024, 1024, 1).requires_grad_(False), low=0.0),
        FastConv2d(nn.Conv2d(1024, 21, 1).requires_grad_(False)),
    ).eval()
    x = torch.rand(1, 5, 31, 20)
    expected = net(x)
    chain_pointwise(net, band_bytes=4 * 1024 * expected.shape[3] * rows)
    assert [type(m) for m in net] == [RowBandChain, nn.Dropout, nn.Identity, nn.Identity]
    torch.testing.assert_close(net(x), expected, atol=1e-5, rtol=1e-4)


def test_narrow_layers_and_those_with_a_kernel_are_not_chained():
    for second in (nn.Conv2d(1024, 21, 3, padding=1), nn.Conv2d(1024, 1024, 1), nn.Conv2d(1024, 21, 1, padding=1)):
        net = nn.Sequential(FastConv2d(nn.Conv2d(5, 1024, 3)), FastConv2d(second))
        chain_pointwise(net)
        assert type(net[0]) is FastConv2d
