"""A moving average of a network's weights, which generalises better than the last weights and costs no gradient."""

from __future__ import annotations

import copy

import torch

from dilated.models.base import BaseSegmenter
from dilated.training.distributed.fsdp import to_local


class WeightEMA:
    """`weights = decay * weights + (1 - decay) * segmenter's`, with a decay that rises from 0.1 as steps go by.

    Buffers with fractions (the normalisation's statistics) are averaged too; counters are copied.
    """

    def __init__(self, segmenter: BaseSegmenter, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.segmenter: BaseSegmenter = copy.deepcopy(segmenter).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, segmenter: BaseSegmenter) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 9))
        averages = [to_local(value) for value in self.segmenter.state_dict().values()]
        weights = [to_local(value) for value in segmenter.state_dict().values()]
        floats = [i for i, value in enumerate(averages) if value.is_floating_point()]
        torch._foreach_lerp_([averages[i] for i in floats], [weights[i] for i in floats], 1 - decay)
        for i, value in enumerate(averages):
            if not value.is_floating_point():
                value.copy_(weights[i])
