"""Losses of overlap, each over the batch and averaged over the classes that its labels hold.

    dice(logits, target)
    jaccard(logits, target)
    lovasz(logits, target)

Dice and Jaccard pool the counts over the batch before the ratio is taken, as mean IoU pools them over a data set, so a
class weighs the same whether it covers half the pixels or a thousandth. Lovasz-Softmax is the convex extension of the
Jaccard loss from sets of wrong pixels to errors in between. A part of a batch is a set of its own: the values of parts
average to another number than that of the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dilated.label_ids import ignore_id
from dilated.training.losses.pixelwise import accumulation_dtype, mask_ignored


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """Return 1 minus twice the soft intersection over the sum of areas (Milletari et al. 2016, without their squares).

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
    return mean_over_present(2 * intersection, predicted + target_area, target_area)


def jaccard(logits: Tensor, target: Tensor) -> Tensor:
    """Return one minus the soft intersection over union (Rahman and Wang 2016).

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
    return mean_over_present(intersection, predicted + target_area - intersection, target_area)


def lovasz(logits: Tensor, target: Tensor) -> Tensor:
    """Return Lovasz-Softmax over the batch (Berman et al. 2018), averaged over the classes that its labels hold.

    For each class the pixels are sorted by their error, and each error counts by how much the Jaccard loss grows when
    its pixel joins the wrong ones before it. These weights are constant while the order is, so they carry no gradient.
    They are taken in closed form, from exact counts: as differences of ratios in float32 they would drown in rounding
    beyond a million pixels.

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
    valid_indices = (target != ignore_id(logits.shape[1])).flatten().nonzero()[:, 0]  # (P,)
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


def _soft_areas(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the soft intersection, the predicted area and the true one of each class over labelled pixels; (C,)."""
    classes = logits.shape[1]
    labeled, class_ids = mask_ignored(target, ignore_id(classes))
    probability = logits.softmax(1)
    target_probability = probability.gather(1, class_ids[:, None])[:, 0]
    class_index = target.where(labeled, classes).flatten()  # ignored pixels go to one place more, which is dropped
    # In float64, as a running sum of float32 stops growing at 2 ** 24 pixels of a class.
    sums = torch.zeros(classes + 1, dtype=accumulation_dtype(logits.device), device=logits.device)
    intersection = sums.index_add(0, class_index, target_probability.flatten().to(sums.dtype))[:classes]
    predicted = torch.where(labeled[:, None], probability, 0).sum((0, 2, 3))
    target_area = torch.bincount(class_index, minlength=classes + 1)[:classes].to(logits.dtype)
    return intersection.to(logits.dtype), predicted, target_area


def mean_over_present(overlap: Tensor, area: Tensor, target_area: Tensor) -> Tensor:
    """Return the mean of one minus the ratio over the classes with a true area; 0 where there is none."""
    present = target_area > 0
    ratio = (overlap / area.clamp(min=1e-6)).clamp(max=1)  # rounding may carry it just beyond
    return torch.where(present, 1 - ratio, 0).sum() / present.sum().clamp(min=1)


def _descending_sort_keys(errors: Tensor) -> Tensor:
    """Return integers in the opposite order of floats that are 0 or more, whose bits sort as they do.

    On a CPU torch sorts integers upwards five times as fast as floats.
    """
    return -errors.view({4: torch.int32, 8: torch.int64}[errors.element_size()])


def _lovasz_gradient(foreground: Tensor, dtype: torch.dtype) -> Tensor:
    """Return by how much the Jaccard loss grows with each pixel, where they become wrong in the order of `foreground`.

    A pixel of the class leaves the intersection and the union stays; another joins the union and the intersection
    stays.
    """
    cumulative_foreground = foreground.cumsum(0)  # int64, so exact
    rank = torch.arange(1, len(foreground) + 1, device=foreground.device)
    intersection = (cumulative_foreground[-1] - cumulative_foreground).to(dtype)
    union = (cumulative_foreground[-1] + rank - cumulative_foreground).to(dtype)
    return torch.where(foreground, 1 / union, intersection / union / (union - 1))
