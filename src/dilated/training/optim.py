"""How the weights of a stage move: optimizer, learning rate, moving average.

optimizer = build_optimizer(segmenter, stage)
set_learning_rate(optimizer, stage, step=0, progress=0.0)
average = WeightEMA(segmenter, decay=0.998)
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.training.config import StageConfig
from dilated.training.distributed.fsdp import to_local


def build_optimizer(segmenter: BaseSegmenter, stage: StageConfig) -> Optimizer:
    """Build AdamW or SGD over the parameters that the stage trains, in groups of equal learning rate and weight decay.

    Each group keeps its peak learning rate as `peak_lr`, for `set_learning_rate`.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    layer_factors = _layer_lr_factors(segmenter, stage.layer_decay)
    for name, parameter in segmenter.named_parameters():
        if parameter.requires_grad:
            is_vector = parameter.ndim == 1
            factor = stage.backbone_lr_factor if segmenter.is_backbone_parameter(name) else 1.0
            factor *= layer_factors.get(id(parameter), 1.0)
            factor *= stage.bias_lr_factor if is_vector and name.endswith(".bias") else 1.0
            decay = stage.weight_decay * (stage.bias_decay if is_vector else 1.0)
            groups.setdefault((factor, decay), []).append(parameter)
    table = [
        {"params": parameters, "lr": stage.lr * factor, "peak_lr": stage.lr * factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]
    if stage.optimizer == "sgd":
        return SGD(table, momentum=stage.momentum)
    return AdamW(table)


def require_own_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Raise a ValueError for the state of another optimizer, or of other parameters.

    Args:
        optimizer: a fresh one.
        state: what its `state_dict` is to be, with full tensors.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    keys = {"momentum_buffer"} if isinstance(optimizer, SGD) else {"step", "exp_avg", "exp_avg_sq"}
    if not set(state["state"]) <= set(range(len(parameters))):
        raise ValueError(f"it is of more than {len(parameters)} parameters")
    for index, table in state["state"].items():
        if set(table) != keys:
            raise ValueError(f"parameter {index} has {sorted(map(str, table))}; expected {sorted(keys)}")
        for key, value in table.items():
            shape = () if key == "step" else parameters[index].shape
            if value is None and key == "momentum_buffer":
                continue
            if not isinstance(value, Tensor) or value.shape != shape or not value.isfinite().all():
                raise ValueError(f"{key} of parameter {index} is not of shape {tuple(shape)}, or not finite")
    own_groups = optimizer.state_dict()["param_groups"]
    for group, other in zip(own_groups, state["param_groups"], strict=True):
        if other["params"] != group["params"]:
            raise ValueError("its parameters are in another order")
        for key, value in group.items():
            if key not in ("params", "lr") and other.get(key, value) != value:
                raise ValueError(f"{key} = {str(other[key])[:100]}; expected {value}")


def _layer_lr_factors(segmenter: BaseSegmenter, decay: float) -> dict[int, float]:
    """Return the learning rate of each backbone parameter, by identity, as a fraction of that of the last level."""
    if decay == 1:
        return {}
    if not segmenter.backbone_levels:
        raise InputError(
            f"stage.layer_decay: {decay} with a network whose levels are not known", hint="set stage.layer_decay to 1"
        )
    levels = [_parameter_ids(segmenter.first_level_modules(i)) for i in range(1, segmenter.backbone_levels + 1)]
    factors: dict[int, float] = {}
    for depth, level in enumerate(reversed(levels)):  # the last level first: the earlier ones overwrite their own
        factors |= dict.fromkeys(level, decay**depth)
    return factors


def _parameter_ids(modules: list[nn.Module]) -> set[int]:
    return {id(parameter) for module in modules for parameter in module.parameters()}


def set_learning_rate(optimizer: Optimizer, stage: StageConfig, step: int, progress: float) -> float:
    """Set the learning rates for a step of the stage.

    Args:
        progress: how far the stage is, 0 to 1.

    Returns:
        The factor by which the peak learning rates were multiplied.
    """
    factor = min(1.0, (step + 1) / stage.warmup) if stage.warmup else 1.0
    if stage.schedule == "poly":
        factor *= (1 - progress) ** 0.9
    elif stage.schedule == "cosine":
        factor *= (1 + math.cos(math.pi * progress)) / 2
    elif stage.schedule == "step":
        factor *= stage.gamma ** (step // stage.step_size)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return factor


class WeightEMA:
    """A moving average of a network's weights, which generalizes better than the last weights and costs no gradient.

    `weights = decay * weights + (1 - decay) * segmenter's`, with a decay that rises from 0.1 as steps go by.
    Buffers with fractions (the normalization's statistics) are averaged too; counters are copied.
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
