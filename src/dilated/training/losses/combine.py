"""The loss of a recipe: the weighted sum of its terms, exact over the parts of a batch.

    options = LossConfig(class_weights=(1.0, 4.0))
    normalizer = loss_normalizer(target, options)        # of the whole batch; over processes, their sum
    for logits_of_part, target_of_part in parts:
        combined_loss(logits_of_part, target_of_part, options, normalizer).backward()

Cross-entropy and the focal loss of the parts add up to those of the whole batch. Hard pixels, Dice, Jaccard and
Lovasz-Softmax are of a set of pixels; each part is a set of its own, that counts by its share of the total.
"""

from __future__ import annotations

from torch import Tensor

from dilated.training.losses.config import LossConfig
from dilated.training.losses.lovasz_softmax import lovasz
from dilated.training.losses.overlap import dice, jaccard
from dilated.training.losses.pixelwise import cross_entropy, focal, ohem, weight_sum


def combined_loss(logits: Tensor, target: Tensor, options: LossConfig, normalizer: Tensor | None = None) -> Tensor:
    """The weighted sum of the losses that `options` names.

    Args:
        logits: (N, C, H, W) floating point.
        target: (N, H, W) int64, 255 where ignored.
        options: the terms and their weights.
        normalizer: `loss_normalizer` of the whole batch, where `target` is a part of it. The gradients of the parts are
            to be added: where processes average theirs, as `DistributedDataParallel` does, give the sum over all
            processes divided by their number.

    Returns:
        A scalar of the type of `logits`.

    Raises:
        InputError: another number of class weights than of classes.

    Example:
        >>> import torch
        >>> logits, target = torch.randn(4, 3, 8, 8), torch.randint(0, 3, (4, 8, 8))
        >>> options = LossConfig(focal=0.5, class_weights=(1.0, 2.0, 3.0))
        >>> normalizer = loss_normalizer(target, options)
        >>> parts = [combined_loss(logits[i : i + 1], target[i : i + 1], options, normalizer) for i in range(4)]
        >>> torch.allclose(sum(parts), combined_loss(logits, target, options))
        True
    """
    weights, smoothing = options.class_weights, options.smoothing
    value = logits.new_zeros(())
    if options.cross_entropy and options.ohem == 1:
        term = cross_entropy(logits, target, weights=weights, smoothing=smoothing, normalizer=normalizer)
        value = value + options.cross_entropy * term
    if options.focal:
        value = value + options.focal * focal(
            logits, target, options.focal_gamma, weights=weights, normalizer=normalizer
        )
    fraction = _fraction_of_batch(target, options, normalizer, logits)
    if options.cross_entropy and options.ohem < 1:
        min_kept = options.min_kept
        term = ohem(logits, target, options.ohem, min_kept=min_kept, weights=weights, smoothing=smoothing)
        value = value + options.cross_entropy * term * fraction
    for weight, set_loss in ((options.dice, dice), (options.jaccard, jaccard), (options.lovasz, lovasz)):
        if weight:
            value = value + weight * set_loss(logits, target) * fraction
    return value


def loss_normalizer(target: Tensor, options: LossConfig) -> Tensor:
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
        >>> loss_normalizer(torch.tensor([[[0, 1, 255]]]), LossConfig()).item()
        2
    """
    return weight_sum(target, options.class_weights)


def _fraction_of_batch(
    target: Tensor, options: LossConfig, normalizer: Tensor | None, logits: Tensor
) -> Tensor | float:
    """The part of the whole batch that `target` is."""
    if normalizer is None:
        return 1.0
    return loss_normalizer(target, options).to(logits.dtype) / normalizer.to(logits.dtype).clamp(min=1e-30)
