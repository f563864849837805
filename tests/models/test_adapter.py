"""A context module on networks of other libraries: at first it changes nothing, then it is really in the path."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from foreign_networks import FIVE, NETWORKS, OWN, Ends, disturb
from torch import Tensor, nn

from dilated import Segmenter, SegmenterConfig
from dilated.models.adapter import AdaptedSegmenter, AdapterConfig, add_context
from dilated.models.context import ContextModule
from dilated.models.logit_layer import find_logits
from dilated.palettes import distinct_colors
from dilated.prediction.predictor import Predictor


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def plain(network: nn.Module, images: Tensor, classes: int = 5) -> Tensor:
    """The network's own logits for the sides that it takes, at every pixel."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (AdapterConfig.mean, AdapterConfig.std))
    logits = find_logits(network((images - mean) / std), classes)
    return nn.functional.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_every_library(name: str) -> None:
    torch.manual_seed(0)
    build, layer, stride = NETWORKS[name]
    network = build().eval()
    images = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        before = plain(network, images)
    own = hooks(network)  # transformers' networks keep some of their own from the first run
    segmenter = add_context(network, FIVE, config=AdapterConfig(size_divisor=32))

    assert isinstance(segmenter, AdaptedSegmenter)
    assert segmenter.model is network
    assert (segmenter.config.layer, segmenter.output_stride, segmenter.config.context) == (layer, stride, "basic")
    with torch.no_grad():
        after = segmenter(images)
        assert torch.equal(after.argmax(1), before.argmax(1))
        assert float((after - before).abs().max()) <= 1e-6 * float(before.abs().max())
        assert segmenter.logits(images).shape == (1, 5, -(-96 // stride), -(-128 // stride))
        odd = torch.rand(2, 3, 37, 50)
        assert segmenter(odd).shape == (2, 5, 37, 50)
        assert segmenter.logits(odd).shape == (2, 5, -(-37 // stride), -(-50 // stride))
    assert hooks(network) == own

    disturb(segmenter)
    changed = segmenter(images)
    assert not torch.allclose(changed, before, rtol=0, atol=1e-3 * float(before.abs().max()))
    changed.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in segmenter.context.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
    with torch.no_grad():
        assert torch.equal(plain(network, images), before)  # alone, the network is what it was


@pytest.mark.parametrize("training", [True, False])
def test_modes_are_untouched(training: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).train(training)
    network[1].train(not training)
    before = copy.deepcopy(network.state_dict())
    add_context(network, ["a", "b"])
    assert [m.training for m in network.modules()] == [training, training, not training, training]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    "give",
    [
        lambda s: s,
        lambda s: {"out": s, "aux": s.detach() * 0},
        lambda s: (s, s * 0),
        lambda s: [[s]],
        lambda s: s.sigmoid(),
        lambda s: s.softmax(1),
        lambda s: {"out": s.log_softmax(1)},
        lambda s: s[..., ::2, ::2],
    ],
)
def test_any_form_of_output_will_do(give: Callable[[Tensor], Any]) -> None:
    torch.manual_seed(0)
    network, images = Ends(give).eval(), torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        before = plain(network, images, 2)
        segmenter = add_context(network, ["a", "b"]).eval()
        after = segmenter(images)
        torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)
        assert torch.equal(after.argmax(1), before.argmax(1))
        disturb(segmenter)
        assert not torch.allclose(segmenter(images), before, atol=1e-4)


def test_transformers_own_output_will_do() -> None:
    output = pytest.importorskip("transformers.modeling_outputs").SemanticSegmenterOutput
    network, images = Ends(lambda s: output(loss=s.mean(), logits=s)).eval(), torch.rand(1, 3, 32, 48)
    segmenter = add_context(network, ["a", "b"]).eval()
    torch.testing.assert_close(segmenter(images), plain(network, images, 2), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("give", [lambda s: s, lambda s: {"out": s}])
def test_one_map_for_two_classes_is_read_as_zero_and_the_logit(give: Callable[[Tensor], Any]) -> None:
    torch.manual_seed(0)
    network, images = Ends(give, classes=1).eval(), torch.rand(2, 3, 33, 47)
    with torch.no_grad():
        score = plain(network, images, 2)
        segmenter = add_context(network, ["background", "road"]).eval()
        logits = segmenter(images)
        assert logits.shape == (2, 2, 33, 47)
        torch.testing.assert_close(logits, torch.cat([0 * score, score], 1), rtol=1e-6, atol=1e-7)
        assert torch.equal(logits.argmax(1), (score[:, 0] > 0).long())
        assert segmenter.logits(images).shape == (2, 2, 17, 24)
        disturb(segmenter)
        assert not torch.allclose(segmenter(images), logits, atol=1e-4)


def test_one_map_for_another_number_of_classes_is_refused() -> None:
    for classes in (["road"], ["a", "b", "c"]):
        network = Ends(lambda s: s, classes=1)
        if len(classes) == 1:
            assert add_context(network, classes).classes == ("road",)
        else:
            with pytest.raises(ValueError, match=r"not logits \(N, 3, h, w\)"):
                add_context(network, classes)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("shift", [-1e3, 0.0, 1e3])
def test_logits_of_any_sign_and_size_pass_a_fresh_module(scale: float, shift: float) -> None:
    torch.manual_seed(0)
    network = Ends(lambda s: s, classes=5).eval()
    with torch.no_grad():
        network.score.weight.mul_(scale)
        network.score.bias.fill_(shift)
    images = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        before, after = plain(network, images), add_context(network, FIVE).eval()(images)
    assert float((after - before).abs().max()) <= 1e-6 * float(before.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_module_changes_no_bit_in_any_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = Ends(lambda s: s, classes=5).eval()
    with torch.no_grad():
        network.score.weight.mul_(30)
    images, segmenter = torch.rand(2, 3, 64, 96), add_context(network, FIVE).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        assert torch.equal(segmenter(images), plain(network, images))


def test_noise_changes_a_fresh_module_a_little() -> None:
    torch.manual_seed(0)
    network, images = Ends(lambda s: s, classes=5).eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = plain(network, images)
        for width in ("basic", "large"):
            after = add_context(network, FIVE, width=width, sigma=1e-4).eval()(images)  # type: ignore[arg-type]
            difference = float((after - before).abs().max() / before.abs().max())
            assert 1e-7 < difference < 0.05


def test_large_without_noise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"network\.sigma: 0 with context 'large'"):
        add_context(Ends(lambda s: s), ["a", "b"], width="large")


def test_the_settings_reach_the_module() -> None:
    segmenter = add_context(Ends(lambda s: s), ["a", "b"], dilations=[1, 4], width="large", sigma=0.25)
    assert isinstance(segmenter.context, ContextModule)
    assert [layer.dilation for layer in segmenter.context.layers] == [(1, 1), (4, 4)]
    assert [layer.out_channels for layer in segmenter.context.layers] == [4, 16]
    off_centre = segmenter.context.layers[1].weight.detach()[:, :, 0, 0]
    assert 0.15 < float(off_centre.std()) < 0.35
    assert segmenter.config.dilations == (1, 4)


def test_the_module_sees_as_far_as_its_dilations_reach() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    segmenter = (
        add_context(network, ["a", "b"], dilations=[1, 2], sigma=0.3, config=AdapterConfig(**OWN)).eval().double()
    )
    image = torch.rand(1, 3, 21, 21, dtype=torch.float64, requires_grad=True)
    segmenter(image)[0, :, 10, 10].sum().backward()
    rows, columns = image.grad[0].abs().sum(0).nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 13, 7, 13)


def test_normalisation_and_extension_by_zeros_are_the_networks() -> None:
    seen: list[Tensor] = []

    class Sees(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return self.score(x)

    mean, std = (0.5, 0.25, 0.125), (0.5, 2.0, 4.0)
    segmenter = add_context(Sees(), ["a", "b"], config=AdapterConfig(mean=mean, std=std, size_divisor=12))
    assert [side % 12 for side in seen[0].shape[-2:]] == [0, 0]  # the image that the layer is found with
    images = torch.rand(1, 3, 13, 24)
    assert segmenter(images).shape == (1, 2, 13, 24)
    assert seen[-1].shape == (1, 3, 24, 24)
    expected = (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    assert torch.equal(seen[-1][..., :13, :], expected)
    assert not seen[-1][..., 13:, :].any()
    assert (segmenter.mean, segmenter.std) == (mean, std)


def test_a_network_used_in_a_copy_is_independent_and_has_no_hooks() -> None:
    torch.manual_seed(0)
    network, images = Ends(lambda s: s), torch.rand(1, 3, 32, 32)
    segmenter = add_context(network, ["a", "b"])
    other = copy.deepcopy(segmenter)
    assert torch.equal(other(images), segmenter(images))
    before = segmenter(images)
    disturb(other)
    with torch.no_grad():
        other.model.score.weight.zero_()
    assert torch.equal(segmenter(images), before)
    assert hooks(other) == hooks(segmenter) == hooks(network) == 0
    rebuilt = segmenter.rebuild(context="none")
    assert rebuilt.context is None
    assert rebuilt.model is not network
    torch.testing.assert_close(rebuilt(images), before, rtol=1e-6, atol=1e-6)


def test_hooks_go_when_the_network_fails_in_use() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 3, 2))
    segmenter = add_context(network, ["a", "b"], config=AdapterConfig(layer="0"))
    with pytest.raises(RuntimeError):
        segmenter(torch.rand(1, 3, 2, 2))
    assert hooks(network) == 0


def test_a_layer_can_be_named() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ConvTranspose2d(2, 2, 4, 4))
    assert add_context(network, ["a", "b"]).config.layer == "0"
    named = add_context(network, ["a", "b"], config=AdapterConfig(layer="1"))
    assert (named.config.layer, named.output_stride) == ("1", 1)
    with pytest.raises(ValueError, match="Give one of its layers"):
        add_context(network, ["a", "b"], config=AdapterConfig(layer="7"))


@pytest.mark.parametrize("classes", [["a"], ["a", "b", "c"], [str(i) for i in range(21)]])
def test_a_wrong_number_of_classes_is_refused(classes: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"not logits \(N, {len(classes)}, h, w\).* {len(classes)} name"):
        add_context(Ends(lambda s: s), classes)
    with pytest.raises(ValueError, match="one color per class"):
        add_context(Ends(lambda s: s), ["a", "b"], [(0, 0, 0)])
    with pytest.raises(ValueError, match="one color per class"):
        add_context(Ends(lambda s: s), [])


def test_a_network_whose_logits_are_no_convolutions_says_what_was_found() -> None:
    network = nn.Sequential(nn.Conv2d(3, 7, 3, 2, 1), nn.ConvTranspose2d(7, 2, 2, 2))
    with pytest.raises(ValueError, match=r"no convolution gives 2 channels.*0 \(7, 64, 64\), 1 \(2, 128, 128\)"):
        add_context(network, ["a", "b"])
    assert hooks(network) == 0


def test_a_segmenter_gets_a_context_module_by_rebuilding() -> None:
    torch.manual_seed(0)
    segmenter = Segmenter(["a", "b"], [(0, 0, 0), (9, 9, 9)], SegmenterConfig("test_efficientnet", features=8)).eval()
    other = add_context(segmenter, ["a", "b"], dilations=(1, 2))
    assert isinstance(other, Segmenter)
    assert (other.config.context, other.config.dilations) == ("basic", (1, 2))
    images = torch.rand(1, 3, 50, 60)
    torch.testing.assert_close(other(images), segmenter(images), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="differ from the network's"):
        add_context(segmenter, ["b", "a"])


def test_the_predictor_labels_with_it() -> None:
    network = Ends(lambda s: s, classes=1)
    labels = Predictor(add_context(network, ["a", "b"], config=AdapterConfig(size_divisor=8)), device="cpu")(
        np.zeros((19, 30, 3), np.uint8)
    ).labels
    assert labels.shape == (19, 30)


def test_hues_are_as_many_and_different() -> None:
    for count in (1, 2, 19, 150):
        colors = distinct_colors(count)
        assert len(set(colors)) == count
        assert all(0 <= value <= 255 for color in colors for value in color)


def test_a_network_in_double_precision_gets_a_module_in_double() -> None:
    segmenter = add_context(nn.Sequential(nn.Conv2d(3, 2, 1)).double(), ["a", "b"])
    assert next(segmenter.context.parameters()).dtype == torch.float64
    assert segmenter(torch.rand(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64
