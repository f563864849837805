"""Exported files are read back: predicted with, tiled, evaluated, described and served, with what the network knew."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exportable import RNG, make_images, timm_segmenter
from PIL import Image
from torch import nn

from dilated import InputError, Predictor, Segmenter, SegmenterConfig, add_context, load
from dilated.cli.main import main
from dilated.deploy.export import export
from dilated.input_config import InputConfig
from dilated.models.base import BaseSegmenter
from dilated.models.class_bias import with_class_bias
from dilated.models.exported import read_exported
from dilated.models.tuning_record import RiskThreshold, TuningRecord, read_tuning

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'dilated[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'dilated[onnx]'")
pytestmark = pytest.mark.usefixtures("quick_memory")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(make_images(1, 70, 90)[0]).save(path)
    return path


@pytest.fixture(scope="module")
def exported_file(photo: Path) -> tuple[BaseSegmenter, Path]:
    torch.manual_seed(0)
    segmenter, path = timm_segmenter(), photo.parent / "network.onnx"
    export(segmenter, path, check=photo)
    return segmenter, path


def test_a_file_read_back_gives_the_same_labels_by_tiles(exported_file: tuple[BaseSegmenter, Path]) -> None:
    segmenter, path = exported_file
    assert read_exported(path).config.margin
    image = make_images(1, 160, 900)[0]
    whole = Predictor(path, device="cpu")(image).labels
    tiled = Predictor(path, device="cpu", tile=128)(image).labels
    assert len(np.unique(whole)) > 1
    assert (whole != tiled).mean() <= 1e-5
    assert (whole != Predictor(segmenter, device="cpu")(image).labels).mean() <= 1e-5


def test_a_network_with_global_layers_read_back_is_not_tiled(tmp_path: Path, photo: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8), nn.Conv2d(8, 2, 1))
    path = export(add_context(network, ["a", "b"]), tmp_path / "a.onnx", check=photo, tolerance=1e-3).path
    with pytest.raises(InputError, match="no tile can give the labels of the whole"):
        Predictor(path, tile=64, device="cpu")(make_images(1, 200, 200)[0])


def test_bands_go_in_as_files_hold_them(tmp_path: Path) -> None:
    config = InputConfig(("red", "green", "blue", "nir"), "uint16", low=(100.0,) * 4, high=(4000.0,) * 4, nodata=0)
    net = SegmenterConfig(backbone="test_efficientnet", features=8, input=config)
    segmenter, path = Segmenter(["a", "b"], config=net).eval(), tmp_path / "bands.npy"
    values = RNG.integers(1, 9000, (40, 60, 4)).astype(np.uint16)
    values[:5, :7] = 0
    np.save(path, values)
    out = export(segmenter, tmp_path / "bands.onnx", check=path, tolerance=1e-3).path
    labels = onnxruntime.InferenceSession(out).run(None, {"images": values[None]})[0][0]
    ours, back = (Predictor(network, device="cpu")(values).labels for network in (segmenter, out))
    valid = ours != 255
    assert 0 < valid.sum() < valid.size
    assert (labels != ours)[valid].mean() <= 1e-3
    np.testing.assert_array_equal(back == 255, ours == 255)
    assert (back != ours).mean() <= 1e-3


def test_logits_of_a_file_of_labels_are_refused(exported_file: tuple[BaseSegmenter, Path]) -> None:
    predictor = Predictor(exported_file[1], device="cpu")
    with pytest.raises(InputError, match="this file gives labels"):
        predictor(make_images(1, 20, 20)[0], logits=True)
    with pytest.raises(InputError, match="flips, scales: this file gives labels"):
        Predictor(exported_file[1], device="cpu", flips=True)
    for options in ({"decode": "iou"}, {"risk": 0.05}):
        with pytest.raises(InputError, match="decode, risk: this file gives labels"):
            Predictor(exported_file[1], device="cpu", **options)


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_a_file_carries_what_tune_fitted(output: Any, tmp_path: Path, photo: Path) -> None:
    segmenter = with_class_bias(timm_segmenter(), (0.5, 0.0, -0.25))
    record = TuningRecord(segmenter.digest(), 1.7, (0.5, 0.0, -0.25), "made", "val", 9, "image", 9, 0.995, ())
    segmenter.card["tuning"] = record.to_dict()
    image = make_images(1, 45, 61)[0]
    confidence = Predictor(segmenter, device="cpu", precision="fp32")(image, logits=True).confidence
    threshold = RiskThreshold(0.05, float(np.median(confidence)), 0.1, False)  # half of the pixels are unknown
    record = dataclasses.replace(record, risks=(threshold,))
    segmenter.card["tuning"] = record.to_dict()
    path = export(segmenter, tmp_path / "tuned.onnx", output=output, check=photo).path
    assert read_tuning(read_exported(path)) == record
    expected = Predictor(segmenter, device="cpu", precision="fp32", risk=0.05)(image, logits=True)
    given = Predictor(path, device="cpu", risk=0.05)(image, logits=True)
    assert given.temperature == 1.7
    np.testing.assert_allclose(given.confidence, expected.confidence, atol=1e-4)
    assert 0 < (expected.labels == 255).mean() < 1
    assert (given.labels == expected.labels).mean() > 0.999


def test_a_record_of_another_network_is_refused_by_a_file(tmp_path: Path, photo: Path) -> None:
    segmenter = timm_segmenter()
    record = TuningRecord("of others", 1.7, None, "made", "val", 9, "image", 9, 0.995, ())
    segmenter.card["tuning"] = record.to_dict()
    with pytest.warns(UserWarning, match="has changed since it was tuned"):
        path = export(segmenter, tmp_path / "other.onnx", check=photo).path
    with pytest.raises(InputError, match="has changed since it was tuned"):
        read_tuning(read_exported(path))


def test_a_foreign_onnx_file_is_refused(tmp_path: Path, exported_file: tuple[BaseSegmenter, Path]) -> None:
    model = onnx.load(exported_file[1])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(InputError, match="no description of its classes"):
        load(tmp_path / "foreign.onnx")
    (tmp_path / "damaged.onnx").write_bytes(b"\x00\x01")
    with pytest.raises(InputError, match="onnxruntime cannot open it"):
        load(tmp_path / "damaged.onnx")


def test_the_commands_export_predict_and_evaluate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], photo: Path
) -> None:
    timm_segmenter().save(tmp_path / "network.safetensors", half=False)
    out = str(tmp_path / "network.onnx")
    main(["export", str(tmp_path / "network.safetensors"), "--out", out, "--check", str(photo)])
    assert "labels differ" in capsys.readouterr().out
    main(["predict", out, str(photo), "--out", str(tmp_path / "labels"), "--device", "cpu"])
    written = np.asarray(Image.open(next((tmp_path / "labels").glob("*.png"))))
    assert written.shape[:2] == (70, 90)
    main(["bench", out, "--images", str(photo), "--rounds", "1"])
    assert "p50" in capsys.readouterr().out


def test_info_tells_what_an_exported_file_takes_and_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segmenter = timm_segmenter()
    segmenter.card = {"val": {"mean_iou": 0.75}, "license": "of the test"}
    path = tmp_path / "small.onnx"
    export(segmenter, path)
    capsys.readouterr()
    main(["info", str(path)])
    shown = capsys.readouterr().out
    for words in ("a, b, c", "8-bit RGB", "NHWC uint8", "labels (N, H, W)", "onnxruntime", "0.7500", "of the test"):
        assert words in shown
    assert segmenter.digest()[:16] in shown
    for option in ("--layers", "--speed"):
        with pytest.raises(SystemExit):
            main(["info", str(path), option])
        assert "no layers to show" in capsys.readouterr().err


def test_info_refuses_an_onnx_file_of_another_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(SystemExit):
        main(["info", str(path)])
    assert "onnxruntime cannot open it" in capsys.readouterr().err


def test_an_exported_file_is_served_with_its_own_labels(
    exported_file: tuple[BaseSegmenter, Path], photo: Path, tmp_path: Path
) -> None:
    for package in ("fastapi", "python_multipart", "prometheus_client"):
        pytest.importorskip(package)
    from dilated.deploy.serving.app import create_app

    predictor = Predictor(exported_file[1])
    app, sent = create_app({"file": predictor}), []

    async def ask() -> None:
        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": []}
        await app(scope, receive, send)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": photo.read_bytes()}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(ask())
    app.service.close()
    assert sent[0]["status"] == 200
    predictor(photo).save(tmp_path / "labels.png")
    assert b"".join(m.get("body", b"") for m in sent) == (tmp_path / "labels.png").read_bytes()
