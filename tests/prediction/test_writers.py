"""Every form holds the labels exactly, under the name that it promises, whole or not at all."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from dilated import InputError, Prediction
from dilated.data.masks import decode_rle, decompress_rle, rasterize_polygon
from dilated.prediction.sources import InputImage, Source
from dilated.prediction.writers import OutputFormat, make_writers
from dilated.prediction.writers.base import PredictionWriter, output_file
from dilated.prediction.writers.text import _make_annotations, _make_feature_collection

CLASSES = ["sky", "straße", "a,b"]
COLORS = [(10, 20, 30), (200, 0, 0), (0, 0, 200)]
LABELS = np.array([[0, 0, 0, 2], [0, 1, 0, 2], [0, 0, 0, 1]], np.uint8)
maps = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(0, 2))


def predicted(labels: np.ndarray, classes: list[str] | None = None, logits: bool = False) -> Prediction:
    names = classes or CLASSES
    values = torch.randn(len(names), *labels.shape, generator=torch.Generator().manual_seed(0)) if logits else None
    colors = [(i % 256, i // 256, 7) for i in range(len(names))] if classes else COLORS
    return Prediction(np.full((*labels.shape, 3), 100, np.uint8), labels, values, names, colors)


def image(name: str = "deep/a", suffix: str = ".jpg") -> InputImage:
    return InputImage(Source(Path(f"in/{name}{suffix}"), Path(name)))


def written(
    tmp_path: Path, *forms: OutputFormat, prediction: Prediction | None = None, append: bool = False
) -> list[str]:
    """The files in the output folder after one image has been written in some forms."""
    run(make_writers(forms, tmp_path / "out"), prediction or predicted(LABELS, logits=True), append)
    return sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file())


def run(writers: list[PredictionWriter], prediction: Prediction, append: bool = False, name: str = "deep/a") -> None:
    for writer in writers:
        writer.open(prediction.classes, prediction.colors, append)
        writer.write(image(name), prediction)
        writer.close()


def test_nothing_named_is_a_palette_png(tmp_path: Path) -> None:
    assert written(tmp_path) == ["deep/a.png"]
    with Image.open(tmp_path / "out/deep/a.png") as found:
        assert found.mode == "P"
        assert np.array_equal(np.asarray(found), LABELS)


def test_the_first_of_the_label_images_has_the_plain_name(tmp_path: Path) -> None:
    assert written(tmp_path, "ids", "color", "palette") == ["deep/a.color.png", "deep/a.palette.png", "deep/a.png"]
    with Image.open(tmp_path / "out/deep/a.png") as found:
        assert found.mode == "L"
        assert np.array_equal(np.asarray(found), LABELS)
    with Image.open(tmp_path / "out/deep/a.color.png") as found:
        assert np.array_equal(np.asarray(found), np.array(COLORS, np.uint8)[LABELS])


def test_more_than_255_classes_are_16_bit_ids(tmp_path: Path) -> None:
    labels = np.array([[0, 255, 256, 299]], np.uint16)
    written(tmp_path, "ids", "color", prediction=predicted(labels, [f"c{i}" for i in range(300)]))
    with Image.open(tmp_path / "out/deep/a.png") as found:
        assert np.asarray(found).tolist() == labels.tolist()
    with Image.open(tmp_path / "out/deep/a.color.png") as found:
        assert np.asarray(found)[0].tolist() == [[0, 0, 7], [255, 0, 7], [0, 1, 7], [43, 1, 7]]


def test_an_overlay_has_the_name_that_it_always_had(tmp_path: Path) -> None:
    assert written(tmp_path, "overlay") == ["deep/a.overlay.jpg"]

    def names(*forms: OutputFormat) -> list[str]:
        return [writer.path(image("a")).name for writer in make_writers(forms, tmp_path, overlay=True)]

    assert names() == ["a.png", "a.overlay.jpg"]
    assert names("overlay", "csv") == ["a.overlay.jpg", "class_fractions.csv"]


def test_probabilities_are_the_softmax_of_the_logits(tmp_path: Path) -> None:
    prediction = predicted(LABELS, logits=True)
    assert written(tmp_path, "probabilities", prediction=prediction) == ["deep/a.npz"]
    with np.load(tmp_path / "out/deep/a.npz") as found:
        assert found["classes"].tolist() == CLASSES
        assert found["probabilities"].dtype == np.float16
        assert prediction.logits is not None
        assert np.array_equal(found["probabilities"], prediction.logits.softmax(0).half().numpy())
        assert np.allclose(found["probabilities"].sum(0, dtype=np.float64), 1, atol=2e-3)


def test_probabilities_need_logits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no logits"):
        written(tmp_path, "probabilities", prediction=predicted(LABELS))
    assert not list((tmp_path / "out").rglob("*.*"))


def test_a_tiff_has_a_page_for_each_class(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    prediction = predicted(LABELS, logits=True)
    assert written(tmp_path, "probabilities-tif", prediction=prediction) == ["deep/a.probabilities.tif"]
    with tifffile.TiffFile(tmp_path / "out/deep/a.probabilities.tif") as file:
        assert len(file.pages) == 3
        assert prediction.logits is not None
        found = np.stack([page.asarray() for page in file.pages])
        assert np.array_equal(found, prediction.logits.softmax(0).half().numpy())
        descriptions = [page.tags["ImageDescription"].value for page in file.pages]
        assert [d if isinstance(d, str) else d.decode() for d in descriptions] == CLASSES


@settings(max_examples=60, deadline=None)
@given(labels=maps)
def test_geojson_covers_the_image_exactly_once(labels: np.ndarray) -> None:
    count = np.zeros(labels.shape, dtype=int)
    again = np.zeros_like(labels)
    for feature in _make_feature_collection(predicted(labels))["features"]:
        mask = np.zeros(labels.shape, dtype=bool)
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
            mask ^= rasterize_polygon(np.array(ring[:-1], dtype=float), labels.shape)
        count += mask
        again[mask] = feature["properties"]["id"]
        assert feature["properties"]["class"] == CLASSES[feature["properties"]["id"]]
        assert feature["properties"]["area"] == mask.sum()
    assert (count == 1).all()
    assert np.array_equal(again, labels)


def test_geojson_is_wound_as_rfc_7946_has_it(tmp_path: Path) -> None:
    assert written(tmp_path, "geojson") == ["deep/a.geojson"]
    data = json.loads((tmp_path / "out/deep/a.geojson").read_text(encoding="utf-8"))
    assert data["type"] == "FeatureCollection"
    first = data["features"][0]
    assert first["geometry"]["coordinates"] == [
        [[0, 0], [3, 0], [3, 3], [0, 3], [0, 0]],
        [[1, 2], [2, 2], [2, 1], [1, 1], [1, 2]],
    ]
    assert first["properties"] == {"class": "sky", "id": 0, "area": 8}


@settings(max_examples=60, deadline=None)
@given(labels=maps)
def test_coco_covers_the_image_exactly_once(labels: np.ndarray) -> None:
    count = np.zeros(labels.shape, dtype=int)
    for annotation in _make_annotations(labels, 255):
        shape = annotation["segmentation"]
        if isinstance(shape, dict):
            mask = decode_rle(decompress_rle(shape["counts"]), labels.shape)
        else:
            mask = rasterize_polygon(np.array(shape[0], dtype=float).reshape(-1, 2), labels.shape)
        count += mask
        assert (labels[mask] == annotation["category_id"]).all()
        assert annotation["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        left, top, width, height = annotation["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
    assert (count == 1).all()


@pytest.mark.filterwarnings("ignore:__array__")  # pycocotools' own
def test_pycocotools_reads_the_same_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    labels = np.kron(np.random.default_rng(0).integers(0, 3, (9, 12)), np.ones((3, 2), int)).astype(np.uint8)
    labels[10:20, 3:15] = 0
    labels[13:16, 6:9] = 1
    assert written(tmp_path, "coco", prediction=predicted(labels)) == ["annotations.json"]
    read = coco.COCO(str(tmp_path / "out" / "annotations.json"))
    again = np.full(labels.shape, 255, np.uint8)
    kinds = set()
    for annotation in read.loadAnns(read.getAnnIds(imgIds=[1])):
        mask = read.annToMask(annotation).astype(bool)
        assert mask.sum() == annotation["area"]
        again[mask] = annotation["category_id"]
        kinds.add(type(annotation["segmentation"]))
    assert np.array_equal(again, labels)
    assert kinds == {list, dict}
    assert [category["name"] for category in read.loadCats(read.getCatIds())] == CLASSES
    assert read.loadImgs([1])[0]["file_name"] == "deep/a.jpg"
    capsys.readouterr()


@settings(max_examples=60, deadline=None)
@given(labels=maps)
def test_labelme_shapes_drawn_in_their_order_are_the_labels(
    tmp_path_factory: pytest.TempPathFactory, labels: np.ndarray
) -> None:
    out = tmp_path_factory.mktemp("labelme")
    run(make_writers(["labelme"], out), predicted(labels))
    again = np.full(labels.shape, 255, np.uint8)
    data = json.loads((out / "deep" / "a.json").read_text(encoding="utf-8"))
    for shape in data["shapes"]:
        again[rasterize_polygon(np.array(shape["points"], dtype=float), labels.shape)] = CLASSES.index(shape["label"])
    assert np.array_equal(again, labels)
    assert (data["imageHeight"], data["imageWidth"], data["imageData"]) == (*labels.shape, None)
    assert os.path.normpath(out / "deep" / data["imagePath"]) == os.path.abspath("in/deep/a.jpg")


@settings(max_examples=60, deadline=None)
@given(labels=maps)
def test_class_fractions_add_up_to_one(tmp_path_factory: pytest.TempPathFactory, labels: np.ndarray) -> None:
    out = tmp_path_factory.mktemp("fractions")
    run(make_writers(["csv"], out), predicted(labels))
    with (out / "class_fractions.csv").open(newline="", encoding="utf-8") as file:
        header, row = csv.reader(file)
    assert header == ["image", *CLASSES]
    assert row[0] == "deep/a.jpg"
    assert sum(map(float, row[1:])) == pytest.approx(1, abs=1e-12)
    assert [float(fraction) * labels.size for fraction in row[1:]] == pytest.approx(
        np.bincount(labels.ravel(), minlength=3)
    )


@pytest.mark.parametrize(("form", "file"), [("csv", "class_fractions.csv"), ("coco", "annotations.json")])
def test_tables_of_one_run_and_of_two_are_the_same(form: OutputFormat, file: str, tmp_path: Path) -> None:
    images = {name: predicted(np.roll(LABELS, i, 1)) for i, name in enumerate(("b", "a", "x/c"))}
    (whole_run,) = make_writers([form], tmp_path / "one")
    whole_run.open(CLASSES, COLORS)
    for name, prediction in images.items():
        whole_run.write(image(name), prediction)
    whole_run.close()
    for name, prediction in images.items():
        (writer,) = make_writers([form], tmp_path / "two")
        writer.open(CLASSES, COLORS, append=True)
        assert not writer.has(image(name))
        writer.write(image(name), prediction)
        assert writer.has(image(name))
        writer.close()
    assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("form", "file", "text"),
    [
        ("csv", "class_fractions.csv", "image,other\na,1\n"),
        ("csv", "class_fractions.csv", ""),
        ("coco", "annotations.json", '{"categories": []'),
        ("coco", "annotations.json", '{"categories": [], "images": [], "annotations": []}'),
        ("coco", "annotations.json", "[]"),
    ],
)
def test_a_table_of_another_run_is_not_added_to(form: OutputFormat, file: str, text: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    (writer,) = make_writers([form], tmp_path)
    with pytest.raises(InputError, match=rf"{file}: .*Leave out --skip-existing"):
        writer.open(CLASSES, COLORS, append=True)
    writer.open(CLASSES, COLORS)


def test_a_table_without_rows_is_not_written(tmp_path: Path) -> None:
    for writer in make_writers(["csv", "coco"], tmp_path / "out"):
        writer.open(CLASSES, COLORS)
        writer.close()
    assert not (tmp_path / "out").exists()


def test_a_file_that_fails_leaves_the_former_one_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("before")

    def fail() -> None:
        with output_file(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise OSError(28, "disk full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "before"


def test_a_form_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'xml' is not a format of labels\. Give palette"):
        make_writers(["xml"], tmp_path)  # type: ignore[list-item]
