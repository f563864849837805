"""What a stage trains and how: the network it starts from, the parameters that move, optimiser and schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from dilated.nn.segmenter import Segmenter, level_name
from dilated.train.recipe import Recipe, Stage


def enter(segmenter: Segmenter, stage: Stage, recipe: Recipe) -> Segmenter:
    """The network of the stage before, with this stage's stride, and with the context module from its stage on."""
    context = "none" if stage.kind == "frontend" else recipe.network.context
    return segmenter.rebuild(output_stride=stage.output_stride, context=context)


def set_modes(segmenter: Segmenter, stage: Stage) -> None:
    """Say what learns: gradients on or off, normalisation by the batch or by the statistics that are there."""
    segmenter.requires_grad_(True).train()
    if stage.kind == "context":  # Section 5: the front end is frozen
        segmenter.requires_grad_(False).eval()
        assert segmenter.context is not None
        segmenter.context.requires_grad_(True).train()
    for module in frozen(segmenter, stage.freeze):
        module.requires_grad_(False).eval()


def frozen(segmenter: Segmenter, levels: int) -> list[nn.Module]:
    """The trunk's modules up to the end of its first levels, in order of registration."""
    if levels == 0:
        return []
    last = level_name(segmenter.trunk, levels - 1)
    modules: list[nn.Module] = []
    for name, module in segmenter.trunk.named_modules():
        inside = last == name or last.startswith(f"{name}.")
        if name and not inside:
            modules.append(module)
        if name == last:
            return [*modules, module]
    raise ValueError(f"{segmenter.network.backbone}: found no module {last!r} at the end of level {levels}")


def optimizer(segmenter: Segmenter, stage: Stage) -> Optimizer:
    """AdamW or SGD over what the stage trains: the trunk slower than the rest, vectors without weight decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in segmenter.named_parameters():
        if parameter.requires_grad:
            factor = stage.trunk_lr if name.startswith("trunk.") else 1.0
            decay = stage.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    table = [
        {"params": parameters, "lr": stage.lr * factor, "peak": stage.lr * factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]
    if stage.optimizer == "sgd":
        return SGD(table, momentum=stage.momentum)
    return AdamW(table)


def set_rate(optimizer: Optimizer, stage: Stage, step: int, steps: int) -> float:
    """Set the learning rates for a step of the stage; returns the head's, as a share of its peak."""
    share = min(1.0, (step + 1) / stage.warmup) if stage.warmup else 1.0
    if stage.schedule == "poly":
        share *= (1 - step / steps) ** 0.9
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
    return share


def validations(stage: Stage, steps: int) -> set[int]:
    """After which steps to validate: evenly spaced, the last one among them.

    Example:
        >>> sorted(validations(Stage("frontend", epochs=4, validate=2), steps=183))
        [92, 183]
    """
    number = max(1, round(stage.epochs / stage.validate))
    return {round(steps * (i + 1) / number) for i in range(number)} - {0}


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """A context in which the network computes in the recipe's precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision(recipe, device) == "bf16")


def precision(recipe: Recipe, device: torch.device) -> Literal["fp32", "bf16"]:
    """bf16 where the recipe asks for it, or where it is left to us and the processor computes in it."""
    if recipe.precision == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    return recipe.precision


def has_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies in bf16 (on others, emulating it is slower than fp32)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Before torch 2.9 nothing public says what a CPU can do.
    ask: Callable[[], dict[str, Any]] | None = getattr(torch.cpu, "get_capabilities", None)
    return device.type == "cpu" and ask is not None and bool(ask().get("avx512_bf16"))
