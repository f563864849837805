"""The rivals of the context module against torchvision's, smp's and plain arithmetic, and as part of a segmenter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from dilated import InputError, Predictor, Segmenter, SegmenterConfig, load
from dilated.models.heads import AtrousPyramidHead, HeadName, ParallelHead, PyramidPoolingHead, SerialHead, build_head

HEADS = [name for name in get_args(HeadName) if name != "none"]
TILED = [name for name in HEADS if name not in ("aspp", "psp")]


def fill(module: nn.Module) -> None:
    """Give all parameters and statistics random values."""
    random = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            values = torch.rand(tensor.shape, generator=random)
            tensor.copy_(values + 0.5 if name.endswith("running_var") else (values - 0.5) / 2)


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Copy tensors of modules that hold the same layers in the same order under other names."""
    values, names = list(source.state_dict().values()), list(target.state_dict())
    assert len(values) == len(names)
    target.load_state_dict(dict(zip(names, values, strict=True)))


def make_segmenter(head: HeadName, **changes: object) -> Segmenter:
    torch.manual_seed(0)
    config = SegmenterConfig("resnet18", features=8, levels=3, head=head, **changes)  # type: ignore[arg-type]
    return Segmenter(["a", "b", "c"], config=config).eval()


@torch.no_grad()
def test_aspp_is_torchvisions_from_the_same_weights() -> None:
    theirs = DeepLabHead(256, 5, atrous_rates=(12, 24, 36)).eval()
    fill(theirs)
    ours = AtrousPyramidHead(256, (12, 24, 36)).eval()
    copy_in_order(nn.Sequential(*list(theirs)[:3]), ours)
    features = torch.rand(2, 256, 17, 22)
    expected = theirs(features)
    torch.testing.assert_close(theirs[4](ours(features)), expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("rates", [(12, 24, 36), (6, 12, 18)])
def test_aspp_is_smps_from_the_same_weights(rates: tuple[int, ...]) -> None:
    decoder = pytest.importorskip("segmentation_models_pytorch.decoders.deeplabv3.decoder")
    theirs = decoder.DeepLabV3Decoder(16, 16, rates, aspp_separable=False, aspp_dropout=0.5).eval()
    fill(theirs)
    ours = AtrousPyramidHead(16, rates, dropout=0.5).eval()
    copy_in_order(theirs, ours)
    features = torch.rand(2, 16, 17, 22)
    torch.testing.assert_close(ours(features), theirs([features]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(17, 22), (6, 12), (3, 5)])
def test_psp_is_smps_from_the_same_weights(size: tuple[int, int]) -> None:
    decoder = pytest.importorskip("segmentation_models_pytorch.decoders.pspnet.decoder")
    theirs = decoder.PSPDecoder([16], out_channels=16).eval()
    fill(theirs)
    ours = PyramidPoolingHead(16).eval()
    copy_in_order(theirs, ours)
    features = torch.rand(2, 16, *size)
    torch.testing.assert_close(ours(features), theirs([features]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_one_classifier_on_the_branches_of_aspp_v2_is_the_sum_of_their_logits() -> None:
    head = ParallelHead(4, (6, 12, 18, 24)).eval()
    classifier = nn.Conv2d(head.out_channels, 3, 1)
    features = torch.rand(1, 4, 30, 31)
    expected = classifier.bias.view(1, -1, 1, 1)  # type: ignore[union-attr]
    for i, (branch, rate) in enumerate(zip(head.branches, (6, 12, 18, 24), strict=True)):
        fc6, fc7 = branch[0], branch[3]  # type: ignore[index]
        hidden = F.conv2d(features, fc6.weight, fc6.bias, padding=rate, dilation=rate).relu()
        hidden = F.conv2d(hidden, fc7.weight, fc7.bias).relu()
        expected = expected + F.conv2d(hidden, classifier.weight[:, 4 * i : 4 * i + 4])
    torch.testing.assert_close(classifier(head(features)), expected)


def count_unseen(rates: tuple[int, ...]) -> int:
    """How many positions within the field of convolutions of these rates the middle does not depend on."""
    head = SerialHead(1, rates).eval()
    for parameter in head.parameters():
        nn.init.ones_(parameter)
    reach = sum(rates)
    x = torch.ones(1, 1, 2 * reach + 1, 2 * reach + 1, requires_grad=True)
    head(x)[0, 0, reach, reach].backward()
    assert x.grad is not None
    return int((x.grad == 0).sum())


@pytest.mark.parametrize("rates", [5, ("a",), (1.5,), (0,), (2000,), (1,) * 17])
def test_rates_of_another_type_or_size_are_refused(rates: Any) -> None:
    with pytest.raises(InputError, match=r"network\.rates: found"):
        SegmenterConfig(backbone="resnet18", head="hdc", rates=rates)


def test_hdc_leaves_no_position_of_its_field_unseen() -> None:
    head = build_head("hdc", 1)
    assert isinstance(head, SerialHead)
    assert [layer[0].dilation[0] for layer in head.layers] == [1, 2, 5, 9]  # type: ignore[index]
    assert count_unseen((1, 2, 5, 9)) == 0
    assert count_unseen((2, 2, 2)) > 0


@pytest.mark.parametrize(("stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))])
def test_rates_are_scaled_with_the_output_stride(stride: int, rates: tuple[int, ...]) -> None:
    head = build_head("aspp", 4, stride)
    assert isinstance(head, AtrousPyramidHead)
    assert tuple(branch[0].dilation[0] for branch in list(head.branches)[1:]) == rates  # type: ignore[index]


@pytest.mark.parametrize("head", HEADS)
def test_features_are_not_negative_and_logits_come_back_from_the_file(head: HeadName, tmp_path: Path) -> None:
    segmenter, images = (
        make_segmenter(head, context="basic", rates=(2, 3) if head != "psp" else ()),
        torch.rand(1, 3, 40, 52),
    )
    with torch.no_grad():
        (features,) = segmenter.extract_features(images)
        expected = segmenter(images)
    assert segmenter.head is not None
    assert features.shape[1] == segmenter.head.out_channels
    assert features.min() >= 0
    segmenter.save(tmp_path / "network.safetensors")
    loaded = load(tmp_path / "network.safetensors")
    assert loaded.config == segmenter.config
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(images), expected, rtol=0.05, atol=0.05)  # stored in 16 bits


@pytest.mark.parametrize(("head", "layer"), [("aspp", r"head\.pool"), ("psp", r"head\.pools\.0")])
def test_tiles_are_refused_where_a_head_reads_the_whole_image(head: HeadName, layer: str) -> None:
    predictor = Predictor(make_segmenter(head), device="cpu", tile=32)
    with pytest.raises(InputError, match=f"layers that see the whole image .*{layer}"):
        predictor((torch.rand(3, 48, 70) * 255).byte())


@pytest.mark.parametrize("head", ["largefov", "degridding"])
def test_tiles_have_the_labels_of_the_whole_image(head: HeadName) -> None:
    segmenter, image = make_segmenter(head, rates=(3,)), (torch.rand(3, 70, 90) * 255).byte()
    whole, tiled = (Predictor(segmenter, device="cpu", tile=tile)(image, logits=True).logits for tile in (None, 32))
    assert isinstance(whole, Tensor)
    assert isinstance(tiled, Tensor)
    torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["aspp", "psp"])
def test_a_batch_of_one_can_be_trained_on(head: HeadName) -> None:
    segmenter = make_segmenter(head).train()
    segmenter(torch.rand(1, 3, 32, 32)).sum().backward()
    assert segmenter.head is not None
    assert all(parameter.grad is not None for parameter in segmenter.head.parameters())


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(InputError, match=r"head: 'aspp-v9' is unknown. Give one of none, aspp"):
        build_head("aspp-v9", 4)
