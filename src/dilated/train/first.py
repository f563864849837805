"""The network with which a training begins: on a classifier's weights, or another network's as far as they fit."""

from __future__ import annotations

import dataclasses

import torch

from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.nn.base import BaseSegmenter
from dilated.nn.build import build_segmenter
from dilated.nn.context import ContextModule
from dilated.nn.segmenter import Network
from dilated.train.recipe import Recipe
from dilated.weights.sources import load_front_end


def first(classes: Classes, recipe: Recipe, start: BaseSegmenter | None) -> tuple[BaseSegmenter, str]:
    """The network of the first stage, and a line that says where its weights come from.

    Args:
        start: a network whose weights are taken where they fit. With other classes, what depends on the classes begins
            anew, but for those of the same name, whose weights are taken over.

    Raises:
        InputError: a network that cannot be built, or weights that cannot be had or do not fit.
    """
    network, stage = recipe.network, recipe.stage[0]
    goes_on = stage.kind != "frontend" and start is not None and start.context is not None
    begins = dataclasses.replace(network, context=network.context if goes_on else "none")
    if isinstance(begins, Network):
        begins = dataclasses.replace(begins, output_stride=stage.output_stride)
    try:
        if network.context != "none":  # it is built when its stage comes, but looked at now
            with torch.device("meta"):
                ContextModule(1, network.context, network.dilations, network.padding, network.init)
        segmenter = build_segmenter(classes.names, classes.colors, begins)
    except ValueError as error:
        raise InputError(str(error)) from error
    if start is None:
        return segmenter, load_front_end(segmenter, recipe.weights)
    fresh = segmenter.take(start)
    if len(fresh) == len(segmenter.state_dict()):
        raise InputError(
            f"start: none of its weights fits the recipe's network: found {type(start.network).__name__}, expected "
            f"{type(network).__name__}"
        )
    line = f"weights of the network to start from; fresh: {', '.join(fresh) or 'none'}"
    if start.classes != classes.names:
        if stage.kind == "context":
            raise InputError(
                f"start: its classes are {start.classes}, the data's {classes.names}, and the first stage freezes the "
                "front end; expected the same classes, or a frontend stage first"
            )
        line += f". {_classes_taken(segmenter, start)}"
    return segmenter, line


def _classes_taken(segmenter: BaseSegmenter, start: BaseSegmenter) -> str:
    """Begin anew where weights belong to classes, but for the rows of those that both have."""
    own, theirs = segmenter.state_dict(), start.state_dict()
    fresh = build_segmenter(segmenter.classes, segmenter.colors, segmenter.network).state_dict()
    shared = [name for name in segmenter.classes if name in start.classes]
    here, there = [segmenter.classes.index(n) for n in shared], [start.classes.index(n) for n in shared]
    for key, by_row in _of_classes(segmenter).items():
        own[key].copy_(fresh[key])
        if by_row and key in theirs and theirs[key].shape[1:] == own[key].shape[1:]:
            own[key][here] = theirs[key][there]
    return f"Of its classes, {', '.join(shared) or 'none'} go on; the others begin anew"


def _of_classes(segmenter: BaseSegmenter) -> dict[str, bool]:
    """The weights whose shape depends on the number of classes, and whether each has a row a class and no more."""
    names, colors = segmenter.classes, segmenter.colors
    try:
        with torch.device("meta"):
            more = build_segmenter([*names, " "], [*colors, (0, 0, 0)], segmenter.network).state_dict()
    except ValueError as error:
        raise InputError(f"start: its classes are not the data's, {names}, and are built in ({error})") from error
    return {
        key: value.shape[1:] == more[key].shape[1:]
        for key, value in segmenter.state_dict().items()
        if value.shape != more[key].shape
    }
