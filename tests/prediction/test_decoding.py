from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from dilated import InputError, Predictor, Segmenter, SegmenterConfig
from dilated.cli.main import main
from dilated.models.tuning_record import CARD_KEY, RiskThreshold, TuningRecord
from dilated.prediction.confidence import confidence_map
from dilated.prediction.decoding import LabelDecoder
from dilated.prediction.raster_prediction import predict_raster

NAMES = ("sky", "road", "tree")


def make_segmenter(seed: int = 0, classes: tuple[str, ...] = NAMES, backbone: str = "test_efficientnet") -> Segmenter:
    torch.manual_seed(seed)
    segmenter = Segmenter(classes, config=SegmenterConfig(backbone, features=8)).eval()
    with torch.no_grad():
        segmenter.classifier.weight.mul_(24)
    return segmenter


def tuned(segmenter: Segmenter, threshold: float, temperature: float = 1.5) -> Segmenter:
    risks = (RiskThreshold(0.05, float(np.float32(threshold)), 0.1, False),)
    record = TuningRecord(segmenter.digest(), temperature, None, "made", "val", 60, "image", 60, 0.995, risks)
    result = copy.deepcopy(segmenter)
    result.card[CARD_KEY] = record.to_dict()
    return result


def labels_by_definition(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """RankSEG-RMA in float64, with a sort: (C, n) -> (n,)."""
    classes, count = probabilities.shape
    expected = probabilities.sum(1)
    active = probabilities.max(1) > 0.5
    selected = np.zeros(probabilities.shape, dtype=bool)
    for index in np.flatnonzero(active):
        order = np.argsort(-probabilities[index], kind="stable")
        inside = np.cumsum(probabilities[index][order])
        iou = inside / (expected[index] + np.arange(1, count + 1) - inside)
        selected[index, order[: iou.argmax() + 1]] = True
    single = selected & (selected.sum(0) == 1)
    inside = (probabilities * single).sum(1)[:, None]
    union = single.sum(1)[:, None] + expected[:, None] - inside
    gain = (inside + probabilities) / (union + 1 - probabilities) - inside / union
    eligible = np.where(selected.any(0), selected, (active if active.any() else np.ones(classes, bool))[:, None])
    return np.where(eligible, gain, -np.inf).argmax(0)


def draw_logits(seed: int, classes: int, size: tuple[int, int] = (40, 50)) -> torch.Tensor:
    """Smooth areas of each class, with noise: probabilities of all sizes."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, 5, 6, generator=generator) * 3
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bilinear")[0]
    return (
        smooth + 0.5 * torch.randn(classes, *size, generator=generator) - 2 * torch.arange(classes).view(-1, 1, 1) / 3
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_iou_labels_are_those_of_the_sort_but_for_the_step_of_the_histogram(seed: int, classes: int) -> None:
    logits = draw_logits(seed, classes)
    decoder = LabelDecoder(make_segmenter(classes=tuple(map(str, range(classes)))), "iou")
    labels = decoder.decode_image((40, 50), [(0, 0, logits)])
    expected = labels_by_definition(logits.double().softmax(0).flatten(1).numpy()).reshape(40, 50)
    assert (labels != expected).mean() < 0.015


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000))
def test_iou_labels_are_those_of_rankseg(seed: int) -> None:
    rankseg = pytest.importorskip("rankseg.functional").rankseg
    logits = draw_logits(seed, 4, (60, 80))
    labels = LabelDecoder(make_segmenter(classes=tuple("abcd")), "iou").decode_image((60, 80), [(0, 0, logits)])
    expected = rankseg(logits.softmax(0)[None], metric="iou", solver="RMA", output_mode="multiclass")[0].numpy()
    assert (labels != expected).mean() < 0.01


def test_a_rare_class_gets_more_pixels_than_by_argmax() -> None:
    probabilities = np.full((2, 10_000), 0.0)
    probabilities[1] = np.linspace(0, 0.9, 10_000) ** 6
    probabilities[0] = 1 - probabilities[1]
    logits = torch.from_numpy(np.log(np.maximum(probabilities, 1e-9))).float().view(2, 100, 100)
    segmenter = make_segmenter(classes=("road", "pole"))
    by_iou, by_argmax = (
        LabelDecoder(segmenter, how).decode_image((100, 100), [(0, 0, logits)]) for how in ("iou", "argmax")
    )
    truth = np.random.default_rng(0).random((50, 100, 100)) < probabilities[1].reshape(100, 100)

    def mean_iou(labels: NDArray[np.int64]) -> float:
        chosen = labels == 1
        return float(np.mean([(chosen & t).sum() / (chosen | t).sum() for t in truth]))

    assert (by_iou == 1).sum() > (by_argmax == 1).sum()
    assert mean_iou(by_iou) > mean_iou(by_argmax) + 0.01


def test_parts_of_an_image_give_the_labels_of_the_image_at_once() -> None:
    logits = draw_logits(3, 3)
    decoder = LabelDecoder(make_segmenter(), "iou")
    parts = [(y, x, logits[:, y : y + 16, x : x + 20]) for y, x in itertools.product((0, 16, 32), (0, 20, 40))]
    whole = decoder.decode_image((40, 50), [(0, 0, logits)])
    assert np.array_equal(decoder.decode_image((40, 50), parts), whole)


def test_pixels_without_data_have_no_part_in_what_is_decided() -> None:
    logits = draw_logits(4, 3)
    changed = logits.clone()
    changed[:, 20:] = torch.tensor([0.0, 9.0, 0.0]).view(3, 1, 1)
    valid = np.zeros((40, 50), bool)
    valid[:20] = True
    decoder = LabelDecoder(make_segmenter(), "iou")
    first, second = (decoder.decode_image((40, 50), [(0, 0, part)], valid)[:20] for part in (logits, changed))
    assert np.array_equal(first, second)


def test_unknown_is_what_is_less_sure_than_the_threshold() -> None:
    segmenter = tuned(make_segmenter(), 0.5)
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    plain = Predictor(segmenter, device="cpu")(image, logits=True)
    assert plain.logits is not None
    careful = Predictor(segmenter, device="cpu", risk=0.05)(image, logits=True)
    confidence = confidence_map(plain.logits, 1.5).numpy()
    unsure = confidence < np.float32(0.5)
    assert 0 < unsure.sum() < unsure.size
    assert np.array_equal(careful.labels, np.where(unsure, 255, plain.labels))
    assert careful.unknown == unsure.sum()
    assert plain.unknown is None
    assert np.array_equal(plain.confidence, confidence)
    assert np.array_equal(Predictor(segmenter, device="cpu", risk=0.05)(image).labels, careful.labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decode": "dice"}, "decode: 'dice' is unknown"),
        ({"risk": 0.05, "decode": "iou"}, "fitted for the greatest logit"),
        ({"risk": 0.05, "flips": True}, "fitted without flips"),
        ({"risk": 0.05, "scales": (0.5, 1.0)}, "fitted without flips"),
        ({"risk": 0.01}, r"no threshold for 0\.01 was fitted on the 60 images of made.*Give one of 0\.05"),
    ],
)
def test_what_no_threshold_was_fitted_for_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Predictor(tuned(make_segmenter(), 0.5), device="cpu", **options)


def test_a_network_that_was_not_tuned_promises_nothing() -> None:
    with pytest.raises(InputError, match=r"nothing was fitted to this network.*dilated tune"):
        Predictor(make_segmenter(), device="cpu", risk=0.05)


def test_a_network_that_changed_since_loses_its_temperature_with_a_warning_and_its_thresholds() -> None:
    segmenter = tuned(make_segmenter(), 0.5)
    with torch.no_grad():
        segmenter.classifier.weight.add_(0.1)
    with pytest.warns(UserWarning, match="has changed since it was tuned; its temperature is not used"):
        assert Predictor(segmenter, device="cpu").decoder.temperature == 1
    with pytest.raises(InputError, match="has changed"):
        Predictor(segmenter, device="cpu", risk=0.05)


def test_rasters_are_refused(tmp_path: Path) -> None:
    segmenter = tuned(make_segmenter(), 0.5)
    for predictor, message in (
        (Predictor(segmenter, device="cpu", tile=64, decode="iou"), "decode: a raster"),
        (Predictor(segmenter, device="cpu", tile=64, risk=0.05), "risk: unknown pixels of a raster"),
    ):
        with pytest.raises(InputError, match=message):
            predict_raster(predictor, tmp_path / "a.tif", tmp_path / "b.tif")


def test_the_command_writes_unknown_and_confidence_and_says_how_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segmenter = tuned(make_segmenter(), 0.5)
    segmenter.save(tmp_path / "network.safetensors", half=False)
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    words = ["predict", f"{tmp_path}/network.safetensors", f"{tmp_path}/photo.png", "--out", f"{tmp_path}/out"]
    main([*words, "--risk", "0.05", "--save", "palette", "confidence", "--device", "cpu"])
    prediction = Predictor(segmenter, device="cpu", risk=0.05)(image, logits=True)
    with (
        Image.open(tmp_path / "out" / "photo.png") as labels,
        Image.open(tmp_path / "out" / "photo.confidence.png") as sure,
    ):
        assert np.array_equal(np.asarray(labels), prediction.labels)
        assert json.loads(labels.text["dilated"])["risk"] == 0.05
        assert np.abs(np.asarray(sure) / 65535 - prediction.confidence).max() < 1e-4
        assert json.loads(sure.text["dilated"]) == {"scale": 65535, "temperature": 1.5}
    assert f"({prediction.unknown:,} of 1,920)" in capsys.readouterr().out
    main([*words, "--decode", "iou", "--device", "cpu"])
    assert "labels are of greatest expected IoU" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "photo.png") as labels:
        assert json.loads(labels.text["dilated"]) == {"decode": "iou", "temperature": 1.5}
