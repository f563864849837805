"""The loss of a recipe, its table `[loss]`: the weighted sum of its terms, exact over the parts of a batch.

    options = LossConfig(class_weights=(1.0, 4.0))
    normalizer = loss_normalizer(target, options)        # of the whole batch; over processes, their sum
    for logits_of_part, target_of_part in parts:
        combined_loss(logits_of_part, target_of_part, options, normalizer).backward()

Cross-entropy and the focal loss of the parts add up to those of the whole batch. Hard pixels, Dice, Jaccard,
Lovasz-Softmax and boundaries are functions of a set of pixels: each part is a set of its own, weighted by its fraction
of the batch. A term of weight 0 is not computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dilated.config import require_valid
from dilated.errors import InputError
from dilated.label_ids import ignore_id
from dilated.training.losses.boundary import boundary
from dilated.training.losses.overlap import dice, jaccard, lovasz
from dilated.training.losses.pixelwise import cross_entropy, focal, ohem, weight_sum

_Term = Callable[[Tensor, Tensor, "LossConfig", Tensor | None], Tensor]


@dataclass(frozen=True)
class LossConfig:
    """A weighted sum of losses.

    Raises:
        InputError: a value out of its range, no weight above 0, an option of a loss whose weight is 0.

    Example:
        >>> LossConfig(dice=0.5).cross_entropy
        1.0
        >>> LossConfig(cross_entropy=0)
        Traceback (most recent call last):
        dilated.errors.InputError: loss: found every weight 0...
    """

    cross_entropy: float = 1.0
    """Weight of cross-entropy."""
    smoothing: float = 0.0
    """Label smoothing of cross-entropy: the fraction of a label that is spread over all classes, its own included."""
    ohem: float = 1.0
    """Fraction of the labelled pixels that cross-entropy keeps, the hardest of the batch; 1 for all."""
    min_kept: int = 1
    """Pixels that `ohem` keeps at least, or all where fewer are labelled."""
    focal: float = 0.0
    """Weight of the focal loss."""
    focal_gamma: float = 2.0
    """How much the focal loss takes from pixels that are already right; 0 makes it cross-entropy."""
    dice: float = 0.0
    """Weight of the soft Dice loss, over the classes that the batch holds."""
    jaccard: float = 0.0
    """Weight of the soft Jaccard loss, over the classes that the batch holds."""
    lovasz: float = 0.0
    """Weight of Lovasz-Softmax, over the classes that the batch holds; it sorts the pixels once for each."""
    boundary: float = 0.0
    """Weight of the boundary loss, over the classes that have a boundary in the batch."""
    class_weights: tuple[float, ...] = ()
    """One weight per class, of its pixels in cross-entropy and the focal loss; empty for none."""
    logit_adjustment: float = 0.0
    """Factor on the logarithm of the class priors that is added to the logits in training, so that rare classes need
    larger ones; 1 is balanced softmax, 0 for none."""
    class_priors: tuple[float, ...] = ()
    """One fraction of the pixels per class, for `logit_adjustment`; a plan fills them in."""

    @property
    def term_weights(self) -> dict[str, float]:
        """The weight of each term, by its name."""
        return {name: getattr(self, name) for name in _TERMS}

    def __post_init__(self) -> None:
        weights = self.term_weights
        class_weights_fit = all(0 <= weight < math.inf for weight in self.class_weights) and any(self.class_weights)
        rules = {
            **{key: (0 <= weight < math.inf, "give a number of 0 or more") for key, weight in weights.items()},
            "focal_gamma": (0 <= self.focal_gamma < math.inf, "give a number of 0 or more"),
            "smoothing": (0 <= self.smoothing < 1, "give 0 or more and less than 1"),
            "ohem": (0 < self.ohem <= 1, "give more than 0 and at most 1, which keeps all"),
            "min_kept": (self.min_kept >= 1, "give 1 or more"),
            "logit_adjustment": (0 <= self.logit_adjustment < math.inf, "give a number of 0 or more"),
            "class_priors": (all(0 < prior <= 1 for prior in self.class_priors), "give more than 0, at most 1 each"),
            "class_weights": (not self.class_weights or class_weights_fit, "give numbers of 0 or more, not all 0"),
        }
        require_valid(self, "loss", rules)
        if not any(weights.values()):
            raise InputError("loss: found every weight 0", hint=f"give one above 0 of {', '.join(weights)}")
        if not self.cross_entropy and (self.smoothing or self.ohem < 1):
            raise InputError(
                f"loss: found smoothing={self.smoothing} and ohem={self.ohem} with cross_entropy=0",
                hint="give cross_entropy above 0, which alone uses them, or smoothing=0 and ohem=1",
            )
        if self.class_weights and not (self.cross_entropy or self.focal):
            raise InputError(
                "loss.class_weights: found with cross_entropy=0 and focal=0, which alone use them",
                hint="give one of the two above 0, or leave class_weights out",
            )


def combined_loss(logits: Tensor, target: Tensor, options: LossConfig, normalizer: Tensor | None = None) -> Tensor:
    """Return the weighted sum of the losses that `options` names.

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
        InputError: another number of class weights or priors than of classes.

    Example:
        >>> import torch
        >>> logits, target = torch.randn(4, 3, 8, 8), torch.randint(0, 3, (4, 8, 8))
        >>> options = LossConfig(focal=0.5, class_weights=(1.0, 2.0, 3.0))
        >>> normalizer = loss_normalizer(target, options)
        >>> parts = [combined_loss(logits[i : i + 1], target[i : i + 1], options, normalizer) for i in range(4)]
        >>> torch.allclose(sum(parts), combined_loss(logits, target, options))
        True
    """
    logits = adjust_logits(logits, options)
    value = logits.new_zeros(())
    for name, weight in options.term_weights.items():
        if weight:
            value = value + weight * _TERMS[name](logits, target, options, normalizer)
    return value


def adjust_logits(logits: Tensor, options: LossConfig) -> Tensor:
    """Add what the class priors are worth, as training for balanced classes does (Menon et al., ICLR 2021, eq. 10).

    With a factor of 1, cross-entropy of the result is balanced softmax (Ren et al., NeurIPS 2020).

    Args:
        logits: (N, C, H, W) floating point.
        options: with `logit_adjustment` and `class_priors`.

    Returns:
        (N, C, H, W); the same where there is no adjustment.

    Raises:
        InputError: another number of priors than of classes.

    Example:
        >>> import torch
        >>> options = LossConfig(logit_adjustment=1.0, class_priors=(0.9, 0.1))
        >>> adjust_logits(torch.zeros(1, 2, 1, 1), options).softmax(1)[0, 0].item()
        0.8999...
    """
    if not options.logit_adjustment:
        return logits
    require_priors(options, logits.shape[1])
    return logits + options.logit_adjustment * logits.new_tensor(options.class_priors).log().view(1, -1, 1, 1)


def require_priors(options: LossConfig, num_classes: int) -> None:
    """Raise an InputError where an adjustment of the logits lacks the prior of a class."""
    if options.logit_adjustment and len(options.class_priors) != num_classes:
        raise InputError(
            f"loss.class_priors: found {len(options.class_priors)} for {num_classes} classes",
            hint="give the fraction of each class, which loss.logit_adjustment takes; a plan fills them in",
        )


def loss_normalizer(target: Tensor, options: LossConfig, ignore: int = 255) -> Tensor:
    """Return what a mean over `target` is divided by: its labelled pixels, or the sum of their class weights.

    Pixels that may be of several classes (`marginal_cross_entropy`) count as 1.

    Args:
        target: (N, H, W) int64.
        options: with the class weights.
        ignore: the label of ignored pixels: 65535 where there are more than 255 classes.

    Returns:
        A scalar: int64 without class weights, float64 with them; add it up over the parts of a batch.

    Raises:
        InputError: a label beyond the class weights.

    Example:
        >>> import torch
        >>> loss_normalizer(torch.tensor([[[0, 1, 255]]]), LossConfig()).item()
        2
    """
    is_ambiguous = target < 0
    return weight_sum(target.where(~is_ambiguous, ignore), options.class_weights, ignore) + is_ambiguous.sum()


def _cross_entropy_term(logits: Tensor, target: Tensor, options: LossConfig, normalizer: Tensor | None) -> Tensor:
    weights, smoothing = options.class_weights, options.smoothing
    if options.ohem == 1:
        return cross_entropy(logits, target, weights=weights, smoothing=smoothing, normalizer=normalizer)
    value = ohem(logits, target, options.ohem, min_kept=options.min_kept, weights=weights, smoothing=smoothing)
    return value * _fraction_of_batch(logits, target, options, normalizer)


def _focal_term(logits: Tensor, target: Tensor, options: LossConfig, normalizer: Tensor | None) -> Tensor:
    return focal(logits, target, options.focal_gamma, weights=options.class_weights, normalizer=normalizer)


def _set_term(loss: Callable[[Tensor, Tensor], Tensor]) -> _Term:
    """Return the term of a loss that is a function of a set of pixels."""
    return lambda logits, target, options, normalizer: (
        loss(logits, target) * _fraction_of_batch(logits, target, options, normalizer)
    )


_TERMS: dict[str, _Term] = {
    "cross_entropy": _cross_entropy_term,
    "focal": _focal_term,
    "dice": _set_term(dice),
    "jaccard": _set_term(jaccard),
    "lovasz": _set_term(lovasz),
    "boundary": _set_term(boundary),
}
"""The terms, by the key of their weight in `LossConfig`."""


def _fraction_of_batch(
    logits: Tensor, target: Tensor, options: LossConfig, normalizer: Tensor | None
) -> Tensor | float:
    """Return which part of the whole batch `target` is."""
    if normalizer is None:
        return 1.0
    part = loss_normalizer(target, options, ignore_id(logits.shape[1]))
    return part.to(logits.dtype) / normalizer.to(logits.dtype).clamp(min=1e-30)
