"""Losses that are means over labelled pixels: cross-entropy, its hardest pixels alone, and the focal loss.

    cross_entropy(logits, target, weights=(1.0, 3.0))
    ohem(logits, target, keep=0.25)

With weights a mean is divided by the sum of the weights of its pixels, as torch does. The sum over pixels can be
divided by a `normalizer` from outside instead: then the values of the parts of a batch add up to that of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dilated.errors import InputError
from dilated.label_ids import ignore_id


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    weights: Sequence[float] = (),
    smoothing: float = 0.0,
    normalizer: Tensor | None = None,
) -> Tensor:
    """Return minus the log-probability of a pixel's label, averaged over the labelled pixels.

    Args:
        logits: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.
        weights: one per class; empty for none.
        smoothing: the share of a label that is spread over all classes (Szegedy et al. 2016), as in torch.
        normalizer: what the sum is divided by; by default `weight_sum(target, weights)`.

    Returns:
        A scalar of the type of `logits`.

    Raises:
        InputError: another number of weights than of classes.

    Example:
        >>> logits = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
        >>> round(cross_entropy(logits, torch.tensor([[[0, 255]]])).item(), 4)
        0.1269
        >>> round(cross_entropy(logits, torch.tensor([[[0, 1]]]), weights=(3.0, 1.0)).item(), 4)
        0.6269
    """
    value = _cross_entropy(logits, target, weights, smoothing, "sum")
    return value / _divisor(logits, target, weights, normalizer)


def ohem(
    logits: Tensor,
    target: Tensor,
    keep: float = 0.25,
    *,
    min_kept: int = 1,
    weights: Sequence[float] = (),
    smoothing: float = 0.0,
) -> Tensor:
    """Return the cross-entropy of the batch's hardest labelled pixels (hard example mining, Shrivastava et al. 2016).

    A pixel is the harder, the less probable its label is, whatever the weights. `keep` times the number of labelled
    pixels, rounded, are kept. Where pixels are equally hard and not all fit, each of them counts in part, so the order
    of pixels never matters.

    Args:
        logits: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.
        keep: the share that is kept, 0 < keep <= 1.
        min_kept: how many are kept at least, or all where fewer are labelled.
        weights: one per class; the sum over the kept pixels is divided by the sum of their weights.
        smoothing: as in `cross_entropy`.

    Returns:
        A scalar of the type of `logits`.

    Raises:
        InputError: another number of weights than of classes.

    Example:
        >>> logits = torch.tensor([[2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]]).view(1, 2, 1, 4)
        >>> target = torch.tensor([[[0, 0, 0, 1]]])
        >>> round(ohem(logits, target, keep=0.25).item(), 4)  # the last alone
        2.1269
    """
    per_pixel = _cross_entropy(logits, target, weights, smoothing, "none")
    with torch.no_grad():
        unweighted = not weights and not smoothing
        hardness = per_pixel if unweighted else _cross_entropy(logits, target, (), 0.0, "none")
        labeled, class_ids = mask_ignored(target, ignore_id(logits.shape[1]))
        pixel_weights = _hard_pixel_weights(hardness, labeled, keep, min_kept)
        class_weights = _class_weight_tensor(weights, logits)[class_ids] if weights else 1
        normalizer = (class_weights * pixel_weights).sum()
    value = (per_pixel * pixel_weights).sum()
    return value / _safe_divisor(normalizer, value)


def focal(
    logits: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    *,
    weights: Sequence[float] = (),
    normalizer: Tensor | None = None,
) -> Tensor:
    """Return cross-entropy times (1 - p) ** gamma, p the softmax probability of a pixel's label (Lin et al. 2017).

    Args:
        logits: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.
        gamma: 0 or more; with 0 this is cross-entropy.
        weights: one per class, the paper's alpha; empty for none.
        normalizer: what the sum is divided by; by default `weight_sum(target, weights)`.

    Returns:
        A scalar of the type of `logits`.

    Raises:
        InputError: another number of weights than of classes.

    Example:
        >>> logits = torch.zeros(1, 2, 1, 1)
        >>> target = torch.tensor([[[1]]])
        >>> (focal(logits, target, gamma=1.0) / cross_entropy(logits, target)).item()
        0.5
    """
    nll = _cross_entropy(logits, target, (), 0.0, "none")
    one_minus_p = 1 - (-nll).exp()
    one_minus_p = one_minus_p.clamp(min=torch.finfo(logits.dtype).tiny)  # at 0 a power below 1 has no finite slope
    per_pixel = one_minus_p**gamma * nll
    if weights:
        _, class_ids = mask_ignored(target, ignore_id(logits.shape[1]))
        per_pixel = per_pixel * _class_weight_tensor(weights, logits)[class_ids]
    return per_pixel.sum() / _divisor(logits, target, weights, normalizer)


def weight_sum(target: Tensor, weights: Sequence[float] = (), ignore: int = 255) -> Tensor:
    """Return the number of labelled pixels, or the sum of their weights.

    Returns:
        A scalar: int64 without weights, `accumulation_dtype` with them.

    Raises:
        InputError: a label beyond the weights.

    Example:
        >>> target = torch.tensor([[[0, 1, 1, 255]]])
        >>> weight_sum(target).item(), weight_sum(target, (0.5, 2.0)).item()
        (3, 4.5)
    """
    labeled, _ = mask_ignored(target, ignore)
    if not weights:
        return labeled.sum()
    counts = torch.bincount(target[labeled], minlength=len(weights))
    if len(counts) > len(weights):
        raise InputError(
            f"class_weights: found {len(weights)} for a label {len(counts) - 1}", hint="give one weight per class"
        )
    return (counts * torch.tensor(weights, dtype=accumulation_dtype(target.device), device=target.device)).sum()


def mask_ignored(target: Tensor, ignore: int = 255) -> tuple[Tensor, Tensor]:
    """Return which pixels are labelled, and the labels with class 0 in place of the ignored, to index with.

    Example:
        >>> mask_ignored(torch.tensor([2, 255]))
        (tensor([ True, False]), tensor([2, 0]))
    """
    labeled = target != ignore
    return labeled, target.where(labeled, 0)


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """Return the type to sum over many pixels in: float64, or float32 on MPS, which has no other."""
    return torch.float32 if device.type == "mps" else torch.float64


def _cross_entropy(
    logits: Tensor, target: Tensor, weights: Sequence[float], smoothing: float, reduction: str
) -> Tensor:
    weight = _class_weight_tensor(weights, logits) if weights else None
    ignore = ignore_id(logits.shape[1])
    return F.cross_entropy(
        logits, target, weight=weight, ignore_index=ignore, reduction=reduction, label_smoothing=smoothing
    )


def _class_weight_tensor(weights: Sequence[float], logits: Tensor) -> Tensor:
    if len(weights) != logits.shape[1]:
        raise InputError(
            f"class_weights: found {len(weights)} for {logits.shape[1]} classes", hint="give one per class"
        )
    return logits.new_tensor(weights)


def _divisor(logits: Tensor, target: Tensor, weights: Sequence[float], normalizer: Tensor | None) -> Tensor:
    """Return what the sum over the pixels is divided by."""
    if normalizer is None:
        normalizer = weight_sum(target, weights, ignore_id(logits.shape[1]))
    return _safe_divisor(normalizer, logits)


def _safe_divisor(normalizer: Tensor, value: Tensor) -> Tensor:
    """Return `normalizer` in the type of `value`, and 1 for 0: where nothing is labeled the loss is 0."""
    return torch.where(normalizer > 0, normalizer, 1).to(value.dtype)


def _hard_pixel_weights(hardness: Tensor, labeled: Tensor, keep: float, min_kept: int) -> Tensor:
    """Return the weight of each pixel: 1 above the threshold, 0 below it or where ignored, a part of 1 on it."""
    candidates = hardness[labeled]
    count = min(len(candidates), max(min_kept, round(keep * len(candidates))))
    if count == 0:
        return torch.zeros_like(hardness)
    threshold = candidates.topk(count, sorted=False).values.min()
    above, equal = (hardness > threshold) & labeled, (hardness == threshold) & labeled
    tie_weight = (count - above.sum()) / equal.sum()
    return above + equal * tie_weight.to(hardness.dtype)
