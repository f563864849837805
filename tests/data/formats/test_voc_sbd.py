import re
from pathlib import Path

import numpy as np
import pytest

from dilated.data.dataset import open_dataset
from dilated.data.formats import FORMATS, voc
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.formats.coco import COCO
from dilated.data.formats.voc import SBD, VOC, VOCWithSBD
from dilated.errors import InputError

IMAGE = np.full((2, 3, 3), 90, dtype=np.uint8)


def samples(stems: str, value: int) -> list[SampleArrays]:
    return [(stem, IMAGE, np.full((2, 3), value, np.uint8)) for stem in stems]


def union(root: Path, voc_train: str, voc_val: str, sbd_train: str, sbd_val: str) -> Path:
    """VOC, whose labels are 1, beside SBD, whose labels are 2; a letter is an image."""
    for split, stems in (("train", voc_train), ("val", voc_val)):
        VOC.save(root, split, samples(stems, 1))
    for split, stems in (("train", sbd_train), ("val", sbd_val)):
        SBD.save(root, split, samples(stems, 2))
    return root


def labels(root: Path, split: str) -> dict[str, int]:
    return {p.name: int(p.read_label()[0, 0]) for p in open_dataset(root).samples(split)}


def test_overlaps_of_every_kind_are_resolved_as_the_paper_has_it(tmp_path: Path) -> None:
    # a to c are in VOC's train, d to f in its val, g and h in SBD alone; of each three one is in no list of SBD, one
    # in its train, one in its val
    union(tmp_path, "abc", "def", "gbe", "hcf")
    assert labels(tmp_path, "train") == {"a": 1, "b": 1, "c": 1, "g": 2, "h": 2}
    assert labels(tmp_path, "val") == {"d": 1, "e": 1, "f": 1}


def test_an_image_in_both_lists_of_sbd_is_taken_once(tmp_path: Path) -> None:
    pairs = VOCWithSBD(union(tmp_path, "a", "b", "cd", "dc")).samples("train")
    assert [p.name for p in pairs] == ["a", "c", "d"]


def test_an_sbd_within_voc_adds_nothing(tmp_path: Path) -> None:
    assert labels(union(tmp_path, "ab", "c", "bc", "a"), "train") == {"a": 1, "b": 1}


def test_no_image_of_val_is_in_train(tmp_path: Path) -> None:
    root = union(tmp_path, "abc", "def", "defg", "abcdef")
    assert not labels(root, "train").keys() & labels(root, "val").keys()


def test_voc_and_sbd_together_go_before_either(tmp_path: Path) -> None:
    data = open_dataset(union(tmp_path, "a", "b", "c", "d"))
    assert (data.format, data.splits, data.classes) == ("voc_sbd", ("train", "val"), voc.CLASSES)


@pytest.mark.parametrize("format", ["voc", "sbd"])
def test_either_alone_is_itself(format: str, tmp_path: Path) -> None:
    FORMATS[format].save(tmp_path, "train", samples("a", 1))
    assert open_dataset(tmp_path).format == format
    assert not VOCWithSBD(tmp_path).detect()


def test_without_the_list_of_val_there_is_no_train(tmp_path: Path) -> None:
    root = union(tmp_path, "a", "b", "c", "d")
    (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(InputError, match=r"Segmentation/val\.txt: no such list"):
        VOCWithSBD(root).samples("train")


@pytest.mark.parametrize("listing", ["train", "val"])
def test_a_missing_list_of_sbd_is_an_error_that_names_it(listing: str, tmp_path: Path) -> None:
    root = union(tmp_path, "a", "b", "c", "d")
    (root / f"benchmark_RELEASE/dataset/{listing}.txt").unlink()
    with pytest.raises(InputError, match=rf"dataset/{listing}\.txt: no such list"):
        VOCWithSBD(root).samples("train")


@pytest.mark.parametrize("split", ["test", "train+voc"])
def test_another_split_is_an_error(split: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has no split {re.escape(repr(split))}; found train, val"):
        VOCWithSBD(union(tmp_path, "a", "b", "c", "d")).samples(split)


def test_coco_beside_them_is_a_further_split(tmp_path: Path) -> None:
    root = union(tmp_path, "a", "b", "cb", "d")
    COCO.save(root / "coco", "train", [*samples("x", 3), *samples("y", 0)])
    assert open_dataset(root).splits == ("train", "val", "train+coco")
    assert labels(root, "train+coco") == {"a": 1, "c": 2, "d": 2, "x": 3}
    assert labels(root, "train") == {"a": 1, "c": 2, "d": 2}


def test_a_coco_without_its_training_images_is_no_further_split(tmp_path: Path) -> None:
    root = union(tmp_path, "a", "b", "c", "d")
    COCO.save(root / "coco", "val", samples("x", 3))
    assert VOCWithSBD(root).splits == ("train", "val")


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    label = np.array([[0, 7, 255], [20, 1, 1]], dtype=np.uint8)
    VOCWithSBD.save(tmp_path, "train", iter([("b", IMAGE, label), ("a", IMAGE, label.T.copy().reshape(2, 3))]))
    VOCWithSBD.save(tmp_path, "val", [("c", IMAGE, label)])
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("voc_sbd", ("train", "val"))
    assert [p.name for p in data.samples("train")] == ["b", "a"]
    assert np.array_equal(data.samples("train")[0].read_label(), label)
    assert np.array_equal(data.samples("val")[0].read_label(), label)


def test_saving_train_beside_images_of_sbd_is_an_error_and_saving_val_is_not(tmp_path: Path) -> None:
    root = union(tmp_path, "a", "b", "c", "d")
    VOCWithSBD.save(root, "val", samples("e", 1))
    assert labels(root, "val") == {"e": 1}
    with pytest.raises(InputError, match="found an SBD with images"):
        VOCWithSBD.save(root, "train", samples("f", 1))
    with pytest.raises(InputError, match=r"found the split 'train\+coco'\. Give one of train, val"):
        VOCWithSBD.save(root, "train+coco", samples("f", 1))
