"""How sure a network is of a pixel's label: the greatest probability of its softmax, at the network's temperature.

confidence_map(prediction.logits, temperature=1.3)   # (H, W) float32 in 0..1
"""

from __future__ import annotations

from torch import Tensor


def confidence_map(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the greatest probability of each pixel.

    Args:
        logits: (C, H, W) before the softmax.
        temperature: what they are divided by; above 1 where the network is surer than it is right.

    Returns:
        (H, W) float32, above 0 and up to 1.

    Example:
        >>> import torch
        >>> logits = torch.tensor([2.0, 0.0]).view(2, 1, 1)
        >>> [round(confidence_map(logits, temperature).item(), 4) for temperature in (1.0, 2.0)]
        [0.8808, 0.7311]
    """
    scaled = logits.float() / temperature
    return (scaled.amax(0, keepdim=True) - scaled).neg_().exp_().sum(0).reciprocal_()
