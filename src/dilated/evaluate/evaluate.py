"""Measure a network on a split, at the pictures' own resolution.

    result = evaluate(predictor, data.pairs("val"), data.classes, boundary=True, trimap=(1, 2, 4, 8))
    result.confusion.mean_iou

Several processes each measure some of the pictures and `merge` what they found:

    part = evaluate(predictor, pairs, classes, indices=range(rank, len(pairs), processes))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats.pairs import Pair
from dilated.data.labels import IGNORE, Classes
from dilated.errors import InputError
from dilated.evaluate.evaluation import Evaluation
from dilated.evaluate.merge import merge
from dilated.evaluate.tally import Measures, Tally
from dilated.predict.predictor import Predictor

__all__ = ["Evaluation", "evaluate", "merge", "same_classes", "translation"]


def evaluate(
    predictor: Predictor,
    pairs: Sequence[Pair],
    classes: Classes,
    tick: Callable[[], object] | None = None,
    *,
    boundary: bool = False,
    trimap: Sequence[int] = (),
    calibration: bool = False,
    measures: Measures | None = None,
    indices: Iterable[int] | None = None,
) -> Evaluation:
    """Count every labelled pixel of every picture.

    Args:
        pairs: all pictures of the split.
        classes: of the data; the same names as the network's, in any order.
        tick: called after each picture.
        boundary: measure boundary IoU too.
        trimap: measure mean IoU within these pixels of a true border too.
        calibration: measure how true the probabilities are too.
        measures: all of these in one, with the width of the boundaries' bands, instead of them.
        indices: which of the pictures to measure, for `merge`; all of them if not given.

    Returns:
        Counts by the network's classes, in the network's order.

    Raises:
        InputError: classes that differ from the network's, widths that make no sense, or an unreadable picture or
            label.
    """
    same_classes(predictor.segmenter.classes, classes)
    to_network = translation(classes.names, predictor.segmenter.classes)
    places = list(range(len(pairs)) if indices is None else indices)
    wanted = measures or Measures(boundary, trimap=tuple(trimap), calibration=calibration)
    tally = Tally(predictor.segmenter.classes, len(places), wanted)
    for i, place in enumerate(places):
        image = pairs[place].read_image()
        height, width = image.shape[:2]
        target = to_network[pairs[place].read_label(classes, (height, width))]
        prediction = predictor(image, scores=wanted.calibration)
        tally.add(i, prediction.labels, target, prediction.scores)
        if tick:
            tick()
    return tally.result([pairs[place].name for place in places], places, of=len(pairs))


def translation(given: Sequence[str], wanted: Sequence[str]) -> NDArray[np.uint8]:
    """(256,): ids in one order of the names -> ids in another; 255 stays 255.

    Example:
        >>> translation(["sky", "road"], ["road", "sky"])[[0, 1, 255]].tolist()
        [1, 0, 255]
    """
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[: len(given)] = [list(wanted).index(name) for name in given]
    return table


def same_classes(network: Sequence[str], data: Classes) -> None:
    """Raise where a network cannot be measured on data: its classes must have the data's names.

    Raises:
        InputError: names that only one of them has.
    """
    if set(network) != set(data.names):
        only_network, only_data = sorted(set(network) - set(data.names)), sorted(set(data.names) - set(network))
        raise InputError(
            f"{data.source}: the classes differ from the network's: only the data has {only_data}, only the network "
            f"has {only_network}; expected the same names. Merge or rename classes in classes.toml."
        )
