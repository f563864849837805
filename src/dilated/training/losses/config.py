"""The recipe's table `[loss]`: which losses are added up, with which weights.

    [loss]
    cross_entropy = 1.0
    ohem = 0.25
    lovasz = 0.5

A term of weight 0 is not computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dilated.errors import InputError


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
        dilated.errors.InputError: loss: found every weight 0; ...
    """

    cross_entropy: float = 1.0
    """Weight of cross-entropy."""
    smoothing: float = 0.0
    """Label smoothing of cross-entropy: the share of a label that is spread over all classes, its own included."""
    ohem: float = 1.0
    """Share of the labelled pixels that cross-entropy keeps, the hardest of the batch; 1 for all."""
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
    class_weights: tuple[float, ...] = ()
    """One weight per class, of its pixels in cross-entropy and the focal loss; empty for none."""

    def __post_init__(self) -> None:
        weights = {key: getattr(self, key) for key in ("cross_entropy", "focal", "dice", "jaccard", "lovasz")}
        for key, value in (weights | {"focal_gamma": self.focal_gamma}).items():
            if not 0 <= value < math.inf:
                raise InputError(f"loss.{key}: found {value}; expected a number of 0 or more")
        if not any(weights.values()):
            raise InputError(f"loss: found every weight 0; expected one above 0 of {', '.join(weights)}")
        if not 0 <= self.smoothing < 1:
            raise InputError(f"loss.smoothing: found {self.smoothing}; expected 0 or more and less than 1")
        if not 0 < self.ohem <= 1:
            raise InputError(f"loss.ohem: found {self.ohem}; expected more than 0 and at most 1, which keeps all")
        if self.min_kept < 1:
            raise InputError(f"loss.min_kept: found {self.min_kept}; expected 1 or more")
        if self.class_weights and not (all(0 <= w < math.inf for w in self.class_weights) and any(self.class_weights)):
            raise InputError(
                f"loss.class_weights: found {list(self.class_weights)}; expected numbers of 0 or more, not all 0"
            )
        if not self.cross_entropy and (self.smoothing or self.ohem < 1):
            raise InputError(
                f"loss: found smoothing={self.smoothing} and ohem={self.ohem} with cross_entropy=0, whose options they "
                "are; expected cross_entropy above 0, or smoothing=0 and ohem=1"
            )
        if self.class_weights and not (self.cross_entropy or self.focal):
            raise InputError(
                "loss.class_weights: found with cross_entropy=0 and focal=0, which alone use them; expected one of the "
                "two above 0, or class_weights left out"
            )
