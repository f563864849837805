"""Pretrained backbones on images of other bands than red, green and blue."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dilated.input_config import InputConfig
from dilated.models.adapter import AdapterConfig, add_context
from dilated.models.segmenter import Segmenter, SegmenterConfig
from dilated.models.stem import expand_kernel
from dilated.weights.backbones import load_pretrained
from dilated.weights.bundled import load

BACKBONE_NORMALIZATION = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # of tf_efficientnet_lite0


def make_segmenter(bands: tuple[str, ...] | None, mean: tuple = (), std: tuple = ()) -> Segmenter:
    config = None if bands is None else InputConfig(bands, "uint16", mean=mean, std=std)
    network = SegmenterConfig(backbone="tf_efficientnet_lite0", levels=3, output_stride=8, features=8, input=config)
    segmenter = Segmenter(["a", "b"], config=network)
    load_pretrained(segmenter, "bundled")
    return segmenter.eval()


@torch.no_grad()
def backbone_features(segmenter: Segmenter, images: Tensor) -> Tensor:
    return segmenter.extract_backbone_features(images)[-1]


def gray_images(channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 1, 48, 64, generator=generator).expand(-1, channels, -1, -1)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 20])
def test_equal_bands_give_the_features_of_a_grey_image(count: int) -> None:
    rgb = make_segmenter(("red", "green", "blue"), (0.4,) * 3, (0.2,) * 3)
    many = make_segmenter(tuple(f"band_{i}" for i in range(count)), (0.4,) * count, (0.2,) * count)
    expected = backbone_features(rgb, gray_images(3))
    torch.testing.assert_close(backbone_features(many, gray_images(count)), expected, rtol=1e-4, atol=1e-4)


def test_three_described_bands_give_the_features_of_rgb() -> None:
    images = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(1))
    expected = backbone_features(make_segmenter(None), images)
    described = make_segmenter(("red", "green", "blue"), *BACKBONE_NORMALIZATION)
    assert torch.equal(backbone_features(described, images), expected)
    swapped = make_segmenter(("blue", "green", "red"), *BACKBONE_NORMALIZATION)
    torch.testing.assert_close(backbone_features(swapped, images.flip(1)), expected, rtol=1e-4, atol=1e-4)


def test_colors_keep_their_weights_and_an_extra_band_starts_with_the_mean() -> None:
    kernel = torch.randn(5, 3, 3, 3)
    expanded = expand_kernel(kernel, ("red", "green", "blue", "nir"))
    torch.testing.assert_close(expanded[:, :3], kernel * 0.75)
    torch.testing.assert_close(expanded[:, 3], kernel.mean(1) * 0.75)


def test_a_network_file_keeps_the_description_of_its_images(tmp_path: Path) -> None:
    segmenter = make_segmenter(("red", "green", "blue", "nir"), (0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8))
    segmenter.save(tmp_path / "n.safetensors")
    loaded = load(tmp_path / "n.safetensors")
    assert loaded.config.input == segmenter.config.input
    assert loaded.mean == (0.1, 0.2, 0.3, 0.4)
    assert loaded(torch.rand(1, 4, 40, 50)).shape == (1, 2, 40, 50)


def test_the_field_of_a_network_does_not_depend_on_its_bands() -> None:
    assert make_segmenter(("a", "b", "c", "d")).theoretical_field() == make_segmenter(None).theoretical_field()


def test_exact_dilation_takes_any_bands() -> None:
    config = InputConfig(tuple("abcde"), "uint16")
    network = SegmenterConfig(backbone="resnet18", output_stride=8, features=8, dilation="exact", input=config)
    segmenter = Segmenter(["a", "b"], config=network).eval()
    assert segmenter(torch.rand(1, 5, 40, 50)).shape == (1, 2, 40, 50)


def test_a_context_module_goes_on_a_network_of_five_bands() -> None:
    network = nn.Sequential(nn.Conv2d(5, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Upsample(None, 2))
    config = AdapterConfig(size_divisor=2, input=InputConfig(tuple("abcde"), "float32", mean=(0,) * 5, std=(1,) * 5))
    segmenter = add_context(network, ["sky", "road"], config=config).eval()
    images = torch.rand(1, 5, 20, 32)
    with torch.no_grad():
        assert torch.equal(segmenter(images).argmax(1), network(images).argmax(1))
