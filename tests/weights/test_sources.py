from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dilated import Segmenter, SegmenterConfig
from dilated.errors import InputError
from dilated.weights.backbones import load_pretrained

COLORS = [(0, 0, 0), (1, 1, 1)]


def build(backbone: str = "test_efficientnet") -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(["a", "b"], COLORS, SegmenterConfig(backbone=backbone, features=4))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A whole classifier with other weights than the segmenter's."""
    torch.manual_seed(1)
    return timm.create_model("test_efficientnet")


def kept(segmenter: Segmenter) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in segmenter.backbone.state_dict().items()}


def same(segmenter: Segmenter, weights: dict[str, Tensor]) -> bool:
    return all(torch.equal(v, weights[k]) for k, v in segmenter.backbone.state_dict().items())


def refused(source: str, message: str) -> None:
    """An error, and not one weight changed: nothing falls back to anything."""
    segmenter = build()
    before = kept(segmenter)
    with pytest.raises(InputError, match=message):
        load_pretrained(segmenter, source)
    assert same(segmenter, before)


def test_nothing_bundled_for_a_backbone_says_what_there_is_and_what_to_do() -> None:
    refused("bundled", r"nothing is bundled for test_efficientnet; the package has .*tf_efficientnet_lite0.*timm:")


@pytest.mark.parametrize("name", ["none.safetensors", "none.pth", "none"])
def test_a_missing_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    refused(str(tmp_path / name), f"{name}: no such file" if "." in name else "'.*none' is not a source of weights")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.pt"])
@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_a_damaged_file_is_refused_by_name(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    refused(str(tmp_path / name), f"{name}: not a ")


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"state_dict": {}}, {"conv_stem.weight": 3}])
def test_a_file_that_holds_something_else_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    refused(str(tmp_path / "a.pth"), r"a\.pth")


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('executed')",)


def test_code_in_a_file_is_refused_and_not_executed(tmp_path: Path) -> None:
    torch.save({"conv_stem.weight": Harmful()}, tmp_path / "a.pth")
    refused(str(tmp_path / "a.pth"), r"a\.pth: not a file of PyTorch weights")


def test_weights_of_another_backbone_are_refused_with_their_number(tmp_path: Path) -> None:
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "a.safetensors")
    refused(str(tmp_path / "a.safetensors"), "does not fit test_efficientnet: .* weights are missing")


def test_a_weight_of_another_shape_is_refused_by_its_name(model: nn.Module, tmp_path: Path) -> None:
    save_file({**model.state_dict(), "conv_stem.weight": torch.zeros(1)}, tmp_path / "a.safetensors")
    refused(str(tmp_path / "a.safetensors"), "0 weights are missing, 1 have another shape, first 'conv_stem.weight'")


def test_a_name_that_timm_cannot_supply_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = build()
    before = kept(segmenter)

    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"could not supply 'resnet50\.a1_in1k' \(OSError: no route to the hub\)"):
        load_pretrained(segmenter, "timm:resnet50.a1_in1k")
    assert same(segmenter, before)


def test_weights_from_timm_are_asked_for_by_name_and_loaded(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = build()
    asked = []

    def supplied(name: str, **settings: object) -> nn.Module:
        asked.append((name, settings["pretrained"]))
        return model

    monkeypatch.setattr(timm, "create_model", supplied)
    load_pretrained(segmenter, "timm:test_efficientnet.r160_in1k")
    assert asked == [("test_efficientnet.r160_in1k", True)]
    assert same(segmenter, model.state_dict())


def test_random_leaves_the_weights_as_they_are() -> None:
    segmenter = build()
    before = kept(segmenter)
    assert load_pretrained(segmenter, "random") == "test_efficientnet: random weights"
    assert same(segmenter, before)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_a_file_of_a_whole_classifier_fills_the_backbone(suffix: str, model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    segmenter = build()
    assert not same(segmenter, model.state_dict())
    assert str(path) in load_pretrained(segmenter, str(path))
    assert same(segmenter, model.state_dict())


def test_half_weights_are_loaded_as_single(model: nn.Module, tmp_path: Path) -> None:
    save_file({k: v.half() for k, v in model.state_dict().items()}, tmp_path / "a.safetensors")
    segmenter = build()
    load_pretrained(segmenter, str(tmp_path / "a.safetensors"))
    assert segmenter.backbone.conv_stem.weight.dtype == torch.float32


@torch.no_grad()
def test_the_bundled_backbone_loads_and_sees_differences() -> None:
    segmenter = build("tf_efficientnet_lite0").eval()
    before = kept(segmenter)
    assert "tensors from bundled" in load_pretrained(segmenter, "bundled")
    assert not same(segmenter, before)
    torch.manual_seed(0)
    image = torch.rand(1, 3, 64, 64)
    for a, b in zip(segmenter.backbone(image * 2 - 1), segmenter.backbone(torch.zeros(1, 3, 64, 64)), strict=True):
        assert a.isfinite().all()
        assert a.abs().max() < 1000
        assert (a - b).abs().max() > 0.1


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "npz"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_source_and_name(
    suffix: str, value: float, model: nn.Module, tmp_path: Path
) -> None:
    path, weights = tmp_path / f"a.{suffix}", {k: v.clone() for k, v in model.state_dict().items()}
    weights["conv_stem.weight"][0, 0, 0, 0] = value
    if suffix == "safetensors":
        save_file(weights, path)
    elif suffix == "pth":
        torch.save(weights, path)
    else:
        np.savez(path, **{k: v.numpy() for k, v in weights.items()})
    refused(str(path), rf"a\.{suffix}: NaN or infinite values in the weights conv_stem\.weight")


def test_weights_that_become_infinite_in_float32_are_refused(model: nn.Module, tmp_path: Path) -> None:
    weights = {k: v.double() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    weights["conv_stem.weight"][0, 0, 0, 0] = 1e300
    save_file(weights, tmp_path / "a.safetensors")
    refused(str(tmp_path / "a.safetensors"), r"NaN or infinite values in the weights conv_stem\.weight")
