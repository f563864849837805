"""All figures for the label images of any tool: no network is needed, and none of ours.

    scored = score("their-masks", "my-data", options=ScoreOptions(split="val"))
    print(scored)                                        # the metrics with intervals, and what other tools would print
    scored.result.intervals["mean_iou"]                  # as for `dilated.evaluate`
    scored.variants, scored.categories, scored.comparison

Pixels of the truth that are ignored count nowhere. A labelled pixel that the prediction leaves without a class is
wrong, and counts as no other class's. Sizes must agree: nothing is resampled. Each image is read once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dilated.config import read_toml
from dilated.data.dataset import Dataset, UnknownLayoutError, open_dataset
from dilated.data.grouping import group_samples
from dilated.data.groups import Groups
from dilated.data.images import IMAGE_SUFFIXES
from dilated.data.labels import Classes, load_classes_file
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.evaluation.boundary import boundary_counts, trimap_counts
from dilated.evaluation.compare import Comparison, count_changes
from dilated.evaluation.evaluate import EvaluationAccumulator, MetricsConfig
from dilated.evaluation.label_files import LabelCounter, MatchedPredictions, Values, match_predictions
from dilated.evaluation.metrics import nan_to_none
from dilated.evaluation.result import EvaluationResult
from dilated.evaluation.variants import Variant, compute_variants, find_categories, find_category_ids
from dilated.files import plural
from dilated.label_ids import LabelArray
from dilated.palettes import distinct_colors
from dilated.prediction.prefetch import map_ordered
from dilated.progress import ProgressCallback, track

IIOU_NOTE = (
    "Cityscapes' iIoU is left out: it weights each pixel by the size of its object, which label images of classes do "
    "not tell; cityscapesScripts computes it from gtFine_instanceIds."
)


@dataclass(frozen=True)
class ScoreOptions:
    """What the files are, and what is measured.

    Raises:
        InputError: calibration, for which label images hold no probabilities.
    """

    split: str = "val"
    """The part of the data to measure."""
    format: str | None = None
    """The data's layout, where it is not recognized."""
    classes: str | None = None
    """Read the truth as a plain folder of label images, of these classes: a classes.toml, or a number of them."""
    values: Values = "file"
    """What predictions hold: `file`, the values of the truth's files; `ids`, the classes' ids from 0."""
    categories: Path | None = None
    """A .toml with the classes of each category, `ground = ["road", "grass"]`; Cityscapes' classes have theirs."""
    group_by: str | None = None
    """What tells which images belong together; see `open_dataset`."""
    metrics: MetricsConfig = field(default_factory=lambda: MetricsConfig(boundary=True))
    """Boundary IoU and trimap curves."""

    def __post_init__(self) -> None:
        if self.metrics.calibration:
            raise InputError("score: label images hold no probabilities", hint="leave the calibration out")


@dataclass(frozen=True, eq=False, repr=False)
class Score:
    """What was measured of label images."""

    result: EvaluationResult
    categories: EvaluationResult | None
    """The same by category; None without categories."""
    comparison: Comparison | None
    """With the other label images; None without any."""
    samples: tuple[Sample, ...]
    files: tuple[Path, ...]
    """The predictions, in the samples' order."""
    notes: tuple[str, ...]
    classes: Classes
    values: Values

    def read_labels(self, index: int) -> tuple[LabelArray, LabelArray]:
        """Read the truth and the prediction of an image again, (H, W) ids each, `ignore_id` where there is none."""
        counter = LabelCounter(self.classes, self.values)
        truth, table = counter.read_truth(self.samples[index])
        prediction = counter.read_prediction(self.files[index], truth.shape)
        return counter.decode(truth, table), counter.decode(prediction)

    @property
    def variants(self) -> list[Variant]:
        """What other tools would print, each with its definition."""
        variants = compute_variants(self.result)
        if self.categories is not None:
            mean = float(self.categories.metrics["mean_iou"][0])
            what = "classes pooled into categories, then as above"
            variants.insert(1, Variant("category_mean_iou", mean, "Cityscapes category IoU", what))
        return variants

    def __str__(self) -> str:
        lines = [str(self.result), *self.notes]
        if self.categories is not None:
            lines += ["by category:", *str(self.categories).splitlines()[: 1 + len(self.categories.classes)]]
        lines += [f"{_format(variant.value)}  {variant.who}: {variant.what}" for variant in self.variants]
        return "\n".join(lines + ([str(self.comparison)] if self.comparison is not None else []))

    def __repr__(self) -> str:
        return f"Score({self.result!r})"

    def to_dict(self, per_image: bool = False) -> dict[str, Any]:
        """Convert to JSON values: those of `EvaluationResult`, `variants`, `categories`, `comparison`, `notes`."""
        return {
            **self.result.to_dict(per_image),
            "unpredicted": int(self.result.confusion.unpredicted.sum()),
            "variants": {v.key: {"value": nan_to_none(v.value), "who": v.who, "what": v.what} for v in self.variants},
            "categories": self.categories.to_dict() if self.categories is not None else None,
            "comparison": self.comparison.to_dict() if self.comparison is not None else None,
            "notes": list(self.notes),
        }


def score(
    predictions: str | Path,
    truth: str | Path | Dataset,
    baseline: str | Path | None = None,
    options: ScoreOptions | None = None,
    on_progress: ProgressCallback | None = None,
) -> Score:
    """Measure the label images of any tool against the truth.

    Args:
        predictions: a folder of label images, one per image of the split, with the image's name and size.
        truth: a data folder or an opened one; with `options.classes` a plain folder of label images.
        baseline: the folder of another tool's label images, to be compared on the same images, paired.
        options: what the files are, and what is measured; boundary IoU if not given.
        on_progress: called after each image with how many are done and how many there are.

    Returns:
        The figures; `print` shows them with their intervals, `to_dict` converts them to JSON values.

    Raises:
        InputError: a missing prediction, another size, a value that the classes do not name, an unreadable file.

    Example:
        >>> print(score("their-masks", "my-data"))  # doctest: +SKIP
    """
    options = options or ScoreOptions()
    samples, classes, groups = _open_truth(truth, options)
    names = [sample.name for sample in samples]
    matches = [match_predictions(Path(folder), samples) for folder in (predictions, baseline) if folder is not None]
    given = _read_categories(options.categories, classes) if options.categories is not None else None
    categories = find_categories(classes.names, given)
    category_of = find_category_ids(classes.names, categories)
    size, config = len(samples), options.metrics
    by_class = [EvaluationAccumulator(classes.names, size, config) for _ in matches]
    by_category = EvaluationAccumulator(list(categories), size)
    changed = np.zeros((size, 3), dtype=np.int64)
    counter = _PairReader(LabelCounter(classes, options.values), config, len(classes))
    jobs = [(samples[i], [match.files[i] for match in matches]) for i in range(size)]
    workers = min(8, os.cpu_count() or 1)
    counted = map_ordered(counter, jobs, workers, 2 * workers)
    for i, image in enumerate(track(counted, size, on_progress)):
        for accumulator, counts in zip(by_class, image.sides, strict=True):
            accumulator.add_counts(i, *counts)
        by_category.add_pairs(i, image.sides[0][0].to_categories(category_of, len(categories)))
        changed[i] = image.changed
    results = [accumulator.result(names, range(size), groups) for accumulator in by_class]
    labels = (str(predictions), str(baseline))
    return Score(
        results[0],
        by_category.result(names, range(size), groups) if categories else None,
        Comparison(results[0], results[1], changed, labels) if baseline is not None else None,
        tuple(samples),
        matches[0].files,
        tuple(_describe(matches, results[0], categories)),
        classes,
        options.values,
    )


@dataclass(frozen=True)
class _ImageCounts:
    """What was counted of one image, for each side, and the pixels that differ between two."""

    sides: list[tuple[Any, ...]]
    changed: tuple[int, int, int]


@dataclass(frozen=True)
class _PairReader:
    """Reads an image's truth and predictions and counts them; called from several threads."""

    counter: LabelCounter
    config: MetricsConfig
    num_classes: int

    def __call__(self, job: tuple[Sample, list[Path]]) -> _ImageCounts:
        sample, files = job
        truth, table = self.counter.read_truth(sample)
        predictions = [self.counter.read_prediction(path, truth.shape) for path in files]
        pairs = [
            self.counter.count(truth, table, prediction, (sample.label, path))
            for prediction, path in zip(predictions, files, strict=True)
        ]
        needs_bands = self.config.boundary or bool(self.config.trimap)
        if not needs_bands and len(files) == 1:
            return _ImageCounts([(pairs[0], None, None)], (0, 0, 0))
        target = self.counter.decode(truth, table)
        labels = [self.counter.decode(prediction) for prediction in predictions]
        sides = [(p, *self._count_bands(ids, target)) for p, ids in zip(pairs, labels, strict=True)]
        return _ImageCounts(sides, count_changes(labels[0], labels[1], target) if len(labels) > 1 else (0, 0, 0))

    def _count_bands(self, labels: LabelArray, target: LabelArray) -> tuple[Any, Any]:
        config = self.config
        boundary = boundary_counts(labels, target, self.num_classes, config.boundary_width) if config.boundary else None
        trimap = trimap_counts(labels, target, self.num_classes, config.trimap) if config.trimap else None
        return boundary, trimap


def _open_truth(truth: str | Path | Dataset, options: ScoreOptions) -> tuple[list[Sample], Classes, Groups]:
    """Return the samples of the truth, their classes and their groups."""
    if options.classes is not None:
        if isinstance(truth, Dataset):
            raise InputError("score: classes are given, and the data has its own", hint="give one of them")
        classes = _read_classes(options.classes)
        samples = _list_plain_folder(Path(truth), classes)
        return samples, classes, group_samples(samples, Path(truth), options.group_by)
    try:
        data = truth if isinstance(truth, Dataset) else open_dataset(truth, options.format, options.group_by)
    except UnknownLayoutError as error:
        raise InputError(
            str(error), hint="for a plain folder of label images, give --classes with their number or a classes.toml"
        ) from error
    return data.samples(options.split), data.classes, data.groups(options.split)


def _read_classes(given: str) -> Classes:
    if given.isdecimal():
        count = int(given)
        return Classes(tuple(map(str, range(count))), tuple(distinct_colors(count)), source=f"{count} classes")
    classes, *_ = load_classes_file(Path(given))
    if classes is None:
        raise InputError(f"{given}: names no class", hint="write a table [[class]] for each class")
    return classes


def _list_plain_folder(folder: Path, classes: Classes) -> list[Sample]:
    """Return a sample for each label image in a folder or below it; its image is the label's file."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", hint="give the folder of the true label images")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    if not files:
        raise InputError(f"{folder}: holds no label images", hint="give the folder of the true label images")
    return [Sample(path, path, classes=classes) for path in files]


def _read_categories(path: Path, classes: Classes) -> Mapping[str, Sequence[str]]:
    """Read the classes of each category.

    Raises:
        InputError: no such file, a class that the data has not, or one in two categories.
    """
    table = read_toml(path, "the classes of each category")
    seen: dict[str, str] = {}
    for category, members in table.items():
        if not isinstance(members, list) or not members:
            raise InputError(
                f"{path}: {category}: found {members!r:.40}", hint='write a list such as ["road", "grass"]'
            )
        for name in members:
            if name not in classes.names:
                raise InputError(f"{path}: {category}: {name!r} is no class of the data", hint="correct the name")
            if name in seen:
                raise InputError(f"{path}: {name!r} is in {seen[name]} and {category}", hint="leave it in one category")
            seen[name] = category
    return table


def _describe(
    matches: Sequence[MatchedPredictions], result: EvaluationResult, categories: Mapping[str, Sequence[str]]
) -> list[str]:
    """Say what was left out, and what a reader would not expect."""
    notes = []
    for match in matches:
        if match.extra:
            notes.append(
                f"{plural(len(match.extra), 'file')} left out that belong to no image, first {match.extra[0]}."
            )
    missed = int(result.confusion.unpredicted.sum())
    if missed:
        share = missed / result.confusion.pixels
        notes.append(f"{missed:,} labelled pixels ({share:.2%}) have no class in the predictions, and count as wrong.")
    left = [name for name in result.classes if categories and not any(name in group for group in categories.values())]
    if left:
        notes.append(f"In no category, and ignored by these figures: {', '.join(left)}.")
    return notes + ([IIOU_NOTE] if categories else [])


def _format(value: float) -> str:
    return "   -  " if np.isnan(value) else f"{value:.4f}"
