"""Losses on logits (N, C, H, W) and labels (N, H, W); ignored pixels change nothing.

    from dilated.training import losses

    options = losses.LossConfig(cross_entropy=1.0, lovasz=0.5)       # the recipe's table [loss]
    value = losses.combined_loss(logits, target, options)

A pixel is ignored whose label is 255, or 65535 where there are more than 255 classes. Every loss is 0 or more, is
exactly 0 with gradients of exactly 0 where nothing is labelled, and gives ignored pixels gradients of exactly 0. Logits
are taken to be finite and may be of float32 or float64.
"""

from __future__ import annotations

from dilated.training.losses.boundary import boundary
from dilated.training.losses.combined import LossConfig, adjust_logits, combined_loss, loss_normalizer
from dilated.training.losses.marginal import marginal_cross_entropy
from dilated.training.losses.overlap import dice, jaccard, lovasz
from dilated.training.losses.pixelwise import cross_entropy, focal, ohem

__all__ = [
    "LossConfig",
    "adjust_logits",
    "boundary",
    "combined_loss",
    "cross_entropy",
    "dice",
    "focal",
    "jaccard",
    "loss_normalizer",
    "lovasz",
    "marginal_cross_entropy",
    "ohem",
]
