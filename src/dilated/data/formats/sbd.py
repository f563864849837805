"""SBD, the Semantic Boundaries Dataset: `benchmark_RELEASE/dataset/` with labels for 11,355 images of PASCAL VOC.

    >>> from dilated.data.formats import sbd
    >>> len(sbd.CLASSES)
    21

    img/NAME.jpg  cls/NAME.mat  train.txt  val.txt

Hariharan et al., "Semantic contours from inverse detectors", 2011. The classes are VOC's. A label is a MATLAB file
whose struct GTcls has the field Segmentation, or a PNG of the same values: `cls_png/NAME.png` goes first, then
`cls/NAME.mat`, then `cls/NAME.png`. The data folder is the one that holds `benchmark_RELEASE/`, that folder, or
`dataset`. Its own lists are its splits; they overlap with those of VOC 2012, for which see `voc_sbd`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.formats import voc
from dilated.data.formats._colors import SampleArrays
from dilated.data.formats._match import write_stem_list
from dilated.data.labels import read_values
from dilated.data.sample import Sample
from dilated.errors import InputError

CLASSES = voc.CLASSES
SPLITS = ("train", "val")
SOURCE = "http://home.bharathh.info/pubs/codes/SBD/download.html"
_LABEL_LOCATIONS = (("cls_png", ".png"), ("cls", ".mat"), ("cls", ".png"))  # of labels, the first that has one


def _find_dataset_folder(root: Path) -> Path | None:
    """The folder that holds img/, cls/ and the lists, if the data folder has one."""
    if (root / "benchmark_RELEASE").is_dir():
        return root / "benchmark_RELEASE" / "dataset"
    return next((folder for folder in (root / "dataset", root) if _is_sbd_folder(folder)), None)


def detect(root: Path) -> bool:
    return _find_dataset_folder(root) is not None


def splits(root: Path) -> list[str]:
    folder = _find_dataset_folder(root)
    return [s for s in SPLITS if folder and (folder / f"{s}.txt").is_file()]


def load(root: Path, split: str) -> list[Sample]:
    """The pairs of one of SBD's own splits, in the order of its list.

    Raises:
        InputError: a list, an image or a label that is missing.
    """
    folder = _find_dataset_folder(root)
    if folder is None:
        raise InputError(
            f"{root}: no such folder as benchmark_RELEASE/dataset in it; expected SBD. Get it from {SOURCE}"
        )
    listing = folder / f"{split}.txt"
    stems = voc.read_stem_list(listing, SOURCE)
    images = [folder / "img" / f"{stem}.jpg" for stem in stems]
    voc.require_files(images, listing, SOURCE)
    existing_names = {place: voc.list_names(folder / place) for place, _ in _LABEL_LOCATIONS}
    labels = []
    for stem in stems:
        places = (
            folder / place / f"{stem}{suffix}"
            for place, suffix in _LABEL_LOCATIONS
            if f"{stem}{suffix}" in existing_names[place]
        )
        labels.append(next(places, folder / "cls" / f"{stem}.mat"))
    voc.require_files(labels, listing, SOURCE)
    return [
        Sample(image, label, read_mat if label.suffix == ".mat" else read_values)
        for image, label in zip(images, labels, strict=True)
    ]


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
            f"MATLAB 5 file with the struct GTcls. Get it again from {SOURCE}"
        ) from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "iu":
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise InputError(f"{path}: GTcls.Segmentation: found {found}; expected integers (H, W)")
    return values.astype(np.int64)


def save(root: Path, split: str, samples: Iterable[SampleArrays]) -> None:
    """Write a split that `load_checkpoint` reads back: JPEG images, MATLAB labels, and the list, last.

    Args:
        split: train or val.
        samples: stem, image (H, W, 3) uint8, class ids (H, W) uint8 with 255 where ignored.

    Raises:
        InputError: scipy is missing, another split, a stem that is no file name or comes twice, a label of `cls_png/`
            that would hide the new one, an image or label of another form.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> save(root, "val", [("a", np.zeros((2, 3, 3), np.uint8), np.array([[0, 15, 255]] * 2, np.uint8))])
        >>> load(root, "val")[0].read_label(CLASSES).tolist()
        [[0, 15, 255], [0, 15, 255]]
    """
    if split not in SPLITS:
        raise InputError(f"{root}: found the split {split!r}; expected one of {', '.join(SPLITS)}")
    folder = _find_dataset_folder(root) or root / "benchmark_RELEASE" / "dataset"
    for name in ("img", "cls"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    stems = []
    for stem, image, ids in voc.validate_ids(samples):
        shadowing_label = folder / "cls_png" / f"{stem}.png"
        if shadowing_label.is_file():
            raise InputError(
                f"{shadowing_label}: found a label that goes before the one to write; expected none. Remove it."
            )
        Image.fromarray(image).save(folder / "img" / f"{stem}.jpg", quality=95)
        present = [[i] for i in np.unique(ids).tolist() if 0 < i < len(CLASSES)]
        label = {"GTcls": {"Segmentation": ids, "CategoriesPresent": np.array(present, np.uint8).reshape(-1, 1)}}
        path = folder / "cls" / f"{stem}.mat"
        _import_scipy_io(path).savemat(path, label, appendmat=False, do_compression=True)
        stems.append(stem)
    write_stem_list(folder / f"{split}.txt", stems)


def _is_sbd_folder(folder: Path) -> bool:
    return (folder / "img").is_dir() and ((folder / "cls").is_dir() or (folder / "cls_png").is_dir())


def _import_scipy_io(path: Path) -> Any:
    """scipy.io, imported by name since it carries no types."""
    try:
        return import_module("scipy.io")
    except ImportError as error:
        raise InputError(f"{path}: MATLAB files need the package scipy; pip install 'dilated[formats]'") from error
