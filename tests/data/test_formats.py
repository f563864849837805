from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated.data.dataset import open_dataset
from dilated.data.formats._match import match_labels
from dilated.data.sample import Sample
from dilated.errors import InputError

TOML = '[[class]]\nname = "sky"\ncolor = [0, 0, 255]\n[[class]]\nname = "road"\ncolor = [128, 64, 128]\n'


def tree(root: Path, *files: str, toml: str | None = TOML) -> Path:
    """A data folder of tiny images, all of the label value 1."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3), 1).save(path)
    if toml is not None:
        (root / "classes.toml").write_text(toml)
    return root


def names(pairs: list[Sample], root: Path) -> list[tuple[str, str]]:
    return [(p.image.relative_to(root).as_posix(), p.label.relative_to(root).as_posix()) for p in pairs]


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such folder"):
        open_dataset(tmp_path / "none")


@pytest.mark.parametrize("files", [[], ["photos/a.png"]])
def test_an_unknown_layout_is_an_error_that_says_what_was_found(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"found {'photos' if files else 'nothing'}. Expected images/ and labels/"):
        open_dataset(tree(tmp_path, *files, toml=None))


def test_splits_may_be_folders_inside(tmp_path: Path) -> None:
    files = ["images/train/b.jpg", "images/train/a.png", "labels/train/a.png", "labels/train/b.png"]
    data = open_dataset(tree(tmp_path, *files, "images/val/c.png", "labels/val/c.png"))
    assert data.splits == ("train", "val")
    assert names(data.samples("train"), tmp_path) == [
        ("images/train/a.png", "labels/train/a.png"),
        ("images/train/b.jpg", "labels/train/b.png"),
    ]
    assert [p.name for p in data.samples("val")] == ["c"]


def test_splits_may_be_folders_outside(tmp_path: Path) -> None:
    data = open_dataset(
        tree(tmp_path, "train/images/a.png", "train/labels/a.png", "test/images/b.png", "test/labels/b.png")
    )
    assert data.splits == ("train", "test")
    assert names(data.samples("train"), tmp_path) == [("train/images/a.png", "train/labels/a.png")]


def test_splits_may_be_lists_of_stems_names_or_paths(tmp_path: Path) -> None:
    tree(tmp_path, "images/a.png", "images/b.jpg", "images/c.d.png", "labels/a.png", "labels/b.png", "labels/c.d.png")
    tree(tmp_path, "elsewhere/e.png", "elsewhere/f.png")
    (tmp_path / "train.txt").write_text("b\n\na.png\nc.d\nc.d.png\nelsewhere/e.png elsewhere/f.png\n")
    data = open_dataset(tmp_path)
    assert data.splits == ("train",)
    assert names(data.samples("train"), tmp_path) == [
        ("images/b.jpg", "labels/b.png"),
        ("images/a.png", "labels/a.png"),
        ("images/c.d.png", "labels/c.d.png"),
        ("images/c.d.png", "labels/c.d.png"),
        ("elsewhere/e.png", "elsewhere/f.png"),
    ]


def test_a_listed_name_may_hold_a_space(tmp_path: Path) -> None:
    tree(tmp_path, "images/street 1.png", "labels/street 1.png")
    (tmp_path / "train.txt").write_text("street 1.png\n")
    assert [p.name for p in open_dataset(tmp_path).samples("train")] == ["street 1"]


def test_a_listed_file_name_is_never_another_file_of_the_same_stem(tmp_path: Path) -> None:
    tree(tmp_path, "images/a.jpg", "images/a.png", "labels/a.png")
    (tmp_path / "train.txt").write_text("a.jpg\n")
    try:
        pairs = open_dataset(tmp_path).samples("train")
    except InputError as error:
        assert "stem" in str(error)  # noqa: PT017
        return
    assert pairs[0].image.name == "a.jpg"


@pytest.mark.parametrize(
    ("line", "named"),
    [("z", "'z', which is not in .*images"), ("b", "'b', which is not in .*labels"), ("images/a.png z.png", "z.png")],
)
def test_a_line_that_names_nothing_is_an_error_with_its_number(line: str, named: str, tmp_path: Path) -> None:
    tree(tmp_path, "images/a.png", "images/b.png", "labels/a.png")
    (tmp_path / "train.txt").write_text(f"a\n{line}\n")
    with pytest.raises(InputError, match=f"train.txt, line 2: .*{named}"):
        open_dataset(tmp_path).samples("train")


def test_camvid_is_known_without_a_list_of_classes(tmp_path: Path) -> None:
    tree(tmp_path, "train/a.png", "trainannot/a.png", "test/b.png", "testannot/b.png", toml=None)
    data = open_dataset(tmp_path)
    assert (data.format, data.splits, len(data.classes)) == ("camvid", ("train", "test"), 11)
    assert data.classes.ignore == (11,)
    assert names(data.samples("train"), tmp_path) == [("train/a.png", "trainannot/a.png")]


def test_a_list_of_classes_of_its_own_comes_before_camvids(tmp_path: Path) -> None:
    assert open_dataset(tree(tmp_path, "train/a.png", "trainannot/a.png")).classes.names == ("sky", "road")


def test_a_missing_list_of_classes_is_an_error_that_shows_how_it_starts(tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png", "labels/train/a.png", toml=None)
    with pytest.raises(InputError, match=r"classes\.toml: no such file") as caught:
        open_dataset(tmp_path)
    assert 'name = "class 1"' in str(caught.value)


def test_a_mask_of_0_and_255_is_shown_as_two_classes(tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png", "labels/train/a.png", toml=None)
    for values, shown in ((b"\0\xff", "[0, 255]"), (b"\0\1\xff", "[0, 1]")):
        Image.frombytes("L", (len(values), 1), values).save(tmp_path / "labels/train/a.png")
        with pytest.raises(InputError) as caught:
            open_dataset(tmp_path)
        assert f"The first labels hold {shown}" in str(caught.value)
        assert ("values = [255]" in str(caught.value)) == (shown == "[0, 255]")


def test_a_missing_split_is_an_error_that_lists_those_there_are(tmp_path: Path) -> None:
    data = open_dataset(tree(tmp_path, "images/train/a.png", "labels/train/a.png"))
    with pytest.raises(InputError, match="has no split 'val'; found train"):
        data.samples("val")


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    data = open_dataset(tree(tmp_path, "images/train/a.png", "labels/train/a.png"))
    for folder in ("images", "labels"):
        (tmp_path / folder / "train" / "a.png").unlink()
    with pytest.raises(InputError, match="split 'train' is empty"):
        data.samples("train")


def test_images_without_a_folder_of_labels_are_an_error(tmp_path: Path) -> None:
    data = open_dataset(tree(tmp_path, "images/train/a.png"))
    with pytest.raises(InputError, match="no such folder; expected the labels"):
        data.samples("train")


@pytest.mark.parametrize(
    ("images", "labels", "named"),
    [
        (["a.png"], [], r"a\.png: has no label; expected .*labels/a\.png"),
        ([], ["a.png", "b.png"], r"a\.png: has no image; expected one of the stem a \(1 more such"),
        (["a.png", "a.jpg"], ["a.png"], r"a\.jpg: is the second image of this stem, beside a\.png"),
        (["a.png"], ["a.png", "a.tif"], r"a\.tif: is the second label of a, beside a\.png"),
    ],
)
def test_images_and_labels_that_do_not_match_are_an_error(images: list[str], labels: list[str], named: str) -> None:
    with pytest.raises(InputError, match=named):
        match_labels(
            [Path("images", n) for n in images], [Path("labels", n) for n in labels], Path("labels")
        ).require_complete()


def test_pairs_keep_the_order_of_the_images() -> None:
    pairs = match_labels([Path("b.jpg"), Path("a.jpg")], [Path("a.png"), Path("b.png")], Path()).samples
    assert pairs == [Sample(Path("b.jpg"), Path("b.png")), Sample(Path("a.jpg"), Path("a.png"))]


def test_a_pair_of_folders_of_unknown_names_is_offered(tmp_path: Path) -> None:
    tree(tmp_path, "y/1_out.png", "y/2_out.png")
    for name in ("1_in", "2_in"):
        (tmp_path / "x").mkdir(exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "x" / f"{name}.png")
    with pytest.raises(InputError, match=r"x and .*y hold files of the same names \(2\): rename .*x to images/"):
        open_dataset(tmp_path)
    tree(tmp_path, "z/1_out.png", "z/2_out.png")
    with pytest.raises(InputError, match="Expected images/ and labels/"):
        open_dataset(tmp_path)
