"""Predictions and data sets in FiftyOne, and FiftyOne's samples as a data set.

dataset.add_samples(to_samples(open_dataset("my-data"), "val", Predictor("street")))
dataset.default_mask_targets = to_mask_targets(predictor.segmenter.classes)
dataset.evaluate_segmentations("prediction", gt_field="ground_truth", eval_key="street")

FiftyOne's 0 is no class: its values are our ids plus 1, and 0 is what has no data or is ignored.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dilated.data.dataset import Dataset
from dilated.data.images import image_size
from dilated.data.labels import Classes, make_size_error, save_classes
from dilated.errors import InputError
from dilated.label_ids import LabelArray, label_dtype
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor

if TYPE_CHECKING:
    from fiftyone import Sample, Segmentation


def to_mask_targets(classes: Sequence[str]) -> dict[int, str]:
    """Return the classes by FiftyOne's values, for `dataset.default_mask_targets`.

    Example:
        >>> to_mask_targets(["sky", "road"])
        {1: 'sky', 2: 'road'}
    """
    return dict(enumerate(classes, 1))


def to_segmentation(prediction: Prediction) -> Segmentation:
    """Return the labels as FiftyOne's Segmentation, whose mask (H, W) has ids plus 1, and 0 where there is no data.

    Raises:
        InputError: FiftyOne is not installed.
    """
    return _import_fiftyone().Segmentation(mask=_to_values(prediction.labels))


def to_samples(
    dataset: Dataset, split: str, predictor: Predictor | None = None, labels: str = "ground_truth"
) -> Iterator[Sample]:
    """Return FiftyOne's samples of a split, one by one: images where they lie, with labels and predictions.

    Args:
        dataset: its images must be files that FiftyOne shows.
        split: train, val, test, ...
        predictor: adds the field `prediction`, and `confidence`, its mean over the image, where there are logits.
        labels: the field of the true labels.

    Raises:
        InputError: FiftyOne is not installed; a split that is missing; a network of other classes than the data.
    """
    fiftyone, names = _import_fiftyone(), dataset.classes.names
    if predictor is not None and tuple(predictor.segmenter.classes) != tuple(names):
        have = f"{', '.join(predictor.segmenter.classes)}; the data {', '.join(names)}"
        raise InputError("to_samples: the network and the data have other classes", f"the network has {have}")
    for sample in dataset.samples(split):
        fields: dict[str, Any] = {labels: fiftyone.Segmentation(mask=_to_values(sample.read_label()))}
        if predictor is not None:
            prediction = predictor(sample.image, logits=predictor.segmenter.gives_logits)
            fields["prediction"] = to_segmentation(prediction)
            if prediction.logits is not None:
                fields["confidence"] = float(prediction.confidence.mean())
        yield fiftyone.Sample(filepath=str(sample.image.resolve()), tags=[split], **fields)


def write_dataset(samples: Iterable[Sample], field: str, classes: Classes, folder: Path | str) -> None:
    """Write FiftyOne's samples as a data set: `images/`, copied, `labels/` of ids, and `classes.toml`.

    Args:
        samples: a dataset or a view; samples without a value of the field are left out.
        field: that of the Segmentation, in memory or a file; its values are ids plus 1, and 0 is ignored.
        classes: the names and colors, in the order of the ids.
        folder: new or empty.

    Raises:
        InputError: a folder that has files, two images of one name, no samples with the field, a mask of another size
            than its image, of several channels, or with values of no class.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty", hint="give a new folder")
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    number, dtype = 0, label_dtype(len(classes))
    for sample in samples:
        segmentation = sample[field] if sample.has_field(field) else None
        mask = None if segmentation is None else segmentation.get_mask()
        if mask is None:
            continue
        image = Path(sample.filepath)
        label = folder / "labels" / f"{image.stem}.png"
        if label.exists():
            raise InputError(f"{image}: there are two images called {image.stem}", hint="rename one of them")
        if mask.ndim != 2 or mask.min() < 0 or mask.max() > len(classes):
            problem = f"values up to {mask.max()}" if mask.ndim == 2 else f"the shape {mask.shape}"
            raise InputError(f"{image}: {field} has {problem}", hint=f"give ids plus 1, 0 to {len(classes)}, (H, W)")
        if mask.shape != (size := image_size(image)):
            raise make_size_error(image, mask.shape, size)
        ids = np.where(mask == 0, np.iinfo(dtype).max, mask.astype(np.int64) - 1).astype(dtype)
        Image.fromarray(ids).save(label)
        shutil.copyfile(image, folder / "images" / image.name)
        number += 1
    if not number:
        raise InputError(f"write_dataset: no sample has {field!r}", hint="give the field of a Segmentation")
    save_classes(classes, folder / "classes.toml")


def _to_values(labels: LabelArray) -> LabelArray:
    """Ids plus 1; the greatest number of their type, which has no class, becomes 0.

    Example:
        >>> _to_values(np.array([[0, 254, 255]], np.uint8)).tolist()
        [[1, 255, 0]]
    """
    return labels + labels.dtype.type(1)


def _import_fiftyone() -> Any:
    try:
        import fiftyone
    except ImportError as error:
        raise InputError("fiftyone: FiftyOne is not installed", hint="pip install fiftyone") from error
    return fiftyone
