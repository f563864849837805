"""Definitions written out, pixel by pixel, and a predictor whose answers are given."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from dilated import Classes
from dilated.data.sample import Sample
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor

NAMES = ("sky", "road", "tree", "car")
CLASSES = Classes(NAMES, ((1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)))

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8)
images = shapes.flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.uint8, shape, elements=st.integers(0, 3)),
        hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 255])),
    )
)


def around(y: int, x: int, width: int, shape: tuple[int, ...]) -> tuple[list[tuple[int, int]], bool]:
    """The pixels within `width`, and whether some of them are outside the image."""
    square = [(y + i, x + j) for i in range(-width, width + 1) for j in range(-width, width + 1)]
    inside = [(i, j) for i, j in square if 0 <= i < shape[0] and 0 <= j < shape[1]]
    return inside, len(inside) < len(square)


def band(ids: NDArray[Any], target: NDArray[Any], one: int, width: int) -> set[tuple[int, int]]:
    """The inner band of one class's mask: within `width` of what is labelled and not of the mask, or of the outside."""
    found = set()
    for y, x in np.ndindex(*target.shape):
        if target[y, x] == 255 or ids[y, x] != one:
            continue
        near, leaves = around(y, x, width, target.shape)
        if leaves or any(target[p] != 255 and ids[p] != one for p in near):
            found.add((y, x))
    return found


def near_border(target: NDArray[Any], width: int) -> set[tuple[int, int]]:
    """Labelled pixels with another true label within `width`."""
    return {
        (y, x)
        for y, x in np.ndindex(*target.shape)
        if target[y, x] != 255
        and any(target[p] not in (255, target[y, x]) for p in around(y, x, width, target.shape)[0])
    }


class Told(Predictor):
    """Answers with given labels: the first pixel of an image says which. Logits are 3 for the label and 0 else."""

    def __init__(self, answers: list[NDArray[np.uint8]], classes: tuple[str, ...] = NAMES) -> None:
        self.answers, self.classes = answers, classes
        self.segmenter: Any = SimpleNamespace(classes=classes, input=None)
        self.device = torch.device("cpu")

    def __call__(self, image: Any, *, logits: bool = False) -> Prediction:
        labels = self.answers[image[0, 0, 0]]
        found = None
        if logits:
            found = torch.from_numpy(labels.astype(np.int64)[None] == np.arange(len(self.classes))[:, None, None]) * 3.0
        return Prediction(image, labels, found, self.classes, CLASSES.colors)


def pairs_of(targets: list[NDArray[np.uint8]]) -> list[Sample]:
    """Images of black, but for the first pixel, with these labels."""

    def pair(i: int, target: NDArray[np.uint8]) -> Sample:
        image = np.zeros((*target.shape, 3), np.uint8)
        image[0, 0] = i
        return Sample(Path(f"p{i}"), Path(f"p{i}"), lambda _: target, lambda _: image, stem=f"p{i}", classes=CLASSES)

    return [pair(i, target) for i, target in enumerate(targets)]


def drawn(number: int, seed: int = 0, ignored: float = 0.1) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Targets of large areas with some pixels not labelled, and labels that are nearly them."""
    random = np.random.default_rng(seed)
    targets, answers = [], []
    for _ in range(number):
        height, width = random.integers(6, 20, 2)
        target = np.repeat(np.repeat(random.integers(0, 4, (height // 3 + 1, width // 3 + 1)), 3, 0), 3, 1)
        target = target[:height, :width].astype(np.uint8)
        wrong = random.random(target.shape) < 0.2
        answers.append(np.where(wrong, random.integers(0, 4, target.shape), target).astype(np.uint8))
        targets.append(np.where(random.random(target.shape) < ignored, 255, target).astype(np.uint8))
    return targets, answers
