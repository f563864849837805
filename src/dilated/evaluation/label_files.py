"""The label images of any tool, beside the truth: which belong together, and how they are counted.

pairs = match_predictions(Path("masks"), samples)
counter = LabelCounter(classes, values="file")
truth, table = counter.read_truth(sample)
confusion.add(counter.count(truth, table, counter.read_prediction(path, truth.shape), (sample.label, path)))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dilated.data.labels import Classes, make_size_error, read_stored_values, read_values
from dilated.data.name_parts import find_common_ending
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.evaluation.pair_counts import LabelPairs, count_pairs
from dilated.files import plural
from dilated.label_ids import LabelArray, label_dtype

_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm")
_OVERLAY = ".overlay"

Values = Literal["file", "ids"]


@dataclass(frozen=True)
class MatchedPredictions:
    """The prediction of each sample, and the files that belong to none."""

    files: tuple[Path, ...]
    """In the samples' order."""
    extra: tuple[Path, ...]


def match_predictions(folder: Path, samples: Sequence[Sample]) -> MatchedPredictions:
    """Find the label image of each sample by its name, in the folder or below it.

    A word that all names of a side end with, as `_pred` or `_leftImg8bit`, does not count.

    Raises:
        InputError: no such folder, a sample without a prediction, or with several.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", hint="give the folder of the predicted label images")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and not path.stem.endswith(_OVERLAY)
    )
    if not files:
        raise InputError(f"{folder}: holds no label images", hint=f"expected files of {', '.join(_SUFFIXES)}")
    names = [Path(sample.name).name for sample in samples]
    stems = [path.stem for path in files]
    endings = find_common_ending(names), find_common_ending(stems)
    candidates: dict[str, list[Path]] = {}
    for stem, path in zip(stems, files, strict=True):
        for key in {stem, stem.removesuffix(endings[1])}:
            candidates.setdefault(key, []).append(path)
    matches = [_choose(name, endings[0], candidates, sample) for name, sample in zip(names, samples, strict=True)]
    missing = [name for name, match in zip(names, matches, strict=True) if match is None]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {plural(len(samples), 'image')} have no prediction, first {missing[0]}; it "
            f"has {files[0].relative_to(folder)} and the like",
            hint="predict all images of the split, and name each label image as its image is named",
        )
    used = tuple(match for match in matches if match is not None)
    if len(set(used)) < len(used):
        double = next(path for path in used if used.count(path) > 1)
        raise InputError(f"{double}: is the prediction of several images by its name", hint="keep the images' folders")
    return MatchedPredictions(used, tuple(sorted(set(files) - set(used))))


def _choose(name: str, ending: str, candidates: dict[str, list[Path]], sample: Sample) -> Path | None:
    """Choose the prediction of a sample: of several of one name, the one in a folder of the same name."""
    paths = candidates.get(name) or candidates.get(name.removesuffix(ending)) or []
    if len(paths) > 1:
        paths = [path for path in paths if path.parent.name == sample.image.parent.name] or paths
    if len(paths) > 1:
        raise InputError(
            f"{sample.image}: has {len(paths)} predictions by its name, {paths[0]} and {paths[1]}",
            hint="leave one, or keep the images' folders",
        )
    return paths[0] if paths else None


class LabelCounter:
    """Reads predictions and truths as the files store them, and counts them without decoding each pixel.

    Args:
        classes: of the truth.
        values: what the values in predictions are: those of the truth's files, or class ids from 0.
    """

    def __init__(self, classes: Classes, values: Values) -> None:
        self.classes, self.values = classes, values
        self._truth_table = classes.value_table()
        ids = np.full(65536, -1, dtype=np.int32)
        ids[: len(classes)] = range(len(classes))
        ids[classes.ignore_id] = classes.ignore_id
        self._id_table = ids
        self._prediction_table = self._truth_table if values == "file" else ids

    def read_truth(self, sample: Sample) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
        """Read a truth: its values and the table that turns them into ids."""
        reader, stored = sample.label_reader, None
        if reader is read_values:
            stored = read_stored_values(sample.label)
        elif isinstance(reader, partial) and reader.func is read_values:
            stored = read_stored_values(sample.label, **reader.keywords)
        return (sample.read_label(), self._id_table) if stored is None else (stored, self._truth_table)

    def read_prediction(self, path: Path, shape: tuple[int, ...]) -> NDArray[np.integer]:
        """Read a prediction's values.

        Raises:
            InputError: an unreadable file, or another size than the truth's.
        """
        values = read_stored_values(path)
        if values.shape != shape:
            raise make_size_error(path, values.shape[:2], (shape[0], shape[1]))
        return values

    def count(
        self,
        truth: NDArray[np.integer],
        truth_table: NDArray[np.int32],
        prediction: NDArray[np.integer],
        names: tuple[Path, Path],
    ) -> LabelPairs:
        """Count one image.

        Args:
            truth, prediction: (H, W) values.
            truth_table: what `read_truth` returned.
            names: the files of truth and prediction, for errors.

        Raises:
            InputError: a value that the classes do not name.
        """
        size = len(self.classes)
        true_values, predicted_values, pixels = count_pairs(truth, prediction)
        true_ids, predicted_ids = truth_table[true_values], self._prediction_table[predicted_values]
        if (true_ids < 0).any():
            self.classes.decode(truth, str(names[0]))
        counted = true_ids != self.classes.ignore_id
        self._check_predictions(predicted_values[counted], predicted_ids[counted], prediction, names[1])
        columns = np.minimum(predicted_ids[counted], size)  # an ignored one has no class
        return LabelPairs(size, true_ids[counted].astype(np.int64), columns.astype(np.int64), pixels[counted])

    def decode(self, values: NDArray[np.integer], table: NDArray[np.int32] | None = None) -> LabelArray:
        """Turn values that have been counted into ids, `ignore_id` where there is none."""
        ids = (self._prediction_table if table is None else table).astype(label_dtype(len(self.classes)))
        if values.dtype == ids.dtype == np.uint8:  # three times faster than an index by an array
            translated = values.tobytes().translate(ids[:256].tobytes())
            return np.frombuffer(translated, dtype=np.uint8).reshape(values.shape)
        return ids[values]

    def _check_predictions(
        self, values: NDArray[np.int64], ids: NDArray[np.int32], prediction: NDArray[np.integer], path: Path
    ) -> None:
        unknown = np.unique(values[ids < 0])
        if not len(unknown):
            return
        y, x = (int(v[0]) for v in np.nonzero(prediction == unknown[0]))
        other = (
            "where predictions hold class ids from 0, give --values ids"
            if self.values == "file"
            else "where predictions hold the values of the truth's files, give --values file"
        )
        raise InputError(
            f"{path}: found the value {int(unknown[0])} at x={x}, y={y} ({len(unknown)} such values); expected "
            f"{'the values of ' + self.classes.source if self.values == 'file' else f'0 to {len(self.classes) - 1}'}",
            hint=other,
        )
