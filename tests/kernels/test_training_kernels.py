"""Training by faster kernels gives the gradients of the network itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dilated.kernels.native import load_native
from dilated.kernels.training import plan_training
from dilated.models.segmenter import Segmenter, SegmenterConfig

pytestmark = pytest.mark.skipif(load_native() is None, reason="no C++ compiler")


def make_segmenter(backbone: str, stride: int) -> Segmenter:
    torch.manual_seed(0)
    config = SegmenterConfig(backbone=backbone, features=16, detail=8, output_stride=stride)
    segmenter = Segmenter(["sky", "road", "car"], config=config)
    for layer in segmenter.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
    return segmenter


def freeze_norms(segmenter: Segmenter) -> None:
    for name, layer in segmenter.named_modules():
        if isinstance(layer, nn.BatchNorm2d) and name.startswith("backbone."):
            layer.eval()


def gradients(segmenter: Segmenter, images: Tensor) -> list[Tensor]:
    torch.manual_seed(1)
    logits = segmenter.training_logits(images)
    (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).mean().backward()
    results = [parameter.grad.clone() for parameter in segmenter.parameters() if parameter.grad is not None]
    segmenter.zero_grad()
    return [logits.detach(), *results]


@pytest.mark.parametrize(("backbone", "frozen"), [("test_efficientnet", True), ("test_efficientnet", False)])
def test_gradients_of_all_parameters_are_those_of_the_network(backbone: str, frozen: bool) -> None:
    segmenter, images = make_segmenter(backbone, 8), torch.rand(2, 3, 64, 80)
    if frozen:
        freeze_norms(segmenter)
    kernels = plan_training(segmenter, images[:1])
    assert kernels is not None
    statistics = segmenter.state_dict()
    expected = gradients(segmenter, images)
    segmenter.load_state_dict(statistics)
    with kernels.active():
        results = gradients(segmenter, kernels.to_layout(images))
    assert len(results) == len(expected)
    greatest = max(float(b.abs().max()) for b in expected[1:])
    for a, b in zip(results, expected, strict=True):
        assert float((a - b).abs().max()) <= 1e-3 * float(b.abs().max()) + 1e-5 * greatest


def test_a_frozen_norm_is_not_computed_and_a_moving_one_is() -> None:
    segmenter = make_segmenter("test_efficientnet", 8)
    images = torch.rand(1, 3, 64, 64)
    moving = plan_training(segmenter, images)
    freeze_norms(segmenter)
    frozen = plan_training(segmenter, images)
    assert moving is not None
    assert frozen is not None
    norms = [layer for layer in segmenter.backbone.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert not set(norms) & set(moving.forwards)
    assert set(norms) <= set(frozen.forwards)


def test_planning_and_training_leave_the_network_as_it_was() -> None:
    segmenter = make_segmenter("test_efficientnet", 8)
    freeze_norms(segmenter)
    modes = [layer.training for layer in segmenter.modules()]
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    kernels = plan_training(segmenter, torch.rand(1, 3, 64, 64))
    assert kernels is not None
    with kernels.active(), torch.no_grad():
        segmenter.eval()(torch.rand(1, 3, 40, 40))
    for layer, mode in zip(segmenter.modules(), modes, strict=True):
        assert "forward" not in vars(layer)
        layer.training = mode
    assert all(torch.equal(value, before[key]) for key, value in segmenter.state_dict().items())


def test_a_network_without_depthwise_layers_keeps_torchs_kernels() -> None:
    assert plan_training(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), torch.rand(1, 3, 9, 9)) is None


def test_a_map_that_is_read_besides_its_norm_is_not_passed_over() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4)
            nn.init.constant_(self.norm.weight, 3.0)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.norm(y) + y

    assert plan_training(Twice().eval(), torch.rand(1, 4, 8, 8)) is None
