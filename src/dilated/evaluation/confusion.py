"""One pooled confusion matrix in int64, and the metrics that follow from it.

    confusion = ConfusionMatrix(["sky", "road"])
    confusion.update(labels, target)                     # (H, W) ids each; ignored pixels of target count nowhere
    confusion.mean_iou

Pooled over all images, as the published benchmarks do: not a mean of per-image means, not in floats that stop
counting at 2**24, not at a resized resolution. It takes 8 bytes for each pair of classes: 200 MB for 5,000 classes.

With a single class every labelled pixel is right: its IoU is 1 whatever the network does. Such a task needs a second
class for everything else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dilated.errors import InputError
from dilated.evaluation.metrics import compute_metrics, stack_image_counts
from dilated.evaluation.pair_counts import LabelPairs, pair_labels

_BACKGROUND_NAMES = ("background", "_background_", "bg", "back", "rest", "none", "other", "nothing")


class ConfusionMatrix:
    """Counts of pixels by true class (rows) and predicted class (columns).

    Args:
        classes: names, in the order of the ids; or just how many there are.
        counts: (C, C) to begin with.
        unpredicted: (C,) true pixels that the prediction leaves without a class, which are misses.

    Example:
        >>> confusion = ConfusionMatrix(["sky", "road"])
        >>> confusion.update(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 255]))
        >>> confusion.counts.tolist(), confusion.mean_iou
        ([[1, 1], [0, 1]], 0.5)
    """

    def __init__(
        self,
        classes: Sequence[str] | int,
        counts: NDArray[np.int64] | None = None,
        unpredicted: NDArray[np.int64] | None = None,
    ) -> None:
        self.classes = tuple(map(str, range(classes) if isinstance(classes, int) else classes))
        size = len(self.classes)
        self.counts = make_zero_counts(size) if counts is None else counts
        self.unpredicted = np.zeros(size, dtype=np.int64) if unpredicted is None else unpredicted

    def update(self, labels: ArrayLike, target: ArrayLike) -> None:
        """Count one image: ids as arrays or CPU tensors of the same shape.

        Pixels that the target ignores count nowhere: 255, or 65535 of more than 255 classes.

        Raises:
            ValueError: shapes that differ, or an id outside the classes.
        """
        self.add(pair_labels(labels, target, len(self.classes)))

    def add(self, pairs: LabelPairs) -> None:
        """Add the counts of one image."""
        known = pairs.prediction < len(self.classes)
        np.add.at(self.counts, (pairs.truth[known], pairs.prediction[known]), pairs.pixels[known])
        np.add.at(self.unpredicted, pairs.truth[~known], pairs.pixels[~known])

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Merge two counts, of two processes or two halves of the data."""
        if self.classes != other.classes:
            raise ValueError("ConfusionMatrix: the two count different classes")
        return ConfusionMatrix(self.classes, self.counts + other.counts, self.unpredicted + other.unpredicted)

    @property
    def pixels(self) -> int:
        """Counted pixels."""
        return int(self.counts.sum() + self.unpredicted.sum())

    @property
    def iou(self) -> dict[str, float]:
        """Intersection over union by class; NaN for a class in neither the truth nor the prediction."""
        return self._by_class("iou")

    @property
    def mean_iou(self) -> float:
        """The mean IoU over the classes that occur."""
        return float(self._metrics["mean_iou"][0])

    @property
    def dice(self) -> dict[str, float]:
        """Dice by class, the same as F1: twice the overlap over the sum of both areas; NaN where both are empty."""
        return self._by_class("dice")

    @property
    def precision(self) -> dict[str, float]:
        """The fraction of the pixels predicted as the class that is right; NaN for a class never predicted."""
        return self._by_class("precision")

    @property
    def recall(self) -> dict[str, float]:
        """The fraction of the true pixels of the class that is predicted so; NaN for a class without any."""
        return self._by_class("recall")

    @property
    def pixel_accuracy(self) -> float:
        """The fraction of counted pixels whose label is right; NaN without any."""
        return float(self._metrics["pixel_accuracy"][0])

    @property
    def foreground(self) -> str | None:
        """The class that a task of two classes is about, beside one named as a background; None for other classes.

        Example:
            >>> ConfusionMatrix(["Background", "nucleus"]).foreground, ConfusionMatrix(["sky", "road"]).foreground
            ('nucleus', None)
        """
        others = [name for name in self.classes if name.strip().lower() not in _BACKGROUND_NAMES]
        return others[0] if len(self.classes) == 2 and len(others) == 1 else None

    @property
    def _metrics(self) -> dict[str, NDArray[np.float64]]:
        return compute_metrics(self.class_counts, len(self.classes))

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """(3 C,): correct, true and predicted pixels by class."""
        counts = stack_image_counts(self.counts)
        counts[len(self.classes) : 2 * len(self.classes)] += self.unpredicted
        return counts

    def _by_class(self, name: str) -> dict[str, float]:
        return dict(zip(self.classes, self._metrics[name].tolist(), strict=True))


def make_zero_counts(num_classes: int) -> NDArray[np.int64]:
    """Return (C, C) zeros.

    Raises:
        InputError: they need more memory than there is.
    """
    try:
        return np.zeros((num_classes, num_classes), dtype=np.int64)
    except MemoryError as error:
        size = f"{8 * num_classes**2 / 2**30:.1f} GiB"
        raise InputError(
            f"confusion matrix: {num_classes:,} classes need {size} of memory", hint="merge classes in classes.toml"
        ) from error
