"""The layer of a network that makes its class scores, found by running the network once.

score_layer(network, classes=21, side=128).name      # "classifier.4" of torchvision's FCN
with hooked(network.get_submodule("classifier.4"), change):
    network(images)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dilated.nn.modes import evaluating


@dataclass(frozen=True)
class ScoreLayer:
    """The layer that makes the class scores, and how many pixels lie between two of them."""

    name: str
    stride: int


@torch.no_grad()
def score_layer(base: nn.Module, classes: int, side: int, name: str = "") -> ScoreLayer:
    """The last layer with one map per class that a network's scores depend on; found by running it on a picture.

    Args:
        side: of the picture.
        name: look at this layer alone.
    """
    like = next(base.parameters(), torch.zeros(()))
    image, other = torch.rand(2, 1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(like)
    outputs: dict[str, Tensor] = {}  # in the order in which the layers end

    def record(key: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                outputs.pop(key, None)
                outputs[key] = output

        return hook

    with evaluating(base):
        layers = {key: layer for key, layer in base.named_modules() if key}
        if name and name not in layers:
            raise ValueError(f"layer: found {name!r}; expected a layer of the network, such as {list(layers)[-1]!r}")
        handles = [layer.register_forward_hook(record(key)) for key, layer in layers.items()]
        try:
            plain = scores_in(base(image), classes)
        finally:
            for handle in handles:
                handle.remove()
        fit = [key for key, out in outputs.items() if out.shape[1] == plain.shape[1]]
        fit = [key for key in fit if key == name or (not name and isinstance(layers[key], nn.Conv2d))]
        for key in reversed(fit):
            with hooked(layers[key], lambda layer, inputs, output: output + 1 + output.abs()):
                changed = scores_in(base(image), classes)
            if torch.equal(changed, plain):
                continue
            with hooked(layers[key], lambda layer, inputs, output: torch.zeros_like(output)):
                alone = name or torch.equal(scores_in(base(image), classes), scores_in(base(other), classes))
            if not alone:
                raise ValueError(
                    f"layer: the scores come from {key!r} and from something else, such as one of {fit[:-1]}; expected "
                    f"one layer that makes them. Name one as `layer`: the context module then sees its part."
                )
            return ScoreLayer(key, max(1, round(side / outputs[key].shape[-1])))
    found = ", ".join(f"{key} {tuple(out.shape[1:])}" for key, out in list(outputs.items())[-5:])
    raise ValueError(
        f"layer: found no {'such layer' if name else 'convolution'} with {plain.shape[1]} maps, (N, C, h, w), on which "
        f"the network's scores depend; its last maps are {found or 'none'}. Expected the name of the layer as `layer`, "
        "or a network with a convolution of one map per class."
    )


def scores_in(output: Any, classes: int) -> Tensor:
    """The first (N, C, h, w) in whatever a network returns: a tensor, a mapping, a tuple.

    Raises:
        ValueError: there is none with C maps (or one, for two classes).
    """
    seen = []
    for one in _tensors(output):
        seen.append(tuple(one.shape))
        if one.ndim == 4 and (one.shape[1] == classes or (one.shape[1] == 1 and classes == 2)):
            return one
    raise ValueError(
        f"add_context: the network returns {seen or type(output).__name__}; expected scores (N, {classes}, h, w) for "
        f"its {classes} classes"
    )


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):  # transformers' outputs are mappings too
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)
    elif hasattr(output, "__dict__"):
        yield from _tensors(vars(output))


def two(scores: Tensor, classes: int) -> Tensor:
    """Scores with a map per class: one map for two classes becomes (0, score)."""
    return torch.cat([torch.zeros_like(scores), scores], 1) if scores.shape[1] == 1 and classes == 2 else scores


@contextmanager
def hooked(layer: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """A forward hook for a while: a copy of the network never takes it along."""
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
