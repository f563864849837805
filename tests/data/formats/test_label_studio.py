"""Label Studio's exports JSON and JSON-MIN as it writes them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tool_files import image, labels, text

from dilated.data.check.check import check
from dilated.data.dataset import open_dataset
from dilated.data.formats._bitmaps import PackedRuns, _unpack_runs
from dilated.data.masks import encode_packed_runs
from dilated.errors import InputError

SQUARE = [[0, 0], [50, 0], [50, 50], [0, 50]]  # the left upper quarter of 6x4: 3 columns, 2 rows


def region(kind: str, label: str | None, number: int = 0, **value: Any) -> dict[str, Any]:
    """A result as the full export has it."""
    named = {f"{kind}labels": [label]} if label else {}
    return {
        "original_width": 6,
        "original_height": 4,
        "image_rotation": 0,
        "value": {**value, **named},
        "id": f"r{number}",
        "from_name": "label",
        "to_name": "image",
        "type": f"{kind}labels" if label else kind,
        "origin": "manual",
    }


def annotation(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": 70,
        "completed_by": 1,
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2024-05-01T10:00:00.000000Z",
        "updated_at": "2024-05-01T10:00:00.000000Z",
        "lead_time": 3.5,
        **more,
    }


def task(number: int, *annotations: dict[str, Any], link: str = "/data/upload/1/{}", **more: Any) -> dict[str, Any]:
    name = f"0a1b2c3{number}-p{number}.jpg"
    return {
        "id": number,
        "annotations": list(annotations),
        "file_upload": name,
        "drafts": [],
        "predictions": [{"result": [region("polygon", "Predicted", points=SQUARE)]}],
        "data": {"image": link.format(name)},
        "meta": {},
        "inner_id": number,
        "project": 1,
        **more,
    }


def project(root: Path, *tasks: dict[str, Any], images: str = "images") -> Path:
    for i in range(2):
        image(root / images / f"0a1b2c3{i}-p{i}.jpg")
    text(root / "project-1-at-2024-05-01-10-00-0a1b2c3d.json", json.dumps(tasks))
    return root


def read(root: Path, *results: dict[str, Any]) -> list[list[int]]:
    """The label of an image of these regions."""
    root.mkdir(exist_ok=True)
    data = open_dataset(project(root, task(0, annotation(*results)), task(1, annotation())))
    samples = {sample.name: sample for split in data.splits for sample in data.samples(split)}
    return samples["0a1b2c30-p0"].read_label((4, 6)).tolist()


def test_packed_runs_are_unpacked_as_the_converters_own_test_has_them() -> None:
    packed = [0, 0, 0, 18, 57, 27, 252, 96, 32, 1, 0, 6, 0, 40, 0, 192, 3, 128, 17, 56, 32]
    values = np.zeros(18, np.uint32)
    _unpack_runs("".join(f"{byte:08b}" for byte in packed), values)
    assert values.tolist() == [1, 1, 1, 1, 2, 3, 5, 6, 7, 8, 4, 4, 4, 4, 4, 4, 4, 4]


def test_packed_runs_of_any_mask_are_that_mask() -> None:
    mask = np.random.default_rng(0).random((40, 60)) < 0.2
    mask[10:30] = True
    assert (PackedRuns(encode_packed_runs(mask))((40, 60)) == mask).all()


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 64, 65, 16384, 16385, 40000])
def test_packed_runs_of_any_length_are_unpacked(pixels: int) -> None:
    mask = np.arange(pixels + 5)[None] < pixels
    assert (PackedRuns(encode_packed_runs(mask))(mask.shape) == mask).all()
    assert (PackedRuns(encode_packed_runs(~mask))(mask.shape) == ~mask).all()


def test_label_studios_own_decoder_reads_packed_runs() -> None:
    reason = "label-studio-sdk is not installed; `pip install label-studio-sdk`"
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason=reason)
    mask = np.random.default_rng(1).random((31, 47)) < 0.3
    mask[5:20] = False
    values = brush.decode_rle(list(encode_packed_runs(mask))).reshape(31, 47, 4)
    assert (values == np.where(mask, 255, 0)[:, :, None]).all()


def test_regions_are_drawn_in_their_order_and_labels_sorted(tmp_path: Path) -> None:
    brush = np.zeros((4, 6), bool)
    brush[1:3, 2:5] = True
    label = read(
        tmp_path,
        region("polygon", "road", points=SQUARE, closed=True),
        region("brush", "car", format="rle", rle=[*encode_packed_runs(brush)]),
        region("rectangle", "road", x=50, y=75, width=50, height=25, rotation=0),
    )
    assert label == [[2, 2, 2, 0, 0, 0], [2, 2, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 2, 2, 2]]
    assert open_dataset(tmp_path).classes.names == ("background", "car", "road")


def test_ellipses_and_rotated_rectangles_are_in_pixels_of_the_image(tmp_path: Path) -> None:
    ellipse = region("ellipse", "a", x=50, y=50, radiusX=50, radiusY=25, rotation=0)  # 3 and 1 pixels
    assert read(tmp_path, ellipse) == [[0] * 6, [1] * 6, [1] * 6, [0] * 6]
    ellipse["value"]["rotation"] = 90
    assert read(tmp_path, ellipse) == [[0, 0, 1, 1, 0, 0]] * 4
    # 4 pixels wide and 2 high, turned clockwise by 90 degrees about its left upper corner at (3, 0): x 1-3, y 0-4
    rectangle = region("rectangle", "a", x=50, y=0, width=100 * 4 / 6, height=50, rotation=90)
    assert read(tmp_path, rectangle) == [[0, 1, 1, 0, 0, 0]] * 4


def test_a_bitmask_is_a_png_of_the_whole_image(tmp_path: Path) -> None:
    def link(width: int) -> str:
        pixels = np.zeros((4, width, 4), np.uint8)
        pixels[0] = 255
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

    assert read(tmp_path, region("bitmask", "a", imageDataURL=link(6))) == [[1] * 6] + [[0] * 6] * 3
    with pytest.raises(InputError, match="its bitmap is of 5x4, and its image of 6x4"):
        read(tmp_path, region("bitmask", "a", imageDataURL=link(5)))


def test_a_label_and_a_choice_about_the_same_region_are_one_object(tmp_path: Path) -> None:
    bare = region("polygon", None, points=SQUARE)
    named = {**region("", "a", points=SQUARE), "type": "labels"}
    choice = {**region("polygon", None, points=SQUARE, choices=["sure"]), "type": "choices"}
    assert read(tmp_path, bare, named, choice)[0] == [1, 1, 1, 0, 0, 0]
    assert not any("left out" in note for note in open_dataset(tmp_path).notes)
    assert read(tmp_path, {**named, "id": [1]}, {**bare, "id": [1]})[0] == [1, 1, 1, 0, 0, 0]


def test_of_several_annotations_the_ground_truth_is_read_otherwise_the_latest(tmp_path: Path) -> None:
    new = {"updated_at": "2024-06-01T00:00:00.000000Z"}
    by_label = {name: annotation(region("polygon", name, points=SQUARE)) for name in "abc"}
    cancelled = annotation(region("polygon", "d", points=SQUARE), was_cancelled=True, ground_truth=True, **new)
    tasks = [
        task(0, {**by_label["a"], **new}, by_label["b"], cancelled),
        task(1, {**by_label["a"], **new}, {**by_label["c"], "ground_truth": True}),
        task(2),
        task(3, cancelled),
    ]
    data = open_dataset(project(tmp_path, *tasks))
    assert data.classes.names == ("background", "a", "c")
    assert {p.name: p.read_label()[0, 0] for s in data.splits for p in data.samples(s)} == {
        "0a1b2c30-p0": 1,
        "0a1b2c31-p1": 2,
    }
    for said in (
        "2 tasks without an annotation left out",
        "2 cancelled annotations not read",
        "2 tasks with several annotations: the one marked as ground truth is read, otherwise the one updated last",
    ):
        assert any(said in note for note in data.notes), said


def test_an_annotation_without_regions_is_background_and_said(tmp_path: Path) -> None:
    assert read(tmp_path, region("polygon", "a", points=SQUARE))[0] == [1, 1, 1, 0, 0, 0]
    data = open_dataset(tmp_path)
    assert sum(len(data.samples(split)) for split in data.splits) == 2
    assert any("1 image without objects, read as all background" in note for note in data.notes)


def test_json_min_is_read_as_json(tmp_path: Path) -> None:
    entries = []
    for i, updated in ((0, "2024-05-01"), (0, "2024-06-01"), (1, "2024-05-01")):
        value = {"points": SQUARE, "closed": True, "polygonlabels": ["new" if "06" in updated else "old"]}
        entry = {**value, "type": "PolygonLabels", "original_width": 6, "original_height": 4}
        entries.append(
            {
                "image": f"/data/upload/1/0a1b2c3{i}-p{i}.jpg",
                "id": i,
                "label": [entry],
                "quality": "good",
                "annotator": 1,
                "annotation_id": i,
                "created_at": f"{updated}T00:00:00Z",
                "updated_at": f"{updated}T00:00:00Z",
                "lead_time": 1.0,
            }
        )
    data = open_dataset(project(tmp_path, *entries))
    assert (data.format, data.classes.names) == ("label_studio", ("background", "new", "old"))
    found = {p.name: p.read_label()[0].tolist() for s in data.splits for p in data.samples(s)}
    assert found == {"0a1b2c30-p0": [1, 1, 1, 0, 0, 0], "0a1b2c31-p1": [2, 2, 2, 0, 0, 0]}
    assert any("1 task with several annotations" in note for note in data.notes)


@pytest.mark.parametrize(
    ("link", "file"),
    [
        ("/data/upload/1/{}", "images/0a1b2c30-p0.jpg"),
        ("/data/upload/1/{}", "images/p0.jpg"),  # the original, without the prefix
        ("/data/upload/1/{}", "0a1b2c30-p0.jpg"),
        ("/data/local-files/?d=street%2F{}", "deep/street/0a1b2c30-p0.jpg"),
        ("s3://bucket/street/{}", "images/0a1b2c30-p0.jpg"),
        ("https://example.org/a/{}?X-Amz-Expires=3600", "images/0a1b2c30-p0.jpg"),
        ("/image2", "images/0a1b2c30-p0.jpg"),  # the name is that of file_upload
    ],
)
def test_images_are_found_by_what_their_links_say(link: str, file: str, tmp_path: Path) -> None:
    image(tmp_path / file)
    image(tmp_path / "more" / "0a1b2c31-p1.jpg")
    tasks = [task(0, annotation(region("polygon", "a", points=SQUARE)), link=link), task(1, annotation())]
    text(tmp_path / "p.json", json.dumps(tasks))
    data = open_dataset(tmp_path)
    images = {p.image for split in data.splits for p in data.samples(split)}
    assert images == {tmp_path / file, tmp_path / "more" / "0a1b2c31-p1.jpg"}


def test_a_missing_image_is_listed_by_check(tmp_path: Path) -> None:
    root = project(tmp_path, task(0, annotation(region("polygon", "a", points=SQUARE))), task(5, annotation()))
    assert any(
        "Label Studio JSON: found no image '/data/upload/1/0a1b2c35-p5.jpg'" in f.text for f in check(root).errors
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (region("keypoint", "a", x=1, y=1, width=0.5), "task 0: region r0: has no area.*objects_without_mask"),
        (region("polygon", "a", points=SQUARE, closed=False), "region r0: has no area"),
        (region("vector", "a", vertices=[], closed=True), "region r0: has no area"),
        (region("polygon", None, points=SQUARE), "region r0: has no label"),
    ],
)
def test_regions_without_area_or_label_are_an_error_or_left_out(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    square = region("polygon", "a", number=1, points=SQUARE)
    with pytest.raises(InputError, match=said):
        read(tmp_path, square, changed)
    text(tmp_path / "classes.toml", 'objects_without_mask = "skip"\n')
    assert read(tmp_path, square, changed)[0] == [1, 1, 1, 0, 0, 0]
    assert any("1 object without a mask left out" in note for note in open_dataset(tmp_path).notes)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"image_rotation": 90}, "its image is turned by 90 degrees in Label Studio"),
        ({"item_index": 1}, "is of image 1 of a task of several"),
        ({"original_width": None}, "original_height, original_width holds"),
        ({"original_width": 7}, "found a label of 7x4; expected 6x4"),
        ({"value": {"points": SQUARE, "polygonlabels": ["a", "b"]}}, "has the labels a, b. Give each region one"),
        ({"value": {"points": SQUARE[:2], "polygonlabels": ["a"]}}, "cannot draw a polygon"),
        ({"value": {"points": [[0, "x"]] * 3, "polygonlabels": ["a"]}}, "cannot draw a polygon"),
        ({"value": {"points": None, "polygonlabels": ["a"]}}, "cannot draw a polygon"),
        ({"value": {"rle": "aab", "brushlabels": ["a"]}}, "its rle is 'aab'"),
        ({"value": {"rle": [1, 300], "brushlabels": ["a"]}}, "numbers that are no bytes"),
        (
            {"value": {"rle": [*encode_packed_runs(np.ones((4, 5), bool))], "brushlabels": ["a"]}},
            "its brush mask has 80 values, .* 96",
        ),
        (
            {"value": {"rle": [*encode_packed_runs(np.eye(4, 6) > 0)][:-6], "brushlabels": ["a"]}},
            "its brush mask ends too early",
        ),
        ({"value": {"rle": [], "brushlabels": ["a"]}}, "its brush mask has 0 values"),
        ({"value": {"imageDataURL": "data:image/png;base64,AAAA", "bitmasklabels": ["a"]}}, "is not base64 of a PNG"),
        ({"value": {"x": 0, "y": 0, "width": 5, "height": "?", "rectanglelabels": ["a"]}}, r"height is '\?'"),
        ({"value": {"x": 0, "y": 0, "radiusX": 0, "radiusY": 5, "ellipselabels": ["a"]}}, "radiusX and radiusY are"),
        ({"value": [1]}, "result 0 is"),
    ],
)
def test_regions_that_cannot_be_read_exactly_are_errors(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, {**region("polygon", "a", points=SQUARE), **changed})


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([{**task(0), "annotations": 3}], "task 0: its annotations are 3"),
        ([task(0, {"result": None})], "task 0: lacks its data, or its annotation a result"),
        ([task(0, annotation(), data={"text": "a"}, file_upload=None)], "its data name no image"),
        ([task(0, annotation(), data={"a": "1.jpg", "b": "2.jpg"})], "its data name several images: a, b"),
        ([7], "is not a list of tasks"),
    ],
)
def test_tasks_that_cannot_be_read_are_errors(tasks: list[Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        open_dataset(project(tmp_path, task(1, annotation(region("polygon", "a", points=SQUARE))), *tasks))


def test_two_exports_in_one_folder_are_an_error(tmp_path: Path) -> None:
    root = project(tmp_path, task(0, annotation(region("polygon", "a", points=SQUARE))))
    text(root / "project-1-at-2024-06-01.json", (root / "project-1-at-2024-05-01-10-00-0a1b2c3d.json").read_text())
    with pytest.raises(InputError, match=r"06-01\.json: is a second export of Label Studio JSON, beside project-1-at"):
        open_dataset(root)


def test_the_labels_are_the_same_in_a_worker(tmp_path: Path) -> None:
    root = project(tmp_path, *(task(i, annotation(region("polygon", "a", points=SQUARE))) for i in range(2)))
    data = open_dataset(root)
    assert [labels(data, split) for split in data.splits] == [[[[1, 1, 1, 0, 0, 0]] * 2 + [[0] * 6] * 2]] * 2
