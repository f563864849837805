"""Prediction by an accelerated copy, and labels without the logits of every pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dilated.input_config import InputConfig
from dilated.kernels.layers import FastConv2d
from dilated.models.base import BaseSegmenter
from dilated.models.paper import VGGConfig
from dilated.models.segmenter import SegmenterConfig
from dilated.prediction.predictor import Predictor
from dilated.prediction.predictor_options import PredictorOptions

CONFIGS = {
    "timm": SegmenterConfig(backbone="resnet18", features=16, context="basic", detail=8),
    "vgg whole": VGGConfig(width=1 / 16, context="basic"),
    "vgg authors": VGGConfig(width=1 / 16, context="basic", inference="authors"),
}
PIXELS = np.random.default_rng(0).integers(0, 256, (70, 93, 3), dtype=np.uint8)


@pytest.fixture(params=CONFIGS)
def segmenter(request: pytest.FixtureRequest) -> BaseSegmenter:
    torch.manual_seed(0)
    return CONFIGS[request.param].build([f"class {i}" for i in range(5)]).eval()


def assert_equal_but_for_ties(labels: torch.Tensor, logits: torch.Tensor, limit: float) -> None:
    """Every label's logit is the greatest, or less by so little a part of the spread of the logits."""
    chosen = logits.gather(1, labels[:, None].long())[:, 0]
    assert float((logits.amax(1) - chosen).max()) <= limit * float(logits.max() - logits.min())


def test_labels_are_those_of_the_greatest_logits(segmenter: BaseSegmenter):
    images = torch.rand(2, 3, 61, 50)
    with torch.inference_mode():
        labels, logits = segmenter.label_pixels(images), segmenter(images)
    assert labels.shape == (2, 61, 50)
    assert_equal_but_for_ties(labels, logits, 1e-6)


def test_fast_logits_are_those_of_the_segmenter_to_rounding(segmenter: BaseSegmenter):
    exact = Predictor(segmenter, device="cpu")(PIXELS, logits=True)
    fast = Predictor(segmenter, device="cpu", precision="fast")(PIXELS, logits=True)
    spread = exact.logits.max() - exact.logits.min()
    assert float((fast.logits - exact.logits).abs().max() / spread) < 5e-5


@pytest.mark.parametrize("tile", [None, 32])
def test_fast_labels_are_those_of_the_segmenter_but_for_ties(segmenter: BaseSegmenter, tile: int | None):
    if tile and not segmenter.is_tileable:
        pytest.skip("cannot be tiled")
    logits = Predictor(segmenter, device="cpu")(PIXELS, logits=True).logits
    labels = Predictor(segmenter, device="cpu", precision="fast", tile=tile)(PIXELS).labels
    assert labels.dtype == np.uint8
    assert_equal_but_for_ties(torch.from_numpy(labels)[None], torch.as_tensor(logits)[None], 1e-4)


def test_the_segmenter_itself_is_not_accelerated(segmenter: BaseSegmenter):
    predictor = Predictor(segmenter, device="cpu", precision="fast")
    assert any(isinstance(m, FastConv2d) for m in predictor.network.modules())
    assert not any(isinstance(m, FastConv2d) for m in segmenter.modules())
    assert Predictor(segmenter, device="cpu").network is segmenter


def test_networks_that_read_other_bands_are_accelerated():
    config = SegmenterConfig(backbone="resnet18", features=16, input=InputConfig(("red", "nir")))
    segmenter = config.build(["a", "b"]).eval()
    assert any(
        isinstance(m, FastConv2d) for m in Predictor(segmenter, device="cpu", precision="fast").network.modules()
    )


def test_the_settings_of_a_prediction_say_that_it_is_fast(segmenter: BaseSegmenter):
    assert PredictorOptions(precision="fast", device="cpu").make_predictor(segmenter).settings["precision"] == "fast"
