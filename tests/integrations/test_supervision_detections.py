"""Predictions as supervision's Detections, beside what supervision itself computes from the masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dilated import Prediction
from dilated.integrations.supervision import to_detections

sv = pytest.importorskip("supervision", reason="supervision is not installed; `pip install supervision` tests it")

LABELS = np.array([[2, 2, 0, 255], [2, 0, 0, 2], [2, 2, 0, 2]], np.uint8)
COLORS = [(0, 0, 0), (255, 0, 0), (0, 255, 0)]


def make_prediction(logits: torch.Tensor | None = None) -> Prediction:
    return Prediction(np.zeros((3, 4, 3), np.uint8), LABELS, logits, ["sky", "car", "road"], COLORS)


def test_each_class_that_occurs_is_a_mask_with_its_name_and_box() -> None:
    detections = to_detections(make_prediction())
    assert detections.class_id.tolist() == [0, 2]
    assert detections.data["class_name"].tolist() == ["sky", "road"]
    assert (detections.mask == np.stack([LABELS == 0, LABELS == 2])).all()
    assert (detections.xyxy == sv.mask_to_xyxy(detections.mask, "exclusive")).all()
    assert detections.area.tolist() == [4, 7]


def test_regions_are_masks_of_their_own_and_together_the_labels() -> None:
    detections = to_detections(make_prediction(), regions=True)
    assert detections.class_id.tolist() == [0, 2, 2]
    drawn = np.full(LABELS.shape, 255)
    for mask, value in zip(detections.mask, detections.class_id, strict=True):
        drawn[mask] = value
    assert (drawn == LABELS).all()
    assert len(detections[detections.area > 2]) == 2


def test_the_confidence_is_the_mean_of_the_masks_pixels() -> None:
    assert to_detections(make_prediction()).confidence is None
    prediction = make_prediction(torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(0)))
    detections = to_detections(prediction)
    assert detections.confidence == pytest.approx([prediction.confidence[i == LABELS].mean() for i in (0, 2)])


def test_supervision_draws_the_masks() -> None:
    palette = sv.ColorPalette([sv.Color(*color) for color in COLORS])
    drawn = sv.MaskAnnotator(palette, opacity=1).annotate(
        np.full((3, 4, 3), 9, np.uint8), to_detections(make_prediction())
    )
    assert (drawn[LABELS == 2] == (0, 255, 0)).all()
    assert (drawn[LABELS == 255] == 9).all()


def test_an_image_without_data_has_no_masks() -> None:
    empty = Prediction(np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 255, np.uint8), None, ["sky"], [(0, 0, 0)])
    assert len(to_detections(empty)) == 0
