"""Losses that are means over labelled pixels: cross-entropy, its hardest pixels alone, and the focal loss.

    cross_entropy(scores, target, weights=(1.0, 3.0))
    ohem(scores, target, keep=0.25)

With weights a mean is divided by the sum of the weights of its pixels, as torch does. The sum over pixels can be
divided by a `total` from outside instead: then the values of the parts of a batch add up to that of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dilated.data.labels import IGNORE
from dilated.errors import InputError


def cross_entropy(
    scores: Tensor,
    target: Tensor,
    *,
    weights: Sequence[float] = (),
    smoothing: float = 0.0,
    total: Tensor | None = None,
) -> Tensor:
    """Minus the logarithm of the probability of a pixel's label, averaged over the labelled pixels.

    Args:
        scores: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.
        weights: one per class; empty for none.
        smoothing: the share of a label that is spread over all classes (Szegedy et al. 2016), as in torch.
        total: what the sum is divided by; by default `weight_sum(target, weights)`.

    Returns:
        A scalar of the type of `scores`.

    Raises:
        InputError: another number of weights than of classes.

    Example:
        >>> scores = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
        >>> round(cross_entropy(scores, torch.tensor([[[0, 255]]])).item(), 4)
        0.1269
        >>> round(cross_entropy(scores, torch.tensor([[[0, 1]]]), weights=(3.0, 1.0)).item(), 4)
        0.6269
    """
    value = _cross_entropy(scores, target, weights, smoothing, "sum")
    return value / _divisor(weight_sum(target, weights) if total is None else total, value)


def ohem(
    scores: Tensor,
    target: Tensor,
    keep: float = 0.25,
    *,
    min_kept: int = 1,
    weights: Sequence[float] = (),
    smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of the hardest labelled pixels of the batch (online hard example mining, Shrivastava et al. 2016).

    A pixel is the harder, the less probable its label is, whatever the weights. `keep` times the number of labelled
    pixels, rounded, are kept. Where pixels are equally hard and not all fit, each of them counts in part, so the order
    of pixels never matters.

    Args:
        scores: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.
        keep: the share that is kept, 0 < keep <= 1.
        min_kept: how many are kept at least, or all where fewer are labelled.
        weights: one per class; the sum over the kept pixels is divided by the sum of their weights.
        smoothing: as in `cross_entropy`.

    Returns:
        A scalar of the type of `scores`.

    Raises:
        InputError: another number of weights than of classes.

    Example:
        >>> scores = torch.tensor([[2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]]).view(1, 2, 1, 4)
        >>> target = torch.tensor([[[0, 0, 0, 1]]])
        >>> round(ohem(scores, target, keep=0.25).item(), 4)  # the last alone
        2.1269
    """
    each = _cross_entropy(scores, target, weights, smoothing, "none")
    with torch.no_grad():
        plain = not weights and not smoothing
        hardness = each if plain else F.cross_entropy(scores, target, ignore_index=IGNORE, reduction="none")
        kept = _hardest(hardness, target != IGNORE, keep, min_kept)
        total = kept.sum()
        if weights:
            total = (_per_class(weights, scores)[target.where(target != IGNORE, 0)] * kept).sum()
    value = (each * kept).sum()
    return value / _divisor(total, value)


def focal(
    scores: Tensor, target: Tensor, gamma: float = 2.0, *, weights: Sequence[float] = (), total: Tensor | None = None
) -> Tensor:
    """Cross-entropy times (1 - p) ** gamma, p the probability of a pixel's label (Lin et al. 2017), on the softmax.

    Args:
        scores: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.
        gamma: 0 or more; with 0 this is cross-entropy.
        weights: one per class, the paper's alpha; empty for none.
        total: what the sum is divided by; by default `weight_sum(target, weights)`.

    Returns:
        A scalar of the type of `scores`.

    Raises:
        InputError: another number of weights than of classes.

    Example:
        >>> scores = torch.zeros(1, 2, 1, 1)
        >>> target = torch.tensor([[[1]]])
        >>> (focal(scores, target, gamma=1.0) / cross_entropy(scores, target)).item()
        0.5
    """
    surprise = F.cross_entropy(scores, target, ignore_index=IGNORE, reduction="none")
    missing = 1 - (-surprise).exp()
    missing = missing.clamp(min=torch.finfo(scores.dtype).tiny)  # at 0 a power below 1 has no finite slope
    each = missing**gamma * surprise
    if weights:
        each = each * _per_class(weights, scores)[target.where(target != IGNORE, 0)]
    value = each.sum()
    return value / _divisor(weight_sum(target, weights) if total is None else total, value)


def weight_sum(target: Tensor, weights: Sequence[float] = ()) -> Tensor:
    """The number of labelled pixels, or the sum of their weights.

    Returns:
        A scalar: int64 without weights, float64 with them.

    Raises:
        InputError: a label beyond the weights.

    Example:
        >>> target = torch.tensor([[[0, 1, 1, 255]]])
        >>> weight_sum(target).item(), weight_sum(target, (0.5, 2.0)).item()
        (3, 4.5)
    """
    if not weights:
        return (target != IGNORE).sum()
    counts = torch.bincount(target[target != IGNORE], minlength=len(weights))
    if len(counts) > len(weights):
        raise InputError(f"class_weights: found {len(weights)} for a label {len(counts) - 1}; expected one per class")
    return (counts * torch.tensor(weights, dtype=torch.float64, device=target.device)).sum()


def _cross_entropy(
    scores: Tensor, target: Tensor, weights: Sequence[float], smoothing: float, reduction: str
) -> Tensor:
    weight = _per_class(weights, scores) if weights else None
    return F.cross_entropy(
        scores, target, weight=weight, ignore_index=IGNORE, reduction=reduction, label_smoothing=smoothing
    )


def _per_class(weights: Sequence[float], scores: Tensor) -> Tensor:
    if len(weights) != scores.shape[1]:
        raise InputError(f"class_weights: found {len(weights)}; expected {scores.shape[1]}, one per class")
    return scores.new_tensor(weights)


def _divisor(total: Tensor, value: Tensor) -> Tensor:
    """`total` in the type of `value`, and 1 for 0: nothing labelled has cost nothing."""
    return torch.where(total > 0, total, 1).to(value.dtype)


def _hardest(hardness: Tensor, labelled: Tensor, keep: float, min_kept: int) -> Tensor:
    """How much each pixel counts: 1 above the threshold, 0 below it or where ignored, a part of 1 where on it."""
    among = hardness[labelled]
    count = min(len(among), max(min_kept, round(keep * len(among))))
    if count == 0:
        return torch.zeros_like(hardness)
    threshold = among.topk(count, sorted=False).values.min()
    above, equal = (hardness > threshold) & labelled, (hardness == threshold) & labelled
    part = (count - above.sum()) / equal.sum()
    return above + equal * part.to(hardness.dtype)
