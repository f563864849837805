"""Paste the rare classes of one training sample onto another, at their place.

    image, label = paste_rare(image, label, other_image, other_label, ignore=255)

A class that few crops hold is learned from few gradients. Pixels of the other sample that are of its rare classes
replace those of this one, image and label together, as ClassMix does with half of the classes (Olsson et al., WACV
2021); the place in the image, and so the context of a pole above a sidewalk, stays likely.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_OF_RARE = 0.05
"""Fraction of a sample's labelled pixels up to which a class counts as rare in it."""


def paste_rare(
    image: Tensor, label: Tensor, other_image: Tensor, other_label: Tensor, ignore: int = 255
) -> tuple[Tensor, Tensor]:
    """Replace pixels by those of another sample's rare classes.

    Args:
        image, other_image: (n, H, W) of one type.
        label, other_label: (H, W) class ids.
        ignore: the label of ignored pixels, which are never pasted.

    Returns:
        Image and label; the same tensors where the other sample has no rare class.

    Example:
        >>> label, other = torch.zeros(1, 40, dtype=torch.uint8), torch.full((1, 40), 2, dtype=torch.uint8)
        >>> other[0, 5] = 1
        >>> image, other_image = torch.zeros(3, 1, 40), torch.ones(3, 1, 40)
        >>> image, label = paste_rare(image, label, other_image, other)
        >>> label.nonzero().tolist(), image.sum().item()
        ([[0, 5]], 3.0)
    """
    ids, counts = other_label[other_label != ignore].unique(return_counts=True)
    rare = ids[counts <= MOST_OF_RARE * counts.sum()]
    if not len(rare):
        return image, label
    pasted = torch.isin(other_label, rare)  # (H, W)
    return torch.where(pasted, other_image, image), torch.where(pasted, other_label, label)
