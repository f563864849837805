"""A moving average of a network's weights, which generalises better than the last weights and costs no gradient."""

from __future__ import annotations

import copy

import torch

from dilated.nn.base import BaseSegmenter
from dilated.train.shard import local


class Average:
    """`weights = decay * weights + (1 - decay) * network's`, with a decay that rises from 0.1 as steps go by.

    Buffers with fractions (the normalisation's statistics) are averaged too; counters are copied.
    """

    def __init__(self, network: BaseSegmenter, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.network: BaseSegmenter = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: BaseSegmenter) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 9))
        mine = [local(value) for value in self.network.state_dict().values()]
        theirs = [local(value) for value in network.state_dict().values()]
        floats = [i for i, value in enumerate(mine) if value.is_floating_point()]
        torch._foreach_lerp_([mine[i] for i in floats], [theirs[i] for i in floats], 1 - decay)
        for i, value in enumerate(mine):
            if not value.is_floating_point():
                value.copy_(theirs[i])
