"""What a stage trains and how: the network it starts from, the parameters that move, precision and length."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from dilated.data.augment import ReflectCropConfig
from dilated.data.labels import Classes
from dilated.environment import has_bf16, require_bf16
from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.prediction.predictor import Predictor
from dilated.training.budget import StepLimit
from dilated.training.config import Recipe, StageConfig
from dilated.weights.backbones import load_pretrained

Precision = Literal["fp32", "bf16", "fp16"]


def build_initial_segmenter(
    classes: Classes, recipe: Recipe, init_from: BaseSegmenter | None
) -> tuple[BaseSegmenter, str]:
    """Build the network of the first stage, with a line that says where its weights come from.

    Args:
        init_from: a network whose weights are taken where they fit. With other classes, the weights that depend on the
            classes start fresh, except those of classes of the same name.

    Raises:
        InputError: a network that cannot be built, or weights that are not available or do not fit.
    """
    config, stage = recipe.network, recipe.stage[0]
    keeps_context = stage.kind != "frontend" and init_from is not None and init_from.context is not None
    initial_config = dataclasses.replace(config, context=config.context if keeps_context else "none")
    initial_config = initial_config.with_output_stride(stage.output_stride)
    with torch.device("meta"):  # the context module is built when its stage comes, but checked now
        config.build_context(1)
    segmenter = initial_config.build(classes.names, classes.colors)
    if init_from is None:
        return segmenter, load_pretrained(segmenter, recipe.weights)
    fresh = segmenter.load_matching_weights(init_from)
    if len(fresh) == len(segmenter.state_dict()):
        raise InputError(
            f"--init-from: no weight of a {type(init_from.config).__name__} fits the recipe's {type(config).__name__}",
            hint="give a network of the same kind",
        )
    description = f"weights of the network to start from; fresh: {', '.join(fresh) or 'none'}"
    if init_from.classes != classes.names:
        if stage.kind == "context":
            raise InputError(
                f"--init-from: its classes are {init_from.classes}, the data's {classes.names}, and the first stage "
                "freezes the front end",
                hint="give a network of the same classes, or a recipe that begins with a frontend stage",
            )
        description += f". {_transfer_shared_classes(segmenter, init_from)}"
    return segmenter, description


def _transfer_shared_classes(segmenter: BaseSegmenter, init_from: BaseSegmenter) -> str:
    """Reset the weights that depend on the classes, except the rows of classes that both networks have."""
    weights, source_weights = segmenter.state_dict(), init_from.state_dict()
    fresh = segmenter.config.build(segmenter.classes, segmenter.colors).state_dict()
    shared = [name for name in segmenter.classes if name in init_from.classes]
    target_rows, source_rows = (
        [segmenter.classes.index(n) for n in shared],
        [init_from.classes.index(n) for n in shared],
    )
    for key, is_per_class_row in _class_dependent_weights(segmenter).items():
        weights[key].copy_(fresh[key])
        if is_per_class_row and key in source_weights and source_weights[key].shape[1:] == weights[key].shape[1:]:
            weights[key][target_rows] = source_weights[key][source_rows].to(weights[key].device)
    return f"Of its classes, {', '.join(shared) or 'none'} keep their weights; the others start fresh"


def _class_dependent_weights(segmenter: BaseSegmenter) -> dict[str, bool]:
    """Return the weights whose shape depends on the number of classes, and whether each is one row per class."""
    names, colors = segmenter.classes, segmenter.colors
    try:
        with torch.device("meta"):
            extended = segmenter.config.build([*names, " "], [*colors, (0, 0, 0)]).state_dict()
    except InputError as error:
        raise InputError(f"--init-from: its classes are not the data's, {names}, and are built in ({error})") from error
    return {
        key: value.shape[1:] == extended[key].shape[1:]
        for key, value in segmenter.state_dict().items()
        if value.shape != extended[key].shape
    }


def rebuild_for_stage(segmenter: BaseSegmenter, stage: StageConfig, recipe: Recipe) -> BaseSegmenter:
    """Rebuild the network of the stage before with this stage's stride, and with or without the context module."""
    context = "none" if stage.kind == "frontend" else recipe.network.context
    config = dataclasses.replace(segmenter.config, context=context).with_output_stride(stage.output_stride)
    return segmenter.rebuild(config)


def set_modes(segmenter: BaseSegmenter, stage: StageConfig, freeze_norm: bool = False) -> None:
    """Set what learns: gradients on or off, normalization by the batch or by the running statistics."""
    segmenter.requires_grad_(True).train()
    if stage.kind == "context":  # Section 5: the front end is frozen
        segmenter.requires_grad_(False).eval()
        assert segmenter.context is not None
        segmenter.context.requires_grad_(True).train()
    for module in segmenter.first_level_modules(stage.freeze):
        module.requires_grad_(False).eval()
    if freeze_norm:
        for name, module in segmenter.named_modules():
            if segmenter.is_backbone_parameter(f"{name}.") and getattr(module, "running_mean", None) is not None:
                module.eval()


def require_frozen_backbone(segmenter: BaseSegmenter, stage: StageConfig) -> None:
    """Raise an InputError where features are kept of a backbone that learns."""
    if stage.freeze < segmenter.backbone_levels:
        raise InputError(
            f"stage.views: found freeze={stage.freeze} with a backbone of {segmenter.backbone_levels} levels, so its "
            "features would change",
            hint=f"set stage.freeze = {segmenter.backbone_levels}",
        )


def should_freeze_norm(stage: StageConfig, recipe: Recipe) -> bool:
    """Return whether the backbone normalizes by the statistics that came with its weights."""
    samples_at_once = (stage.batch or recipe.batch) // stage.accumulate
    return stage.freeze_norm == "always" or (
        stage.freeze_norm == "auto" and samples_at_once < 4 and recipe.weights != "random"
    )


def require_batch_per_process(recipe: Recipe, processes: int) -> None:
    """Raise an InputError where a stage's batch has fewer samples than there are processes."""
    smallest = min(stage.batch or recipe.batch for stage in recipe.stage)
    if smallest < processes:
        raise InputError(
            f"recipe: found a batch of {smallest} for {processes} processes",
            hint="give a batch of at least one sample per process",
        )


def _count_steps(stage: StageConfig, recipe: Recipe, images: int) -> int:
    return stage.iterations or max(1, round(stage.epochs * images / (stage.batch or recipe.batch)))


def require_same_grid(segmenter: BaseSegmenter, augment: ReflectCropConfig) -> None:
    """Raise an InputError where samples would be labeled on another grid than that of the network's logits."""
    required = segmenter.required_label_grid
    if required is not None and (augment.margin, augment.stride) != required:
        raise InputError(
            f"augment: margin={augment.margin}, stride={augment.stride} is not the grid of the network's logits",
            hint=f"set augment.margin = {required[0]} and augment.stride = {required[1]}, or other network.pools and "
            "network.frontend_padding",
        )


def build_step_limit(stage: StageConfig, recipe: Recipe, images: int) -> StepLimit:
    """Return the number of steps of a stage on so many images, and of its validations."""
    interval = stage.val_interval or (1.0 if stage.epochs else stage.iterations / 10)
    validations = max(1, round((stage.epochs or stage.iterations) / interval))
    return StepLimit(_count_steps(stage, recipe, images), validations)


def autocast(name: Precision, device: torch.device) -> torch.autocast:
    """Return a context in which the network computes in the precision of that name."""
    kind = torch.float16 if name == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=kind, enabled=name != "fp32")


def build_predictor(segmenter: BaseSegmenter, recipe: Recipe, device: torch.device) -> Predictor:
    """Build what validates a network of the recipe: in bf16 where training computes in it, else in fp32."""
    bf16 = resolve_precision(recipe, device) == "bf16"
    return Predictor(segmenter, device=str(device), precision="bf16" if bf16 else "fp32")


def resolve_precision(recipe: Recipe, device: torch.device) -> Precision:
    """Return the recipe's precision; `auto` is bf16 where the processor computes in it, else fp32.

    Raises:
        InputError: fp16 without a GPU, bf16 on a CPU that emulates it.
    """
    if recipe.precision == "fp16" and device.type != "cuda":
        raise InputError("recipe.precision: found 'fp16' without a GPU", hint="set 'auto', 'bf16' or 'fp32'")
    if recipe.precision == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    if recipe.precision == "bf16":
        require_bf16(device, "recipe.precision", "set 'auto' or 'fp32'")
    return recipe.precision
