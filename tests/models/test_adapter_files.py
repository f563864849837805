"""Files of networks of other libraries with a context module, and the bundled network as one of them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_networks import FIVE, NETWORKS, OWN, Ends, disturb, torchvisions
from torch import Tensor, nn

import dilated
from dilated import InputError
from dilated.models.adapter import AdapterConfig, add_context
from dilated.models.base import BaseSegmenter
from dilated.prediction.predictor import Predictor


def test_a_file_without_a_factory_is_refused_when_it_is_written(tmp_path: Any) -> None:
    with pytest.raises(InputError, match="Give a factory"):
        add_context(Ends(lambda s: s), ["a", "b"]).save(str(tmp_path / "x.safetensors"))
    assert not list(tmp_path.iterdir())


def small(tied: bool = False, classes: int = 2) -> nn.Module:
    """The factory of the file tests."""
    first = nn.Conv2d(3, 3, 1)
    return nn.Sequential(first, nn.ReLU(), first if tied else nn.Conv2d(3, 3, 1), nn.Conv2d(3, classes, 1))


def round_trip(segmenter: BaseSegmenter, path: str) -> BaseSegmenter:
    segmenter.save(path, half=False)
    return dilated.load(path)


def test_a_file_holds_all_it_takes(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DILATED_TRUST", __name__)
    torch.manual_seed(0)
    options = {"classes": 2, "tied": False}
    given = {"mean": (0.5, 0.5, 0.5), "size_divisor": 4, "factory": f"{__name__}:small", "options": options}
    segmenter = add_context(
        small(), ["a", "b"], [(1, 2, 3), (4, 5, 6)], dilations=(1, 3), sigma=0.1, config=AdapterConfig(**given)
    ).eval()
    other, images = round_trip(segmenter, str(tmp_path / "x.safetensors")), torch.rand(1, 3, 14, 15)
    assert other.config == segmenter.config
    assert (other.classes, other.colors, other.mean) == (("a", "b"), ((1, 2, 3), (4, 5, 6)), (0.5, 0.5, 0.5))
    assert torch.equal(other(images), segmenter(images))
    assert not other.training
    monkeypatch.delenv("DILATED_TRUST")
    with pytest.raises(InputError, match=r"x\.safetensors: network\.factory: .*DILATED_TRUST"):
        dilated.load(tmp_path / "x.safetensors")


def test_logits_that_two_layers_make_need_one_named() -> None:
    network = torchvisions("lraspp_mobilenet_v3_large").eval()
    with pytest.raises(ValueError, match=r"classifier\.high_classifier.*something else"):
        add_context(network, FIVE, config=AdapterConfig(size_divisor=32))
    segmenter = add_context(
        network, FIVE, config=AdapterConfig(size_divisor=32, layer="classifier.high_classifier")
    ).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(segmenter(images), segmenter.rebuild(context="none")(images))


@pytest.mark.parametrize("name", ["fpn", "segformer"])
def test_files_of_the_libraries_networks(name: str, tmp_path: Any) -> None:
    torch.manual_seed(0)
    config = {"factory": "transformers:SegformerConfig", "num_labels": 5, "decoder_hidden_size": 16, "depths": [1] * 4}
    config |= {"hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2]}
    factory, options = {
        "fpn": ("segmentation_models_pytorch:FPN", {"encoder_name": "resnet18", "encoder_weights": None}),
        "segformer": ("transformers:SegformerForSemanticSegmentation", {"config": config}),
    }[name]
    options |= {"fpn": {"classes": 5}, "segformer": {}}[name]
    segmenter = add_context(
        NETWORKS[name][0](), FIVE, config=AdapterConfig(size_divisor=32, factory=factory, options=options)
    ).eval()
    disturb(segmenter)
    other, images = round_trip(segmenter, str(tmp_path / "x.safetensors")), torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        assert torch.equal(other(images), segmenter(images))


def test_a_hostile_file_runs_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for factory, options in (("os:system", {"command": "touch ran"}), ("builtins:eval", {}), ("subprocess:run", {})):
        add_context(small(), ["a", "b"], config=AdapterConfig(factory=factory, options=options)).save("x.safetensors")
        with pytest.raises(InputError, match="would run code of"):
            dilated.load("x.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_network_that_has_a_layer_under_two_names_can_be_saved(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DILATED_TRUST", __name__)
    given = {"factory": f"{__name__}:small", "options": {"tied": True}}
    segmenter = add_context(small(tied=True), ["a", "b"], config=AdapterConfig(**given)).eval()
    other, images = round_trip(segmenter, str(tmp_path / "x.safetensors")), torch.rand(1, 3, 14, 15)
    assert torch.equal(other(images), segmenter(images))


def test_options_that_no_file_can_hold_are_an_error_that_says_so() -> None:
    with pytest.raises(InputError, match="options"):
        add_context(
            small(), ["a", "b"], config=AdapterConfig(factory=f"{__name__}:small", options={"norm": nn.BatchNorm2d})
        )


class Plain(nn.Module):
    """The bundled network's front end as somebody else's: a dictionary of logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = dilated.load("street").rebuild(context="none", detail=0, detail_fine=0).eval()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": self.inner(images)}


@pytest.mark.parametrize("name", ["street_camvid.jpg", "street_kitti.jpg"])
def test_a_fresh_module_changes_no_label_of_a_real_image(name: str) -> None:
    plain = Plain()
    segmenter = add_context(plain, plain.inner.classes, config=AdapterConfig(**OWN))
    path = Path(str(resources.files("dilated") / "samples" / name))
    before, after = (Predictor(network, device="cpu")(path).labels for network in (plain.inner, segmenter))
    assert len(np.unique(before)) > 4
    assert np.array_equal(before, after)
