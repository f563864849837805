"""Fitting one bias per class for mean IoU, and a temperature for the likelihood, on a sample of pixels.

    sample = PixelSample.empty(num_classes, num_images)
    sample.add(logits, target)                           # of each image
    biases = fit_biases(sample.select(images))
    temperature = fit_temperature(sample, biases)

Mean IoU is a step function of a bias; raised from -2 to 2, it moves pixels from other classes to its own one after the
other. So all steps of one class are counted in one pass, the best is taken, and the classes take turns until none
gains: ascent of the metric itself, on the grid of 1/64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dilated.errors import InputError
from dilated.label_ids import ignore_id

_MOST_VALUES = 32_000_000
"""Logits that a sample holds, in 16 bits each."""
_MOST_PIXELS = 600_000
_STEPS = 64
_RANGE = 2
"""Biases are multiples of 1/64 within -2 to 2."""
_MOST_ROUNDS = 12
_MOST_CLASSES = 255
_LEAST_GAIN = 1e-5
_TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class PixelSample:
    """Pixels of several images with their logits; each stands for as many as were left out for it.

    Drawn at random with a fixed seed, up to the same number from each image: all labelled pixels of small data.
    """

    num_classes: int
    most_pixels: int
    """Of one image."""
    logits: list[Tensor]
    """By image: (n, C) float16, less their maximum."""
    targets: list[NDArray[np.int64]]
    """By image: (n,) ids."""
    weights: list[float]
    """By image: labelled pixels for each that was drawn."""

    @classmethod
    def empty(cls, num_classes: int, num_images: int) -> PixelSample:
        """A sample for so many images."""
        total = min(_MOST_PIXELS, _MOST_VALUES // num_classes)
        return cls(num_classes, max(16, total // max(num_images, 1)), [], [], [])

    def add(self, logits: Tensor, target: NDArray[np.integer]) -> None:
        """Draw from the labelled pixels of the next image.

        Args:
            logits: (C, H, W) before the softmax.
            target: (H, W) true ids, ignored where not labelled.
        """
        labelled = np.flatnonzero(target != ignore_id(self.num_classes))
        chosen = labelled
        if len(labelled) > self.most_pixels:
            random = np.random.default_rng(len(self.logits))
            chosen = np.sort(random.choice(labelled, self.most_pixels, replace=False))
        pixels = logits.flatten(1)[:, torch.from_numpy(chosen)].float().T
        self.logits.append((pixels - pixels.amax(1, keepdim=True)).clamp(min=-60000).half())
        self.targets.append(target.ravel()[chosen].astype(np.int64))
        self.weights.append(len(labelled) / max(len(chosen), 1))

    def select(self, images: Sequence[int]) -> PixelSample:
        """The pixels of some of the images."""
        parts = ([values[i] for i in images] for values in (self.logits, self.targets, self.weights))
        return PixelSample(self.num_classes, self.most_pixels, *parts)  # type: ignore[arg-type]

    @property
    def fraction(self) -> float:
        """The share of the labelled pixels that are in it."""
        drawn = [len(target) for target in self.targets]
        return sum(drawn) / max(sum(n * w for n, w in zip(drawn, self.weights, strict=True)), 1.0)

    def join(self) -> tuple[Tensor, NDArray[np.int64], NDArray[np.float64]]:
        """Return logits (n, C) float32, ids (n,) and weights (n,) of all images."""
        if not self.logits:
            return torch.zeros(0, self.num_classes), np.zeros(0, dtype=np.int64), np.zeros(0)
        weights = [np.full(len(t), w) for t, w in zip(self.targets, self.weights, strict=True)]
        return torch.cat(self.logits).float(), np.concatenate(self.targets), np.concatenate(weights)


def fit_biases(sample: PixelSample) -> tuple[float, ...]:
    """Find biases, one per class, whose sum with the logits has the greatest mean IoU on a sample.

    Raises:
        InputError: more than 255 classes.

    Example:
        >>> sample = PixelSample.empty(2, 1)
        >>> logits = torch.tensor([[0.3, 0.1, -0.2, 0.4], [0.0, 0.0, 0.0, 0.0]]).view(2, 1, 4)
        >>> sample.add(logits, np.array([[1, 1, 1, 0]]))  # class 1 is 0.3 too low
        >>> first, second = fit_biases(sample)
        >>> bool(((logits[0] + first > logits[1] + second).int() == torch.tensor([0, 0, 0, 1])).all())
        True
    """
    if sample.num_classes > _MOST_CLASSES:
        raise InputError(f"of {sample.num_classes} classes the pixels that are held are too few for a bias each")
    logits, target, weights = sample.join()
    biases = np.zeros(sample.num_classes)
    best = -math.inf
    for _ in range(_MOST_ROUNDS):
        before = best
        for index in range(sample.num_classes):
            step, value = _best_bias(logits, biases, index, target, weights)
            if value > best + (_LEAST_GAIN if step != biases[index] else 0):
                biases[index], best = step, value
        if best - before < _LEAST_GAIN:
            break
    return tuple(float(value) for value in biases)


def _best_bias(
    logits: Tensor, biases: NDArray[np.float64], index: int, target: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the bias of a class with the greatest mean IoU, the others being as they are, and that mean IoU."""
    classes = logits.shape[1]
    if classes == 1:
        return 0.0, 1.0
    others = logits + torch.from_numpy(biases).float()
    class_logits = others[:, index] - float(biases[index])
    others[:, index] = -math.inf
    rival_value, rival = others.max(1)
    # The class wins where its bias is above the threshold; of equal logits the first class wins, as argmax takes it.
    threshold = (rival_value - class_logits).double().numpy() * _STEPS
    rivals = rival.numpy()
    first = np.where(index < rivals, np.ceil(threshold), np.floor(threshold) + 1)
    count = 2 * _RANGE * _STEPS + 1
    step = np.clip(first + _RANGE * _STEPS, 0, count).astype(np.int64)  # from this step on, the pixel is of the class
    key = step * classes + rivals

    def moved(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The weight of pixels that have moved from each class at each step: (steps, C)."""
        total = np.bincount(key[mask], weights[mask], (count + 1) * classes)
        sums: NDArray[np.float64] = np.cumsum(total.reshape(count + 1, classes), axis=0, dtype=np.float64)[:count]
        return sums

    truth = np.bincount(target, weights, classes)
    is_rival = target == rivals
    left, left_correct = moved(np.ones(len(target), bool)), moved(is_rival)
    predicted = np.bincount(rivals, weights, classes) - left
    correct = np.bincount(rivals[is_rival], weights[is_rival], classes) - left_correct
    predicted[:, index] = left.sum(1)
    correct[:, index] = moved(target == index).sum(1)
    union = truth + predicted - correct
    known = union > 1e-9
    means = np.where(known, correct / np.where(known, union, 1), 0).sum(1) / np.maximum(known.sum(1), 1)
    grid = np.arange(count) / _STEPS - _RANGE
    winners = np.flatnonzero(means >= means.max() - 1e-12)
    best = winners[np.argmin(np.abs(grid[winners] - biases[index]))]  # of equal ones, that which changes least
    return float(grid[best]), float(means[best])


def fit_temperature(sample: PixelSample, biases: Sequence[float] | None = None) -> float:
    """Find what logits must be divided by for the greatest likelihood of the true classes on a sample.

    Args:
        biases: added to the logits first.

    Returns:
        From 0.05 to 20; 1 for a single class.
    """
    logits, target, weights = sample.join()
    if biases is not None:
        logits = logits + torch.tensor(biases)
    if sample.num_classes == 1 or not len(target):
        return 1.0
    truth, weight = torch.from_numpy(target), torch.from_numpy(weights)

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        likelihood = scaled.gather(1, truth[:, None])[:, 0] - scaled.logsumexp(1)
        return -float((likelihood.double() * weight).sum() / weight.sum())

    low, high = map(math.log, _TEMPERATURES)
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    values = loss(left), loss(right)
    while high - low > 1e-3:  # golden section: the loss has one minimum
        if values[0] < values[1]:
            high, right = right, left
            left = high - ratio * (high - low)
            values = loss(left), values[0]
        else:
            low, left = left, right
            right = low + ratio * (high - low)
            values = values[1], loss(right)
    return round(math.exp((low + high) / 2), 4)
