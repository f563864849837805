"""Fit a network's class biases, its temperature and its thresholds of risk on held-out images; each is tried first.

    tuned = tune(predictor, samples, classes, groups)
    print(tuned)                                         # what was fitted, what it gains, what is kept
    tuned.segmenter.save("tuned.safetensors")

Biases are fitted on all folds but one and measured on that one, at every pixel; only if the paired interval of that
gain leaves out 0 are they fitted on all images and added to the network's last layer. Confidences are measured in the
same way: no image has a part in the biases and the temperature that its own pixels are judged by.

The network runs twice on each image. Between the runs a sample of pixels is held, and of each image counts by class and
by confidence: memory is bounded by the classes. A CRF takes a third run, on top of the biases that are kept.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dilated.data.groups import Groups
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.evaluation.abstention import CONFIDENCE_LEVEL, ConfidenceCounts, fit_threshold, simulate_splits
from dilated.evaluation.bias_fit import PixelSample, fit_biases, fit_temperature
from dilated.evaluation.calibration import expected_calibration_error
from dilated.evaluation.crf_fit import CRFCounts, CRFFit
from dilated.evaluation.evaluate import EvaluationAccumulator, MetricsConfig, iter_predictions, require_same_classes
from dilated.evaluation.folds import TuningUnits, divide_into_units
from dilated.evaluation.intervals import compute_differences
from dilated.evaluation.result import EvaluationResult
from dilated.evaluation.tuning_result import TuningResult
from dilated.input_config import BandArray, InputConfig, to_display
from dilated.label_ids import LabelArray, ignore_id
from dilated.models.base import BaseSegmenter
from dilated.models.class_bias import with_class_bias
from dilated.models.tuning_record import CARD_KEY, TuningRecord
from dilated.prediction.confidence import confidence_map
from dilated.prediction.predictor import Predictor
from dilated.progress import ProgressCallback, track
from dilated.weights.bundled import load

_DEFAULT_RISKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_CALIBRATION = MetricsConfig(calibration=True)


@dataclass(frozen=True)
class TuneOptions:
    """What is fitted.

    Raises:
        InputError: a risk that is no share.
    """

    split: str = "val"
    """The part of the data to fit on: images that the network was not trained on."""
    risks: tuple[float, ...] = _DEFAULT_RISKS
    """Fit a threshold of confidence for each of these shares of wrong pixels among the labelled."""
    crf: bool = False
    """Choose the parameters of a dense CRF from a small grid too, which takes seconds per image; `--crf` uses them."""

    def __post_init__(self) -> None:
        for risk in self.risks:
            if not 0 < risk < 1:
                raise InputError(f"risks: {risk:g} is no share", hint="give numbers between 0 and 1, such as 0.02")


def tune(
    predictor: Predictor,
    samples: Sequence[Sample],
    classes: Classes,
    groups: Groups,
    data: str = "",
    options: TuneOptions | None = None,
    on_progress: ProgressCallback | None = None,
) -> TuningResult:
    """Fit what can be fitted without training, and keep what holds on images that it was not fitted on.

    Args:
        predictor: of the network, without flips, scales, blended tiles and a CRF.
        samples: images that the network was not trained on.
        classes: the data's.
        groups: of the samples.
        data: what to call the data in the record.
        options: the split's name, the risks, and whether to choose a CRF.
        on_progress: called after each image with how many are done and how many there are, two or three times the
            images.

    Raises:
        InputError: too few images, classes that differ, an unreadable image, a predictor that averages views.
    """
    options, segmenter = options or TuneOptions(), predictor.segmenter
    if not predictor.is_plain:
        raise InputError("tune: the predictor averages views or decodes", hint="give it the network alone")
    require_same_classes(segmenter.classes, classes)
    divide_into_units(groups, 1)  # too few images are refused before anything is computed
    run = _Tuning(predictor, samples, classes, groups, on_progress, num_runs=3 if options.crf else 2)
    sample, baseline = run.sample_pixels()
    units = divide_into_units(groups, baseline.units.block_length)
    notes, refusal = [units.describe()], ""
    biases: tuple[float, ...] = ()
    try:
        biases = fit_biases(sample)
        biased_segmenter = with_class_bias(segmenter, biases)
    except InputError as error:
        refusal = error.message
        notes.append(f"No biases: {refusal}.")
    plain, biased = run.cross_fit(sample, units, with_biases=not refusal)
    gain = None
    if biased is not None:
        sides = [biased.result.image_counts], [baseline.image_counts]
        gain = compute_differences(*sides, len(classes), groups).metrics["mean_iou"][0]
    is_kept = gain is not None and gain.low > 0
    final = biased if is_kept and biased is not None else plain
    thresholds = [fit_threshold(final.confidences, risk) for risk in options.risks]
    crf = run.fit_crf(units, biases if is_kept else None) if options.crf else None
    network = _as_stored(biased_segmenter if is_kept else segmenter)
    record = TuningRecord(
        network.digest(),
        fit_temperature(sample, biases if is_kept else None),
        biases if is_kept else None,
        data,
        options.split,
        len(samples),
        units.kind,
        units.number,
        CONFIDENCE_LEVEL,
        tuple(threshold for threshold in thresholds if threshold is not None),
        crf.crf.to_dict() if crf is not None and crf.is_kept else None,
    )
    network.card = {**network.card, CARD_KEY: record.to_dict()}
    errors = (expected_calibration_error(part.calibration) for part in (baseline, final.result) if part.calibration)
    before, after = errors
    checks = tuple(simulate_splits(final.confidences, risk) for risk in options.risks)
    return TuningResult(
        network,
        record,
        tuple(segmenter.classes),
        baseline,
        biased.result if biased is not None else None,
        None if refusal else biases,
        gain,
        (before, after),
        checks,
        options.risks,
        final.confidences,
        sample.fraction,
        tuple(notes),
        crf,
    )


@dataclass(frozen=True)
class _CrossFitted:
    """What was measured with parameters that were fitted on other folds."""

    accumulator: EvaluationAccumulator
    confidences: ConfidenceCounts
    biases: list[tuple[float, ...] | None]
    """By fold."""
    temperatures: list[float]
    """By fold."""
    names: tuple[str, ...]
    groups: Groups

    @property
    def result(self) -> EvaluationResult:
        return self.accumulator.result(self.names, range(len(self.names)), self.groups)

    def add(self, row: int, unit: int, fold: int, logits: Tensor, target: LabelArray) -> None:
        """Count an image.

        Args:
            logits: (C, H, W) of the network as it was.
        """
        biases = self.biases[fold]
        if biases is not None:
            logits = logits + torch.tensor(biases).view(-1, 1, 1)
        labels = logits.argmax(0).numpy()
        confidence = confidence_map(logits, self.temperatures[fold]).numpy()
        self.accumulator.add(row, labels, target, logits / self.temperatures[fold])
        is_labelled = target != ignore_id(len(logits))
        self.confidences.add(unit, confidence[is_labelled], (labels == target)[is_labelled])


@dataclass(frozen=True)
class _Tuning:
    """The two runs over the images."""

    predictor: Predictor
    samples: Sequence[Sample]
    classes: Classes
    groups: Groups
    on_progress: ProgressCallback | None
    num_runs: int
    """How often the network runs on each image."""

    def sample_pixels(self) -> tuple[PixelSample, EvaluationResult]:
        """Draw pixels of each image, and measure the network as it is."""
        names, size = self.predictor.segmenter.classes, len(self.samples)
        sample, accumulator = PixelSample.empty(len(names), size), EvaluationAccumulator(names, size, _CALIBRATION)
        for row, (target, logits, _) in enumerate(self._run(0)):
            sample.add(logits, target)
            accumulator.add(row, logits.argmax(0).numpy(), target, logits)
        return sample, accumulator.result(self._names, range(size), self.groups)

    def cross_fit(
        self, sample: PixelSample, units: TuningUnits, with_biases: bool
    ) -> tuple[_CrossFitted, _CrossFitted | None]:
        """Fit on all folds but one and count that one, with a temperature alone and with biases too."""
        parts = [sample.select((units.fold_of_image != fold).nonzero()[0].tolist()) for fold in range(units.num_folds)]
        variants = [self._variant(units, parts, [None] * len(parts))]
        if with_biases:
            variants.append(self._variant(units, parts, [fit_biases(part) for part in parts]))
        for row, (target, logits, _) in enumerate(self._run(1)):
            for variant in variants:
                variant.add(row, int(units.of_image[row]), int(units.fold_of_image[row]), logits, target)
        return variants[0], variants[1] if with_biases else None

    def _variant(
        self, units: TuningUnits, parts: Sequence[PixelSample], biases: Sequence[tuple[float, ...] | None]
    ) -> _CrossFitted:
        names, size = self.predictor.segmenter.classes, len(self.samples)
        temperatures = [fit_temperature(part, values) for part, values in zip(parts, biases, strict=True)]
        accumulator = EvaluationAccumulator(names, size, _CALIBRATION)
        counts = ConfidenceCounts.zeros(units.number)
        return _CrossFitted(accumulator, counts, list(biases), temperatures, self._names, self.groups)

    def fit_crf(self, units: TuningUnits, biases: tuple[float, ...] | None) -> CRFFit:
        """Choose a CRF on top of the network with the biases that are kept."""
        counts, config = CRFCounts.empty(self.predictor.segmenter.classes, len(self.samples)), self._input
        for row, (target, logits, pixels) in enumerate(self._run(2)):
            if biases is not None:
                logits = logits + torch.tensor(biases).view(-1, 1, 1)
            counts.add(row, logits, to_display(pixels), target, config.find_valid(pixels) if config else None)
        return counts.fit(units, self.groups)

    @property
    def _input(self) -> InputConfig | None:
        return self.predictor.segmenter.input

    def _run(self, number: int) -> Iterator[tuple[LabelArray, Tensor, BandArray]]:
        """Yield each image's true ids, its logits and its pixels, in one of the runs over all images."""
        size = len(self.samples)

        def report(done: int, total: int) -> None:
            if self.on_progress is not None:
                self.on_progress(number * size + done, self.num_runs * size)

        predictions = iter_predictions([self.predictor], self.samples, self.classes, logits=True)
        for target, (prediction,) in track(predictions, size, report):
            assert prediction.logits is not None
            yield target, prediction.logits, prediction.image

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(sample.name for sample in self.samples)


def _as_stored(segmenter: BaseSegmenter) -> BaseSegmenter:
    """Return a copy of a network as its file gives it back, whose weights may be rounded to 16 bits.

    A network that no file can hold is copied as it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        try:
            segmenter.config.require_savable(path)
        except InputError:
            return copy.deepcopy(segmenter)
        segmenter.save(path)
        return load(path)
