"""The figures of a data set."""

from __future__ import annotations

import json
import os
from pathlib import Path

import healthy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dilated.data.check import scan
from dilated.data.check.check import check
from dilated.data.statistics import ComponentSizes, ImageSizes


def test_of_nothing_there_are_no_figures() -> None:
    assert ImageSizes.from_counts({}) is None
    assert ComponentSizes.from_areas([]) is None


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=30))
def test_sizes_are_those_of_images_in_order_of_area(sizes: list[tuple[int, int]]) -> None:
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    found = ImageSizes.from_counts({size: sizes.count(size) for size in sizes})
    assert found == ImageSizes(ordered[0], ordered[(len(sizes) - 1) // 2], ordered[-1], len(set(sizes)))


def test_objects_are_measured_by_class(tmp_path: Path) -> None:
    def squares(seed: int) -> tuple[np.ndarray, np.ndarray]:
        label = np.zeros((64, 64), np.uint8)
        for row in (4, 20, 40):
            label[row : row + 8, 8:16] = 1
        return healthy.street(seed)[0][:64, :64], label

    root = healthy.save(tmp_path, healthy.CELLS, map(squares, range(4)))
    train = check(root).splits["train"]
    assert train.components[1] == ComponentSizes(9, 8.0, 8.0, 8.0, 8.0)
    assert train.components[0] is not None
    assert train.components[0].median == pytest.approx((64 * 64 - 192) ** 0.5, abs=0.01)


def test_large_labels_are_thinned_out_and_keep_their_scale(tmp_path: Path) -> None:
    label = np.zeros((1000, 1000), np.uint8)
    label[100:300, 100:300] = 1
    image = np.repeat(np.repeat(healthy.cells(0)[0], 16, 0), 16, 1)[:1000, :1000]
    root = healthy.save(tmp_path, healthy.CELLS, [(image, label), (255 - image, label)])
    found = check(root).splits["train"].components[1]
    assert found is not None
    assert found.median == pytest.approx(200, rel=0.01)


def test_only_some_labels_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scan._MAX_MEASURED_LABELS == 200
    monkeypatch.setattr(scan, "_MAX_MEASURED_LABELS", 2)
    train = check(healthy.streets(tmp_path)).splits["train"]
    assert (train.measured_labels, train.labels_read) == (2, 6)


def test_shares_modes_and_formats(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    images = root / "images" / "train"
    Image.open(images / "s0.png").convert("RGBA").save(images / "s0.png")
    Image.open(images / "s1.png").convert("L").save(images / "s1.png")
    gray = np.asarray(Image.open(images / "s2.png").convert("L")).astype(np.uint16) * 257
    Image.fromarray(gray).save(images / "s2.png")
    Image.open(images / "s4.png").save(images / "s4.jpg")
    (images / "s4.png").unlink()
    report = check(root)
    train = report.splits["train"]
    assert train.modes == {"RGB": 3, "RGBA": 1, "L": 1, "1 band of uint16": 1}
    assert train.formats == {"PNG": 5, "JPEG": 1}
    assert (train.label_formats, train.label_modes) == ({"PNG": 6}, {"L": 6})
    assert train.sizes == ImageSizes((72, 96), (72, 96), (72, 96), 1)
    assert sum(train.class_fractions) == pytest.approx(1)
    assert train.ignored_fraction == 10 / (72 * 96)
    assert train.images_with_class[3] == 6
    assert report.total.images == 8


def test_a_report_is_plain_values(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    (root / "images" / "train" / "s0.png").write_bytes(b"")
    table = json.loads(json.dumps(check(root).to_dict()))
    assert (table["format"], table["errors"], table["warnings"]) == ("folders", 1, 0)
    assert table["findings"][0]["kind"] == "unreadable image"
    assert table["statistics"]["splits"]["train"]["sizes"]["median"] == [72, 96]


def test_what_is_no_file_at_all_is_a_finding(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    images = root / "images" / "train"
    for name in ("s0", "s1", "s2"):
        (images / f"{name}.png").unlink()
    (images / "s0.png").mkdir()
    (images / "s1.png").symlink_to("s1.png")
    (images / "s2.png").symlink_to("nowhere.png")
    report = check(root)
    assert {f.kind for f in report.errors} == {"unreadable image"}
    assert ["folder" in report.errors[0].text, "symbolic links" in report.errors[1].text] == [True, True]
    assert "no such file" in report.errors[2].text


@pytest.mark.parametrize("name", ["a b", "ключ 鍵 🔑", "line\nbreak", "<b>&", "[red]"])
def test_any_name_is_a_name(tmp_path: Path, name: str) -> None:
    root = healthy.streets(tmp_path)
    for kind in ("images", "labels"):
        folder = root / kind / "train"
        (folder / "s0.png").rename(folder / f"{name}.png")
    assert check(root).findings == []
    (root / "images" / "train" / f"{name}.png").write_bytes(b"x")
    assert name in check(root).findings[0].text


def test_an_image_of_absurd_size_is_a_finding(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    (root / "images" / "train" / "s0.png").unlink()
    header = b"BM" + (54).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    header += (60000).to_bytes(4, "little") * 2 + (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24)
    (root / "images" / "train" / "s0.bmp").write_bytes(header)
    report = check(root)
    assert [f.kind for f in report.findings] == ["unreadable image"]
    assert "60000" in report.findings[0].text or "pixels" in report.findings[0].text


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_finding(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    path = root / "images" / "train" / "s0.png"
    path.chmod(0)
    assert "permission denied" in check(root).findings[0].text


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["images", "labels"]), st.sampled_from(["png", "jpg"]), st.data())
def test_damage_anywhere_in_a_file_is_never_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, kind: str, suffix: str, data: st.DataObject
) -> None:
    root = healthy.streets(tmp_path_factory.mktemp("damage"), 4)
    path = root / kind / "train" / "s0.png"
    image = Image.open(path).copy()
    path.unlink()
    path = path.with_suffix(f".{suffix}")
    image.save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    report = check(root, workers=1)
    assert report.total.images == 4
    assert all(str(root) in finding.text or ": " in finding.text for finding in report.findings)


def test_arrays_and_raw_images_beside_the_images_are_counted(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    assert not any("beside the images" in note for note in check(root).notes)
    folder = next(root.rglob("*.png")).parent
    (folder / "zz.npz").write_bytes(b"x")
    (folder / "zy.NEF").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    notes = [note for note in check(root).notes if "2 files beside the images are not read, such as" in note]
    assert len(notes) == 1
    assert "zy.NEF" in notes[0]
