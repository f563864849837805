"""Files in float16 and int8: what they change is counted, and too much of it is refused or mended layer by layer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dilated import InputError, Predictor, Segmenter, SegmenterConfig, export
from dilated.cli.main import main
from dilated.deploy.peak import measure_peak
from dilated.deploy.quantize import quantize
from dilated.models.base import BaseSegmenter

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'dilated[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'dilated[onnx]'")

pytestmark = pytest.mark.usefixtures("quick_memory")


@pytest.fixture(scope="module")
def segmenter() -> BaseSegmenter:
    torch.manual_seed(0)
    config = SegmenterConfig(backbone="resnet18", levels=3, features=8, context="basic")
    return Segmenter(["a", "b", "c"], config=config).eval()


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((90, 70), Image.Resampling.BICUBIC).save(path)
    return path


def integer_layers(path: Path) -> int:
    """Convolutions whose weights come from integers."""
    nodes = onnx.load(path).graph.node
    dequantized = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    return sum(node.op_type == "Conv" and node.input[1] in dequantized for node in nodes)


def count_layers(segmenter: BaseSegmenter) -> int:
    return sum(isinstance(module, torch.nn.Conv2d) for module in segmenter.modules())


def test_float16_halves_the_file_and_keeps_the_labels(segmenter: BaseSegmenter, photo: Path, tmp_path: Path) -> None:
    whole = export(segmenter, tmp_path / "whole.onnx", check=photo, tolerance=1e-3)
    half = export(segmenter, tmp_path / "half.onnx", precision="float16", check=photo, tolerance=0.02)
    assert half.path.stat().st_size < 0.6 * whole.path.stat().st_size
    assert half.price.changed_share <= 0.02
    assert next(segmenter.parameters()).dtype == torch.float32
    image = np.asarray(Image.open(photo))
    logits = [Predictor(path, device="cpu")(image).labels for path in (whole.path, half.path)]
    assert (logits[0] != logits[1]).mean() <= 0.02


def test_int8_within_the_tolerance_takes_every_convolution(
    segmenter: BaseSegmenter, photo: Path, tmp_path: Path
) -> None:
    exported = export(segmenter, tmp_path / "a.onnx", precision="int8", check=photo, tolerance=1)
    assert integer_layers(exported.path) == count_layers(segmenter)
    assert any("the same that the price is measured on" in note for note in exported.notes)
    metadata = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    assert json.loads(metadata["dilated"])["precision"] == "int8"


def test_int8_leaves_the_most_harmful_layers_as_they_were(
    segmenter: BaseSegmenter, photo: Path, tmp_path: Path
) -> None:
    loose = export(segmenter, tmp_path / "loose.onnx", precision="int8", check=photo, tolerance=1)
    tolerance = loose.price.changed_share / 2
    assert tolerance > 0
    exported = export(
        segmenter, tmp_path / "a.onnx", precision="int8", check=photo, calibrate=photo, tolerance=tolerance
    )
    assert exported.price.changed_share <= tolerance
    assert 0 < integer_layers(exported.path) < count_layers(segmenter)
    assert "convolutions compute in int8; float32: " in exported.notes[-1]
    named = exported.notes[-1].split("float32: ")[1].split(", ")
    assert set(named) <= dict(segmenter.named_modules()).keys()


def test_int8_where_no_layer_may_be_is_refused(segmenter: BaseSegmenter, photo: Path, tmp_path: Path) -> None:
    content = export(segmenter, tmp_path / "a.onnx", check=photo, tolerance=1e-3).path.read_bytes()
    with pytest.raises(InputError, match=r"one convolution alone changes more than 0\.01"):
        quantize(content, [np.asarray(Image.open(photo))], lambda content, in_part: 0.5, 0.01)


def test_openvino_reads_int8(segmenter: BaseSegmenter, photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'dilated[openvino]'")
    exported = export(segmenter, tmp_path / "a.xml", to="openvino", precision="int8", check=photo, tolerance=0.2)
    assert exported.price.runtime.startswith("OpenVINO")
    assert exported.price.changed_share <= 0.2


def test_memory_is_that_of_a_process_of_its_own(segmenter: BaseSegmenter, photo: Path, tmp_path: Path) -> None:
    segmenter.save(tmp_path / "network.safetensors")
    assert 2**20 < measure_peak(tmp_path / "network.safetensors", photo) < 2**33
    with pytest.raises(InputError, match=r"its memory cannot be measured \(.*no such file"):
        measure_peak(tmp_path / "absent.onnx", photo)


def test_unknown_precisions_and_shares_are_refused(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "cells", "--out", "a.onnx", "--precision", "int4"])
    assert "int4" in capsys.readouterr().err
    with pytest.raises(InputError, match="tolerance: 2 is no share"):
        export("cells", "a.onnx", tolerance=2)


def test_the_evaluation_of_a_file_is_that_of_its_network(
    segmenter: BaseSegmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(1)
    for name in ("images", "masks"):
        (tmp_path / "data" / name / "val").mkdir(parents=True)
    for k in range(2):
        Image.fromarray(random.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(
            tmp_path / "data" / "images" / "val" / f"{k}.png"
        )
        Image.fromarray(random.integers(0, 3, (40, 56), dtype=np.uint8)).save(
            tmp_path / "data" / "masks" / "val" / f"{k}.png"
        )
    (tmp_path / "data" / "classes.toml").write_text(
        "".join(f'[[class]]\nvalues = [{i}]\nname = "{name}"\ncolor = [{i}, 0, 0]\n\n' for i, name in enumerate("abc")),
        encoding="utf-8",
    )
    segmenter.save(tmp_path / "network.safetensors", half=False)
    exported = export(segmenter, tmp_path / "a.onnx", check=tmp_path / "data", tolerance=1e-2)
    assert exported.price.comparison is not None
    assert set(exported.price.memory) == {"network", "exported"}
    figures = []
    for network in ("network.safetensors", "a.onnx"):
        main(["evaluate", str(tmp_path / network), str(tmp_path / "data"), "--json", str(tmp_path / "a.json")])
        figures.append(json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["confusion"])
    capsys.readouterr()
    assert np.abs(np.array(figures[0]) - np.array(figures[1])).sum() <= 0.02 * np.sum(figures[0])
