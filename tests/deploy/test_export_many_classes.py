"""Networks of many classes are exported with a loop over bands of rows, which gives the same labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from exportable import SIZES, make_images

from dilated import Predictor
from dilated.deploy import banded_labels
from dilated.deploy.banded_labels import label_in_bands
from dilated.deploy.export import describe, export
from dilated.deploy.graph import ImageGraph
from dilated.deploy.onnx_file import to_onnx
from dilated.models.base import BaseSegmenter
from dilated.models.sampling import PIXEL_GRID, Grid, upsample
from dilated.paper import VGGConfig, VGGSegmenter

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'dilated[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'dilated[onnx]'")
pytestmark = pytest.mark.usefixtures("quick_memory")


def segmenter_of(num_classes: int) -> BaseSegmenter:
    torch.manual_seed(0)
    config = VGGConfig(width=1 / 32, context="none", init="random")
    return VGGSegmenter([f"class {i}" for i in range(num_classes)], config=config).eval()


@pytest.mark.parametrize("band_values", [1, 2**12, 2**18])
@pytest.mark.parametrize("grid", [Grid(8, 3.5), (Grid(8, -5.0), Grid(4, 1.0)), Grid(2, 0.5)])
def test_bands_give_the_labels_of_the_whole(
    band_values: int, grid: Grid | tuple[Grid, Grid], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(banded_labels, "_BAND_VALUES", band_values)
    logits = torch.randn(2, 40, 5, 7, generator=torch.Generator().manual_seed(0))
    for size in ((37, 53), (1, 1), (3, 100)):
        expected = upsample(logits, grid, PIXEL_GRID, size).argmax(1)
        assert torch.equal(label_in_bands(logits, grid, size), expected.int())


def test_the_file_of_300_classes_loops_over_bands_and_gives_the_same_labels() -> None:
    segmenter = segmenter_of(300)
    content = to_onnx(ImageGraph(segmenter, "labels"), describe(segmenter, "labels"))
    session, predictor = onnxruntime.InferenceSession(content), Predictor(segmenter, device="cpu", precision="fp32")
    for size in SIZES[:3]:
        images = make_images(*size)
        labels = session.run(None, {"images": images})[0]
        expected = np.stack([prediction.labels for prediction in predictor.batch(list(images))])
        assert labels.dtype == np.int32
        assert (labels != expected).mean() <= 1e-3
    model = onnx.load_model_from_string(content)
    assert [node.op_type for node in model.graph.node].count("Loop") == 1
    few = onnx.load_model_from_string(to_onnx(ImageGraph(segmenter_of(3), "labels"), {}))
    assert "Loop" not in {node.op_type for node in few.graph.node}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_many_classes_are_exported_in_other_precisions(precision: str, tmp_path: Path) -> None:
    np.save(tmp_path / "photo.npy", make_images(1, 40, 60)[0])
    out = tmp_path / "network.onnx"
    price = export(segmenter_of(40), out, precision=precision, check=tmp_path / "photo.npy", tolerance=0.5).price
    assert price.changed_share < 0.5


def test_openvino_runs_the_loop(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'dilated[openvino]'")
    np.save(tmp_path / "photo.npy", make_images(1, 40, 60)[0])
    segmenter = segmenter_of(300)
    path = export(segmenter, tmp_path / "n.xml", to="openvino", check=tmp_path / "photo.npy", tolerance=1e-3).path
    ours, theirs = Predictor(segmenter, device="cpu"), Predictor(path, device="cpu")
    for size in SIZES[:3]:
        images = list(make_images(*size))
        pairs = zip(ours.batch(images), theirs.batch(images), strict=True)
        assert all((a.labels != b.labels).mean() <= 1e-3 for a, b in pairs)
