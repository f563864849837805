"""Regions of a data set whose label is probably wrong, ranked.

    auditor = Auditor(dataset.classes, AuditConfig())
    auditor.add_samples(predictor, samples)              # once for each network, on what it has not seen
    print(auditor.result())

A confident network that disagrees with a label is either wrong itself or right. It is wrong in ways of its own, such as
fence for building, that come back everywhere; faults of labels are rare for each pair of classes. And its mistakes are
mostly small, while neighboring pixels say little more than one: evidence grows with a region's side, not its area. So a
region ranks by the log odds of the suggested class over the labelled one, plus the logarithm of the side of its core,
less the logarithm of how often the networks make this exchange at all. What is kept is bounded by the number of
regions, not of images.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.evaluation.bias_fit import PixelSample, fit_temperature
from dilated.evaluation.confusion import ConfusionMatrix, make_zero_counts
from dilated.evaluation.evaluate import require_same_classes
from dilated.evaluation.suspects import AuditConfig, Suspect, find_suspects
from dilated.files import plural
from dilated.prediction.predictor import Predictor
from dilated.progress import ProgressCallback, track

_KEPT_PER_REGION = 8
"""Candidates that are kept for each region of the result, as how often classes are exchanged is known at the end."""
_CALIBRATION_IMAGES = 24


@dataclass(frozen=True)
class AuditRegion:
    """A region whose label is probably wrong, and where it is."""

    sample: Sample
    size: tuple[int, int]
    """(H, W) of the image."""
    suspect: Suspect
    score: float = 0.0
    """What it is ranked by; greater is more probably wrong."""

    @property
    def image(self) -> Path:
        return self.sample.image


@dataclass(frozen=True)
class Confusion:
    """How often pixels labelled as one class are predicted as another, away from borders."""

    labeled: str
    predicted: str
    pixels: int
    fraction: float
    """Of the labelled class's pixels."""


@dataclass(frozen=True, repr=False)
class AuditResult:
    """What was found."""

    classes: Classes
    regions: tuple[AuditRegion, ...]
    """The most probably wrong first."""
    counts: NDArray[np.int64]
    """(C, C) pixels by labelled and predicted class, without bands along borders."""
    images: int
    notes: tuple[str, ...] = ()

    @property
    def mean_iou(self) -> float:
        """Of the networks on the labels as they are, without bands along borders."""
        return ConfusionMatrix(self.classes.names, self.counts, np.zeros(len(self.classes), np.int64)).mean_iou

    def most_confused(self, count: int = 10) -> list[Confusion]:
        """Return the pairs of classes that labels and predictions exchange most, by the fraction of the labelled."""
        names, totals = self.classes.names, self.counts.sum(1).clip(1)
        fractions = self.counts / totals[:, None]
        exchanged = ((int(i), int(j)) for i, j in zip(*np.nonzero(self.counts), strict=True) if i != j)
        pairs = sorted(((float(fractions[i, j]), i, j) for i, j in exchanged), reverse=True)
        return [Confusion(names[i], names[j], int(self.counts[i, j]), f) for f, i, j in pairs[:count]]

    def __str__(self) -> str:
        names = self.classes.names
        lines = [*self.notes, f"{plural(len(self.regions), 'region')} in {plural(self.images, 'image')}"]
        for rank, region in enumerate(self.regions[:10], 1):
            suspect = region.suspect
            left, top, width, height = suspect.bbox
            lines.append(
                f"{rank}. {region.sample.name}: {suspect.kind}, {width}x{height} at ({left}, {top}): labelled "
                f"{names[suspect.labeled]}, probably {names[suspect.suggested]} ({suspect.confidence:.0%})"
            )
        for pair in self.most_confused(5):
            lines.append(f"labelled {pair.labeled}, predicted {pair.predicted}: {pair.fraction:.1%}")
        return "\n".join(lines)

    __repr__ = __str__


class Auditor:
    """Collects the regions of the images that it is given.

    Args:
        classes: of the labels.
        config: what counts as a region, and how many are kept.
    """

    def __init__(self, classes: Classes, config: AuditConfig) -> None:
        self.classes, self.config = classes, config
        self.counts: NDArray[np.int64] = make_zero_counts(len(classes))
        self.images = 0
        self._heap: list[tuple[float, int, int, AuditRegion]] = []
        self._added = 0

    def add_samples(
        self, predictor: Predictor, samples: Sequence[Sample], on_progress: ProgressCallback | None = None
    ) -> float:
        """Label images with a network that has not seen them, and keep what differs from their labels.

        Returns:
            The temperature by which the network's logits were divided: fitted on pixels of these images, as their
            labels are mostly right.

        Raises:
            InputError: classes that differ, or an unreadable image or label.
        """
        names = tuple(predictor.segmenter.classes)
        require_same_classes(names, self.classes)
        order = [names.index(name) for name in self.classes.names]
        temperature = _fit_temperature(predictor, samples, order)
        for sample in track(samples, len(samples), on_progress):
            image, target = sample.read()
            logits = predictor(image, logits=True).logits
            assert logits is not None
            logs = (logits[order].float() / temperature).log_softmax(0).numpy()
            suspects, counts = find_suspects(logs, target, self.config)
            np.add.at(self.counts, (counts.truth, counts.prediction), counts.pixels)
            self.images += 1
            for suspect in suspects:
                self._keep(AuditRegion(sample, (target.shape[0], target.shape[1]), suspect))
        return temperature

    def result(self, notes: Sequence[str] = ()) -> AuditResult:
        """Rank what was kept."""
        rates = _exchange_rates(self.counts)

        def score(suspect: Suspect) -> float:
            return _evidence(suspect) - math.log(rates[suspect.labeled, suspect.suggested])

        ranked = sorted((replace(entry[3], score=score(entry[3].suspect)) for entry in self._heap), key=_rank)
        return AuditResult(self.classes, tuple(ranked[: self.config.regions]), self.counts, self.images, tuple(notes))

    def _keep(self, region: AuditRegion) -> None:
        """Keep a region while it is among the strongest."""
        self._added += 1
        entry = (_evidence(region.suspect), region.suspect.core_pixels, -self._added, region)
        if len(self._heap) < _KEPT_PER_REGION * self.config.regions:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)


def _evidence(suspect: Suspect) -> float:
    """What an image says of a region: the log odds, and the logarithm of the side of a square of its core's area."""
    return suspect.log_odds + math.log(suspect.core_pixels) / 2


def _rank(region: AuditRegion) -> tuple[float, int, str, tuple[int, ...]]:
    return -region.score, -region.suspect.core_pixels, region.sample.name, region.suspect.bbox


def _exchange_rates(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(C, C): how often a pixel of a class is predicted as another; the fewer pixels, the nearer to the mean rate."""
    wrong = counts.sum() - np.trace(counts)
    size = len(counts)
    mean = max(float(wrong), 1.0) / max(float(counts.sum()), 1.0) / max(size - 1, 1)
    prior = max(1000.0, 0.001 * float(counts.sum()) / size)  # pixels that the mean rate weighs
    rates: NDArray[np.float64] = (counts + prior * mean) / (counts.sum(1, keepdims=True) + prior)
    return rates


def _fit_temperature(predictor: Predictor, samples: Sequence[Sample], order: Sequence[int]) -> float:
    """The temperature of greatest likelihood on some pixels of some images; 1 where nothing is labelled."""
    chosen = np.linspace(0, len(samples) - 1, min(len(samples), _CALIBRATION_IMAGES)).round().astype(int)
    sample = PixelSample.empty(len(order), len(chosen))
    for i in chosen.tolist():
        image, target = samples[i].read()
        predicted = predictor(image, logits=True).logits
        assert predicted is not None
        sample.add(predicted[order], target)
    return fit_temperature(sample)
