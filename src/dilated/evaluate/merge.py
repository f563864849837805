"""One evaluation from those of several processes, each of some of the pictures.

    parts = [evaluate(predictor, pairs, classes, indices=range(rank, len(pairs), 4)) for rank in range(4)]
    merge(parts)                                         # what one process would have found, to the last count

Each picture counts once: a picture that two processes measured, as samplers that fill up the last round have it, is an
error, and so is one that none did.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dilated.evaluate.boundary import BoundaryCounts
from dilated.evaluate.calibration import ReliabilityCounts
from dilated.evaluate.confusion import ConfusionMatrix
from dilated.evaluate.evaluation import Evaluation
from dilated.evaluate.trimap import TrimapCounts


def merge(parts: Sequence[Evaluation]) -> Evaluation:
    """Put the pictures of several evaluations into the data's order.

    Args:
        parts: of the same data, measured in the same way; together each picture once. A part may have none.

    Raises:
        ValueError: no part, parts of different data or measures, a picture twice, a picture in no part.

    Example:
        >>> matrix = ConfusionMatrix(["sky"])
        >>> a = Evaluation(("p1",), np.array([[[5]]]), matrix, places=(1,), of=2)
        >>> b = Evaluation(("p0",), np.array([[[3]]]), matrix, places=(0,), of=2)
        >>> whole = merge([a, b])
        >>> whole.names, whole.confusion.counts.tolist()
        (('p0', 'p1'), [[8]])
    """
    if not parts:
        raise ValueError("merge: found no part; expected at least one")
    first = parts[0]
    for part in parts[1:]:
        if _kind(part) != _kind(first):
            raise ValueError(f"merge: found parts of {_kind(first)} and {_kind(part)}; expected the same of all")
    places = [place for part in parts for place in part.places]
    names = [name for part in parts for name in part.names]
    order = sorted(range(len(places)), key=places.__getitem__)
    in_order = [places[i] for i in order]
    for one, following in pairwise(in_order):
        if one == following:
            raise ValueError(f"merge: found picture {one} in two parts; expected each once")
    missing = sorted(set(range(first.of)) - set(in_order))
    if missing:
        raise ValueError(f"merge: found picture {missing[0]} in no part ({len(missing)} such of {first.of})")

    def joined(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        return np.concatenate(rows)[order]

    per_picture = joined([part.per_picture for part in parts])
    boundary, trimap, calibration = first.boundary, first.trimap, first.calibration
    if boundary is not None:
        found = [part.boundary for part in parts if part.boundary]
        boundary = BoundaryCounts(joined([p.hits for p in found]), joined([p.union for p in found]), boundary.width)
    if trimap is not None:
        trimap = TrimapCounts(trimap.widths, joined([part.trimap.counts for part in parts if part.trimap]))
    if calibration is not None:
        bins = [part.calibration for part in parts if part.calibration]
        calibration = ReliabilityCounts(
            joined([p.pixels for p in bins]), joined([p.hits for p in bins]), joined([p.confidence for p in bins])
        )
    return Evaluation(
        tuple(names[i] for i in order),
        per_picture,
        ConfusionMatrix(first.confusion.classes, per_picture.sum(0)),
        boundary,
        trimap,
        calibration,
        tuple(in_order),
        first.of,
    )


def _kind(part: Evaluation) -> dict[str, object]:
    """What parts must have in common."""
    return {
        "classes": part.confusion.classes,
        "pictures": part.of,
        "boundary": part.boundary.width if part.boundary else None,
        "trimap": part.trimap.widths if part.trimap else None,
        "calibration": part.calibration is not None,
    }
