"""`dilated.accelerate` changes the output of networks of many families by rounding alone."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

import dilated
from dilated.input_config import InputConfig
from dilated.kernels.layers import FastConv2d
from dilated.models.segmenter import SegmenterConfig

SMALL = """
test_byobnet test_convnext test_convnext2 test_efficientnet test_efficientnet_evos test_efficientnet_gn
test_mambaout test_nfnet test_resnet test_vit mobilenetv3_small_050 starnet_s050
"""
OTHERS = """
coat_tiny coatnet_nano_rw_224 convnext_atto convnextv2_atto dla46_c dla60_res2net dpn68 edgenext_xx_small
efficientformerv2_s0 efficientnet_lite0 efficientvit_b0 efficientvit_m0 ese_vovnet19b_slim
ese_vovnet19b_slim_dw fastvit_t8 fbnetc_100 gernet_s ghostnet_050 ghostnetv3_050 hardcorenas_a hgnetv2_b0
hrnet_w18_small lcnet_035 legacy_seresnet18 levit_128s mambaout_femto mixnet_s mnasnet_small mobilenetv2_035
mobilenetv2_050 mobilenetv4_conv_small_035 mobileone_s0 mobilevit_xxs mobilevitv2_050 nf_regnet_b0 pit_ti_224
poolformer_s12 pvt_v2_b0 regnetx_002 repghostnet_050 repvgg_a0 res2net50d resnest14d resnet10t resnet18
resnetblur18 resnetv2_18 rexnet_100 selecsls42 semnasnet_075 seresnet18 skresnet18 spnasnet_100 test_convnext3
test_efficientnet_ln test_vit2 tinynet_e tiny_vit_5m_224 vgg11_bn xcit_nano_12_p16_224
"""
NETWORKS = [*SMALL.split(), *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS.split())]


def randomize_norms(module: nn.Module) -> None:
    """Statistics and weights that are not those of a fresh batch norm."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 1.5)
            norm.weight.data.uniform_(0.8, 1.2)
            norm.bias.data.normal_(0, 0.2)


def error(output: Tensor, exact: Tensor) -> float:
    return float((output - exact).abs().max() / exact.abs().max())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_error_against_float64_is_that_of_the_network_itself(name: str) -> None:
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=10).eval().requires_grad_(False)
    randomize_norms(net)
    size = net.default_cfg["input_size"][1] if net.default_cfg.get("fixed_input_size") else 96
    images = torch.rand(1, 3, size, size)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    fast = dilated.accelerate(net, images)
    assert any(isinstance(layer, FastConv2d) for layer in fast.modules())
    assert not any(isinstance(layer, FastConv2d) for layer in net.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    with torch.inference_mode():
        plain, accelerated = net(images), fast(images)
        exact = net.double()(images.double())
    assert error(accelerated, exact) <= 3 * error(plain, exact) + 1e-6


@pytest.mark.parametrize("bands", [3, 5])
def test_a_segmenter_gives_its_logits_to_rounding(bands: int) -> None:
    torch.manual_seed(0)
    config = {3: None, 5: InputConfig(tuple("abcde"))}[bands]
    segmenter = (
        SegmenterConfig(backbone="resnet18", features=16, context="basic", input=config).build(["a", "b"]).eval()
    )
    fast = dilated.accelerate(segmenter)
    images = torch.rand(2, bands, 61, 70)
    with torch.inference_mode():
        logits, expected = fast(images), segmenter(images)
    assert type(fast) is type(segmenter)
    assert error(logits, expected) < 1e-5
