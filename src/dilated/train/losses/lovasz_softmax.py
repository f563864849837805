"""The Lovasz-Softmax loss: the convex extension of the Jaccard loss from sets of wrong pixels to errors in between.

    lovasz(scores, target)

For each class the pixels are sorted by their error, and each error counts by how much the Jaccard loss grows when its
pixel joins the wrong ones before it. These growths are constant while the order is, so they carry no gradient. They are
taken in closed form, from exact counts: as differences of ratios in float32 they would drown in rounding beyond a
million pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dilated.data.labels import IGNORE


def lovasz(scores: Tensor, target: Tensor) -> Tensor:
    """Lovasz-Softmax over the batch (Berman et al. 2018), averaged over the classes that its labels hold.

    It costs one sort of the labelled pixels for each of these classes; of the sorts only one number per pixel and class
    stays for the backward pass, about as much memory as `scores` takes. A part of a batch is a set of its own.

    Args:
        scores: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.

    Returns:
        A scalar of the type of `scores`, 0 to 1.

    Example:
        >>> scores = torch.tensor([[60.0, 60.0, -60.0], [0.0, 0.0, 0.0]]).view(1, 2, 1, 3)
        >>> lovasz(scores, torch.tensor([[[0, 1, 1]]])).item()  # of class 0 a half is right, of class 1 a half
        0.5
    """
    place = (target != IGNORE).flatten().nonzero()[:, 0]  # (P,)
    labels = target.flatten()[place]
    values = []
    probabilities = scores.softmax(1).unbind(1)  # whose gradient is one stack, where C selections have C full tensors
    for c in labels.unique().tolist():
        truth = target == c
        error = torch.where(truth, 1 - probabilities[c], probabilities[c])  # (N, H, W)
        with torch.no_grad():
            order = _falling(error.flatten()[place]).argsort()
            growth = torch.zeros_like(error).flatten()
            growth[place[order]] = _growth(labels[order] == c, error.dtype)
        values.append((error * growth.view_as(error)).sum())
    return torch.stack(values).mean() if values else scores[:0].sum()


def _falling(error: Tensor) -> Tensor:
    """Integers in the opposite order of floats that are 0 or more, whose bits sort as they do.

    On a CPU torch sorts integers upwards five times as fast as floats.
    """
    return -error.view({4: torch.int32, 8: torch.int64}[error.element_size()])


def _growth(truth: Tensor, dtype: torch.dtype) -> Tensor:
    """By how much the Jaccard loss grows as the pixels become wrong one after another; `truth` is in that order.

    A pixel of the class leaves the intersection and the union stays; another joins the union and the intersection
    stays.
    """
    found = truth.cumsum(0)  # int64, so exact
    rank = torch.arange(1, len(truth) + 1, device=truth.device)
    intersection = (found[-1] - found).to(dtype)
    union = (found[-1] + rank - found).to(dtype)
    return torch.where(truth, 1 / union, intersection / union / (union - 1))
