from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import pytest

from dilated import InputError, Predictor, load, open_dataset
from dilated.evaluation.evaluate import evaluate

STREET = Path(str(resources.files("dilated.weights") / "files" / "street.safetensors"))


WEIGHTS = {
    "street": "70c528c663d3953671207ec30c89ca972b2465222fa9654036ce05da24138482",
    "cells": "6639b3eb49694adab2ebc75efbb59183497e06e8b6dc5ff60a2b841040b841d7",
}
"""SHA-256 of the bytes of the tensors, without the header that holds the card."""


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_card_can_be_rewritten_without_a_change_of_the_weights(name: str) -> None:
    content = (STREET.parent / f"{name}.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    assert hashlib.sha256(content[start:]).hexdigest() == WEIGHTS[name]


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_card_says_what_its_interval_is_over_and_is_that_of_its_page(name: str) -> None:
    val = load(name).card["val"]
    assert val["interval_over"]["unit"] in ("block", "group", "image")
    assert val["interval_over"]["number"] > 0
    page = (STREET.parent / f"{name}.md").read_text("utf-8")
    low, high = val["mean_iou_interval"]
    assert f"**{val['mean_iou']:.4f}** ({low:.4f} to {high:.4f})" in page
    assert val["interval_over"]["text"] in page


def test_street_is_about_one_film() -> None:
    over = load("street").card["val"]["interval_over"]
    assert over["unit"] == "block"
    assert "0016E5" in over["text"]
    assert "this says nothing about other groups, such as other films" in over["text"]


def test_street_is_small_and_says_what_it_is() -> None:
    assert STREET.stat().st_size <= 10_000_000
    street = load("street")
    assert street.output_stride == 8
    assert street.context is not None
    assert street.classes[3] == "Road"
    assert len(street.classes) == len(street.colors) == 11
    assert {"data", "data_licence", "recipe", "command", "val"} <= street.card.keys()
    assert street.card["val"]["mean_iou"] >= 0.7464  # two points above the first version
    assert street.card["val"]["images"] == 101


def test_cells_is_small_and_says_what_it_is() -> None:
    assert (STREET.parent / "cells.safetensors").stat().st_size <= 10_000_000
    cells = load("cells")
    assert cells.classes == ("background", "nucleus")
    assert {"data", "data_licence", "recipe", "command", "val"} <= cells.card.keys()
    assert cells.card["val"]["iou"]["nucleus"] >= 0.85
    assert cells.card["val"]["images"] == 68


def test_cells_finds_the_nuclei_of_the_example() -> None:
    root = Path(__file__).parents[2] / "examples" / "nuclei"
    data = open_dataset(root)
    result = evaluate(Predictor(load("cells"), device="cpu"), data.samples("val")[:4], data.classes)
    assert result.confusion.iou["nucleus"] > 0.7


def test_street_sees_the_road_at_the_bottom_and_the_sky_at_the_top() -> None:
    prediction = Predictor(load("street"), device="cpu")(str(resources.files("dilated") / "samples/street_camvid.jpg"))
    names = [prediction.classes[i] for i in prediction.labels[[60, 450], 320]]
    assert names == ["Sky", "Road"]


def test_a_run_is_loaded_by_its_best_network(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no best\.safetensors"):
        load(tmp_path)
    load("street").save(str(tmp_path / "best.safetensors"))
    assert load(tmp_path).classes == load("street").classes
