import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dilated import Segmenter, SegmenterConfig
from dilated.errors import InputError
from dilated.models.network_file import read_safetensors
from dilated.weights.bundled import load, save


def build(**settings: object) -> Segmenter:
    torch.manual_seed(0)
    network = SegmenterConfig(backbone="test_efficientnet", **{"features": 8, "context": "basic", **settings})
    card = {"licence": "CC0", "figures": {"mean_iou": 0.1 + 0.2}, "note": "zwölf 🛣"}
    segmenter = Segmenter(["Straße", "sky"], [(1, 2, 3), (0, 255, 0)], network, (0.1, 0.2, 0.3), (0.3, 0.2, 0.7), card)
    with torch.no_grad():
        for name, buffer in segmenter.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5)
    return segmenter.eval()


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return build()


@pytest.fixture
def path(segmenter: Segmenter, tmp_path: Path) -> Path:
    save(segmenter, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def altered(path: Path, **facts: Any) -> None:
    """The file again, with other facts in its metadata."""
    tensors, metadata = read_safetensors(path)
    save_file(tensors, path, metadata={"dilated": json.dumps({**json.loads(metadata["dilated"]), **facts})})


def refused(path: Path, message: str | None = None) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@torch.no_grad()
def test_a_full_file_gives_the_same_network_to_the_last_bit(segmenter: Segmenter, tmp_path: Path) -> None:
    save(segmenter, tmp_path / "net.safetensors", half=False)
    other = load(tmp_path / "net.safetensors")
    assert all(torch.equal(v, segmenter.state_dict()[k]) for k, v in other.state_dict().items())
    image = torch.rand(1, 3, 24, 40)
    assert torch.equal(other(image), segmenter(image))


def test_a_half_file_rounds_kernels_and_keeps_vectors(segmenter: Segmenter, path: Path) -> None:
    stored = read_safetensors(path)[0]
    other = load(path).state_dict()
    for name, value in segmenter.state_dict().items():
        kernel = value.ndim > 1
        assert stored[name].dtype == (torch.float16 if kernel else value.dtype)
        assert other[name].dtype == value.dtype
        assert torch.equal(other[name], value.half().float() if kernel else value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"output_stride": 16, "detail": 4, "dropout": 0.25},
        {"context": "large", "context_on": "logits", "dilations": (1, 2, 1), "padding": "once", "sigma": 1e-7},
        {"context": "none"},
    ],
)
def test_everything_that_is_no_weight_comes_back(settings: dict[str, object], tmp_path: Path) -> None:
    segmenter = build(**settings)
    segmenter.train().save(str(tmp_path / "net.safetensors"))
    other = load(str(tmp_path / "net.safetensors"))
    for name in ("config", "classes", "colors", "mean", "std", "card", "grid"):
        assert getattr(other, name) == getattr(segmenter, name)
    assert not other.training


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors", "no such file")
    refused(tmp_path, "holds no best.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, 3000, 0.5, -1])
def test_a_truncated_file_is_refused_by_name(keep: float, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    refused(path, "not a complete safetensors file")


def test_text_is_refused_by_name(path: Path) -> None:
    path.write_text("no weights, but long enough to hold a length")
    refused(path, "not a complete safetensors file")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_file_of_another_program_is_refused_by_name(metadata: dict[str, str] | None, path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    refused(path, f"another program .*{'format' if metadata else 'none'}")


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_version_is_refused_by_name(version: object, path: Path) -> None:
    altered(path, version=version)
    refused(path, f"of version {version}; this program reads version 1")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"version": 1}'])
def test_metadata_that_is_damaged_is_refused_by_name(text: str, path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path, metadata={"dilated": text})
    refused(path)


def test_an_unknown_setting_is_refused_by_name(path: Path) -> None:
    altered(path, config={"backbone": "test_efficientnet", "wings": 2})
    refused(path, "unknown key 'wings'")


@pytest.mark.parametrize("network", [{"backbone": "none_such"}, {"output_stride": 5}, {"dilations": [0]}])
def test_a_network_that_cannot_be_built_is_refused_with_the_file(network: dict[str, object], path: Path) -> None:
    altered(path, config={"backbone": "test_efficientnet", "features": 8, "context": "basic", **network})
    refused(path)


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({"classes": ["a"], "colors": [[0, 0, 0]]}, 2),
        ({"config": {"backbone": "test_efficientnet", "features": 8}}, 16),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_their_number(change: dict[str, Any], count: int, path: Path) -> None:
    altered(path, **change)
    refused(path, f"{count} weights do not fit")


def test_a_missing_weight_is_refused_by_its_name(path: Path) -> None:
    tensors, metadata = read_safetensors(path)
    del tensors["classifier.bias"]
    save_file(tensors, path, metadata=metadata)
    refused(path, r"1 weights do not fit .*'classifier\.bias'")


def test_an_interrupted_save_leaves_the_earlier_file_whole(
    segmenter: Segmenter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def interrupted(tensors: object, target: Path, metadata: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", interrupted)
    for target in (path, path.with_name("new.safetensors")):
        with pytest.raises(InputError, match="no space"):
            save(segmenter, target)
    assert path.read_bytes() == before
    assert list(path.parent.glob("*.safetensors")) == [path]


def test_a_save_leaves_nothing_beside_the_file(path: Path) -> None:
    assert list(path.parent.iterdir()) == [path]


def test_nothing_in_a_file_is_executed(segmenter: Segmenter, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr("pickle.load", never)
    monkeypatch.setattr("torch.load", never)
    assert load(path).classes == segmenter.classes


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_file_and_name(value: float, path: Path) -> None:
    tensors, metadata = read_safetensors(path)
    tensors["classifier.weight"][0] = value
    save_file(tensors, path, metadata=metadata)
    refused(path, r"NaN or infinite values in the weights classifier\.weight")


def test_kernels_beyond_the_range_of_fp16_are_stored_in_fp32(segmenter: Segmenter, tmp_path: Path) -> None:
    other = segmenter.rebuild()
    with torch.no_grad():
        other.classifier.weight.fill_(1e6)
    other.save(tmp_path / "large.safetensors", half=True)
    assert torch.equal(load(tmp_path / "large.safetensors").classifier.weight, other.classifier.weight)
