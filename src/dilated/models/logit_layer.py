"""The layer of a network that makes its class logits, found by running the network once.

find_logit_layer(network, classes=21, side=128).name   # "classifier.4" of torchvision's FCN
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.fields.probing import eval_mode, temporary_hooks
from dilated.files import plural


@dataclass(frozen=True)
class LogitLayer:
    """The layer that makes the class logits, and its stride in pixels."""

    name: str
    stride: int


@torch.no_grad()
def find_logit_layer(network: nn.Module, classes: int, side: int, name: str = "", channels: int = 3) -> LogitLayer:
    """Find the last layer with one channel per class that a network's logits depend on, by running it on an image.

    Args:
        side: of the image, in pixels.
        name: examine this layer alone.
        channels: of the image.

    Raises:
        InputError: no such layer, several layers that make the logits together, or an error of the network itself.
    """
    parameter = next(network.parameters(), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    image, other_image = torch.rand(2, 1, channels, side, side, generator=generator).to(parameter)
    outputs: dict[str, Tensor] = {}  # in the order in which the layers end

    def record(key: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                outputs.pop(key, None)
                outputs[key] = output

        return hook

    with eval_mode(network):
        layers = {key: layer for key, layer in network.named_modules() if key}
        if name and name not in layers:
            raise InputError(
                f"layer: the network has no layer {name!r}",
                hint=f"give one of its layers, such as {list(layers)[-1]!r}",
            )
        with temporary_hooks(layer.register_forward_hook(record(key)) for key, layer in layers.items()):
            reference = find_logits(_run_on(network, image), classes)
        candidates = [key for key, out in outputs.items() if out.shape[1] == reference.shape[1]]
        candidates = [key for key in candidates if key == name or (not name and isinstance(layers[key], nn.Conv2d))]
        for key in reversed(candidates):
            change = layers[key].register_forward_hook(lambda layer, inputs, output: output + 1 + output.abs())
            with temporary_hooks([change]):
                changed = find_logits(network(image), classes)
            if torch.equal(changed, reference):
                continue
            erase = layers[key].register_forward_hook(lambda layer, inputs, output: torch.zeros_like(output))
            with temporary_hooks([erase]):
                is_only_source = name or torch.equal(
                    find_logits(network(image), classes), find_logits(network(other_image), classes)
                )
            if not is_only_source:
                raise InputError(
                    f"layer: the logits come from {key!r} and from something else, such as one of {candidates[:-1]}",
                    hint="name one of them as `layer`: the context module then sees its part",
                )
            return LogitLayer(key, max(1, round(side / outputs[key].shape[-1])))
    summary = ", ".join(f"{key} {tuple(out.shape[1:])}" for key, out in list(outputs.items())[-5:])
    missing = f"{name!r} does not give" if name else "no convolution gives"
    raise InputError(
        f"layer: {missing} {plural(reference.shape[1], 'channel')}, (N, C, h, w), on which the logits depend; its "
        f"last layers give {summary or 'none'}",
        hint="name the layer as `layer`, or use a network with a convolution of one channel per class",
    )


def _run_on(network: nn.Module, image: Tensor) -> Any:
    """What a network returns for an image; an error of its own says what it was given, and what may differ."""
    try:
        return network(image)
    except Exception as error:  # a foreign network can raise anything
        channels, side = image.shape[1], image.shape[-1]
        first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
        hint = "give `config` with the `size_divisor` that its images need, or a network that maps images to logits"
        if first is not None and first.in_channels != channels:
            takes = plural(first.in_channels, "channel")
            hint = f"its first convolution takes {takes}: name as many bands by the `input` of `config`"
        raise InputError(
            f"add_context: the network raises an error on an image of {channels} x {side} x {side} "
            f"({type(error).__name__}: {str(error)[:200]})",
            hint=hint,
        ) from error


def find_logits(output: Any, classes: int) -> Tensor:
    """Find the first (N, C, h, w) in whatever a network returns: a tensor, a mapping, a tuple, an object.

    Raises:
        InputError: there is none with C channels (or one, for two classes).
    """
    shapes = []
    for tensor in _iter_tensors(output):
        shapes.append(tuple(tensor.shape))
        if tensor.ndim == 4 and (tensor.shape[1] == classes or (tensor.shape[1] == 1 and classes == 2)):
            return tensor
    raise InputError(
        f"add_context: the network returns {shapes or type(output).__name__}, not logits (N, {classes}, h, w)",
        hint=f"give a network and names that agree; there {'is' if classes == 1 else 'are'} {plural(classes, 'name')}",
    )


def _iter_tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):  # transformers' outputs are mappings too
        for value in output.values():
            yield from _iter_tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _iter_tensors(value)
    elif hasattr(output, "__dict__"):
        yield from _iter_tensors(vars(output))


def binary_to_two_class(logits: Tensor, classes: int) -> Tensor:
    """Logits with a channel per class: one channel for two classes becomes (0, logit)."""
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 and classes == 2 else logits
