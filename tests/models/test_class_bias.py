from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dilated import AdapterConfig, InputError, Predictor, Segmenter, SegmenterConfig, add_context, load
from dilated.models.base import BaseSegmenter
from dilated.models.class_bias import with_class_bias
from dilated.paper import VGGConfig, VGGSegmenter

CLASSES = ("sky", "road", "tree")
BIASES = (0.5, -0.25, 0.0)
TINY = SegmenterConfig(backbone="test_efficientnet", features=8)


def adapted(**layers: bool) -> BaseSegmenter:
    network = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 3, 1, **layers), nn.Upsample(None, 2))
    return add_context(network, CLASSES, config=AdapterConfig(size_divisor=2))


@pytest.mark.parametrize(
    "changes",
    [{}, {"detail": 4}, {"context": "basic"}, {"context": "basic", "context_on": "logits", "detail": 0}],
)
def test_logits_grow_by_the_biases_and_by_nothing_else(changes: dict[str, object]) -> None:
    torch.manual_seed(0)
    segmenter = Segmenter(CLASSES, config=SegmenterConfig("test_efficientnet", features=8, **changes)).eval()
    image = torch.rand(1, 3, 50, 61)
    with torch.no_grad():
        change = with_class_bias(segmenter, BIASES)(image) - segmenter(image)
    assert torch.allclose(change, torch.tensor(BIASES).view(1, 3, 1, 1).expand_as(change), atol=1e-4)


def test_the_network_that_is_given_stays_as_it_is() -> None:
    segmenter = Segmenter(CLASSES, config=TINY).eval()
    before = segmenter.digest()
    assert with_class_bias(segmenter, BIASES).digest() != before == segmenter.digest()


def test_a_network_of_another_library_takes_biases_too() -> None:
    segmenter, image = adapted().eval(), torch.rand(1, 3, 40, 44)
    with torch.no_grad():
        change = with_class_bias(segmenter, BIASES)(image) - segmenter(image)
    assert torch.allclose(change, torch.tensor(BIASES).view(1, 3, 1, 1).expand_as(change), atol=1e-4)


def test_one_channel_for_two_classes_takes_the_difference() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    config = AdapterConfig(size_divisor=1)
    segmenter = add_context(network, ("off", "on"), config=config).rebuild(context="none").eval()
    image = torch.rand(1, 3, 33, 40)
    with torch.no_grad():
        change = with_class_bias(segmenter, (0.25, 1.0))(image) - segmenter(image)
    assert torch.allclose(change[:, 1] - change[:, 0], torch.tensor(0.75), atol=1e-5)


def test_a_layer_without_a_bias_is_refused() -> None:
    segmenter = adapted(bias=False).rebuild(context="none")
    with pytest.raises(InputError, match="has no bias"):
        with_class_bias(segmenter, BIASES)


def test_probabilities_that_are_interpolated_take_no_bias() -> None:
    torch.manual_seed(0)
    config = VGGConfig(width=0.0625, context="none", upsampling="interpolation")
    segmenter = VGGSegmenter(CLASSES, config=config).eval()
    for parameter in segmenter.parameters():
        nn.init.normal_(parameter, std=0.5)
    with pytest.raises(InputError, match="not linear"):
        with_class_bias(segmenter, BIASES)


@pytest.mark.slow
def test_tiles_and_the_stored_network_have_the_labels_of_biased_logits(tmp_path: object) -> None:
    torch.manual_seed(1)
    segmenter = Segmenter(CLASSES, config=SegmenterConfig("resnet18", features=8, context="basic", dilations=(1, 2)))
    biased = with_class_bias(segmenter.eval(), BIASES)
    path = f"{tmp_path}/biased.safetensors"
    biased.save(path, half=False)
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    logits = Predictor(segmenter, device="cpu", precision="fp32")(image, logits=True).logits
    assert logits is not None
    expected = (logits + torch.tensor(BIASES).view(3, 1, 1)).argmax(0).numpy()
    tiled = Predictor(load(path), tile=32, device="cpu")(image).labels
    assert (tiled != expected).mean() < 1e-3


def test_a_number_is_given_for_each_class() -> None:
    with pytest.raises(ValueError, match="one for each of 3"):
        with_class_bias(Segmenter(CLASSES, config=TINY), (0.5,))
