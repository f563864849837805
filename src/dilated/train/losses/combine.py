"""The loss of a recipe: the weighted sum of its terms, exact over the parts of a batch.

    options = Loss(class_weights=(1.0, 4.0))
    total = labelled(target, options)                          # of the whole batch; over processes, their sum
    for scores_of_part, target_of_part in parts:
        loss(scores_of_part, target_of_part, options, total).backward()

Cross-entropy and the focal loss of the parts add up to those of the whole batch. Hard pixels, Dice, Jaccard and
Lovasz-Softmax are of a set of pixels; each part is a set of its own, that counts by its share of the total.
"""

from __future__ import annotations

from torch import Tensor

from dilated.train.losses.lovasz_softmax import lovasz
from dilated.train.losses.options import Loss
from dilated.train.losses.overlap import dice, jaccard
from dilated.train.losses.pixelwise import cross_entropy, focal, ohem, weight_sum


def loss(scores: Tensor, target: Tensor, options: Loss, total: Tensor | None = None) -> Tensor:
    """The weighted sum of the losses that `options` names.

    Args:
        scores: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.
        options: the terms and their weights.
        total: `labelled` of the whole batch, where `target` is a part of it. The gradients of the parts are to be
            added: where processes average theirs, as `DistributedDataParallel` does, give the total over all processes
            divided by their number.

    Returns:
        A scalar of the type of `scores`.

    Raises:
        InputError: another number of class weights than of classes.

    Example:
        >>> import torch
        >>> scores, target = torch.randn(4, 3, 8, 8), torch.randint(0, 3, (4, 8, 8))
        >>> options = Loss(focal=0.5, class_weights=(1.0, 2.0, 3.0))
        >>> total = labelled(target, options)
        >>> parts = [loss(scores[i : i + 1], target[i : i + 1], options, total) for i in range(4)]
        >>> torch.allclose(sum(parts), loss(scores, target, options))
        True
    """
    weights, smoothing = options.class_weights, options.smoothing
    value = scores.new_zeros(())
    if options.cross_entropy and options.ohem == 1:
        term = cross_entropy(scores, target, weights=weights, smoothing=smoothing, total=total)
        value = value + options.cross_entropy * term
    if options.focal:
        value = value + options.focal * focal(scores, target, options.focal_gamma, weights=weights, total=total)
    share = _share(target, options, total, scores)
    if options.cross_entropy and options.ohem < 1:
        least = options.min_kept
        term = ohem(scores, target, options.ohem, min_kept=least, weights=weights, smoothing=smoothing)
        value = value + options.cross_entropy * term * share
    for weight, of_set in ((options.dice, dice), (options.jaccard, jaccard), (options.lovasz, lovasz)):
        if weight:
            value = value + weight * of_set(scores, target) * share
    return value


def labelled(target: Tensor, options: Loss) -> Tensor:
    """What a mean over `target` is divided by: its labelled pixels, or the sum of their class weights.

    Args:
        target: (N, H, W) int64, 255 where ignored.
        options: with the class weights.

    Returns:
        A scalar: int64 without class weights, float64 with them; add it up over the parts of a batch.

    Raises:
        InputError: a label beyond the class weights.

    Example:
        >>> import torch
        >>> labelled(torch.tensor([[[0, 1, 255]]]), Loss()).item()
        2
    """
    return weight_sum(target, options.class_weights)


def _share(target: Tensor, options: Loss, total: Tensor | None, scores: Tensor) -> Tensor | float:
    """The part of the whole batch that `target` is."""
    if total is None:
        return 1.0
    return labelled(target, options).to(scores.dtype) / total.to(scores.dtype).clamp(min=1e-30)
