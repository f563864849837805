from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated import InputError, Prediction, Predictor, load

LABELS = np.array([[0, 0, 2], [0, 1, 2]], np.uint8)
COLORS = [(10, 20, 30), (200, 0, 0), (0, 0, 200)]


def prediction() -> Prediction:
    return Prediction(np.full((2, 3, 3), 100, np.uint8), LABELS, None, ["a", "b", "c"], COLORS)


def test_a_saved_label_is_read_back_as_ids_and_as_colors(tmp_path: Path) -> None:
    prediction().save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), LABELS)
        assert np.array_equal(np.asarray(image.convert("RGB")), np.array(COLORS, np.uint8)[LABELS])


def test_shares_are_sorted_and_leave_out_what_is_not_there() -> None:
    one = Prediction(np.zeros((1, 4, 3), np.uint8), np.array([[2, 2, 0, 2]], np.uint8), None, ["a", "b", "c"], COLORS)
    assert one.class_fractions() == {"c": 0.75, "a": 0.25}


def test_an_overlay_mixes_image_and_colors() -> None:
    plain = np.asarray(prediction().overlay(opacity=0.5, legend=False))
    assert plain.shape == (2, 3, 3)
    assert plain[1, 2].tolist() == [50, 50, 150]  # the corner: no neighbour to the right or below
    assert plain[0, 1].tolist() == [255, 255, 255]  # class 0 beside class 2


def test_a_legend_is_added_below_and_grows_with_the_classes() -> None:
    few, many = (
        Prediction(
            np.zeros((80, 120, 3), np.uint8),
            (np.arange(9600).reshape(80, 120) % n).astype(np.uint8),
            None,
            [f"class {i}" for i in range(n)],
            [(i, i, i) for i in range(n)],
        ).overlay()
        for n in (1, 12)
    )
    assert few.width == many.width == 120
    assert 80 < few.height < many.height


def test_a_predictor_takes_paths_arrays_and_images_alike(network_file: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 34, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    predictor = Predictor(load(network_file), device="cpu")
    from_array = predictor(pixels, logits=True)
    assert from_array.labels.shape == (21, 34)
    assert from_array.labels.dtype == np.uint8
    assert np.array_equal(from_array.labels, predictor(tmp_path / "x.png").labels)
    assert np.array_equal(from_array.labels, predictor(Image.fromarray(pixels)).labels)
    assert np.array_equal(from_array.labels, from_array.logits.argmax(0).numpy())


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_an_array_of_another_form_is_refused(network_file: Path, bad: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected \(H, W, 3\) of uint8"):
        Predictor(load(network_file), device="cpu")(bad)
