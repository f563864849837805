"""Measure a network on a split, at the pictures' own resolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats.pairs import Pair
from dilated.data.labels import IGNORE, Classes
from dilated.errors import InputError
from dilated.evaluate.confusion import ConfusionMatrix
from dilated.predict.predictor import Predictor


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    `per_picture` holds one (C, C) count a picture, in the order of `names`; `confusion` is their sum.
    """

    names: tuple[str, ...]
    per_picture: NDArray[np.int64]  # (pictures, C, C)
    confusion: ConfusionMatrix

    def to_dict(self) -> dict[str, Any]:
        """As JSON: `mean_iou`, `pixel_accuracy`, `iou` by class (null where it never occurs), `confusion`, ..."""
        iou = {name: None if np.isnan(value) else value for name, value in self.confusion.iou.items()}
        return {
            "mean_iou": self.confusion.mean_iou,
            "pixel_accuracy": self.confusion.pixel_accuracy,
            "iou": iou,
            "classes": list(self.confusion.classes),
            "confusion": self.confusion.counts.tolist(),
            "images": len(self.names),
            "pixels": self.confusion.pixels,
        }


def evaluate(
    predictor: Predictor, pairs: list[Pair], classes: Classes, tick: Callable[[], object] | None = None
) -> Evaluation:
    """Count every labelled pixel of every picture.

    Args:
        classes: of the data; the same names as the network's, in any order.
        tick: called after each picture.

    Raises:
        InputError: classes that differ from the network's, or an unreadable picture or label.
    """
    same_classes(predictor.segmenter.classes, classes)
    translate = np.full(256, IGNORE, dtype=np.uint8)  # ids of the data -> ids of the network
    for i, name in enumerate(classes.names):
        translate[i] = predictor.segmenter.classes.index(name)
    counts = []
    for pair in pairs:
        image = pair.read_image()
        height, width = image.shape[:2]
        target = translate[pair.read_label(classes, (height, width))]
        labels = predictor(image).labels
        one = ConfusionMatrix(predictor.segmenter.classes)
        one.update(labels, target)
        counts.append(one.counts)
        if tick:
            tick()
    per_picture = np.stack(counts)
    pooled = ConfusionMatrix(predictor.segmenter.classes, per_picture.sum(0))
    return Evaluation(tuple(pair.name for pair in pairs), per_picture, pooled)


def same_classes(network: tuple[str, ...], data: Classes) -> None:
    """Raise where a network cannot be measured on data: its classes must have the data's names."""
    if set(network) != set(data.names):
        only_network, only_data = sorted(set(network) - set(data.names)), sorted(set(data.names) - set(network))
        raise InputError(
            f"{data.source}: the classes differ from the network's: only the data has {only_data}, only the network "
            f"has {only_network}; expected the same names. Merge or rename classes in classes.toml."
        )
