"""Predictions as `Detections` of supervision, which draws, filters, counts and tracks them.

detections = to_detections(Predictor("street")("photo.jpg", logits=True))
supervision.MaskAnnotator().annotate(image, detections)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dilated.data.polygons import label_components
from dilated.errors import InputError
from dilated.prediction.prediction import Prediction

if TYPE_CHECKING:
    from supervision import Detections


def to_detections(prediction: Prediction, *, regions: bool = False) -> Detections:
    """Return the masks of a prediction, ordered by class: one for each class that occurs, or one for each region.

    Boxes are half-open: left, top, and the right and lower edge of the last pixel. `data["class_name"]` has the names.
    Pixels without data are in no mask. `confidence` is the mean over a mask's pixels where the prediction has logits,
    otherwise None.

    Args:
        prediction: (H, W) labels.
        regions: a mask for each 4-connected region instead of one for each class; each takes H x W bytes.

    Raises:
        InputError: supervision is not installed.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise InputError("to_detections: supervision is not installed", hint="pip install supervision") from error
    labels, number = prediction.labels, len(prediction.classes)
    if regions and labels.size:
        parts, values = label_components(labels)
    else:
        values = np.unique(labels)
        parts = np.searchsorted(values, labels)
    chosen = sorted((value, part) for part, value in enumerate(values.tolist()) if value < number)
    masks = np.zeros((len(chosen), *labels.shape), np.bool_)
    boxes = np.zeros((len(chosen), 4), np.float64)
    for mask, box, (_, part) in zip(masks, boxes, chosen, strict=True):
        np.equal(parts, part, out=mask)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    confidence = None
    if prediction.logits is not None:
        by_pixel = prediction.confidence
        confidence = np.array([by_pixel[mask].mean() for mask in masks], np.float32)
    ids = np.array([value for value, _ in chosen], np.int64)
    names = np.array([prediction.classes[value] for value, _ in chosen], dtype=str)
    return Detections(xyxy=boxes, mask=masks, confidence=confidence, class_id=ids, data={"class_name": names})
