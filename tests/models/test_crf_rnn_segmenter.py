"""A segmenter whose logits a CRF-RNN refines: trained, saved, read, and what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dilated import CRFRNN, DenseCRF, InputError, Predictor, SegmenterConfig, load
from dilated.deploy.export import export
from dilated.input_config import InputConfig
from dilated.models.base import BaseSegmenter
from dilated.models.class_bias import with_class_bias
from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.prediction.memory import measure_bytes_per_pixel
from dilated.tensors import reflect_pad

KERNELS = DenseCRF(iterations=2, bilateral_position=6, bilateral_color=20, smooth_position=2)
TIMM = SegmenterConfig("test_efficientnet", features=4, crf="rnn", crf_kernels=KERNELS)
VGG = VGGConfig(width=1 / 32, crf="rnn", crf_kernels=KERNELS, tile=(436, 436), dropout=0.0)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def make_segmenter(config: SegmenterConfig | VGGConfig, classes: int = 3) -> BaseSegmenter:
    torch.manual_seed(0)
    return config.build([f"class {i}" for i in range(classes)]).eval()


@torch.no_grad()
@pytest.mark.parametrize("config", [TIMM, VGG], ids=["timm", "vgg"])
def test_a_fresh_network_gives_what_the_dense_crf_makes_of_its_logits(config: SegmenterConfig | VGGConfig) -> None:
    refined = make_segmenter(config)
    plain = refined.rebuild(crf="none", crf_kernels=None)
    images = torch.from_numpy(PIXELS).permute(2, 0, 1)[None] / 255
    expected = KERNELS.refine(plain(images)[0], PIXELS)
    torch.testing.assert_close(refined(images)[0], expected, rtol=1e-4, atol=1e-4)
    assert not torch.equal(expected, plain(images)[0].log_softmax(0))
    assert torch.equal(refined.label_pixels(images), refined(images).argmax(1))


@pytest.mark.parametrize("config", [TIMM, VGG], ids=["timm", "vgg"])
def test_a_trained_network_predicts_the_same_from_its_file(config: SegmenterConfig | VGGConfig, tmp_path: Path) -> None:
    segmenter = make_segmenter(config).train()
    margin = (segmenter.required_label_grid or (0, 1))[0]
    assert segmenter.required_label_grid in (None, (margin, 1))  # labels of every pixel
    images, target = torch.rand(1, 3, 24 + 2 * margin, 32 + 2 * margin), torch.randint(3, (1, 24, 32))
    before = {name: value.clone() for name, value in segmenter.named_parameters()}
    optimizer = torch.optim.SGD(segmenter.parameters(), 0.1)
    for _ in range(2):
        loss = F.cross_entropy(segmenter.training_logits(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    first_layer = next(name for name in before if "frontend" in name or "backbone" in name)
    for name in (first_layer, "crf.smooth", "crf.bilateral", "crf.compatibility"):
        assert not torch.equal(before[name], segmenter.get_parameter(name)), name
    segmenter.eval().save(tmp_path / "network.safetensors", half=False)
    restored = load(tmp_path / "network.safetensors")
    assert restored.config == config
    assert isinstance(restored.crf, CRFRNN)
    assert np.array_equal(Predictor(restored)(PIXELS).labels, Predictor(segmenter)(PIXELS).labels)
    logits, expected = (Predictor(x)(PIXELS, logits=True).logits for x in (restored, segmenter))
    assert logits is not None
    assert expected is not None
    assert np.array_equal(logits, expected)


@torch.no_grad()
def test_the_authors_training_grid_gives_the_logits_of_the_middle() -> None:
    """Of an image that was extended as the network does it, training and prediction agree."""
    segmenter = make_segmenter(dataclasses.replace(VGG, context="basic"))
    assert isinstance(segmenter, VGGSegmenter)
    images, margin = torch.rand(1, 3, 24, 32), segmenter.frontend.margin
    extended = reflect_pad(images, margin, margin, margin, margin)
    actual, expected = segmenter.training_logits(extended), segmenter(images)
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)


def test_the_auxiliary_loss_sees_refined_logits() -> None:
    segmenter, images = make_segmenter(TIMM), torch.rand(1, 3, 24, 32)
    assert torch.equal(segmenter.forward_with_auxiliary(images)[0], segmenter(images))


@torch.no_grad()
def test_blocks_change_a_result_little_and_cover_the_image() -> None:
    layer = CRFRNN(2, dataclasses.replace(KERNELS, block=64, bilateral_position=16))
    whole = CRFRNN(2, dataclasses.replace(KERNELS, block=512, bilateral_position=16))
    ramp = torch.linspace(0, 1, 150).expand(1, 3, 100, 150)
    logits = torch.randn(1, 2, 100, 150, generator=torch.Generator().manual_seed(0))
    in_blocks, at_once = layer(logits, ramp), whole(logits, ramp)
    assert in_blocks.shape == at_once.shape
    assert not torch.equal(in_blocks, at_once)
    assert float((in_blocks.argmax(1) == at_once.argmax(1)).float().mean()) > 0.97


def test_half_precision_outside_leaves_the_mean_field_in_float32() -> None:
    layer, images = CRFRNN(2, KERNELS), torch.rand(1, 3, 20, 20)
    logits = torch.randn(1, 2, 20, 20).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        refined = layer(logits, images)
    assert torch.equal(refined, layer(logits.float(), images))


@pytest.mark.parametrize("options", [{"tile": 32}, {"tile": 32, "blend": True}, {"flips": True}, {"scales": (0.5, 1)}])
def test_tiles_and_views_are_refused_in_words(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"network\.crf: 'rnn' ties every pixel to all others"):
        Predictor(make_segmenter(TIMM), **options)  # type: ignore[arg-type]


def test_an_export_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"network\.crf: 'rnn' filters by a lattice"):
        export(make_segmenter(TIMM), tmp_path / "network.onnx")


def test_a_bias_per_class_is_refused() -> None:
    with pytest.raises(InputError, match="no bias"):
        with_class_bias(make_segmenter(TIMM), [0.0, 0.1, 0.2])


def test_its_memory_is_measured() -> None:
    plain = make_segmenter(TIMM).rebuild(crf="none", crf_kernels=None)
    device = torch.device("cpu")
    assert measure_bytes_per_pixel(make_segmenter(TIMM), device) > measure_bytes_per_pixel(plain, device) + 100


BANDS = InputConfig(bands=("a", "b"), mean=(0.5, 0.5), std=(0.2, 0.2), low=(0, 0), high=(1, 1))


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (TIMM, {"crf": "none"}, r"network\.crf_kernels: .*"),
        (TIMM, {"input": BANDS}, r"network\.crf: found rnn"),
        (VGG, {"inference": "authors"}, r"network\.inference: found authors"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    config: SegmenterConfig | VGGConfig, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def test_matrices_of_very_many_classes_are_refused_before_they_are_built() -> None:
    with pytest.raises(InputError, match="a number for each pair of classes, and there are 60,000 classes"):
        TIMM.build_crf(60_000)


def test_classes_that_are_new_start_fresh(tmp_path: Path) -> None:
    narrow, wide = make_segmenter(TIMM), make_segmenter(TIMM, classes=4)
    fresh = wide.load_matching_weights(narrow)
    assert {"crf.smooth", "crf.bilateral", "crf.compatibility"} <= set(fresh)
