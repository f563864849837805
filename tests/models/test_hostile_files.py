"""Network files that ask for too much, or for what is nothing: one error each, with the file."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dilated import Segmenter, SegmenterConfig
from dilated.errors import InputError
from dilated.models.adapter import AdapterConfig
from dilated.models.network_file import read_description, read_safetensors
from dilated.models.paper import VGGConfig
from dilated.weights.bundled import load

CONFIG = {"backbone": "test_efficientnet", "features": 8, "context": "basic"}
NETWORK = {"factory": "torchvision.models.segmentation:lraspp_mobilenet_v3_large", "kind": "adapter"}
LAYER = "classifier.high_classifier"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("healthy") / "net.safetensors"
    torch.manual_seed(0)
    Segmenter(["road", "sky"], config=SegmenterConfig(**CONFIG)).save(path)
    return path


def edit(healthy: Path, tmp_path: Path, **facts: Any) -> Path:
    """The healthy file with other facts in its description."""
    tensors, metadata = read_safetensors(healthy)
    path = tmp_path / "hostile.safetensors"
    save_file(tensors, path, metadata={"dilated": json.dumps({**json.loads(metadata["dilated"]), **facts})})
    return path


def write_text(healthy: Path, tmp_path: Path, text: str) -> Path:
    """The healthy file with another text for its description."""
    path = tmp_path / "hostile.safetensors"
    save_file(read_safetensors(healthy)[0], path, metadata={"dilated": text})
    return path


def nest(depth: int) -> str:
    return "[" * depth + "]" * depth


def refuse(path: Path, match: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError, match=match) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert time.process_time() - start < 4  # of the processor, which other programs use too


@pytest.mark.parametrize(
    "config",
    [
        {"dilations": [1] * 100_000},
        {"dilations": [2**64]},
        {"dilations": []},
        {"dilations": [0]},
        {"dilations": [-3]},
        {"head": "aspp-v9"},
        {"head": None},
        {"head": ["aspp"]},
        {"head": "aspp", "rates": [1] * 100_000},
        {"head": "aspp", "rates": [2**40]},
        {"head": "aspp", "rates": [0]},
        {"rates": [3]},
        {"features": 10**6},
        {"features": 2**64},
        {"features": -1},
        {"features": 0},
        {"features": True},
        {"features": "8"},
        {"features": None},
        {"detail": -1},
        {"detail": 10**6},
        {"detail_layers": 10**6},
        {"levels": -1},
        {"levels": 10**6},
        {"output_stride": 2**64},
        {"output_stride": 0},
        {"sigma": -1.0},
        {"sigma": 1e300},
        {"dropout": 1.5},
        {"dropout": -0.1},
        {"context": "wide"},
        {"context": ["basic"]},
        {"context_on": {}},
        {"padding": None},
        {"kind": "none"},
        {"kind": ["timm"]},
        {"backbone": "x" * 100_000},
        {"backbone": "hf-hub:somebody/evil"},
        {"backbone": "test_vit"},
        {"backbone": 3},
        {"input": {"bands": []}},
        {"input": {"bands": ["a"] * 5}},
        {"input": 5},
        {"crf": "rnn", "crf_kernels": {"iterations": 10**9}},
        {"crf": "rnn", "crf_kernels": {"bilateral_color": 0.0}},
        {"crf": "rnn", "crf_kernels": {"block": 10**6}},
        {"crf_kernels": {"block": 64}},
        {"wings": 2},
        {"x" * 100_000: 2},
    ],
    ids=lambda config: str(config)[:40],
)
def test_settings_out_of_bounds_are_refused_before_anything_is_built(
    config: dict[str, Any], healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = edit(healthy, tmp_path, config={**CONFIG, **config})
    monkeypatch.setattr("dilated.models.segmenter.build_backbone", lambda config: pytest.fail("was built"))
    refuse(path, "network|input")


@pytest.mark.parametrize(
    "config",
    [
        {"backbone": "vit_giant_patch14_dinov2"},
        {"backbone": "resnet152"},
        {"features": 8192},
        {"head": "aspp-v2", "rates": [1] * 16},
        {"detail": 8192},
        {"dilations": [1024] * 3, "context": "large"},
        {"crf": "rnn"},
        {"kind": "vgg", "width": 8.0},
        {**NETWORK, "options": {"num_classes": 2}},
        {**NETWORK, "factory": "timm:create_model", "options": {"model_name": "vit_large_patch14_dinov2"}},
    ],
    ids=lambda config: str(config)[:40],
)
def test_a_network_that_its_file_does_not_hold_takes_no_memory(
    config: dict[str, Any], healthy: Path, tmp_path: Path
) -> None:
    given = config if "kind" in config else {**CONFIG, **config}
    path = edit(healthy, tmp_path, config=given)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    refuse(path, r"\d+ weights do not fit|timm cannot build")
    assert torch.equal(torch.get_rng_state(), before)  # no weights were drawn


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("classes", "road", "classes: 'road', and a list"),
        ("classes", [], "classes: "),
        ("classes", {"road": 1}, "classes: "),
        ("classes", [1, 2], "classes: 1, and a name"),
        ("classes", [["road"], "sky"], "classes: "),
        ("classes", ["road", ""], "classes: '', and a name"),
        ("classes", ["road", "x" * 2000], "classes: 'xxx"),
        ("classes", ["road", "road"], "classes: 'road' twice"),
        ("classes", ["road", "\ud800"], "no Unicode"),
        ("classes", 5, "classes: 5"),
        ("classes", None, "classes: None"),
        ("colors", [[0, 0, 0]], "colors: .*a list of 2"),
        ("colors", None, "colors: None"),
        ("colors", [[0, 0, 0], [0, 0, 256]], "0 to 255"),
        ("colors", [[0, 0, 0], [0, 0, -1]], "0 to 255"),
        ("colors", [[0, 0, 0], [0, 0, 0.5]], "0 to 255"),
        ("colors", [[0, 0, 0], [0, 0, True]], "0 to 255"),
        ("colors", [[0, 0, 0], [0, 0]], "0 to 255"),
        ("colors", [[0, 0, 0], "red"], "0 to 255"),
        ("colors", [[0, 0, 0], [2**64, 0, 0]], "64 bits|0 to 255"),
        ("mean", [0.1], "1 numbers above 0"),
        ("mean", "half", "mean: 'half', and a number per band"),
        ("mean", [1e300, 0, 0], "mean: "),
        ("mean", {"a": 1}, "mean: "),
        ("std", [1, 1, 0], "std: .*above 0"),
        ("std", [1, 1, -1], "std: .*above 0"),
        ("std", [0.5, 0.5], "std: "),
        ("std", [None, 1, 1], "std: "),
        ("card", "licence", "card: 'licence', and a table"),
        ("card", [1], r"card: \[1\], and a table"),
        ("config", [], "config: "),
        ("config", None, "config: None"),
        ("version", True, "of version True"),
        ("version", 1e308, "of version 1e"),
        ("version", [1] * 1000, "of version"),
    ],
)
def test_facts_of_wrong_types_are_refused_by_name(
    key: str, value: Any, message: str, healthy: Path, tmp_path: Path
) -> None:
    path = edit(healthy, tmp_path, **{key: value})
    refuse(path, message)
    with pytest.raises(InputError, match=message):
        read_description(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{"version": 1, "card": {nest(100)}}}', "nested more than 32 deep"),
        (f'{{"version": 1, "card": {nest(50_000)}}}', "nested more than 32 deep"),
        (nest(100_000), "nested more than 32 deep"),
        ('{"version": 1, "config": {"sigma": NaN}}', "the number NaN"),
        ('{"version": 1, "config": {"sigma": -Infinity}}', "the number -Infinity"),
        ('{"version": 1, "config": {"sigma": 1e999}}', "not finite"),
        (f'{{"version": {"9" * 5000}}}', "damaged"),
        (f'{{"version": 1, "card": {{"a": {2**64}}}}}', "64 bits"),
        ('{"version": 1, "card": {"a": "' + "x" * 17 * 2**20 + '"}}', "characters"),
        (f'{{"version": 1, "card": [{"0," * 600_000} 0]}}', "more than 500,000 values"),
        ('"text"', "a str, and a table"),
        ("null", "a NoneType, and a table"),
    ],
    ids=range(12),
)
def test_json_without_end_is_refused(text: str, message: str, healthy: Path, tmp_path: Path) -> None:
    path = write_text(healthy, tmp_path, text)
    refuse(path, message)
    with pytest.raises(InputError, match=message):
        read_description(path)


@pytest.mark.parametrize("shape", [[-1, 8], [2**63, 2**63], [2**32, 2**32], [1e3], ["8"], None])
def test_tensors_of_impossible_sizes_are_refused(shape: Any, tmp_path: Path) -> None:
    header = {"classifier.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 8]}}
    text = json.dumps({"__metadata__": {"dilated": "{}"}, **header}).encode()
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    refuse(path, "not a complete safetensors file")


def test_more_tensors_than_any_network_has_are_refused(tmp_path: Path) -> None:
    tensor = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps({f"a{i}": tensor for i in range(30_000)}).encode()
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    refuse(path, "30,000 tensors, and 20,000 are the most")


def test_a_header_of_many_megabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(struct.pack("<Q", 40 * 2**20) + b"{" + bytes(41 * 2**20))
    refuse(path, "a header of 41,943,040 bytes")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int32, torch.bool, torch.complex64, torch.uint8])
def test_weights_of_other_types_are_refused_by_name(dtype: torch.dtype, healthy: Path, tmp_path: Path) -> None:
    tensors, metadata = read_safetensors(healthy)
    tensors["classifier.weight"] = tensors["classifier.weight"].to(dtype)
    path = tmp_path / "hostile.safetensors"
    try:
        save_file(tensors, path, metadata=metadata)
    except KeyError:
        pytest.skip(f"this version of safetensors does not write {dtype}")
    refuse(path, f"classifier.weight is stored as {str(dtype).removeprefix('torch.')}")


def test_negative_variances_are_refused_by_name(healthy: Path, tmp_path: Path) -> None:
    tensors, metadata = read_safetensors(healthy)
    tensors["neck.1.running_var"][3] = -1
    path = tmp_path / "hostile.safetensors"
    save_file(tensors, path, metadata=metadata)
    refuse(path, r"negative variances in neck\.1\.running_var")


def test_an_error_of_a_library_names_the_file(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("dilated.models.segmenter.build_backbone", fail)
    refuse(healthy, r"cannot be built \(ZeroDivisionError: by zero\)")


@pytest.mark.parametrize(
    ("config", "classes"),
    [
        (SegmenterConfig("test_efficientnet", features=8, context="large", dilations=(1, 2), sigma=0.001), 3),
        (SegmenterConfig("test_efficientnet", features=8, detail=4, detail_reads="features", detail_layers=2), 2),
        (SegmenterConfig("resnet18", dilation="exact", levels=4, context="basic", context_on="logits"), 5),
        (SegmenterConfig("mobilenetv3_small_050", output_stride=32, features=8), 2),
        (SegmenterConfig("test_efficientnet", features=8, crf="rnn"), 3),
        (VGGConfig(width=1 / 32, context="basic"), 2),
        (VGGConfig(width=1 / 32, crf="rnn"), 2),
        (VGGConfig(width=1 / 32, fc6="large_fov", pools="kept"), 2),
        (AdapterConfig(**{**NETWORK, "options": {"num_classes": 2}, "layer": LAYER}, context="basic"), 2),
    ],
)
def test_the_expected_shapes_are_those_of_the_network(config: Any, classes: int) -> None:
    network = config.build([f"class {i}" for i in range(classes)])
    assert config.expected_shapes(classes) == {name: tuple(v.shape) for name, v in network.state_dict().items()}
