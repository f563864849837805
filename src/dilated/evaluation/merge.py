"""One evaluation from those of several processes, each of some of the images.

    parts = [evaluate(predictor, pairs, classes, indices=range(rank, len(pairs), 4)) for rank in range(4)]
    merge(parts)                                         # what one process would have found, to the last count

Each image counts once: an image that two processes measured, as samplers that fill up the last round have it, is an
error, and so is one that none did.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dilated.evaluation.boundary import BoundaryCounts
from dilated.evaluation.calibration import ReliabilityCounts
from dilated.evaluation.confusion import ConfusionMatrix
from dilated.evaluation.result import EvaluationResult
from dilated.evaluation.trimap import TrimapCounts


def merge(parts: Sequence[EvaluationResult]) -> EvaluationResult:
    """Put the images of several evaluations into the data's order.

    Args:
        parts: of the same data, measured in the same way; together each image once. A part may have none.

    Raises:
        ValueError: no part, parts of different data or measures, an image twice, an image in no part.

    Example:
        >>> matrix = ConfusionMatrix(["sky"])
        >>> a = EvaluationResult(("p1",), np.array([[[5]]]), matrix, indices=(1,), dataset_size=2)
        >>> b = EvaluationResult(("p0",), np.array([[[3]]]), matrix, indices=(0,), dataset_size=2)
        >>> whole = merge([a, b])
        >>> whole.names, whole.confusion.counts.tolist()
        (('p0', 'p1'), [[8]])
    """
    if not parts:
        raise ValueError("merge: found no part; expected at least one")
    reference = parts[0]
    for part in parts[1:]:
        if _common_settings(part) != _common_settings(reference):
            raise ValueError(
                f"merge: found parts of {_common_settings(reference)} and {_common_settings(part)}; expected the same of all"
            )
    indices = [index for part in parts for index in part.indices]
    names = [name for part in parts for name in part.names]
    order = sorted(range(len(indices)), key=indices.__getitem__)
    sorted_indices = [indices[i] for i in order]
    for one, following in pairwise(sorted_indices):
        if one == following:
            raise ValueError(f"merge: found image {one} in two parts; expected each once")
    missing = sorted(set(range(reference.dataset_size)) - set(sorted_indices))
    if missing:
        raise ValueError(
            f"merge: found image {missing[0]} in no part ({len(missing)} such of {reference.dataset_size})"
        )

    def concatenate_in_order(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        return np.concatenate(rows)[order]

    per_image = concatenate_in_order([part.per_image for part in parts])
    boundary, trimap, calibration = reference.boundary, reference.trimap, reference.calibration
    if boundary is not None:
        boundary_counts = [part.boundary for part in parts if part.boundary]
        boundary = BoundaryCounts(
            concatenate_in_order([p.intersection for p in boundary_counts]),
            concatenate_in_order([p.union for p in boundary_counts]),
            boundary.width,
        )
    if trimap is not None:
        trimap = TrimapCounts(
            trimap.widths, concatenate_in_order([part.trimap.counts for part in parts if part.trimap])
        )
    if calibration is not None:
        calibration_counts = [part.calibration for part in parts if part.calibration]
        calibration = ReliabilityCounts(
            concatenate_in_order([p.pixels for p in calibration_counts]),
            concatenate_in_order([p.correct for p in calibration_counts]),
            concatenate_in_order([p.confidence for p in calibration_counts]),
        )
    return EvaluationResult(
        tuple(names[i] for i in order),
        per_image,
        ConfusionMatrix(reference.confusion.classes, per_image.sum(0)),
        boundary,
        trimap,
        calibration,
        tuple(sorted_indices),
        reference.dataset_size,
    )


def _common_settings(part: EvaluationResult) -> dict[str, object]:
    """What parts must have in common."""
    return {
        "classes": part.confusion.classes,
        "images": part.dataset_size,
        "boundary": part.boundary.width if part.boundary else None,
        "trimap": part.trimap.widths if part.trimap else None,
        "calibration": part.calibration is not None,
    }
