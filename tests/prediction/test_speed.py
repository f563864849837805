"""The times of a prediction's steps, and what the layers of an accelerated network run by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dilated.errors import InputError
from dilated.kernels.accelerate import accelerate
from dilated.kernels.layers import FastConv2d
from dilated.kernels.native import load_native
from dilated.models.paper import VGGConfig
from dilated.models.segmenter import Segmenter, SegmenterConfig
from dilated.prediction.predictor import Predictor
from dilated.prediction.speed import STEPS, StepTimes, list_kernels, measure_gain, measure_steps


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    return SegmenterConfig(backbone="resnet18", features=32, context="basic").build(["a", "b", "c"]).eval()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(path)
    return path


def test_every_step_of_every_run_is_timed(segmenter: Segmenter, image: Path) -> None:
    times = measure_steps(Predictor(segmenter, device="cpu"), [image, image], rounds=2)
    assert list(times.seconds) == list(STEPS)
    assert all(len(seconds) == 4 and min(seconds) >= 0 for seconds in times.seconds.values())
    assert times.percentile(0.5) <= times.percentile(0.99) == max(times.totals())
    assert times.first_seconds > 0


def test_networks_with_tiles_of_their_own_are_timed_too(image: Path) -> None:
    config = VGGConfig(width=1 / 16, inference="authors", tile=(500, 500))
    times = measure_steps(Predictor(config.build(["a", "b"]), device="cpu", precision="fp32"), [image], rounds=1)
    assert times.seconds["network"][0] > 0


def test_what_cannot_be_timed_is_refused(segmenter: Segmenter, image: Path) -> None:
    predictor = Predictor(segmenter, device="cpu")
    with pytest.raises(InputError, match="0 images, 5 rounds"):
        measure_steps(predictor, [])
    with pytest.raises(InputError, match="whole images"):
        measure_steps(Predictor(segmenter, device="cpu", tile=32), [image])


def test_percentiles_are_runs_that_took_place() -> None:
    times = StepTimes({"decode": [1.0, 5.0, 2.0], "network": [1.0, 1.0, 1.0]})
    assert times.totals() == [2.0, 6.0, 3.0]
    assert (times.percentile(0.01), times.percentile(0.5), times.percentile(0.99)) == (2.0, 3.0, 6.0)


def test_every_replaced_layer_is_listed_with_its_multiply_adds(segmenter: Segmenter) -> None:
    fast = accelerate(segmenter)
    layers = {layer.name: layer for layer in list_kernels(fast, 64, 80)}
    replaced = [name for name, module in fast.named_modules() if isinstance(module, FastConv2d)]
    assert sorted(layers) == sorted(replaced)
    assert layers["backbone.conv1"].products == 32 * 40 * 64 * 3 * 7 * 7
    assert not any(m._forward_pre_hooks for m in fast.modules())


def test_layers_of_a_fused_block_are_listed_with_their_sizes() -> None:
    if load_native() is None:
        pytest.skip("no compiler")
    fast = accelerate(SegmenterConfig(backbone="mobilenetv2_035").build(["a", "b"]).eval())
    layers = {layer.name: layer for layer in list_kernels(fast, 64, 80)}
    block = [layer for name, layer in layers.items() if name.startswith("backbone.blocks.1.0.")]
    assert [str(layer.kernel) for layer in block] == ["fused"] * 3
    assert [layer.products for layer in block] == [32 * 40 * 8 * 48, 16 * 20 * 48 * 9, 16 * 20 * 48 * 8]


def test_the_gain_is_measured_on_both(segmenter: Segmenter) -> None:
    before, after = measure_gain(segmenter, accelerate(segmenter), (64, 80), rounds=1)
    assert 0 < before < 60
    assert 0 < after < 60
