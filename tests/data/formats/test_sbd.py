import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dilated.data.dataset import open_dataset
from dilated.data.formats import voc
from dilated.data.formats.voc import SBD
from dilated.errors import InputError

LABEL = np.array([[0, 15, 15], [20, 0, 1]], dtype=np.uint8)
IMAGE = np.full((2, 3, 3), 90, dtype=np.uint8)


def write_mat(path: Path, segmentation: object = LABEL, name: str = "GTcls", field: str = "Segmentation") -> None:
    """A label with all that SBD's have: a cell of sparse boundaries, the segmentation, the list of classes."""
    boundaries = np.empty((20, 1), dtype=object)
    for i in range(20):
        boundaries[i, 0] = scipy.sparse.csc_matrix(np.eye(2, 3))
    present = np.array([[1], [15], [20]], dtype=np.uint8)
    struct = {"Boundaries": boundaries, field: segmentation, "CategoriesPresent": present}
    scipy.io.savemat(path, {name: struct}, do_compression=True)


def release(root: Path, **lists: list[str]) -> Path:
    """The release with tiny images, made without the module under test."""
    folder = root / "benchmark_RELEASE" / "dataset"
    for name in ("img", "cls", "inst"):
        (folder / name).mkdir(parents=True)
    for split, stems in lists.items():
        for stem in stems:
            Image.fromarray(IMAGE).save(folder / "img" / f"{stem}.jpg")
            write_mat(folder / "cls" / f"{stem}.mat")
        (folder / f"{split}.txt").write_text("\n".join(stems))
    return root


@pytest.mark.parametrize("below", ["", "benchmark_RELEASE", "benchmark_RELEASE/dataset"])
def test_the_data_folder_is_any_of_three(below: str, tmp_path: Path) -> None:
    data = open_dataset(release(tmp_path, train=["2008_000002", "2008_000007"], val=["2008_000003"]) / below)
    assert (data.format, data.splits, data.classes.names[15]) == ("sbd", ("train", "val"), "person")
    pairs = data.samples("train")
    assert [(p.image.name, p.label.name) for p in pairs] == [
        ("2008_000002.jpg", "2008_000002.mat"),
        ("2008_000007.jpg", "2008_000007.mat"),
    ]
    assert np.array_equal(pairs[1].read_label((2, 3)), LABEL)


def test_pairs_can_be_sent_to_workers(tmp_path: Path) -> None:
    pair = pickle.loads(pickle.dumps(SBD(release(tmp_path, train=["a"])).samples("train")[0]))
    assert np.array_equal(pair.read_label(), LABEL)


def test_png_labels_are_read_wherever_they_are_and_go_first_in_their_own_folder(tmp_path: Path) -> None:
    folder = release(tmp_path, train=["a", "b", "c"]) / "benchmark_RELEASE/dataset"
    (folder / "cls_png").mkdir()
    Image.fromarray(np.full((2, 3), 3, np.uint8)).save(folder / "cls_png/b.png")
    Image.fromarray(np.full((2, 3), 4, np.uint8)).save(folder / "cls/a.png")
    Image.fromarray(np.full((2, 3), 5, np.uint8)).save(folder / "cls/c.png")
    (folder / "cls/c.mat").unlink()
    pairs = SBD(tmp_path).samples("train")
    assert [p.label.relative_to(folder).as_posix() for p in pairs] == ["cls/a.mat", "cls_png/b.png", "cls/c.png"]
    assert [p.read_label()[0, 1] for p in pairs] == [15, 3, 5]


def test_png_labels_alone_are_enough(tmp_path: Path) -> None:
    for name in ("img", "cls_png"):
        (tmp_path / name).mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "img/a.jpg")
    Image.fromarray(LABEL).save(tmp_path / "cls_png/a.png")
    (tmp_path / "val.txt").write_text("a\n")
    assert [p.label.name for p in open_dataset(tmp_path).samples("val")] == ["a.png"]


def test_a_missing_release_is_an_error_that_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"benchmark_RELEASE/dataset/train\.txt: no such list.* Get the list from http://home\.bharathh",
    ):
        SBD(tmp_path).samples("train")


def test_a_missing_list_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset/val\.txt: no such list.* http://home\.bharathh"):
        SBD(release(tmp_path, train=["a"])).samples("val")


@pytest.mark.parametrize(("folder", "suffix"), [("img", "jpg"), ("cls", "mat")])
def test_missing_files_are_an_error_with_the_first_and_how_many(folder: str, suffix: str, tmp_path: Path) -> None:
    place = release(tmp_path, train=["a", "b", "c"]) / "benchmark_RELEASE/dataset" / folder
    for stem in ("b", "c"):
        (place / f"{stem}.{suffix}").unlink()
    with pytest.raises(InputError, match=rf"{folder}/b\.{suffix}: no such file; 2 of the 3 .*http://home\.bharathh"):
        SBD(tmp_path).samples("train")
    (place / f"a.{suffix}").unlink()
    place.rmdir()
    with pytest.raises(InputError, match=rf"{folder}: no such folder; 3 of the 3"):
        SBD(tmp_path).samples("train")


@pytest.mark.parametrize(
    ("content", "named"), [(b"\x80abc", "byte 0 is not UTF-8 text"), (b"img/a.jpg cls/a.mat", "line 1: found")]
)
def test_a_damaged_list_is_an_error_that_names_it(content: bytes, named: str, tmp_path: Path) -> None:
    (release(tmp_path, train=["a"]) / "benchmark_RELEASE/dataset/train.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"train\.txt.*{named}"):
        SBD(tmp_path).samples("train")


@pytest.mark.parametrize(
    ("segmentation", "name", "field", "named"),
    [
        (LABEL, "GTinst", "Segmentation", "has no GTcls.Segmentation"),
        (LABEL, "GTcls", "Segments", "has no GTcls.Segmentation"),
        (LABEL.astype(np.float64), "GTcls", "Segmentation", r"found float64 \(2, 3\)\. Give integers"),
        (np.zeros((2, 3, 4), np.uint8), "GTcls", "Segmentation", r"found uint8 \(2, 3, 4\)"),
        ("text", "GTcls", "Segmentation", "Give integers"),
    ],
)
def test_a_label_that_holds_something_else_is_an_error(
    segmentation: object, name: str, field: str, named: str, tmp_path: Path
) -> None:
    write_mat(tmp_path / "a.mat", segmentation, name, field)
    with pytest.raises(InputError, match=rf"a\.mat.*{named}"):
        voc.read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("content", [b"", b"GTcls", b"\x89PNG\r\n\x1a\n" + b"\0" * 300, b"MATLAB 7.3 MAT-file" * 40])
def test_a_label_that_is_no_matlab_file_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mat: has no GTcls\.Segmentation that can be read"):
        voc.read_mat(tmp_path / "a.mat")


def test_a_label_that_is_missing_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.mat: no such file"):
        voc.read_mat(tmp_path / "a.mat")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_cut_or_altered_label_is_read_or_an_error_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    write_mat(path)
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(whole))
    try:
        values = voc.read_mat(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert np.array_equal(values, LABEL)


def test_without_scipy_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = SBD(release(tmp_path, train=["a"])).samples("train")[0]
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(InputError, match=r"pip install 'dilated\[formats\]'"):
        pair.read_label()


@pytest.mark.parametrize(
    "folders", [["images", "labels"], ["train", "trainannot"], ["VOCdevkit/VOC2012"], ["img"], ["cls"], ["dataset"]]
)
def test_other_layouts_are_not_mistaken_for_it(folders: list[str], tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert not SBD(tmp_path).detect()


@pytest.mark.parametrize("split", voc._SBD_SPLITS)
def test_what_is_saved_is_read_back(split: str, tmp_path: Path) -> None:
    other = np.array([[255] * 3, [0] * 3], dtype=np.uint8)
    SBD.save(tmp_path, split, iter([("b", IMAGE, LABEL), ("a", IMAGE, other)]))
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("sbd", (split,))
    assert [p.name for p in data.samples(split)] == ["b", "a"]
    for pair, ids in zip(data.samples(split), (LABEL, other), strict=True):
        assert np.array_equal(pair.read_label((2, 3)), ids)


def test_a_saved_label_has_the_fields_of_the_release(tmp_path: Path) -> None:
    SBD.save(tmp_path, "train", [("a", IMAGE, LABEL)])
    struct = scipy.io.loadmat(tmp_path / "benchmark_RELEASE/dataset/cls/a.mat")["GTcls"][0, 0]
    assert struct["Segmentation"].dtype == np.uint8
    assert struct["CategoriesPresent"].tolist() == [[1], [15], [20]]


def test_a_label_that_another_would_hide_is_not_saved(tmp_path: Path) -> None:
    (release(tmp_path, train=["a"]) / "benchmark_RELEASE/dataset/cls_png").mkdir()
    Image.fromarray(LABEL).save(tmp_path / "benchmark_RELEASE/dataset/cls_png/a.png")
    with pytest.raises(InputError, match=r"cls_png/a\.png: found a label that goes before"):
        SBD.save(tmp_path, "train", [("a", IMAGE, LABEL)])


def test_an_unknown_split_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found the split 'test'\. Give one of train, val"):
        SBD.save(tmp_path, "test", [])
