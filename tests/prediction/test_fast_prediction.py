"""Prediction by an accelerated copy, and labels without the logits of every pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dilated.errors import InputError
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
    exact = Predictor(segmenter, device="cpu", precision="fp32")(PIXELS, logits=True)
    fast = Predictor(segmenter, device="cpu", precision="fast")(PIXELS, logits=True)
    spread = exact.logits.max() - exact.logits.min()
    assert float((fast.logits - exact.logits).abs().max() / spread) < 5e-5


@pytest.mark.parametrize("tile", [None, 32])
def test_fast_labels_are_those_of_the_segmenter_but_for_ties(segmenter: BaseSegmenter, tile: int | None):
    if tile and not segmenter.is_tileable:
        pytest.skip("cannot be tiled")
    logits = Predictor(segmenter, device="cpu", precision="fp32")(PIXELS, logits=True).logits
    labels = Predictor(segmenter, device="cpu", precision="fast", tile=tile)(PIXELS).labels
    assert labels.dtype == np.uint8
    assert_equal_but_for_ties(torch.from_numpy(labels)[None], torch.as_tensor(logits)[None], 1e-4)


def test_the_segmenter_itself_is_not_accelerated(segmenter: BaseSegmenter):
    predictor = Predictor(segmenter, device="cpu", precision="fast")
    assert any(isinstance(m, FastConv2d) for m in predictor.network.modules())
    assert not any(isinstance(m, FastConv2d) for m in segmenter.modules())
    assert Predictor(segmenter, device="cpu", precision="fp32").network is segmenter


def test_networks_that_read_other_bands_are_accelerated():
    config = SegmenterConfig(backbone="resnet18", features=16, input=InputConfig(("red", "nir")))
    segmenter = config.build(["a", "b"]).eval()
    assert any(
        isinstance(m, FastConv2d) for m in Predictor(segmenter, device="cpu", precision="fast").network.modules()
    )


def test_the_settings_of_a_prediction_say_that_it_is_fast(segmenter: BaseSegmenter):
    assert PredictorOptions(precision="fast", device="cpu").make_predictor(segmenter).settings["precision"] == "fast"


def test_by_default_logits_change_by_rounding_alone(segmenter: BaseSegmenter):
    predictor = Predictor(segmenter, device="cpu")
    exact = Predictor(segmenter, device="cpu", precision="fp32")(PIXELS, logits=True)
    assert any(isinstance(m, FastConv2d) for m in predictor.network.modules())
    error = (predictor(PIXELS, logits=True).logits - exact.logits).abs().max()
    assert error < 1e-5 * exact.logits.abs().max()


def test_weights_that_change_later_count():
    segmenter = CONFIGS["timm"].build(["a", "b"]).eval()
    predictor = Predictor(segmenter, device="cpu")
    before, network = predictor(PIXELS, logits=True).logits, predictor.network
    assert predictor.network is network
    with torch.no_grad():
        for parameter in segmenter.parameters():
            parameter.mul_(1.1)
    after = Predictor(segmenter, device="cpu", precision="fp32")(PIXELS, logits=True).logits
    torch.testing.assert_close(
        predictor(PIXELS, logits=True).logits, after, rtol=0, atol=1e-5 * float(after.abs().max())
    )
    assert (before - after).abs().max() > 0.01 * after.abs().max()


def test_a_network_that_cannot_be_accelerated_computes_itself_and_says_so(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise InputError("accelerate: the output changes by 1.0e-02 of its greatest value")

    segmenter = CONFIGS["timm"].build(["a", "b"]).eval()
    monkeypatch.setattr("dilated.prediction.acceleration.accelerate", refuse)
    with pytest.warns(UserWarning, match="the output changes by .*; the network itself computes"):
        assert Predictor(segmenter, device="cpu").network is segmenter
    with pytest.raises(InputError, match="the output changes by"):
        _ = Predictor(segmenter, device="cpu", precision="fast").network


def test_tiles_of_winograd_layers_change_logits_by_rounding_alone():
    torch.manual_seed(0)
    segmenter = SegmenterConfig(backbone="resnet18", features=32, context="basic").build(["a", "b", "c"]).eval()
    pixels = np.random.default_rng(1).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    predictor = Predictor(segmenter, device="cpu")
    whole = predictor(pixels, logits=True).logits
    tiled = Predictor(segmenter, device="cpu", tile=64)(pixels, logits=True).logits
    assert (tiled - whole).abs().max() < 1e-5 * (whole.max() - whole.min())
