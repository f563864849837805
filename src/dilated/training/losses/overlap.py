"""Losses of soft overlap: Dice and Jaccard, over the batch, averaged over the classes that its labels hold.

    dice(logits, target)
    jaccard(logits, target)

The counts are pooled over the batch before the ratio is taken, as mean IoU pools them over a data set; so a class
weighs the same whether it covers half the pixels or a thousandth. A part of a batch is a set of its own: the values of
parts average to another number than that of the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dilated.data.labels import IGNORE


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """One minus twice the soft intersection over the sum of areas (Milletari et al. 2016, without their squares).

    Args:
        logits: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.

    Returns:
        A scalar of the type of `logits`, 0 to 1.

    Example:
        >>> dice(torch.zeros(1, 2, 1, 4), torch.tensor([[[0, 0, 0, 255]]])).item()  # 1 - 2 * 1.5 / (1.5 + 3)
        0.3333...
    """
    intersection, predicted, target_area = _soft_areas(logits, target)
    return _mean_over_present(2 * intersection, predicted + target_area, target_area)


def jaccard(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the soft intersection over union (Rahman and Wang 2016).

    Args:
        logits: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.

    Returns:
        A scalar of the type of `logits`, 0 to 1.

    Example:
        >>> jaccard(torch.zeros(1, 2, 1, 4), torch.tensor([[[0, 0, 0, 255]]])).item()  # 1 - 1.5 / 3
        0.5
    """
    intersection, predicted, target_area = _soft_areas(logits, target)
    return _mean_over_present(intersection, predicted + target_area - intersection, target_area)


def _soft_areas(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By class, over the labelled pixels: the soft intersection, the predicted area and the true one; each (C,)."""
    labeled = target != IGNORE
    classes = logits.shape[1]
    probability = logits.softmax(1)
    target_probability = probability.gather(1, target.where(labeled, 0)[:, None])[:, 0]
    class_index = target.where(labeled, classes).flatten()  # ignored pixels go to one place more, which is dropped
    # In float64, as a running sum of float32 stops growing at 2 ** 24 pixels of a class.
    sums = torch.zeros(classes + 1, dtype=torch.float64, device=logits.device)
    intersection = sums.index_add(0, class_index, target_probability.flatten().double())[:classes].to(logits.dtype)
    predicted = torch.where(labeled[:, None], probability, 0).sum((0, 2, 3))
    target_area = torch.bincount(class_index, minlength=classes + 1)[:classes].to(logits.dtype)
    return intersection, predicted, target_area


def _mean_over_present(overlap: Tensor, area: Tensor, target_area: Tensor) -> Tensor:
    """The mean of one minus the ratio over the classes with a true area; 0 where there is none."""
    present = target_area > 0
    ratio = (overlap / area.clamp(min=1e-6)).clamp(max=1)  # rounding may carry it just beyond
    return torch.where(present, 1 - ratio, 0).sum() / present.sum().clamp(min=1)
