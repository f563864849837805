"""One number per class, added to a network's logits by the bias of its last layer: tiles and exports see no change.

biased = with_class_bias(segmenter, [0.0, 0.75, -0.2])
biased(images)                                       # segmenter(images) + the biases, to rounding
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from dilated.errors import InputError
from dilated.fields.probing import eval_mode
from dilated.models.base import BaseSegmenter

_TOLERANCE = 1e-3
"""Of the logits' spread: float32 rounds sums of some hundred products by less."""


@torch.no_grad()
def with_class_bias(segmenter: BaseSegmenter, biases: Sequence[float]) -> BaseSegmenter:
    """Return a copy of a network whose logits are greater by one number per class.

    Args:
        biases: C numbers, in the order of the classes.

    Raises:
        InputError: no layer of the network has a bias that is added to its logits alone; tried on an image.

    Example:
        >>> from dilated import Segmenter, SegmenterConfig
        >>> segmenter = Segmenter(["sky", "road"], config=SegmenterConfig("test_efficientnet", features=8)).eval()
        >>> image = torch.rand(1, 3, 40, 40)
        >>> change = with_class_bias(segmenter, [0.0, 0.5])(image) - segmenter(image)
        >>> change.amin((0, 2, 3)).round(decimals=3).tolist(), change.amax((0, 2, 3)).round(decimals=3).tolist()
        ([0.0, 0.5], [0.0, 0.5])
    """
    classes = len(segmenter.classes)
    if len(biases) != classes:
        raise ValueError(f"class bias: found {len(biases)} numbers; expected one for each of {classes} classes")
    biased = copy.deepcopy(segmenter)
    parameter = biased.logit_bias
    if parameter is None:
        raise InputError(
            "class bias: the layer that makes the logits has no bias", hint="use a network whose last layer has one"
        )
    wanted = torch.tensor(biases, dtype=parameter.dtype, device=parameter.device)
    if parameter.numel() == 1 and classes == 2:  # one channel for two classes: the logit of the second less the first
        parameter.add_(wanted[1] - wanted[0])
    else:
        parameter.add_(wanted)
    _require_added(segmenter, biased, wanted)
    return biased


def _require_added(segmenter: BaseSegmenter, biased: BaseSegmenter, wanted: Tensor) -> None:
    """Check on an image that the biases reach every pixel as they are, up to a constant for all classes."""
    side = 2 * segmenter.alignment + 7
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, segmenter.num_bands, side, side, generator=generator).to(wanted.device)
    with eval_mode(segmenter), eval_mode(biased):
        logits = segmenter(image).float()
        change = biased(image).float() - logits - wanted.float().view(1, -1, 1, 1)
    change -= change.mean(1, keepdim=True)
    if not bool(change.abs().max() <= _TOLERANCE * max(1.0, float(logits.abs().max()))):
        raise InputError(
            "class bias: what follows the network's last layer is not linear, so no bias there is added to its logits",
            hint="use a network that interpolates logits, not probabilities",
        )
