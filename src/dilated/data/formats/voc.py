"""PASCAL VOC 2012 as its devkit has it.

>>> from dilated.data.formats import voc
>>> voc.CLASSES.names[15], voc.CLASSES.colors[15]
('person', (192, 128, 128))
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from dilated.data.formats._format import Format, SampleArrays, make_folders, save_image, save_palette_image
from dilated.data.formats._match import MatchResult, list_names, read_stems, require_files, write_stems
from dilated.data.labels import IGNORE, Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.palettes import VOC_CLASSES, voc_color

CLASSES = Classes(VOC_CLASSES, tuple(voc_color(i) for i in range(21)), ignore=(IGNORE,), source="PASCAL VOC")
SPLITS = ("train", "val", "trainval", "test")


class VOC(Format):
    """PASCAL VOC 2012 as its devkit has it: VOCdevkit/VOC2012/ with the images, the labels and the lists of the splits.

        JPEGImages/NAME.jpg  SegmentationClass/NAME.png  ImageSets/Segmentation/{train,val,trainval,test}.txt

    The data folder is the one that contains `VOCdevkit/`, or `VOCdevkit`, or `VOC2012`. Labels are palette PNGs of
    which the indices count; 255, the outline of each object, is ignored. The images of the test split come without
    labels.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> root = Path(tempfile.mkdtemp())
        >>> VOC.save(root, "train", [("a", np.zeros((2, 3, 3), np.uint8), np.array([[0, 15, 255]] * 2, np.uint8))])
        >>> VOC(root).samples("train")[0].read_label().tolist()
        [[0, 15, 255], [0, 15, 255]]
    """

    name = "voc"
    fixed_classes = CLASSES
    source = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
    writable_splits = SPLITS
    writes_jpeg = True

    def detect(self) -> bool:
        return self._folder is not None

    def _list_splits(self) -> list[str]:
        return [s for s in SPLITS if self._folder and _list_path(self._folder, s).is_file()]

    def read_stems(self, split: str) -> list[str]:
        """The stems that the list of a split names, whether or not their files exist.

        Raises:
            InputError: no devkit, no such list, or a list that is damaged.
        """
        return read_stems(_list_path(self._require_folder(), split), self.source)

    def _match(self, split: str) -> MatchResult:
        """The samples in the order of the split's list."""
        folder = self._require_folder()
        stems, listing = self.read_stems(split), _list_path(folder, split)
        labels = [folder / "SegmentationClass" / f"{stem}.png" for stem in stems]
        if split == "test" and not {label.name for label in labels} <= list_names(folder / "SegmentationClass"):
            raise InputError(
                f"{listing}: the images of VOC's test split have no labels, which stay with its evaluation server; "
                "expected train, val or trainval",
                hint="label the images with `dilated predict`",
            )
        images = [folder / "JPEGImages" / f"{stem}.jpg" for stem in stems]
        require_files(images, listing, self.source)
        require_files(labels, listing, self.source)
        return MatchResult([Sample(image, label) for image, label in zip(images, labels, strict=True)], [])

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        folder = cls(root)._folder or root / "VOCdevkit" / "VOC2012"
        make_folders(folder, "JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
        colors = [*classes.colors, *(voc_color(i) for i in range(len(classes), 256))]
        stems = []
        for stem, image, ids in samples:
            save_image(image, folder / "JPEGImages" / f"{stem}.jpg")
            save_palette_image(ids, folder / "SegmentationClass" / f"{stem}.png", colors)
            stems.append(stem)
        write_stems(_list_path(folder, split), stems)

    @cached_property
    def _folder(self) -> Path | None:
        """The folder that contains JPEGImages/ and the rest, if the data folder has one."""
        for folder in (self.root / "VOCdevkit" / "VOC2012", self.root / "VOC2012"):
            if folder.is_dir():
                return folder
        return self.root if (self.root / "ImageSets" / "Segmentation").is_dir() else None

    def _require_folder(self) -> Path:
        if self._folder is None:
            raise InputError(
                f"{self.root}: no such folder as VOCdevkit/VOC2012 in it; expected the devkit of VOC 2012",
                hint=f"get it from {self.source}",
            )
        return self._folder


def _list_path(folder: Path, split: str) -> Path:
    return folder / "ImageSets" / "Segmentation" / f"{split}.txt"
