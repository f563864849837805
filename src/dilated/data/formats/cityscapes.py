"""Cityscapes with the 19 classes of its benchmark, and KITTI, whose benchmark of 2018 has them too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dilated.data.auto_split import HASH_SPLITS, describe_hash_split, find_split_lists, select_split, split_list_path
from dilated.data.formats import camvid
from dilated.data.formats._classes import encode_ids
from dilated.data.formats._format import Format, Parsed, make_folders, save_image, save_pairs
from dilated.data.formats._match import SPLITS, MatchResult, find_missing_folders, match_folders, write_stems
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.labels import IGNORE, Classes, read_values
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.label_ids import LabelArray
from dilated.palettes import CITYSCAPES_COLORS

CLASSES = Classes(
    names=tuple(CITYSCAPES_COLORS),
    colors=tuple(CITYSCAPES_COLORS.values()),
    values=tuple((v,) for v in (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)),
    ignore=(*range(7), 9, 10, 14, 15, 16, 18, 29, 30, 65535),  # -1 is 255 in 8 bits, 65535 in 16
    source="Cityscapes",
)
_UNLABELED = 0
_IMAGE_FOLDER, _LABEL_FOLDER = "leftImg8bit", "gtFine"
_IMAGE_SUFFIX = "_leftImg8bit"
_KITTI_TRAIN_FOLDER, _KITTI_TEST_FOLDER = "Training_00", "Validation_07"
_KITTI_2018_IMAGE_FOLDER, _KITTI_2018_LABEL_FOLDER = "training/image_2", "training/semantic"


class Cityscapes(Format):
    """Cityscapes: an image of each city and its label.

        leftImg8bit/{train,val,test}/CITY/*_leftImg8bit.png
        gtFine/{train,val,test}/CITY/*_gtFine_labelIds.png

    Cordts et al., "The Cityscapes dataset for semantic urban scene understanding", 2016. A label is the image's
    `*_gtFine_labelIds.png`, or `*_gtFine_labelTrainIds.png` where there is only that. The 19 classes of the benchmark
    are kept, the other label ids are ignored. The labels of `test` are dummies in which every pixel is ignored: the
    true ones are with the evaluation server, for which `dilated predict --format cityscapes` writes.
    """

    name = "cityscapes"
    fixed_classes = CLASSES
    source = "https://www.cityscapes-dataset.com (leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip)"
    expected_splits = SPLITS
    image_counts: ClassVar = {"train": 2975, "val": 500, "test": 1525}
    split_notes: ClassVar = {
        "test": "The public labels of test are dummies: the true ones are held back. Write labels for the evaluation "
        "server with `dilated predict --format cityscapes`."
    }
    takes_any_classes = False
    image_suffix = _IMAGE_SUFFIX

    def detect(self) -> bool:
        return (self.root / _IMAGE_FOLDER).is_dir() or (self.root / _LABEL_FOLDER).is_dir()

    def parse(self) -> Parsed:
        images, labels = self.root / _IMAGE_FOLDER, self.root / _LABEL_FOLDER
        if (table := self.root / "label_colors.txt").is_file():
            raise InputError(
                f"{table}: names its own classes, as CVAT's export \"Cityscapes 1.0\" does; Cityscapes' are fixed",
                hint='export "Segmentation mask 1.1" instead, or remove the file if the labels have Cityscapes\' ids',
            )
        splits = [s for s in SPLITS if (labels / s).is_dir() or (s != "test" and (images / s).is_dir())]
        return Parsed(splits, self._match_cities)

    def _match_cities(self, split: str) -> MatchResult:
        images, labels = folders = self.root / _IMAGE_FOLDER / split, self.root / _LABEL_FOLDER / split
        what = (f"a folder for each city with {files}" for files in ("*_leftImg8bit.png", "*_gtFine_labelIds.png"))
        if problems := find_missing_folders(folders, what):
            return MatchResult([], problems)
        samples, names = [], set()
        for image in sorted(images.glob("*/*_leftImg8bit.png")):
            name = image.stem.removesuffix(_IMAGE_SUFFIX)
            names.add(name)
            matches = self._match_label(image, labels / image.parent.name / name)
            samples += matches.samples
            problems += matches.problems
        for label in sorted(labels.glob("*/*_gtFine_labelIds.png")):
            name = label.name.removesuffix("_gtFine_labelIds.png")
            if name not in names:
                expected = images / label.parent.name / f"{name}_leftImg8bit.png"
                problems.append(f"{label}: has no image; expected {expected}")
        return MatchResult(samples, problems)

    def _match_label(self, image: Path, base: Path) -> MatchResult:
        """The image with its label, or what is missing; `base` is the label's path without `_gtFine...`."""
        label_ids, train_ids, polygons = (
            base.with_name(f"{base.name}_gtFine_{kind}")
            for kind in ("labelIds.png", "labelTrainIds.png", "polygons.json")
        )
        if label_ids.is_file():
            return MatchResult([Sample(image, label_ids)])
        if train_ids.is_file():
            return MatchResult([Sample(image, train_ids, _read_train_ids)])
        if not polygons.is_file():
            return MatchResult([], [f"{image}: has no label; expected {label_ids}"])
        draw = f"`pip install cityscapesscripts`, then `CITYSCAPES_DATASET={self.root} csCreateTrainIdLabelImgs`"
        problem = f"found polygons alone; expected {label_ids.name} beside them. Draw them: {draw}."
        return MatchResult([], [f"{polygons}: {problem}"])

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """A stem is CITY_SEQUENCE_FRAME, and the city its folder."""
        for stem, image, ids in samples:
            name = stem.removesuffix(_IMAGE_SUFFIX)
            images, labels = (root / f / split / name.split("_")[0] for f in (_IMAGE_FOLDER, _LABEL_FOLDER))
            make_folders(images, labels)
            save_image(image, images / f"{name}_leftImg8bit.png")
            save_image(_encode_ids(ids), labels / f"{name}_gtFine_labelIds.png")


class KITTI(Format):
    """KITTI with the 11 classes of Ros et al., which the paper uses.

        Training_00/{RGB,GT}/*.png (100)  Validation_07/{RGB,GT}/*.png (46)

    Ros et al., "Vision-based offline-online perception paradigm for autonomous driving", 2015. The masks are in
    CamVid's colors. The paper tests on Validation_07, so that is the split `test`. There is no `val`: the list files
    train.txt and val.txt, one stem per line, divide Training_00 in two; without them the hashes of the stems do, which
    a note says.
    """

    name = "kitti"
    fixed_classes = replace(camvid.CLASSES_32, source="KITTI of Ros et al.")
    source = "http://adas.cvc.uab.es/s2uad/ (KITTI_SEMANTIC)"
    expected_splits = SPLITS
    image_counts: ClassVar = {"test": 46}
    takes_any_classes = False

    def detect(self) -> bool:
        folders = (_KITTI_TRAIN_FOLDER, _KITTI_TEST_FOLDER)
        return any((self.root / folder / kind).is_dir() for folder in folders for kind in ("RGB", "GT"))

    def parse(self) -> Parsed:
        splits = [s for s in find_split_lists(self.root) if s != "test"]
        is_hashed = not splits and (self.root / _KITTI_TRAIN_FOLDER).is_dir()
        if is_hashed:
            splits = [*HASH_SPLITS]
        existing = [*splits, *["test"] * (self.root / _KITTI_TEST_FOLDER).is_dir()]
        return Parsed(existing, self._match_folders, describe=lambda: [describe_hash_split(None)] * is_hashed)

    def _match_folders(self, split: str) -> MatchResult:
        folder = self.root / (_KITTI_TEST_FOLDER if split == "test" else _KITTI_TRAIN_FOLDER)
        folders, what = (folder / "RGB", folder / "GT"), ("KITTI's images", "their masks in CamVid's colors")
        lists = {s: path for s, path in find_split_lists(self.root).items() if s != "test"}
        listing = split_list_path(self.root, split) if split == "val" and lists else lists.get(split)
        matches = match_folders(*folders, what, label_reader=camvid.COLOR_READER, listing=listing)
        if split == "test" or lists or matches.problems:
            return matches
        return MatchResult(select_split(self.root, matches.samples, split))

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        folder = root / (_KITTI_TEST_FOLDER if split == "test" else _KITTI_TRAIN_FOLDER)
        stems = save_pairs(samples, folder / "RGB", folder / "GT", camvid.encode_colors)
        if split != "test":
            write_stems(root / f"{split}.txt", stems)


class KITTI2018(Format):
    """KITTI's semantic benchmark of 2018, 200 labeled images.

        training/image_2/*.png  training/semantic/*.png

    Alhaija et al., "Augmented reality meets computer vision", 2018. The labels are Cityscapes' label ids, and the
    classes its 19. The benchmark has no official `val`: the list files train.txt, val.txt and test.txt, one stem per
    line, divide the 200; without any, all are `train`. The images of testing/ come without labels.
    """

    name = "kitti2018"
    fixed_classes = replace(CLASSES, source="KITTI 2018")
    source = "https://www.cvlibs.net/datasets/kitti/eval_semseg.php?benchmark=semantics2015 (data_semantics.zip)"
    expected_splits = SPLITS
    takes_any_classes = False

    def detect(self) -> bool:
        return (self.root / _KITTI_2018_LABEL_FOLDER).is_dir()

    def parse(self) -> Parsed:
        return Parsed([*find_split_lists(self.root)] or ["train"] * self.detect(), self._match_folders)

    def _match_folders(self, split: str) -> MatchResult:
        folders = self.root / _KITTI_2018_IMAGE_FOLDER, self.root / _KITTI_2018_LABEL_FOLDER
        what = ("KITTI's images", "their labels, images of Cityscapes' label ids")
        listing = split_list_path(self.root, split)
        is_whole = split == "train" and not find_split_lists(self.root)
        return match_folders(*folders, what, listing=None if is_whole else listing)

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        folders = root / _KITTI_2018_IMAGE_FOLDER, root / _KITTI_2018_LABEL_FOLDER
        write_stems(root / f"{split}.txt", save_pairs(samples, *folders, _encode_ids))


def _encode_ids(ids: LabelArray) -> LabelArray:
    return encode_ids(ids, CLASSES, _UNLABELED)


def _read_train_ids(path: Path) -> NDArray[np.int64]:
    """Read an image of train ids (0 to 18, 255 ignored) as label ids (H, W), which `CLASSES` decodes."""
    train_ids = read_values(path)
    wrong = (train_ids < 0) | ((train_ids >= len(CLASSES)) & (train_ids != IGNORE))
    if wrong.any():
        y, x = (int(v[0]) for v in np.nonzero(wrong))
        raise InputError(
            f"{path}: found the train id {int(train_ids[y, x])} at x={x}, y={y} ({int(wrong.sum())} such pixels); "
            f"expected 0 to {len(CLASSES) - 1}, or {IGNORE}",
            hint="create the file again with the official label table",
        )
    return _encode_ids(train_ids.astype(np.uint8)).astype(np.int64)
