"""The Lovasz-Softmax loss: the convex extension of the Jaccard loss from sets of wrong pixels to errors in between.

    lovasz(logits, target)

For each class the pixels are sorted by their error, and each error counts by how much the Jaccard loss grows when its
pixel joins the wrong ones before it. These growths are constant while the order is, so they carry no gradient. They are
taken in closed form, from exact counts: as differences of ratios in float32 they would drown in rounding beyond a
million pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dilated.data.labels import IGNORE


def lovasz(logits: Tensor, target: Tensor) -> Tensor:
    """Lovasz-Softmax over the batch (Berman et al. 2018), averaged over the classes that its labels hold.

    It costs one sort of the labelled pixels for each of these classes; of the sorts only one number per pixel and class
    stays for the backward pass, about as much memory as `logits` takes. A part of a batch is a set of its own.

    Args:
        logits: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.

    Returns:
        A scalar of the type of `logits`, 0 to 1.

    Example:
        >>> logits = torch.tensor([[60.0, 60.0, -60.0], [0.0, 0.0, 0.0]]).view(1, 2, 1, 3)
        >>> lovasz(logits, torch.tensor([[[0, 1, 1]]])).item()  # of class 0 a half is right, of class 1 a half
        0.5
    """
    valid_indices = (target != IGNORE).flatten().nonzero()[:, 0]  # (P,)
    labels = target.flatten()[valid_indices]
    values = []
    probabilities = logits.softmax(1).unbind(1)  # whose gradient is one stack, where C selections have C full tensors
    for c in labels.unique().tolist():
        foreground = target == c
        errors = torch.where(foreground, 1 - probabilities[c], probabilities[c])  # (N, H, W)
        with torch.no_grad():
            order = _descending_sort_keys(errors.flatten()[valid_indices]).argsort()
            gradient = torch.zeros_like(errors).flatten()
            gradient[valid_indices[order]] = _lovasz_gradient(labels[order] == c, errors.dtype)
        values.append((errors * gradient.view_as(errors)).sum())
    return torch.stack(values).mean() if values else logits[:0].sum()


def _descending_sort_keys(errors: Tensor) -> Tensor:
    """Integers in the opposite order of floats that are 0 or more, whose bits sort as they do.

    On a CPU torch sorts integers upwards five times as fast as floats.
    """
    return -errors.view({4: torch.int32, 8: torch.int64}[errors.element_size()])


def _lovasz_gradient(foreground: Tensor, dtype: torch.dtype) -> Tensor:
    """By how much the Jaccard loss grows as the pixels become wrong one after another; `foreground` is in that order.

    A pixel of the class leaves the intersection and the union stays; another joins the union and the intersection
    stays.
    """
    cumulative_foreground = foreground.cumsum(0)  # int64, so exact
    rank = torch.arange(1, len(foreground) + 1, device=foreground.device)
    intersection = (cumulative_foreground[-1] - cumulative_foreground).to(dtype)
    union = (cumulative_foreground[-1] + rank - cumulative_foreground).to(dtype)
    return torch.where(foreground, 1 / union, intersection / union / (union - 1))
