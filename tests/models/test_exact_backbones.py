"""Segmenters on backbones that `dilate` turned: every kind of start, and the same weights at every stride."""

from __future__ import annotations

import pytest
import torch

from dilated import Segmenter, SegmenterConfig
from dilated.fields.measured import measure_margin, windows_match_whole_image

CLASSES, COLORS = ["sky", "road"], [(0, 0, 255), (128, 64, 128)]


def build(backbone: str, stride: int = 8, **settings: object) -> Segmenter:
    torch.manual_seed(0)
    network = SegmenterConfig(backbone=backbone, output_stride=stride, features=8, dilation="exact", **settings)  # type: ignore[arg-type]
    return Segmenter(CLASSES, COLORS, network).eval()


@pytest.mark.parametrize(
    ("backbone", "start"),
    [
        ("resnet18", 0.0),  # symmetric padding
        ("test_efficientnet", 0.0),
        ("tf_efficientnet_lite0", 31.0),  # TensorFlow's padding: the late side first
        ("convnext_atto", 15.5),  # patches of two
        ("densenet121", 14.0),
    ],
)
def test_samples_sit_where_the_classifier_had_them(backbone: str, start: float) -> None:
    segmenter = build(backbone)
    assert (segmenter.grid.stride, segmenter.grid.start) == (8, start)
    with torch.inference_mode():
        for height, width in ((1, 1), (33, 70), (64, 96)):
            images = torch.rand(1, 3, height, width)
            assert segmenter(images).shape == (1, 2, height, width)
            assert segmenter.logits(images).shape == (1, 2, -(-height // 8), -(-width // 8))


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto", "tf_efficientnet_lite0"])
def test_the_backbone_at_stride_8_has_the_values_of_stride_32_at_every_fourth_place(backbone: str) -> None:
    fine, coarse = build(backbone), build(backbone, 32)
    assert not coarse.load_matching_weights(fine)
    images = torch.rand(1, 3, 96, 160)
    with torch.inference_mode():
        last, first = fine.extract_backbone_features(images)[-1], coarse.extract_backbone_features(images)[-1]
    assert last.shape[-2:] == (12, 20)
    torch.testing.assert_close(last[..., ::4, ::4], first, rtol=1e-4, atol=1e-5 * float(first.abs().max()))


def test_windows_of_an_image_give_the_maps_of_the_whole() -> None:
    segmenter = build("convnext_atto", levels=2)
    for name, parameter in segmenter.named_parameters():
        if name.endswith("gamma"):  # a fresh block's share is next to nothing
            torch.nn.init.ones_(parameter)
    margin = measure_margin(segmenter.extract_features, 8, segmenter.alignment)
    assert margin is not None
    assert margin % segmenter.alignment == 0
    assert windows_match_whole_image(segmenter.extract_features, margin, segmenter.alignment)
    assert not windows_match_whole_image(segmenter.extract_features, 0, segmenter.alignment)


def test_what_cannot_be_dilated_is_refused_by_layer() -> None:
    with pytest.raises(ValueError, match="which nothing dilates"):
        build("test_vit")
    with pytest.raises(ValueError, match=r"network\.dilation = 'exact'"):
        Segmenter(CLASSES, COLORS, SegmenterConfig(backbone="densenet121", dilation="timm"))
