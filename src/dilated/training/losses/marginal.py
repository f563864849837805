"""The loss of pixels that may be of several classes, as where a data set labels some of the classes only.

marginal_cross_entropy(logits, torch.tensor([[[-3]]]))          # class 0 or class 1, and no other
"""

from __future__ import annotations

import torch
from torch import Tensor


def marginal_cross_entropy(logits: Tensor, target: Tensor, normalizer: Tensor | None = None) -> Tensor:
    """Return minus the log-probability of a pixel's classes together, averaged over the pixels that have several.

    The probabilities of the classes are added up (the marginal loss of Shi et al., Medical Image Analysis 2021).

    Args:
        logits: (N, C, H, W) floating point.
        target: (N, H, W) int64; minus the sum of 2 ** id over the classes of such a pixel, anything else otherwise.
        normalizer: what the sum is divided by; by default the number of such pixels.

    Returns:
        A scalar of the type of `logits`; 0 where there is no such pixel.

    Example:
        >>> logits = torch.tensor([0.0, 0.0, 0.0]).view(1, 3, 1, 1)
        >>> round(marginal_cross_entropy(logits, torch.tensor([[[-3]]])).item(), 4)  # -log(2/3)
        0.4055
        >>> marginal_cross_entropy(logits, torch.tensor([[[-7]]])).item()  # all classes: nothing is known
        0.0
    """
    is_ambiguous = target < 0
    values = logits.movedim(1, -1)[is_ambiguous]  # (pixels, C)
    bits = torch.arange(logits.shape[1], device=target.device)
    is_allowed = (-target[is_ambiguous])[:, None] >> bits & 1 == 1
    nll = values.logsumexp(1) - values.masked_fill(~is_allowed, float("-inf")).logsumexp(1)
    if normalizer is None:
        normalizer = is_ambiguous.sum()
    return nll.clamp(min=0).sum() / torch.where(normalizer > 0, normalizer, 1).to(logits.dtype)
