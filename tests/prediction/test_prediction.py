from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dilated import InputError, Prediction, Predictor, load
from dilated.label_ids import label_dtype

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


def test_class_fractions_are_sorted_and_leave_out_what_is_not_there() -> None:
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


def test_a_mask_is_where_the_class_is() -> None:
    assert prediction().mask("c").tolist() == [[False, False, True], [False, False, True]]
    assert not Prediction(prediction().image, LABELS * 0, None, ["a", "b", "c"], COLORS).mask("b").any()


@pytest.mark.parametrize(("name", "suggestion"), [("ROAD", "Did you mean 'Road'"), ("rod", "Did you mean 'Road'")])
def test_an_unknown_class_is_an_input_error_with_the_nearest_name(name: str, suggestion: str) -> None:
    street = Prediction(prediction().image, LABELS, None, ["Sky", "Road", "Tree"], COLORS)
    for call in (street.mask, street.polygons):
        with pytest.raises(InputError, match=f"class: '{name}' is not a class.*{suggestion}.*Known: Sky, Road, Tree"):
            call(name)
    with pytest.raises(InputError, match=r"network\. Known: Sky"):
        street.mask("zzzzzz")


def test_probabilities_are_the_softmax_of_the_logits_or_an_input_error() -> None:
    logits = torch.tensor([[[0.0, 1.0]], [[2.0, -1.0]]])
    probabilities = Prediction(np.zeros((1, 2, 3), np.uint8), LABELS[:1, :2], logits, ["a", "b"], COLORS).probabilities
    torch.testing.assert_close(probabilities, logits.softmax(0))
    with pytest.raises(InputError, match=r"no logits\. Call predictor\(image, logits=True\)"):
        _ = prediction().probabilities


def test_polygons_are_those_of_all_regions_or_of_one_class() -> None:
    assert [polygon.value for polygon in prediction().polygons()] == [0, 2, 1]
    assert [(polygon.value, polygon.area) for polygon in prediction().polygons("c")] == [(2, 2)]


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff", ".bmp", ".npy"])
@pytest.mark.parametrize("classes", [3, 255, 300])
def test_saved_labels_are_read_back_as_they_are_in_the_format_of_the_suffix(
    suffix: str, classes: int, tmp_path: Path
) -> None:
    labels = np.arange(classes, dtype=label_dtype(classes))[None].repeat(4, 0)
    image = np.zeros((*labels.shape, 3), np.uint8)
    colors = [(i % 256, i // 2 % 256, 7) for i in range(classes)]
    made = Prediction(image, labels, None, [str(i) for i in range(classes)], colors)
    path = tmp_path / f"labels{suffix}"
    if suffix == ".bmp" and classes > 255:
        with pytest.raises(InputError, match=r"\.bmp without changing ids"):
            made.save(path)
        return
    made.save(str(path))
    if suffix == ".npy":
        found = np.load(path)
    else:
        with Image.open(path) as file:
            found = np.asarray(file)
            formats = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
            assert file.format == formats[suffix.lower()]
            if classes <= 255:
                assert np.array_equal(np.asarray(file.convert("RGB")), np.array(colors, np.uint8)[labels])
    assert found.dtype == labels.dtype
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("name", ["labels.jpg", "labels.jpeg", "labels.webp", "labels.gif", "labels", "labels.json"])
def test_a_suffix_that_would_change_labels_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"without changing ids.*\.png, \.tif.*overlay\(\)\.save"):
        prediction().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_does_not_exist_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.png: could not be written \(No such file"):
        prediction().save(tmp_path / "none" / "x.png")


def test_a_repr_is_short_whatever_the_image_is() -> None:
    assert repr(prediction()) == "Prediction(2x3 pixels, 3 of 3 classes: a 50.0%, c 33.3%, b 16.7%)"
    labels = np.arange(90, dtype=np.uint8).reshape(9, 10)
    many = Prediction(np.zeros((9, 10, 3), np.uint8), labels, None, [f"class {i}" for i in range(99)], COLORS * 33)
    assert len(repr(many)) < 120
    assert repr(many).endswith(", ...)")


def test_a_notebook_gets_a_png_and_html_of_bounded_size_with_escaped_names() -> None:
    image = np.zeros((1200, 3000, 3), np.uint8)
    large = Prediction(image, image[:, :, 0], None, ["<b>a", "b"], COLORS[:2])
    with Image.open(io.BytesIO(large._repr_png_())) as shown:
        assert (shown.format, max(shown.size)) == ("PNG", 1024)
    page = large._repr_html_()
    assert "&lt;b&gt;a" in page
    assert "<b>a" not in page
    assert "100.0%" in page
    assert "rgb(10, 20, 30)" in page


def test_show_opens_the_overlay(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, int]] = []
    monkeypatch.setattr(Image.Image, "show", lambda self: shown.append(self.size))
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    prediction().show()
    assert shown == [prediction().overlay().size]


def test_pixels_without_a_label_keep_their_value_in_a_palette_of_few_colors(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2, 255]], np.uint8)
    path = tmp_path / "labels.png"
    Prediction(np.zeros((1, 4, 3), np.uint8), labels, None, ["a", "b", "c"], COLORS).save(path)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == labels.tolist()
