"""Boundary supervision without a head of its own: how well soft boundaries match those of the labels.

The boundary of a class is where its probability meets a lower one within a pixel; precision asks whether predicted
boundaries lie near true ones, recall whether true ones lie near predicted ones, and the loss is 1 minus their F1
(Bokhovkin and Burnaev, ISNN 2019). Thin structures are all boundary, so their share of it is larger than of the pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dilated.label_ids import ignore_id
from dilated.training.losses.overlap import mean_over_present
from dilated.training.losses.pixelwise import mask_ignored

TOLERANCE = 2
"""Pixels that a predicted boundary may lie beside the true one."""


def boundary(logits: Tensor, target: Tensor, tolerance: int = TOLERANCE) -> Tensor:
    """Return 1 minus the F1 of soft boundaries, averaged over the classes that have one.

    Borders with ignored pixels are no boundaries. A part of a batch is a set of its own.

    Args:
        logits: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.
        tolerance: pixels that boundaries may lie beside each other.

    Returns:
        A scalar of the type of `logits`, 0 to 1.

    Example:
        >>> target = torch.tensor([[[0, 0, 0, 0, 1, 1, 1, 1]]])
        >>> certain = 60.0 * torch.nn.functional.one_hot(target, 2).movedim(-1, 1)
        >>> boundary(certain, target).item(), boundary(certain.roll(3, -1)[..., 3:], target[..., 3:], 1).item() > 0.4
        (0.0, True)
    """
    classes = logits.shape[1]
    labeled, class_ids = mask_ignored(target, ignore_id(classes))
    probability = logits.softmax(1)
    truth = F.one_hot(class_ids, classes).movedim(-1, 1).to(logits.dtype)
    predicted, true = (_boundaries(maps, labeled[:, None]) for maps in (probability, truth))
    near_predicted, near_true = (_widen(maps, tolerance) for maps in (predicted, true))
    true_length, predicted_length = true.sum((0, 2, 3)), predicted.sum((0, 2, 3))
    precision = (predicted * near_true).sum((0, 2, 3)) / predicted_length.clamp(min=1e-6)
    recall = (true * near_predicted).sum((0, 2, 3)) / true_length.clamp(min=1e-6)
    return mean_over_present(2 * precision * recall, precision + recall, true_length)


def _boundaries(maps: Tensor, labeled: Tensor) -> Tensor:
    """How much higher each value is than the lowest labelled one beside it: (N, C, H, W), 0 where ignored."""
    absent = torch.where(labeled, 1 - maps, 0)
    return torch.where(labeled, F.max_pool2d(absent, 3, 1, 1) - absent, 0)


def _widen(maps: Tensor, pixels: int) -> Tensor:
    return F.max_pool2d(maps, 2 * pixels + 1, 1, pixels)
