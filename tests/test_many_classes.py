"""From label files to figures with more classes than 8 bits hold: nothing wraps, and every path agrees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import Local

from dilated import Predictor
from dilated.cli.main import main
from dilated.data.check.check import check
from dilated.data.dataset import open_dataset
from dilated.data.formats.folders import Folders
from dilated.data.labels import Classes, save_classes
from dilated.errors import InputError
from dilated.evaluation.bias_fit import PixelSample, fit_biases
from dilated.evaluation.evaluate import MetricsConfig, evaluate
from dilated.evaluation.score import ScoreOptions, score
from dilated.label_ids import ignore_id, label_dtype
from dilated.palettes import distinct_colors
from dilated.prediction import memory
from dilated.prediction.memory import TensorMeter
from dilated.prediction.prediction import Prediction

RECIPE = """
weights = "random"
batch = 4
workers = 0
precision = "fp32"

[network]
backbone = "test_efficientnet"
features = 8
detail = 4

[augment]
crop = [64, 64]

[[stage]]
kind = "frontend"
epochs = 1
output_stride = 8
lr = 1e-2
"""


def write_data(root: Path, count: int, images: tuple[int, int] = (2, 2), side: int = 32) -> np.ndarray:
    """A folder whose labels are blocks of 8 x 8 pixels of random classes, the last one among them; returns that one."""
    random = np.random.default_rng(count)
    classes = Classes(tuple(f"c{i}" for i in range(count)), tuple(distinct_colors(count)))
    for split, number in zip(("train", "val"), images, strict=True):
        samples = []
        for i in range(number):
            ids = random.integers(0, count, (side // 8, side // 8)).astype(label_dtype(count))
            ids[0, 0] = count - 1
            ids = ids.repeat(8, 0).repeat(8, 1)
            wide = ids.astype(np.int64)
            image = np.stack([wide % 256, wide // 256 * 16 % 256, wide * 37 % 256], -1).astype(np.uint8)
            ids[-3:] = classes.ignore_id
            samples.append((f"{split}{i}", image, ids))
        Folders.save(root, split, samples, classes)
    save_classes(classes, root / "classes.toml")
    return ids


@pytest.mark.parametrize("count", [255, 256, 700])
def test_what_is_predicted_and_scored_is_what_evaluate_counts(count: int, tmp_path: Path) -> None:
    write_data(tmp_path / "data", count)
    data = open_dataset(tmp_path / "data")
    assert not [finding for finding in check(tmp_path / "data").findings if finding.severity == "error"]
    network = Local(4, classes=count)
    network.classes = data.classes.names[::-1]  # another order than the data's
    predictor, samples = Predictor(network, device="cpu"), data.samples("val")
    config = MetricsConfig(boundary=True, trimap=(1, 2), calibration=True)
    result = evaluate(predictor, samples, data.classes, config)
    order = np.array([data.classes.names.index(name) for name in network.classes], label_dtype(count))
    for sample in samples:
        (tmp_path / "masks").mkdir(exist_ok=True)
        labels = order[predictor(sample.read_image()).labels]
        Image.fromarray(labels).save(tmp_path / "masks" / f"{sample.name}.png")
    scored = score(tmp_path / "masks", data, options=ScoreOptions(metrics=MetricsConfig(boundary=True, trimap=(1, 2))))
    assert np.array_equal(scored.result.confusion.counts[np.ix_(order, order)], result.confusion.counts)
    assert result.confusion.pixels == sum(int((s.read_label() != ignore_id(count)).sum()) for s in samples) > 0
    assert scored.result.value("mean_boundary_iou") == pytest.approx(result.value("mean_boundary_iou"))
    table = json.loads(json.dumps(result.to_dict()))
    if count > 255:
        pairs = np.array(table["confusion_pairs"])
        assert table["confusion"] is None
        assert np.array_equal(result.confusion.counts[pairs[:, 0], pairs[:, 1]], pairs[:, 2])
        assert pairs[:, 2].sum() == result.confusion.pixels
    else:
        assert np.array_equal(table["confusion"], result.confusion.counts)


def test_tiles_of_many_classes_change_no_label() -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 90, 3), dtype=np.uint8)
    network = Local(3, classes=700)
    whole, tiled = (Predictor(network, device="cpu", tile=tile)(image).labels for tile in (None, 48))
    assert whole.dtype == tiled.dtype == np.uint16
    assert np.array_equal(whole, tiled)
    assert whole.max() > 255


def test_labels_of_many_classes_need_no_logits_of_all_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PROBE_SIDES", (64, 128))
    monkeypatch.setattr("dilated.kernels.labels._BAND_FLOATS", 2**17)
    network = Local(8, classes=2_000).eval()
    with torch.inference_mode(), TensorMeter() as meter:
        network.label_pixels(torch.rand(1, 3, 64, 96))
    assert meter.peak < 0.3 * 4 * 2_000 * 64 * 96
    assert memory.measure_bytes_per_pixel(network, torch.device("cpu")) < 0.3 * 4 * 2_000


def test_a_prediction_of_many_classes_is_colored_and_drawn(tmp_path: Path) -> None:
    labels = np.arange(5_000, dtype=np.uint16).reshape(50, 100)
    labels[0, 0] = 65_535
    colors = distinct_colors(5_000)
    made = Prediction(np.zeros((50, 100, 3), np.uint8), labels, None, [str(i) for i in range(5_000)], colors)
    colored = made.color_image().reshape(-1, 3)
    assert colored[1:].tolist() == [list(color) for color in colors[1:]]
    assert colored[0].tolist() == [0, 0, 0]
    assert made.overlay().height < 5_000


def test_a_bias_for_each_of_many_classes_is_refused() -> None:
    with pytest.raises(InputError, match="of 256 classes"):
        fit_biases(PixelSample.empty(256, 1))


@pytest.mark.slow
@pytest.mark.parametrize("count", [300, 5_000])
def test_the_whole_way_on_the_command_line(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "data", count, (4, 2), 64)
    (tmp_path / "tiny.toml").write_text(RECIPE)

    def run(*words: str) -> None:
        main(words)

    run("check", "data", "--out", "check.html")
    run("train", "data", "--recipe", "tiny.toml", "--out", "run")
    run("evaluate", "run", "data", "--split", "val", "--json", "evaluated.json")
    run(
        "predict", "run", "data/images/val", "--out", "masks", "--save", "palette", "color", "overlay", "csv", "geojson"
    )
    run("score", "masks", "data", "--split", "val", "--json", "scored.json")
    run("report", "run", "data")
    run("compare", "run", "run", "data")
    run("convert-data", "data", "panoptic", "--format", "coco_panoptic")
    run("convert-data", "panoptic", "again", "--format", "folders")
    evaluated, scored = (json.loads(Path(f"{name}.json").read_text()) for name in ("evaluated", "scored"))
    for name in ("mean_iou", "pixel_accuracy", "pixels", "confusion_pairs"):
        assert evaluated[name] == scored[name]
    first, last = open_dataset("data"), open_dataset("again")
    for before, after in zip(first.samples("val"), last.samples("val"), strict=True):
        names = [np.array([*d.classes.names, "ignored"]) for d in (first, last)]
        labels = [np.minimum(sample.read_label(), count) for sample in (before, after)]
        assert np.array_equal(names[0][labels[0]], names[1][labels[1]])
