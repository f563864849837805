"""The network with which a training begins: on a classifier's weights, or another network's as far as they fit."""

from __future__ import annotations

import dataclasses

import torch

from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.training.config import Recipe
from dilated.weights.backbones import load_pretrained


def build_initial_segmenter(
    classes: Classes, recipe: Recipe, init_from: BaseSegmenter | None
) -> tuple[BaseSegmenter, str]:
    """The network of the first stage, and a line that says where its weights come from.

    Args:
        init_from: a network whose weights are taken where they fit. With other classes, the weights that depend on the
            classes start fresh, except those of classes of the same name.

    Raises:
        InputError: a network that cannot be built, or weights that cannot be had or do not fit.
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
            f"--init-from: none of its weights fits the recipe's network: found {type(init_from.config).__name__}, "
            f"expected {type(config).__name__}"
        )
    description = f"weights of the network to start from; fresh: {', '.join(fresh) or 'none'}"
    if init_from.classes != classes.names:
        if stage.kind == "context":
            raise InputError(
                f"--init-from: its classes are {init_from.classes}, the data's {classes.names}, and the first stage "
                "freezes the front end; expected the same classes, or a frontend stage first"
            )
        description += f". {_transfer_shared_classes(segmenter, init_from)}"
    return segmenter, description


def _transfer_shared_classes(segmenter: BaseSegmenter, init_from: BaseSegmenter) -> str:
    """Begin anew where weights belong to classes, but for the rows of those that both have."""
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
            weights[key][target_rows] = source_weights[key][source_rows]
    return f"Of its classes, {', '.join(shared) or 'none'} go on; the others begin anew"


def _class_dependent_weights(segmenter: BaseSegmenter) -> dict[str, bool]:
    """The weights whose shape depends on the number of classes, and whether each has a row a class and no more."""
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
