"""SBD, the Semantic Boundaries Dataset, and the paper's training set made of it, PASCAL VOC and COCO."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._format import Format, SampleArrays, make_folders, save_image
from dilated.data.formats._match import MatchResult, list_names, read_stems, require_files, write_stems
from dilated.data.formats.coco import COCO
from dilated.data.formats.voc import CLASSES, VOC
from dilated.data.labels import Classes, read_values
from dilated.data.sample import Sample
from dilated.errors import InputError

SPLITS = ("train", "val")
SOURCE = "http://home.bharathh.info/pubs/codes/SBD/download.html"
_LABEL_LOCATIONS = (("cls_png", ".png"), ("cls", ".mat"), ("cls", ".png"))  # of labels, the first that has one


class SBD(Format):
    """SBD, the Semantic Boundaries Dataset: benchmark_RELEASE/dataset/ with labels for 11,355 images of PASCAL VOC.

        img/NAME.jpg  cls/NAME.mat  train.txt  val.txt

    Hariharan et al., "Semantic contours from inverse detectors", 2011. The classes are VOC's. A label is a MATLAB file
    whose struct GTcls has the field Segmentation, or a PNG of the same values: `cls_png/NAME.png` is preferred, then
    `cls/NAME.mat`, then `cls/NAME.png`. The data folder is the one that contains `benchmark_RELEASE/`, or that folder,
    or `dataset`. Its own lists are its splits; they overlap with those of VOC 2012, for which see `voc_sbd`.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> SBD.save(root, "val", [("a", np.zeros((2, 3, 3), np.uint8), np.array([[0, 15, 255]] * 2, np.uint8))])
        >>> SBD(root).samples("val")[0].read_label().tolist()
        [[0, 15, 255], [0, 15, 255]]
    """

    name = "sbd"
    fixed_classes = CLASSES
    source = SOURCE
    writable_splits = SPLITS
    takes_any_classes = False
    writes_jpeg = True

    def detect(self) -> bool:
        return self._folder is not None

    def _list_splits(self) -> list[str]:
        return [s for s in SPLITS if self._folder and (self._folder / f"{s}.txt").is_file()]

    def _match(self, split: str) -> MatchResult:
        """The samples in the order of the split's list."""
        folder = self._folder
        if folder is None:
            raise InputError(
                f"{self.root}: no such folder as benchmark_RELEASE/dataset in it; expected SBD",
                hint=f"get it from {SOURCE}",
            )
        listing = folder / f"{split}.txt"
        stems = read_stems(listing, SOURCE)
        images = [folder / "img" / f"{stem}.jpg" for stem in stems]
        require_files(images, listing, SOURCE)
        names_by_location = {location: list_names(folder / location) for location, _ in _LABEL_LOCATIONS}
        labels = []
        for stem in stems:
            existing = (
                folder / location / f"{stem}{suffix}"
                for location, suffix in _LABEL_LOCATIONS
                if f"{stem}{suffix}" in names_by_location[location]
            )
            labels.append(next(existing, folder / "cls" / f"{stem}.mat"))
        require_files(labels, listing, SOURCE)
        samples = [
            Sample(image, label, read_mat if label.suffix == ".mat" else read_values)
            for image, label in zip(images, labels, strict=True)
        ]
        return MatchResult(samples, [])

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        folder = cls(root)._folder or root / "benchmark_RELEASE" / "dataset"
        make_folders(folder, "img", "cls")
        stems = []
        for stem, image, ids in samples:
            shadowing_label = folder / "cls_png" / f"{stem}.png"
            if shadowing_label.is_file():
                raise InputError(
                    f"{shadowing_label}: found a label that goes before the one to write; expected none",
                    hint="remove it",
                )
            save_image(image, folder / "img" / f"{stem}.jpg")
            present_ids = [[i] for i in np.unique(ids).tolist() if 0 < i < len(CLASSES)]
            present = np.array(present_ids, np.uint8).reshape(-1, 1)
            path = folder / "cls" / f"{stem}.mat"
            label = {"GTcls": {"Segmentation": ids, "CategoriesPresent": present}}
            _import_scipy_io(path).savemat(path, label, appendmat=False, do_compression=True)
            stems.append(stem)
        write_stems(folder / f"{split}.txt", stems)

    @cached_property
    def _folder(self) -> Path | None:
        """The folder that contains img/, cls/ and the lists, if the data folder has one."""
        if (self.root / "benchmark_RELEASE").is_dir():
            return self.root / "benchmark_RELEASE" / "dataset"
        return next((folder for folder in (self.root / "dataset", self.root) if _is_sbd_folder(folder)), None)


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
    source = f"{VOC.source} and {SOURCE}; for train+coco also {COCO.source}"
    writable_splits = SPLITS
    takes_any_classes = False
    writes_jpeg = True

    @cached_property
    def _parts(self) -> tuple[VOC, SBD, COCO]:
        return VOC(self.root), SBD(self.root), COCO(self.root)

    def detect(self) -> bool:
        voc, sbd, _ = self._parts
        return voc.detect() and sbd.detect()

    def _list_splits(self) -> list[str]:
        voc, _, coco = self._parts
        splits = [s for s in voc.splits if s in SPLITS]
        return [*splits, "train+coco"] if "train" in splits and "train" in coco.splits else splits

    def _match(self, split: str) -> MatchResult:
        voc, sbd, coco = self._parts
        if split == "val":
            return voc.match_split("val")
        if split not in ("train", "train+coco"):
            raise InputError(f"{self.root}: found the split {split!r}; expected train, val or train+coco")
        samples = list(voc.match_split("train").samples)
        seen = {*voc.read_stems("train"), *voc.read_stems("val")}
        for sample in [*sbd.match_split("train").samples, *sbd.match_split("val").samples]:
            if sample.name not in seen:
                seen.add(sample.name)
                samples.append(sample)
        return MatchResult(samples + coco.match_split("train").samples if split == "train+coco" else samples, [])

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """All samples become VOC's; where there is no SBD, one without images is written."""
        sbd = SBD(root)
        if not sbd.detect():
            for sbd_split in SPLITS:
                SBD.save(root, sbd_split, [])
        elif split == "train" and any(sbd.samples(sbd_split) for sbd_split in sbd.splits):
            raise InputError(f"{root}: found an SBD with images; expected none, or write VOC's own split as voc")
        VOC.save(root, split, samples)


def read_mat(path: Path) -> NDArray[np.int64]:
    """The values of a label of SBD, (H, W), from the field Segmentation of the struct GTcls.

    Raises:
        InputError: scipy is missing, or the file is, is damaged, or holds something else.
    """
    try:
        file = BytesIO(path.read_bytes())
        values = _import_scipy_io(path).loadmat(file, variable_names=["GTcls"])["GTcls"]["Segmentation"].item()
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a label of SBD") from error
    except Exception as error:  # a damaged file makes scipy raise almost anything
        raise InputError(
            f"{path}: found no GTcls.Segmentation that can be read ({type(error).__name__}: {error}); expected a "
            "MATLAB 5 file with the struct GTcls",
            hint=f"get it again from {SOURCE}",
        ) from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "iu":
        actual = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise InputError(f"{path}: GTcls.Segmentation: found {actual}; expected integers (H, W)")
    return values.astype(np.int64)


def _is_sbd_folder(folder: Path) -> bool:
    return (folder / "img").is_dir() and ((folder / "cls").is_dir() or (folder / "cls_png").is_dir())


def _import_scipy_io(path: Path) -> Any:
    """scipy.io, imported by name since it carries no types."""
    try:
        return import_module("scipy.io")
    except ImportError as error:
        raise InputError(
            f"{path}: MATLAB files need the package scipy", hint="install it with `pip install 'dilated[formats]'`"
        ) from error
