from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from dilated import InputError, Predictor, load, open_dataset
from dilated.evaluation.evaluate import evaluate

STREET = Path(str(resources.files("dilated.weights") / "files" / "street.safetensors"))


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
