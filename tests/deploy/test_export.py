"""Exported files give the labels of the network, at any size, and their price is measured."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from dilated import AdapterConfig, InputError, Predictor, Segmenter, SegmenterConfig, add_context, load
from dilated.cli.main import main
from dilated.deploy.check_images import find_calibration, find_images
from dilated.deploy.export import export
from dilated.deploy.graph import ImageGraph
from dilated.input_config import InputConfig
from dilated.models.base import BaseSegmenter
from dilated.models.class_bias import with_class_bias
from dilated.models.decoders import DecoderName
from dilated.models.exported import read_exported
from dilated.models.heads import HeadName
from dilated.models.tuning_record import RiskThreshold, TuningRecord, read_tuning
from dilated.paper import VGGConfig, VGGSegmenter

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'dilated[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'dilated[onnx]'")
pytestmark = pytest.mark.usefixtures("quick_memory")

SIZES = ((1, 75, 101), (3, 64, 97), (1, 7, 130), (2, 131, 40), (1, 1, 1))
RNG = np.random.default_rng(0)


def make_images(n: int, height: int, width: int) -> NDArray[np.uint8]:
    """Smooth random images, in which there is something to see at each scale."""
    coarse = RNG.integers(0, 256, (n, height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    resized = [np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)) for image in coarse]
    return np.stack(resized)


def timm_segmenter() -> BaseSegmenter:
    config = SegmenterConfig(backbone="resnet18", levels=3, features=8, context="basic", detail=8)
    segmenter = Segmenter(["a", "b", "c"], config=config).eval()
    nn.init.normal_(segmenter.detail.correct.weight)  # type: ignore[union-attr]
    return segmenter


def paper_segmenter(**changes: Any) -> BaseSegmenter:
    torch.manual_seed(1)
    config = VGGConfig(width=1 / 32, context="basic", init="random", **changes)
    return VGGSegmenter(["a", "b"], config=config).eval()


def adapted_segmenter() -> BaseSegmenter:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 3, 1), nn.Upsample(None, 2, mode="bilinear")
    )
    return add_context(network, ["a", "b", "c"], config=AdapterConfig(size_divisor=4)).eval()


def segmenter_with_head(head: HeadName | DecoderName, output_stride: int = 8) -> BaseSegmenter:
    torch.manual_seed(2)
    config = SegmenterConfig(backbone="test_efficientnet", features=8, head=head, output_stride=output_stride)
    return Segmenter(["a", "b", "c"], config=config).eval()


SEGMENTERS = {
    "timm": timm_segmenter,
    "aspp": lambda: segmenter_with_head("aspp"),
    "psp": lambda: segmenter_with_head("psp"),
    "duc": lambda: segmenter_with_head("duc"),
    "unet": lambda: segmenter_with_head("unet"),
    "fcn-8s": lambda: segmenter_with_head("fcn-8s", output_stride=32),
    "paper": lambda: paper_segmenter(tile=(436, 436)),
    "deconvolution": lambda: paper_segmenter(upsampling="deconvolution", padding="once"),
    "adapter": adapted_segmenter,
}


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


@pytest.mark.parametrize(
    "kind",
    [
        "timm",
        "aspp",
        "psp",
        "duc",
        "unet",
        "fcn-8s",
        "paper",
        "adapter",
        pytest.param("deconvolution", marks=pytest.mark.slow),
    ],
)
def test_one_file_gives_the_networks_labels_at_any_size_and_batch(kind: str, tmp_path: Path, photo: Path) -> None:
    torch.manual_seed(0)
    segmenter, path = SEGMENTERS[kind](), tmp_path / "network.onnx"
    export(segmenter, path, check=photo, tolerance=1e-3)
    session, predictor = onnxruntime.InferenceSession(path), Predictor(segmenter, device="cpu", precision="fp32")
    for size in SIZES:
        images = make_images(*size)
        labels = session.run(None, {"images": images})[0]
        expected = np.stack([prediction.labels for prediction in predictor.batch(list(images))])
        assert labels.dtype == np.uint8
        assert labels.shape == expected.shape
        differing = labels != expected
        if differing.any():  # near ties alone
            logits = torch.stack([predictor(image, logits=True).logits for image in images])  # type: ignore[misc]
            greatest = logits.topk(2, dim=1).values
            gaps = (greatest[:, 0] - greatest[:, 1]).numpy()[differing]
            assert gaps.max() < 1e-4 * float(logits.std())


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_logits_and_probabilities_are_those_of_the_network(output: Any, tmp_path: Path, photo: Path) -> None:
    segmenter = timm_segmenter()
    path = export(segmenter, tmp_path / "network.onnx", output=output, check=photo).path
    images = make_images(2, 45, 61)
    values = onnxruntime.InferenceSession(path).run(None, {"images": images})[0]
    prediction = Predictor(segmenter, device="cpu", precision="fp32")(images[1], logits=True)
    expected = prediction.logits if output == "logits" else prediction.probabilities
    np.testing.assert_allclose(values[1], np.asarray(expected), rtol=1e-3, atol=1e-4)
    again = Predictor(path, device="cpu")(images[1], logits=True).probabilities
    np.testing.assert_allclose(np.asarray(again), np.asarray(prediction.probabilities), rtol=1e-3, atol=1e-4)


def test_the_file_says_what_it_takes_and_gives(exported_file: tuple[BaseSegmenter, Path]) -> None:
    segmenter, path = exported_file
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    description = json.loads(metadata["dilated"])
    assert metadata["classes"] == "a\nb\nc"
    assert description["classes"] == ["a", "b", "c"]
    assert description["colors"] == [list(color) for color in segmenter.colors]
    assert description["ignore"] == 255
    assert description["network"] == segmenter.digest()
    assert (description["dtype"], description["layout"], description["output"]) == ("uint8", "NHWC", "labels")
    assert [axis.dim_param for axis in model.graph.input[0].type.tensor_type.shape.dim[:3]] == [
        "images",
        "height",
        "width",
    ]


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


def test_labels_beyond_the_tolerance_leave_no_file(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = timm_segmenter()
    other = timm_segmenter()
    monkeypatch.setattr("dilated.deploy.export.ImageGraph", lambda _, output: ImageGraph(other, output))
    with pytest.raises(InputError, match=r"not written, as .* of the labels differ"):
        export(segmenter, tmp_path / "network.onnx", check=photo)
    assert list(tmp_path.iterdir()) == []


def test_the_price_counts_changes_by_class_and_near_ties(tmp_path: Path, photo: Path) -> None:
    segmenter = timm_segmenter()
    price = export(segmenter, tmp_path / "network.onnx", check=photo).price
    assert (price.images, price.pixels) == (1, 70 * 90)
    assert price.runtime.startswith("onnxruntime ")
    assert price.changed_pixels == sum(price.changed.values()) >= price.near_ties
    assert len(price.seconds["exported"]) == len(price.seconds["network"]) == 3
    assert "labels differ" in str(price)


def test_progress_is_told_after_each_image_and_slow_networks_are_timed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dilated.deploy.price._MOST_SECONDS", 0.0)
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(make_images(3, 40, 50)):
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.png")
    steps: list[tuple[int, int]] = []
    exported = export(
        timm_segmenter(),
        tmp_path / "network.onnx",
        progress=lambda done, total: steps.append((done, total)),
        check=tmp_path / "photos",
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert len(exported.price.seconds["exported"]) == 3


def test_of_many_images_twenty_from_beginning_to_end_are_looked_at(tmp_path: Path) -> None:
    for i in range(45):
        Image.new("RGB", (2, 2)).save(tmp_path / f"{i:02}.png")
    found = find_images(tmp_path, "val")
    assert [path.stem for path in found.images] == [f"{i:02}" for i in range(0, 40, 2)]
    assert "is taken for a folder of images" in found.notes[0]
    calibration = find_calibration(None, tmp_path, found.images)
    assert calibration.images == found.images
    assert "the same that the price is measured on" in calibration.notes[-1]


@pytest.mark.parametrize(
    ("to", "what"), [("pt2", "onnx"), ("executorch", "onnxruntime on the device"), ("tensorrt", "trtexec --onnx=")]
)
def test_other_runtimes_are_refused_with_what_to_do(
    to: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["export", "street", "--to", to, "--out", str(tmp_path / "street.onnx")])
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: export to {to}: ")
    assert hint.startswith("hint: export to onnx")
    assert what in hint
    assert list(tmp_path.iterdir()) == []


def test_what_would_be_lost_after_minutes_or_ignored_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its folder is not there"):
        export("no network", tmp_path / "none" / "street.onnx")
    with pytest.raises(InputError, match="calibrate: photos gives ranges, which float32 has none of"):
        export("no network", tmp_path / "street.onnx", calibrate=Path("photos"))


class _Fancy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def test_a_layer_that_cannot_be_exported_is_named(tmp_path: Path, photo: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), _Fancy(), nn.Conv2d(4, 2, 1))
    with pytest.raises(InputError, match=r"cannot be exported: model\.1 \(_Fancy\)"):
        export(add_context(network, ["a", "b"]), tmp_path / "network.onnx", check=photo)
    assert list(tmp_path.iterdir()) == []


def test_the_authors_inference_is_refused(tmp_path: Path, photo: Path) -> None:
    with pytest.raises(InputError, match="whose number a graph cannot depend on"):
        export(paper_segmenter(inference="authors"), tmp_path / "network.onnx", check=photo)


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


def test_the_example_needs_neither_pytorch_nor_this_package(
    exported_file: tuple[BaseSegmenter, Path], photo: Path, tmp_path: Path
) -> None:
    segmenter, path = exported_file
    script = Path(__file__).resolve().parents[2] / "examples" / "run_onnx.py"
    code = f"import runpy, sys; sys.argv[1:] = sys.argv[2:]; runpy.run_path({str(script)!r}, run_name='__main__'); "
    code += "assert 'torch' not in sys.modules and 'dilated' not in sys.modules"
    command = [sys.executable, "-c", code, "-", str(path), str(photo), str(tmp_path / "labels.png")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    assert [line.split()[1] for line in printed.splitlines()] == list(segmenter.classes)
    labels = Predictor(segmenter, device="cpu")(photo).labels
    colors = np.array(segmenter.colors, np.uint8)[labels]
    differing = (np.asarray(Image.open(tmp_path / "labels.png")) != colors).any(2)
    assert differing.mean() <= 1e-3


def test_openvino_gives_the_networks_labels_at_any_size(photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'dilated[openvino]'")
    torch.manual_seed(0)
    segmenter = timm_segmenter()
    path = export(segmenter, tmp_path / "network.xml", to="openvino", check=photo, tolerance=1e-3).path
    assert sorted(file.name for file in tmp_path.iterdir()) == ["network.bin", "network.xml"]
    ours, theirs = Predictor(segmenter, device="cpu"), Predictor(path, device="cpu")
    assert theirs.segmenter.classes == segmenter.classes
    for size in SIZES:
        images = list(make_images(*size))
        pairs = zip(ours.batch(images), theirs.batch(images), strict=True)
        assert all((a.labels != b.labels).mean() <= 1e-3 for a, b in pairs)


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
