from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dilated import InputError, Predictor, Segmenter, SegmenterConfig, TuneOptions, load, tune
from dilated.data.groups import Groups
from dilated.data.labels import Classes, save_classes
from dilated.evaluation.folds import divide_into_units
from dilated.evaluation.tuning_result import TuningResult
from dilated.models.tuning_record import read_tuning

CLASSES = Classes(("field", "disc"), ((0, 0, 0), (255, 255, 255)))


def make_network() -> Segmenter:
    """Random weights: what it answers is replaced."""
    torch.manual_seed(0)
    config = SegmenterConfig("test_efficientnet", features=2)
    return Segmenter(CLASSES.names, CLASSES.colors, config).eval()


class Shifted(Predictor):
    """Answers with logits that are right but for noise and a shift of class 1, times 3."""

    shift = 0.0

    def __call__(self, image: Any, *, logits: bool = False) -> Any:
        prediction = super().__call__(image, logits=True)
        random = np.random.default_rng(int(image[..., 1].astype(int).sum()))
        bright = torch.from_numpy(image[..., 0] / 255 - 0.5 + random.normal(0, 0.25, image.shape[:2])).float()
        answer = torch.stack([torch.zeros_like(bright), bright + self.shift]) * 9
        object.__setattr__(prediction, "logits", answer)
        return prediction


def write(root: Path, images: int, size: int = 48) -> Path:
    """Images whose red is the label, of which 3% are wrong, and whose green is noise."""
    y, x = np.mgrid[:size, :size]
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
        (root / kind / "train").mkdir(parents=True)
    for i in range(images + 1):
        random = np.random.default_rng(i)
        label = (x + y / 9 > random.integers(20, 34)).astype(np.uint8)
        image = np.stack([label * 255, random.integers(0, 256, label.shape), label], -1).astype(np.uint8)
        label ^= random.random(label.shape) < 0.03
        name = f"{'train' if i == images else 'val'}/{'abcdefghijklmnopqrstuvwxyz'[i % 26]}{'xy'[i // 26]}.png"
        Image.fromarray(image).save(root / "images" / name)
        Image.fromarray(label).save(root / "labels" / name)
    save_classes(CLASSES, root / "classes.toml")
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "discs", 12)


def make_predictor(shift: float) -> Shifted:
    predictor = Shifted(make_network(), device="cpu")
    predictor.shift = shift
    return predictor


@pytest.fixture(scope="module")
def plain_result(tmp_path_factory: pytest.TempPathFactory) -> TuningResult:
    """Of a network whose answers are right but for noise; shared, so tests copy its network before they change it."""
    data = write(tmp_path_factory.mktemp("plain") / "discs", 12)
    return tune(make_predictor(0.0), data, TuneOptions(risks=(0.3, 0.01)))


def test_biases_that_help_on_left_out_images_are_kept_and_stored(data: Path, tmp_path: Path) -> None:
    predictor = make_predictor(-0.15)
    seen: list[tuple[int, int]] = []
    tuned = tune(predictor, data, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 24) for i in range(1, 25)]
    assert tuned.gain is not None
    assert tuned.biased is not None
    assert tuned.record.biases is not None
    assert tuned.gain.low > 0
    assert tuned.record.biases[1] - tuned.record.biases[0] == pytest.approx(1.35, abs=0.3)
    assert tuned.gain.value == tuned.biased.value("mean_iou") - tuned.baseline.value("mean_iou")
    tuned.segmenter.save(tmp_path / "tuned.safetensors")
    loaded = load(tmp_path / "tuned.safetensors")
    assert read_tuning(loaded) == tuned.record
    image = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        change = loaded(image) - predictor.segmenter(image)
    assert (change[:, 1] - change[:, 0]).mean().item() == pytest.approx(
        tuned.record.biases[1] - tuned.record.biases[0], abs=0.01
    )
    assert "on left-out images; kept" in str(tuned)
    json.dumps(tuned.to_dict(), allow_nan=False)


def test_biases_without_a_shown_gain_are_not_kept(data: Path) -> None:
    predictor = make_predictor(0.0)
    before = predictor.segmenter.digest()
    tuned = tune(predictor, data)
    assert tuned.record.biases is None
    assert "not kept: no gain is shown" in str(tuned)
    assert tuned.to_dict()["biases_kept"] is False
    assert predictor.segmenter.digest() == before
    assert predictor.segmenter.card == {}


def test_each_image_is_measured_by_what_was_fitted_on_the_others(data: Path) -> None:
    """The first image alone is shifted: what the others teach does not help it, and it does not teach itself."""

    class First(Shifted):
        def __call__(self, image: Any, *, logits: bool = False) -> Any:
            self.shift = -0.4 if np.array_equal(image, first) else 0.0
            return super().__call__(image, logits=logits)

    first = np.asarray(Image.open(data / "images" / "val" / "ax.png"))
    tuned = tune(First(make_network(), device="cpu"), data)
    assert tuned.biased is not None
    change = tuned.biased.image_counts[0] - tuned.baseline.image_counts[0]
    assert abs(change).sum() < 0.1 * 48 * 48


def test_the_record_of_other_weights_is_refused(plain_result: TuningResult) -> None:
    network = copy.deepcopy(plain_result.segmenter)
    with torch.no_grad():
        next(network.parameters()).add_(1.0)
    with pytest.raises(InputError, match="has changed since it was tuned"):
        read_tuning(network)


@pytest.mark.parametrize(
    "damage", [{"temperature": 0}, {"temperature": "hot"}, {"risks": [3]}, {"biases": [1.0]}, {"more": 1}, "text"]
)
def test_a_damaged_record_is_refused(plain_result: TuningResult, damage: Any) -> None:
    network = copy.deepcopy(plain_result.segmenter)
    record: Any = network.card["tuning"]
    network.card["tuning"] = damage if isinstance(damage, str) else record | damage
    with pytest.raises(InputError, match=r"tuning: the record in the network's card is damaged"):
        read_tuning(network)


def test_thresholds_are_those_of_the_risks_asked_for_and_others_are_refused(plain_result: TuningResult) -> None:
    record = plain_result.record
    assert [threshold.risk for threshold in record.risks] == [0.3]
    assert record.find_threshold(0.3).risk == 0.3
    with pytest.raises(InputError, match=r"no threshold for 0\.01 .* on the 12 images of discs"):
        record.find_threshold(0.01)


def test_views_and_two_images_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="averages views"):
        tune(Predictor(make_network(), device="cpu", flips=True), data)
    with pytest.raises(InputError, match="too few"):
        tune(make_predictor(0.0), write(tmp_path / "two", 2))
    with pytest.raises(InputError, match="is no share"):
        TuneOptions(risks=(0.02, 1.5))


def test_blocks_of_a_film_are_units_and_folds_keep_neighbors_together() -> None:
    units = divide_into_units(Groups(("film",) * 40, tuple(range(40)), "given"), 5)
    assert (units.kind, units.number, units.num_folds) == ("block", 8, 5)
    assert (np.diff(units.of_image) >= 0).all()
    assert (np.diff(units.fold_of_image) >= 0).all()
    assert "says nothing about other groups" in units.describe()


def test_no_group_is_in_two_folds() -> None:
    labels = tuple("abcdefg"[i % 7] for i in range(50))
    units = divide_into_units(Groups(labels, (None,) * 50, "given"), 1)
    for unit in range(units.number):
        assert len(set(units.fold_of_image[units.of_image == unit].tolist())) == 1
    assert units.num_folds == 5


def test_the_data_is_named_in_the_record(plain_result: TuningResult) -> None:
    record = plain_result.record
    assert (record.data, record.split, record.images, record.unit, record.units) == ("discs", "val", 12, "image", 12)
