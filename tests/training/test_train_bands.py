"""Training, evaluation and planning on images of other bands than RGB."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.band_files import BANDS, save_fields

from dilated import InputError, load, load_recipe, open_dataset
from dilated.data.labels import IGNORE
from dilated.evaluation.evaluate import evaluate, iter_predictions
from dilated.input_config import InputConfig
from dilated.models.segmenter import Segmenter, SegmenterConfig
from dilated.prediction.predictor import Predictor
from dilated.training.autoplan.plan import make_plan
from dilated.training.config import set_input
from dilated.training.train import train

SETTINGS = """workers=0 batch=2 augment.crop=[32,32] stage.0.epochs=1 network.features=8 ema=0.0"""


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_fields(tmp_path_factory.mktemp("fields"), count=3)


def make_network(bands: tuple[str, ...], nodata: float | None = 0) -> Segmenter:
    config = InputConfig(bands, "uint16", high=(3000.0,) * len(bands), nodata=nodata)
    return Segmenter(["soil", "crop"], config=SegmenterConfig(backbone="test_efficientnet", features=8, input=config))


def test_a_recipe_is_trained_on_the_bands_of_the_data(fields: Path, recipe_file: Path, tmp_path: Path) -> None:
    data = open_dataset(fields)
    recipe = load_recipe(str(recipe_file), SETTINGS.split())
    recipe = replace(recipe, stage=recipe.stage[:1], network=replace(recipe.network, context="none"))
    train(data, recipe, tmp_path / "run")
    network = load(tmp_path / "run")
    assert network.input == data.input
    assert load_recipe(str(tmp_path / "run/recipe.toml")).network.input == data.input
    result = evaluate(Predictor(network, device="cpu"), data.samples("val"), data.classes)
    assert result.confusion.counts.sum() == 48 * 64 - 6 * 9


def test_a_plan_is_for_the_bands_of_the_data_and_says_so(fields: Path) -> None:
    data = open_dataset(fields)
    overrides = ["network.backbone=test_efficientnet", "weights=random", "network.features=8", "batch=2"]
    plan = make_plan(data, overrides=overrides)
    assert plan.recipe.network.input == data.input
    assert "4 bands (red, green, blue, nir) of uint16" in str(plan)


def test_a_network_of_rgb_alone_is_refused(fields: Path) -> None:
    recipe = load_recipe("paper-voc-frontend")
    with pytest.raises(InputError, match="a network of kind 'vgg' reads 8-bit RGB; the images have 4 bands"):
        set_input(recipe, open_dataset(fields).input)


def test_a_network_reads_its_own_bands_of_data_that_has_more(fields: Path) -> None:
    samples, data = open_dataset(fields).samples("val"), open_dataset(fields)
    predictor = Predictor(make_network(("nir", "red")), device="cpu")
    (target, (prediction,)), *_ = iter_predictions([predictor], samples, data.classes, logits=False)
    image = samples[0].read_image()[:, :, [3, 0]]
    assert np.array_equal(prediction.image, image)
    assert (target[:6, :9] == IGNORE).all()


def test_networks_of_different_bands_are_compared_on_the_pixels_of_both(fields: Path) -> None:
    data = open_dataset(fields)
    predictors = [
        Predictor(make_network(bands, nodata), device="cpu") for bands, nodata in ((BANDS, 0), (("red",), None))
    ]
    (target, predictions), *_ = iter_predictions(predictors, data.samples("val"), data.classes, logits=False)
    assert [prediction.image.shape[2] for prediction in predictions] == [4, 1]
    assert (target[:6, :9] == IGNORE).all()


def test_a_network_of_rgb_refuses_the_data_with_both_described(fields: Path) -> None:
    data = open_dataset(fields)
    network = Segmenter(["soil", "crop"], config=SegmenterConfig(backbone="test_efficientnet", features=8))
    with pytest.raises(InputError, match=r"found 4 bands .* of uint16; expected 8-bit RGB"):
        evaluate(Predictor(network, device="cpu"), data.samples("val"), data.classes)


def test_weights_of_rgb_start_a_network_of_more_bands() -> None:
    rgb = Segmenter(["a"], config=SegmenterConfig(backbone="test_efficientnet", features=8))
    bands = make_network(BANDS)
    fresh = bands.load_matching_weights(rgb)
    assert not any("conv_stem" in name for name in fresh)
    stem = bands.state_dict()["backbone.conv_stem.weight"]
    assert np.allclose(stem[:, :3].numpy(), rgb.state_dict()["backbone.conv_stem.weight"].numpy() * 0.75)
