"""Two networks on the same pictures: how much better one is, and whether that is more than chance.

    both = compare(ours, theirs, data.pairs("val"), data.classes)
    print(both.sentence("context", "frontend"))
    both.differences["iou"]                              # one interval a class

Both label each picture in one pass over the data. The interval of a difference is over the pictures, drawn anew in
pairs: it says whether other pictures like these would show the same sign. Training again with another seed is a
different chance, which takes several trainings to measure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats.pairs import Pair
from dilated.data.labels import IGNORE, Classes
from dilated.evaluate.bootstrap import Interval
from dilated.evaluate.evaluate import same_classes, translation
from dilated.evaluate.evaluation import Evaluation
from dilated.evaluate.figures import differences
from dilated.evaluate.tally import Measures, Tally
from dilated.predict.predictor import Predictor


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two evaluations of the same pictures, with the same order of classes.

    `changed`: (P, 3) int64, the labelled pixels of each picture whose label differs: those that only ours has right,
    those that only theirs has right, those that both have wrong.
    """

    ours: Evaluation
    theirs: Evaluation
    changed: NDArray[np.int64]

    @cached_property
    def differences(self) -> dict[str, list[Interval]]:
        """Ours less theirs: `mean_iou`, `iou` by class, ... with intervals; empty for fewer than two pictures."""
        if len(self.ours.names) < 2:
            return {}
        return differences(self.ours.totals, self.theirs.totals, len(self.ours.confusion.classes))

    def sentence(self, ours: str, theirs: str) -> str:
        """What the figures say of two networks, called by these names, and what they do not."""
        if not self.changed.any():
            return f"{ours} and {theirs} label every labelled pixel the same."
        if not self.differences:
            return "One picture tells nothing of chance: no interval."
        (gap,) = self.differences["mean_iou"]
        if not gap.leaves_out_0:
            return (
                f"The interval of the difference holds 0: on {len(self.ours.names)} pictures, {ours} and {theirs} "
                "cannot be told apart by mean IoU."
            )
        better, worse = (ours, theirs) if gap.value > 0 else (theirs, ours)
        return (
            f"{better} is better than {worse} by more than the chance of which pictures were measured (the interval "
            "leaves out 0). This is about these two networks on pictures like these; another training, with another "
            "seed, is not covered."
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON: their figures, the differences as {value, low, high}, and the pixels that change."""
        names = self.ours.confusion.classes
        found = {key: [_numbers(one) for one in values] for key, values in self.differences.items()}
        return {
            "theirs": self.theirs.to_dict(),
            "difference": {
                key: dict(zip(names, values, strict=True)) if key in BY_CLASS else values[0]
                for key, values in found.items()
            },
            "changed_pixels": self.changed_pixels,
        }

    @property
    def changed_pixels(self) -> dict[str, int]:
        """Labelled pixels whose label differs, over all pictures."""
        ours, theirs, neither = self.changed.sum(0).tolist()
        return {
            "labelled": self.ours.confusion.pixels,
            "changed": ours + theirs + neither,
            "only_ours_right": ours,
            "only_theirs_right": theirs,
            "both_wrong": neither,
        }


BY_CLASS = ("iou", "dice", "precision", "recall", "boundary_iou")


def compare(
    ours: Predictor,
    theirs: Predictor,
    pairs: Sequence[Pair],
    classes: Classes,
    tick: Callable[[], object] | None = None,
    measures: Measures | None = None,
) -> Comparison:
    """Measure two networks on the same pictures.

    Args:
        classes: of the data; both networks have the same names, in any order.
        tick: called after each picture.
        measures: what to measure besides the confusion matrix.

    Returns:
        Both evaluations in the order of our classes.

    Raises:
        InputError: classes that differ, or an unreadable picture or label.
    """
    names = ours.segmenter.classes
    same_classes(names, classes)
    same_classes(theirs.segmenter.classes, classes)
    target_ids, their_ids = translation(classes.names, names), translation(theirs.segmenter.classes, names)
    wanted = measures or Measures()
    tallies = Tally(names, len(pairs), wanted), Tally(names, len(pairs), wanted)
    changed = np.zeros((len(pairs), 3), dtype=np.int64)
    for i, pair in enumerate(pairs):
        image = pair.read_image()
        height, width = image.shape[:2]
        target = target_ids[pair.read_label(classes, (height, width))]
        mine, other = ours(image, scores=wanted.calibration), theirs(image, scores=wanted.calibration)
        labels = their_ids[other.labels]
        tallies[0].add(i, mine.labels, target, mine.scores)
        tallies[1].add(i, labels, target, other.scores)
        changed[i] = changes(mine.labels, labels, target)
        if tick:
            tick()
    a, b = (tally.result([pair.name for pair in pairs], range(len(pairs)), len(pairs)) for tally in tallies)
    return Comparison(a, b, changed)


def changes(ours: NDArray[Any], theirs: NDArray[Any], target: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Labelled pixels that only ours has right, only theirs, and where they differ and neither is right.

    Example:
        >>> target = np.array([0, 0, 0, 0, 255], np.uint8)
        >>> changes(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, 2, 2]), target)
        (1, 1, 1)
    """
    differ = (ours != theirs) & (target != IGNORE)
    mine, others = int((differ & (ours == target)).sum()), int((differ & (theirs == target)).sum())
    return mine, others, int(differ.sum()) - mine - others


def _numbers(one: Interval) -> dict[str, float] | None:
    return None if np.isnan(one.value) else {"value": one.value, "low": one.low, "high": one.high}
