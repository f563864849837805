"""Losses on scores (N, C, H, W) and labels (N, H, W); pixels of label 255 change nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dilated.data.labels import IGNORE


def combined(scores: Tensor, target: Tensor, weight: float) -> Tensor:
    """Cross-entropy plus `weight` times the Jaccard loss."""
    loss = cross_entropy(scores, target)
    return loss + weight * jaccard(scores, target) if weight else loss


def cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """The mean over the labelled pixels of the batch; 0, not NaN, where none is labelled."""
    total = F.cross_entropy(scores, target, ignore_index=IGNORE, reduction="sum")
    return total / (target != IGNORE).sum().clamp(min=1)


def jaccard(scores: Tensor, target: Tensor) -> Tensor:
    """One minus the soft intersection over union, over the batch, averaged over the classes that its labels hold.

    The counts are pooled over the batch before the ratio is taken, as mean IoU pools them over a data set; so a class
    weighs the same whether it covers half the pixels or a thousandth.
    """
    labelled = target != IGNORE
    probability = scores.softmax(1) * labelled[:, None]  # (N, C, H, W)
    truth = torch.where(labelled, target, 0)
    hit = probability.gather(1, truth[:, None])[:, 0]  # (N, H, W), 0 where not labelled
    classes = scores.shape[1]
    flat = truth[labelled]
    intersection = torch.zeros(classes, device=scores.device).index_add(0, flat, hit[labelled].float())
    count = torch.bincount(flat, minlength=classes).float()
    union = probability.sum((0, 2, 3)).float() + count - intersection
    present = count > 0
    ratio = intersection / union.clamp(min=1e-6)
    return torch.where(present, 1 - ratio, 0).sum() / present.sum().clamp(min=1)
