"""Exported files give the labels of the network, at any size, and their price is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exportable import SIZES, adapted_segmenter, make_images, paper_segmenter, segmenter_with_head, timm_segmenter
from PIL import Image
from torch import nn

from dilated import InputError, Predictor, add_context
from dilated.cli.main import main
from dilated.deploy.check_images import find_calibration, find_images
from dilated.deploy.export import export
from dilated.deploy.graph import ImageGraph
from dilated.models.base import BaseSegmenter

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'dilated[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'dilated[onnx]'")
pytestmark = pytest.mark.usefixtures("quick_memory")

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
    ("to", "what"),
    [("pt2", "--size 512 1024"), ("executorch", "onnxruntime on the device"), ("tensorrt", "trtexec --onnx=")],
)
def test_other_runtimes_are_refused_with_what_to_do(
    to: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["export", "street", "--to", to, "--out", str(tmp_path / "street.onnx")])
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: export to {to}: ")
    assert "export to onnx" in hint
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
