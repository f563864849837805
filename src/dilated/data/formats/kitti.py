"""KITTI: the split of Ros et al. that the paper uses, and the benchmark of 2018."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from dilated.data.formats import camvid701, cityscapes
from dilated.data.formats._colors import ColorIndexReader, encode_ids
from dilated.data.formats._format import SPLITS, Format, SampleArrays, make_folders, save_image
from dilated.data.formats._match import MatchResult, list_images, match_folders, write_stems
from dilated.data.labels import Classes

CLASSES = replace(camvid701.CLASSES, source="KITTI of Ros et al.")
CLASSES_2018 = replace(cityscapes.CLASSES, source="KITTI 2018")
_TRAIN_FOLDER, _TEST_FOLDER = "Training_00", "Validation_07"
_LISTED_SPLITS = ("train", "val")
_COLOR_READER = ColorIndexReader(camvid701.NAMES, tuple(camvid701.COLORS.values()))
_IMAGE_FOLDER_2018, _LABEL_FOLDER_2018 = "training/image_2", "training/semantic"


class KITTI(Format):
    """KITTI with the 11 classes of Ros et al., which the paper uses.

        Training_00/{RGB,GT}/*.png (100)  Validation_07/{RGB,GT}/*.png (46)

    Ros et al., "Vision-based offline-online perception paradigm for autonomous driving", 2015. The masks are in
    CamVid's colors. The paper tests on Validation_07, so that is the split `test`. There is no `val`: the list files
    train.txt and val.txt, one stem per line, divide Training_00 in two.
    """

    name = "kitti"
    fixed_classes = CLASSES
    source = "http://adas.cvc.uab.es/s2uad/ (KITTI_SEMANTIC)"
    image_counts: ClassVar = {"train": 100, "test": 46}
    takes_any_classes = False

    def detect(self) -> bool:
        return any((self.root / f / kind).is_dir() for f in (_TRAIN_FOLDER, _TEST_FOLDER) for kind in ("RGB", "GT"))

    def _list_splits(self) -> list[str]:
        existing = [s for s in _LISTED_SPLITS if (self.root / f"{s}.txt").is_file()]
        if not existing and (self.root / _TRAIN_FOLDER).is_dir():
            existing = ["train"]
        return [*existing, *(["test"] if (self.root / _TEST_FOLDER).is_dir() else [])]

    def _match(self, split: str) -> MatchResult:
        folder = self.root / (_TEST_FOLDER if split == "test" else _TRAIN_FOLDER)
        listing = self.root / f"{split}.txt"
        what = ("KITTI's images", "their masks in CamVid's colors")
        if split == "val" and not listing.is_file():
            problem = f"no such file; expected the stems of {_TRAIN_FOLDER} to validate with, and train.txt the rest"
            problems = list_images(folder / "RGB", what[0])[1] + list_images(folder / "GT", what[1])[1]
            return MatchResult([], [*problems, f"{listing}: {problem}"])
        listed = listing if split in _LISTED_SPLITS and listing.is_file() else None
        return match_folders(folder / "RGB", folder / "GT", what, label_reader=_COLOR_READER, listing=listed)

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        folder = root / (_TEST_FOLDER if split == "test" else _TRAIN_FOLDER)
        make_folders(folder, "RGB", "GT")
        colors = np.array(_COLOR_READER.colors, dtype=np.uint8)
        stems = []
        for stem, image, ids in samples:
            save_image(image, folder / "RGB" / f"{stem}.png")
            save_image(colors[encode_ids(ids, CLASSES, camvid701.VOID)], folder / "GT" / f"{stem}.png")
            stems.append(stem)
        if split in _LISTED_SPLITS:
            write_stems(root / f"{split}.txt", stems)


class KITTI2018(Format):
    """KITTI's semantic benchmark of 2018, 200 labeled images.

        training/image_2/*.png  training/semantic/*.png

    Alhaija et al., "Augmented reality meets computer vision", 2018. The labels are Cityscapes' label ids, and the
    classes its 19. The benchmark has no official `val`: the list files train.txt, val.txt and test.txt, one stem per
    line, divide the 200; without any, all are `train`. The images of testing/ come without labels.
    """

    name = "kitti2018"
    fixed_classes = CLASSES_2018
    source = "https://www.cvlibs.net/datasets/kitti/eval_semseg.php?benchmark=semantics2015 (data_semantics.zip)"
    takes_any_classes = False

    def detect(self) -> bool:
        return (self.root / _LABEL_FOLDER_2018).is_dir()

    def _list_splits(self) -> list[str]:
        listed_splits = [s for s in SPLITS if (self.root / f"{s}.txt").is_file()]
        return listed_splits or (["train"] if self.detect() else [])

    def _match(self, split: str) -> MatchResult:
        folders = self.root / _IMAGE_FOLDER_2018, self.root / _LABEL_FOLDER_2018
        what = ("KITTI's images", "their labels, images of Cityscapes' label ids")
        listing = self.root / f"{split}.txt"
        if not listing.is_file() and (split != "train" or self.splits != ("train",)):
            problem = f"no such file; expected the stems of {split}, one per line, chosen from {_IMAGE_FOLDER_2018}"
            problems = list_images(folders[0], what[0])[1] + list_images(folders[1], what[1])[1]
            return MatchResult([], [*problems, f"{listing}: {problem}"])
        return match_folders(*folders, what, listing=listing if listing.is_file() else None)

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        make_folders(root, _IMAGE_FOLDER_2018, _LABEL_FOLDER_2018)
        stems = []
        for stem, image, ids in samples:
            save_image(image, root / _IMAGE_FOLDER_2018 / f"{stem}.png")
            save_image(encode_ids(ids, CLASSES_2018, cityscapes.UNLABELED), root / _LABEL_FOLDER_2018 / f"{stem}.png")
            stems.append(stem)
        write_stems(root / f"{split}.txt", stems)
