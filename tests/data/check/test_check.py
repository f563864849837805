"""What `check` finds, one wrong thing at a time, in folders that are otherwise whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dilated.data.check.check import CheckReport, check
from dilated.data.formats import FORMATS
from dilated.data.formats.camvid import CamVid701
from dilated.data.formats.cityscapes import Cityscapes
from dilated.data.formats.voc import VOC
from dilated.errors import InputError


def found(report: CheckReport) -> list[tuple[str, str]]:
    return [(f.severity, f.kind) for f in report.findings]


def sample(stem: str, ids: list[list[int]]) -> tuple[str, np.ndarray, np.ndarray]:
    labels = np.array(ids, np.uint8)
    return stem, np.zeros((*labels.shape, 3), np.uint8), labels


def whole(root: Path) -> Path:
    """CamVid in miniature: every class in train, one pixel of each, and one ignored."""
    every = [[*range(11), 255]]
    CamVid701.save(root, "train", [sample("0001TP_006690", every), sample("0001TP_006720", every)])
    CamVid701.save(root, "val", [sample("0016E5_07959", [[0, 0, 255, 255]])])
    return root


def test_a_report_prints_its_splits_classes_and_findings(folder: Path) -> None:
    report = check(folder)
    assert repr(report) == f"<CheckReport {folder}: folders, 8 images, 0 errors, 0 warnings>"
    lines = str(report).splitlines()
    assert lines[:3] == [f"{folder}: folders", "train: 6 images", "val: 2 images"]
    assert [line.split(":")[0] for line in lines[3:6]] == ["field", "disc", "bar"]
    assert lines[-1] == "Nothing wrong found."
    (folder / "images" / "train" / "p1.png").write_bytes(b"")
    assert f"error: unreadable image: {folder}/images/train/p1.png" in str(check(folder))


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such folder"):
        check(tmp_path / "none")


def test_no_such_format_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"format: 'camvid32' is not a known format\. Did you mean camvid"):
        check(tmp_path, "camvid32")


def test_a_whole_folder_is_counted_and_has_no_error(folder: Path) -> None:
    report = check(folder)
    assert (report.format, report.classes and report.classes.names) == ("folders", ("field", "disc", "bar"))
    assert report.findings == []
    sizes = {split: (c.images, c.labeled_pixels, c.ignored) for split, c in report.splits.items()}
    assert sizes == {"train": (6, 6 * (40 * 56 - 9), 54), "val": (2, 2 * (40 * 56 - 9), 18)}
    train, val = report.splits["train"].pixels, report.splits["val"].pixels
    assert report.total.pixels == tuple(a + b for a, b in zip(train, val, strict=True))
    assert (report.total.images, report.total.ignored) == (8, 72)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.sampled_from([*range(19), 255]), min_size=1, max_size=9), min_size=1, max_size=4))
def test_pixels_are_counted_exactly(tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]]) -> None:
    root = tmp_path_factory.mktemp("counts")
    Cityscapes.save(root, "train", [sample(f"ulm_00000{i}_000019", [row]) for i, row in enumerate(rows)])
    flat = [value for row in rows for value in row]
    counts = check(root, workers=2).splits["train"]
    assert counts.pixels == tuple(flat.count(i) for i in range(19))
    assert counts.ignored == flat.count(255)
    assert counts.ignored_fraction == flat.count(255) / len(flat)


def test_progress_reaches_the_number_of_pairs(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    check(folder, workers=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 8) for i in range(1, 9)]


def test_a_mini_camvid_only_lacks_images(tmp_path: Path) -> None:
    report = check(whole(tmp_path))
    assert [f.text for f in report.findings] == [
        "train: found 2 images with labels; the published split has 367",
        "val: found 1 images with labels; the published split has 101",
        "val: no pixel is 'Building', 'Pole', 'Road', 'Sidewalk', 'Tree', 'Sign', 'Fence', 'Car' and 2 more, so no IoU "
        "can be measured of it",
    ]
    assert not report.errors
    assert report.total.images == 3
    assert report.source == CamVid701.source


@pytest.mark.parametrize(
    ("kind", "file", "content"),
    [
        ("unreadable image", "images/train/p1.png", b"no image"),
        ("unreadable image", "images/train/p1.png", b""),
        ("unreadable image", "images/val/p1.png", None),
        ("unreadable label", "labels/train/p1.png", b"no image"),
        ("unreadable label", "labels/val/p1.png", None),
    ],
)
def test_a_damaged_file_is_found_and_the_rest_is_counted(
    kind: str, file: str, content: bytes | None, folder: Path
) -> None:
    path = folder / file
    path.write_bytes(path.read_bytes()[:-60] if content is None else content)  # None: truncated
    report = check(folder)
    assert found(report) == [("error", kind)]
    assert report.findings[0].text.startswith(f"{path}: ")
    assert report.total.labeled_pixels == 7 * (40 * 56 - 9)
    assert report.total.images == 8


def test_a_decoder_that_fails_in_its_own_way_is_a_finding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise MemoryError("too large")

    monkeypatch.setattr("dilated.data.sample.Sample.read_image", lambda sample: fail(sample.image))
    report = check(folder)
    assert found(report) == [("error", "unreadable image")] * 8
    assert report.findings[0].text == f"{folder}/images/train/p0.png: cannot be read (MemoryError: too large)"


def test_a_label_of_another_size_is_found(folder: Path) -> None:
    Image.new("L", (12, 10)).save(folder / "labels" / "train" / "p3.png")
    report = check(folder)
    assert found(report) == [("error", "label of another size")]
    assert "p3.png: found a label of 12x10; expected 56x40" in report.findings[0].text


def test_a_value_outside_the_classes_is_found_in_every_file(folder: Path) -> None:
    for name in ("p1", "p4"):
        Image.new("L", (56, 40), 77).save(folder / "labels" / "train" / f"{name}.png")
    report = check(folder)
    assert found(report) == [("error", "unknown label value")] * 2
    assert "p4.png: found the value 77 at x=0, y=0 (2240 such pixels)" in report.findings[1].text


def test_all_that_is_missing_is_listed(folder: Path) -> None:
    for file in ("labels/train/p1.png", "labels/train/p2.png", "images/train/p3.png", "labels/val/p0.png"):
        (folder / file).unlink()
    report = check(folder)
    assert found(report) == [("error", "missing file")] * 4
    assert [f.text.split(":")[0].removeprefix(f"{folder}/") for f in report.findings] == [
        "images/train/p1.png",
        "images/train/p2.png",
        "labels/train/p3.png",
        "images/val/p0.png",
    ]
    assert report.total.images == 4


def test_a_missing_folder_of_labels_is_found(folder: Path) -> None:
    (folder / "labels" / "val").rename(folder / "elsewhere")
    report = check(folder)
    assert found(report) == [("error", "missing file")]
    assert "labels/val: no such folder; expected the labels of" in report.findings[0].text


def test_a_missing_split_is_found(folder: Path) -> None:
    (folder / "images" / "val").rename(folder / "elsewhere")
    report = check(folder)
    assert [f.kind for f in report.errors] == ["split"]
    assert "val" in report.errors[0].text


def test_an_empty_split_is_found(folder: Path) -> None:
    for kind in ("images", "labels"):
        for path in (folder / kind / "val").iterdir():
            path.unlink()
    report = check(folder)
    assert [(f.kind, f.text) for f in report.errors] == [
        ("split", "val: is empty; expected at least one image with a label")
    ]


def test_a_class_that_train_lacks_is_a_warning(folder: Path) -> None:
    for path in (folder / "labels" / "train").iterdir():
        label = np.array(Image.open(path))
        label[label == 1] = 0
        Image.fromarray(label).save(path)
    report = check(folder)
    assert [(f.severity, f.text) for f in report.findings] == [
        ("warning", "train: no pixel is 'disc', so it cannot be learnt")
    ]


def test_a_split_without_labels_is_an_error_where_training_needs_it(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        Cityscapes.save(tmp_path, split, [sample("ulm_000000_000019", [[255, 255]])])
    report = check(tmp_path)
    nothing = [(f.severity, f.text) for f in report.findings if f.kind == "nothing labelled"]
    assert nothing[:2] == [("error", "train: every pixel is ignored."), ("error", "val: every pixel is ignored.")]
    severity, text = nothing[2]
    assert severity == "warning"
    assert text.startswith("test: every pixel is ignored. The public labels of test are dummies")


def test_what_is_wrong_in_test_is_a_warning(tmp_path: Path) -> None:
    whole(tmp_path)
    CamVid701.save(tmp_path, "test", [sample("Seq05VD_f00000", [[0]]), sample("Seq05VD_f00030", [[0]])])
    (tmp_path / "701_StillsRaw_full" / "Seq05VD_f00000.png").write_bytes(b"x")
    (tmp_path / "LabeledApproved_full" / "Seq05VD_f00030_L.png").unlink()
    report = check(tmp_path)
    assert report.errors == []
    assert {f.kind for f in report.findings} == {
        "missing file",
        "unreadable image",
        "number of images",
        "absent class",
    }


def test_a_pair_in_two_splits_is_read_once(tmp_path: Path) -> None:
    for split in ("train", "val", "trainval"):
        VOC.save(tmp_path, split, [sample("a", [[0, 15]])])
    (tmp_path / "VOCdevkit" / "VOC2012" / "JPEGImages" / "a.jpg").write_bytes(b"x")
    report = check(tmp_path)
    assert [c.images for c in report.splits.values()] == [1, 1, 1]
    assert report.total.images == 1
    assert found(report) == [("error", "unreadable image"), ("error", "same image in two splits")]


def test_a_missing_list_of_classes_is_an_error_that_shows_how_it_starts(folder: Path) -> None:
    (folder / "classes.toml").unlink()
    report = check(folder)
    assert report.classes is None
    assert found(report) == [("error", "classes")]
    assert "The first labels hold [0, 1, 2, 9]" in report.findings[0].text
    assert {split: c.images for split, c in report.splits.items()} == {"train": 6, "val": 2}


def test_a_missing_list_of_classes_is_found_beside_missing_files(folder: Path) -> None:
    (folder / "classes.toml").unlink()
    (folder / "labels" / "val" / "p1.png").unlink()
    report = check(folder)
    assert found(report) == [("error", "missing file"), ("error", "classes")]
    assert report.findings[1].text.startswith(f"{folder}/classes.toml: no such file")
    assert report.splits["val"].images == 1


def test_a_broken_list_of_classes_is_found(folder: Path) -> None:
    (folder / "classes.toml").write_text("[[class]]\nname = 'a'\n")
    report = check(folder)
    assert found(report) == [("error", "classes")]
    assert "class 1: the key 'color' is missing" in report.findings[0].text


def test_a_folder_of_no_layout_says_what_was_found_and_what_lies_below(tmp_path: Path) -> None:
    whole(tmp_path / "deep" / "camvid")
    (tmp_path / "deep" / "notes.txt").touch()
    report = check(tmp_path / "deep")
    assert (report.format, found(report)) == (None, [("error", "layout")])
    assert report.findings[0].text == f"{tmp_path}/deep: holds no known layout of data; found camvid, notes.txt"
    assert report.findings[0].hint == f"did you mean {tmp_path}/deep/camvid, which is camvid701?"


@pytest.mark.parametrize("name", list(FORMATS))
def test_an_empty_folder_lacks_everything_of_any_format(name: str, tmp_path: Path) -> None:
    report = check(tmp_path, name)
    assert report.format == name
    assert report.splits == {}
    assert {f.kind for f in report.errors} == {"split", "layout"}
    assert ">>>" not in report.errors[-1].text
    if name in ("camvid701", "kitti", "kitti2018", "cityscapes"):
        assert "no such folder" in report.errors[0].text


def test_a_link_that_leads_to_itself_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "instances_train.json"
    path.symlink_to(path)
    (tmp_path / "annotations" / "instances_val.json").write_text('{"images": [], "annotations": [], "categories": []}')
    assert ("error", "classes") in found(check(tmp_path)) or ("error", "layout") in found(check(tmp_path))
