"""`Predictor(crf=...)` and `--crf`: whose labels they give, and what does not go with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_networks import Local

from dilated import DenseCRF, InputError, Predictor, load
from dilated.cli.main import main
from dilated.prediction.raster_prediction import predict_raster

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)
CRF = DenseCRF(bilateral_position=20, bilateral_color=40, iterations=4)


def test_labels_are_those_of_the_refined_logits(network_file: Path) -> None:
    network = load(network_file)
    logits = Predictor(network, device="cpu")(IMAGE, logits=True).logits
    assert logits is not None
    expected = CRF.refine(logits, IMAGE)
    prediction = Predictor(network, device="cpu", crf=CRF)(IMAGE, logits=True)
    assert (prediction.labels == expected.argmax(0).numpy()).all()
    assert prediction.logits is not None
    np.testing.assert_allclose(prediction.logits.exp().sum(0), 1, atol=1e-5)


def test_labels_are_the_same_without_logits_and_in_tiles() -> None:
    network = Local(4, context=(2,))
    labels = Predictor(network, device="cpu", crf=CRF)(IMAGE, logits=True).labels
    assert (Predictor(network, device="cpu", crf=CRF)(IMAGE).labels == labels).all()
    assert (Predictor(network, device="cpu", crf=CRF, tile=32)(IMAGE).labels == labels).mean() > 0.999


def test_images_of_a_batch_are_refined_each_by_its_own_colors(network_file: Path) -> None:
    predictor = Predictor(load(network_file), device="cpu", crf=CRF)
    images = [IMAGE, IMAGE[::-1].copy()]
    for prediction, image in zip(predictor.batch(images), images, strict=True):
        assert (prediction.labels == predictor(image).labels).all()


def test_settings_say_what_refined_the_labels(network_file: Path) -> None:
    predictor = Predictor(load(network_file), device="cpu", crf=CRF)
    assert predictor.settings["crf"] == CRF.to_dict()
    assert json.loads(predictor(IMAGE).how)["crf"]["iterations"] == 4
    assert not predictor.is_plain


def test_a_raster_is_refused(network_file: Path, tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="crf: a raster is labelled block by block"):
        predict_raster(Predictor(network_file, tile=32, crf=CRF), tmp_path / "a.png", tmp_path / "a.tif")


def test_the_command_says_how_it_refined_the_labels(
    network_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    arguments = ["predict", str(network_file), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    main([*arguments, "--device", "cpu", "--crf", "bilateral_position=20", "bilateral_color=40", "iterations=4"])
    assert "labels are refined by a dense CRF: iterations=4 bilateral_weight=10" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "a.png") as image:
        expected = Predictor(network_file, device="cpu", crf=CRF)(IMAGE).labels
        assert (np.array(image) == expected).all()


def test_the_option_alone_takes_the_standard_parameters(
    network_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    arguments = ["predict", str(network_file), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    main([*arguments, "--device", "cpu", "--crf"])
    assert "dense CRF: " + " ".join(DenseCRF().describe()) in capsys.readouterr().out


def test_what_is_no_setting_is_refused(network_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", str(network_file), "a.png", "--out", str(tmp_path / "out"), "--crf", "b.png"])
    assert "'b.png' is no setting" in capsys.readouterr().err
