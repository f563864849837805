"""PASCAL VOC 2012, SBD, the Semantic Boundaries Dataset, and the paper's training set made of both and COCO.

>>> from dilated.data.formats import voc
>>> voc.CLASSES.names[15], voc.CLASSES.colors[15]
('person', (192, 128, 128))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._class_tables import ClassTable, find_class_table
from dilated.data.formats._classes import PASCAL_CLASSES, ColorReader, make_palette_image
from dilated.data.formats._format import (
    Format,
    Parsed,
    make_folders,
    save_image,
    save_pairs,
)
from dilated.data.formats._mask_kind import inspect_masks
from dilated.data.formats._match import MatchResult, list_names, read_stems, require_files, write_stems
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.formats.coco import COCO
from dilated.data.labels import Classes, read_values
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.palettes import voc_color

CLASSES = PASCAL_CLASSES
_VOID_COLOR = (224, 224, 192)
_MAX_STEMS = 100
_VOC_SPLITS = ("train", "val", "trainval", "test")
_SBD_SPLITS = ("train", "val")
_SBD_SOURCE = "http://home.bharathh.info/pubs/codes/SBD/download.html"
_SBD_LABELS = (("cls_png", ".png"), ("cls", ".mat"), ("cls", ".png"))
"""The folder and suffix of SBD's labels, the preferred ones first."""


class VOC(Format):
    """PASCAL VOC 2012 as its devkit has it: VOCdevkit/VOC2012/ with the images, the labels and the lists of the splits.

        JPEGImages/NAME.jpg  SegmentationClass/NAME.png  ImageSets/Segmentation/{train,val,trainval,test}.txt

    The data folder is the one that contains `VOCdevkit/`, or `VOCdevkit`, or `VOC2012`. Labels are palette PNGs of
    which the indices count; 255, the outline of each object, is ignored. The images of the test split come without
    labels. Data of one's own in this form has images of any type, masks of VOC's colors too, and the classes of a
    class_names.txt or another table in the folder, where there is one.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> VOC.save(root, "train", [("a", np.zeros((2, 3, 3), np.uint8), np.array([[0, 15, 255]] * 2, np.uint8))])
        >>> VOC(root).samples("train")[0].read_label().tolist()
        [[0, 15, 255], [0, 15, 255]]
    """

    name = "voc"
    reads_colors = True
    most_classes = 255
    fixed_classes = CLASSES
    source = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
    writable_splits = expected_splits = _VOC_SPLITS
    writes_jpeg = True

    def detect(self) -> bool:
        return _find_voc_folder(self.root) is not None

    def parse(self) -> Parsed:
        splits = [s for s in _VOC_SPLITS if self._list_path(s).is_file()]
        return Parsed(splits, self._match_list, self._read_classes, self._describe)

    @cached_property
    def _class_table(self) -> ClassTable | None:
        """The table of classes in the folder, of data in VOC's form."""
        if self.classes_file.classes is not None:
            return None
        return find_class_table(self.root, ()) or find_class_table(self._folder, ())

    def _read_classes(self) -> Classes | None:
        table = self._class_table
        return (table.value_classes() or table.color_classes()) if table else None

    def _describe(self) -> list[str]:
        if self._class_table:
            return [f"The classes are those of {self._class_table.path}."]
        stems = [stem for split in self.splits for stem in self.read_stems(split)[:_MAX_STEMS]]
        if self.classes_file.classes or not stems or any(re.fullmatch(r"\d{4}_\d{6}", stem) for stem in stems):
            return []
        return ["Read as PASCAL VOC's 21 classes, though no image is called as VOC's are: a classes.toml names others."]

    def read_stems(self, split: str) -> list[str]:
        """The stems that the list of a split names, whether or not their files exist.

        Raises:
            InputError: no such list, or a list that is damaged.
        """
        if split not in self._stems:
            self._stems[split] = read_stems(self._list_path(split), self.source)
        return self._stems[split]

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return {}

    def _match_list(self, split: str) -> MatchResult:
        """The samples in the order of the split's list."""
        stems, listing = self.read_stems(split), self._list_path(split)
        labels = [self._folder / "SegmentationClass" / f"{stem}.png" for stem in stems]
        if split == "test" and not {label.name for label in labels} <= list_names(self._folder / "SegmentationClass"):
            raise InputError(
                f"{listing}: the images of VOC's test split have no labels, which stay with its evaluation server",
                hint="use train, val or trainval, or label the images with `dilated predict`",
            )
        existing = {Path(name).stem: name for name in sorted(list_names(self._folder / "JPEGImages"), reverse=True)}
        images = [self._folder / "JPEGImages" / existing.get(stem, f"{stem}.jpg") for stem in stems]
        require_files(images, listing, self.source)
        require_files(labels, listing, self.source)
        reader = self._choose_reader(labels)
        return MatchResult([Sample(image, label, reader) for image, label in zip(images, labels, strict=True)])

    def _choose_reader(self, labels: list[Path]) -> Callable[[Path], NDArray[np.int64]]:
        """How labels are read: as values, or by their colors where they are masks of colors."""
        classes = self.classes_file.classes or self._read_classes() or CLASSES
        if inspect_masks(labels).kind != "colors" and classes.read != "colors":
            return read_values
        ignored = classes.ignore_colors or ((_VOID_COLOR,) if classes == CLASSES else ())
        values = (*(group[0] for group in classes.values), *[classes.ignore_id] * len(ignored))
        names = (*classes.names, *["ignored"] * len(ignored))
        return ColorReader(names, (*classes.colors, *ignored), values, classes.transparent)

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        data = cls(root)
        images, labels = data._folder / "JPEGImages", data._folder / "SegmentationClass"
        make_folders(data._list_path(split).parent)
        colors = [*classes.colors, *(voc_color(i) for i in range(len(classes), 256))]
        stems = save_pairs(samples, images, labels, lambda ids: make_palette_image(ids, colors), image_type="jpg")
        write_stems(data._list_path(split), stems)

    @cached_property
    def _folder(self) -> Path:
        """The folder that contains JPEGImages/ and the rest, or where it should be."""
        return _find_voc_folder(self.root) or self.root / "VOCdevkit" / "VOC2012"

    def _list_path(self, split: str) -> Path:
        return self._folder / "ImageSets" / "Segmentation" / f"{split}.txt"


class SBD(Format):
    """SBD, the Semantic Boundaries Dataset: benchmark_RELEASE/dataset/ with labels for 11,355 images of PASCAL VOC.

        img/NAME.jpg  cls/NAME.mat  train.txt  val.txt

    Hariharan et al., "Semantic contours from inverse detectors", 2011. The classes are VOC's. A label is a MATLAB file
    whose struct GTcls has the field Segmentation, or a PNG of the same values: `cls_png/NAME.png` is preferred, then
    `cls/NAME.mat`, then `cls/NAME.png`. The data folder is the one that contains `benchmark_RELEASE/`, or that folder,
    or `dataset`. Its own lists are its splits; they overlap with those of VOC 2012, for which see `voc_sbd`.
    """

    name = "sbd"
    fixed_classes = CLASSES
    source = _SBD_SOURCE
    writable_splits = expected_splits = _SBD_SPLITS
    takes_any_classes = False
    writes_jpeg = True

    def detect(self) -> bool:
        return _find_sbd_folder(self.root) is not None

    def parse(self) -> Parsed:
        return Parsed([s for s in _SBD_SPLITS if (self._folder / f"{s}.txt").is_file()], self._match_list)

    def _match_list(self, split: str) -> MatchResult:
        """The samples in the order of the split's list."""
        folder = self._folder
        listing = folder / f"{split}.txt"
        stems = read_stems(listing, self.source)
        images = [folder / "img" / f"{stem}.jpg" for stem in stems]
        require_files(images, listing, self.source)
        existing = {f"{subfolder}/{name}" for subfolder, _ in _SBD_LABELS for name in list_names(folder / subfolder)}
        labels = []
        for stem in stems:
            candidates = [f"{subfolder}/{stem}{suffix}" for subfolder, suffix in _SBD_LABELS]
            labels.append(folder / next((path for path in candidates if path in existing), f"cls/{stem}.mat"))
        require_files(labels, listing, self.source)
        return MatchResult(
            [
                Sample(image, label, read_mat if label.suffix == ".mat" else read_values)
                for image, label in zip(images, labels, strict=True)
            ]
        )

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        folder = cls(root)._folder
        make_folders(folder / "img", folder / "cls")
        stems = []
        for stem, image, ids in samples:
            shadowing_label = folder / "cls_png" / f"{stem}.png"
            if shadowing_label.is_file():
                raise InputError(
                    f"{shadowing_label}: found a label that goes before the one to write", hint="remove it"
                )
            save_image(image, folder / "img" / f"{stem}.jpg")
            present = np.array([i for i in np.unique(ids) if 0 < i < len(CLASSES)], np.uint8).reshape(-1, 1)
            path = folder / "cls" / f"{stem}.mat"
            label = {"GTcls": {"Segmentation": ids, "CategoriesPresent": present}}
            _import_scipy_io(path).savemat(path, label, appendmat=False, do_compression=True)
            stems.append(stem)
        write_stems(folder / f"{split}.txt", stems)

    @cached_property
    def _folder(self) -> Path:
        """The folder that contains img/, cls/ and the lists, or where it should be."""
        return _find_sbd_folder(self.root) or self.root / "benchmark_RELEASE" / "dataset"


class VOCWithSBD(Format):
    """The paper's training set: VOC 2012's train split and SBD, without VOC's val split; with COCO beside, that too.

        VOCdevkit/VOC2012/  benchmark_RELEASE/dataset/  coco/ (optional)

        train        VOC's train, then the images of SBD's train and val that are neither in VOC's train nor in its val:
                     1,464 + 9,118 = 10,582 images of the real data; where both have a label, VOC's is taken
        val          VOC's val, 1,449 images
        train+coco   train, then the images of COCO's train with an object of a class of VOC (Section 5, first stage)

    Each of the three is read as on its own, by `voc`, `sbd` and `coco`.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for split in ("train", "val"):
        ...     VOCWithSBD.save(root, split, [(split, np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 15, np.uint8))])
        >>> [sample.name for sample in VOCWithSBD(root).samples("train")]
        ['train']
    """

    name = "voc_sbd"
    fixed_classes = CLASSES
    source = f"{VOC.source} and {SBD.source}; for train+coco also {COCO.source}"
    writable_splits = expected_splits = ("train", "val")
    takes_any_classes = False
    writes_jpeg = True

    @cached_property
    def _parts(self) -> tuple[VOC, SBD, COCO]:
        return VOC(self.root), SBD(self.root), COCO(self.root)

    def detect(self) -> bool:
        voc, sbd, _ = self._parts
        return voc.detect() and sbd.detect()

    def parse(self) -> Parsed:
        voc, _, coco = self._parts
        splits = [s for s in self.expected_splits if s in voc.splits]
        if "train" in splits and "train" in coco.splits:
            splits.append("train+coco")
        return Parsed(splits, self._match_parts)

    def _match_parts(self, split: str) -> MatchResult:
        voc, sbd, coco = self._parts
        if split == "val":
            return voc.match_split("val")
        samples = list(voc.match_split("train").samples)
        seen = {*voc.read_stems("train"), *voc.read_stems("val")}
        for sample in [*sbd.match_split("train").samples, *sbd.match_split("val").samples]:
            if sample.name not in seen:
                seen.add(sample.name)
                samples.append(sample)
        return MatchResult(samples + coco.match_split("train").samples if split == "train+coco" else samples)

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """All samples become VOC's; where there is no SBD, one without images is written."""
        sbd = SBD(root)
        if not sbd.detect():
            for sbd_split in _SBD_SPLITS:
                SBD.save(root, sbd_split, [])
        elif split == "train" and any(sbd.samples(sbd_split) for sbd_split in sbd.splits):
            raise InputError(f"{root}: found an SBD with images", hint="write VOC's own split, in the format voc")
        VOC.save(root, split, samples)


def read_mat(path: Path) -> NDArray[np.int64]:
    """The values of a label of SBD, (H, W), from the field Segmentation of the struct GTcls.

    Raises:
        InputError: scipy is missing, or the file is, is damaged, or holds something else.
    """
    scipy_io = _import_scipy_io(path)
    try:
        file = BytesIO(path.read_bytes())
        values = scipy_io.loadmat(file, variable_names=["GTcls"])["GTcls"]["Segmentation"].item()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Exception as error:  # a damaged file makes scipy raise almost anything
        raise InputError(
            f"{path}: has no GTcls.Segmentation that can be read ({type(error).__name__}: {error})",
            hint=f"get this MATLAB 5 file again from {_SBD_SOURCE}",
        ) from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "iu":
        actual = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise InputError(f"{path}: GTcls.Segmentation: found {actual}", hint="give integers (H, W)")
    return values.astype(np.int64)


def _find_voc_folder(root: Path) -> Path | None:
    if (folder := root / "VOCdevkit" / "VOC2012").is_dir() or (folder := root / "VOC2012").is_dir():
        return folder
    years = [f for parent in (root / "VOCdevkit", root) for f in sorted(parent.glob("VOC2*")) if _is_voc_folder(f)]
    if len(years) == 1:
        return years[0]
    return root if _is_voc_folder(root) else None


def _is_voc_folder(folder: Path) -> bool:
    return (folder / "ImageSets" / "Segmentation").is_dir()


def _find_sbd_folder(root: Path) -> Path | None:
    if (root / "benchmark_RELEASE").is_dir():
        return root / "benchmark_RELEASE" / "dataset"
    for folder in (root / "dataset", root):
        if (folder / "img").is_dir() and ((folder / "cls").is_dir() or (folder / "cls_png").is_dir()):
            return folder
    return None


def _import_scipy_io(path: Path) -> Any:
    """scipy.io, imported by name since it carries no types."""
    try:
        return import_module("scipy.io")
    except ImportError as error:
        raise InputError(
            f"{path}: MATLAB files need the package scipy", hint="install it with `pip install 'dilated[formats]'`"
        ) from error
