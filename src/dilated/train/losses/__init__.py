"""Losses on scores (N, C, H, W) and labels (N, H, W); pixels of label 255 change nothing.

    from dilated.train import losses

    options = losses.Loss(cross_entropy=1.0, lovasz=0.5)       # the recipe's table [loss]
    value = losses.loss(scores, target, options)

Every loss is 0 or more, is exactly 0 with gradients of exactly 0 where nothing is labelled, and gives ignored pixels
gradients of exactly 0. Scores are taken to be finite and may be of float32 or float64.
"""

from __future__ import annotations

from dilated.train.losses.combine import labelled, loss
from dilated.train.losses.lovasz_softmax import lovasz
from dilated.train.losses.options import Loss
from dilated.train.losses.overlap import dice, jaccard
from dilated.train.losses.pixelwise import cross_entropy, focal, ohem

__all__ = ["Loss", "cross_entropy", "dice", "focal", "jaccard", "labelled", "loss", "lovasz", "ohem"]
