"""Somebody else's segmentation network with a context module on its class scores.

    network = torchvision.models.segmentation.fcn_resnet50(weights="DEFAULT")
    segmenter = add_context(network, classes, colors)
    labels = segmenter(images).argmax(1)                 # at once as good as before: the module starts as the identity

One idea fits every library: the layer that makes the class scores. Whatever that layer gives passes through the context
module, and the network goes on with the result, up-sampling as it always did. The layer is found by running the network
once: the last convolution with one map per class that the network's scores depend on.
"""

from __future__ import annotations

import colorsys
import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.nn.base import BaseSegmenter, Color
from dilated.nn.context import DILATIONS, ContextModule
from dilated.nn.factory import WEIGHTS, construct
from dilated.nn.sampling import PIXELS, Axes, Grid
from dilated.nn.score_layer import hooked, score_layer, scores_in, two


@dataclass(frozen=True)
class ModuleNetwork:
    """A network of another library, and the context module on its class scores."""

    factory: str = ""
    """What builds it, as `package.module:name`; only needed to train, save and load it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the factory. A table with a `factory` of its own is built first."""
    layer: str = ""
    """The layer that makes the class scores, by its name in the network; found where it is empty."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of red, green and blue in 0..1, which the network expects subtracted."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """What it expects them divided by."""
    multiple: int = 1
    """Of what the network expects the sides of pictures to be a multiple; they are extended by zeros."""
    context: Literal["none", "basic", "large"] = "none"
    """The context module (paper, Table 1), on the class scores."""
    dilations: tuple[int, ...] = DILATIONS
    """Of the context module."""
    padding: Literal["same", "once"] = "same"
    """What the context module sees beyond the border."""
    init: Literal["identity", "random"] = "identity"
    """How the context module starts."""
    sigma: float = 0.0
    """Noise on the identity; `large` needs some, such as 0.001, so that the copies of a map can become different."""
    kind: Literal["module"] = "module"
    """Which front end: any module."""

    def __post_init__(self) -> None:
        if self.context == "large" and self.init == "identity" and not self.sigma:
            raise InputError("network.sigma: found 0 with context 'large'; expected more, such as 0.001")
        object.__setattr__(
            self, "options", {k: v for k, v in self.options.items() if k not in WEIGHTS or v is not None}
        )
        try:
            held = json.loads(json.dumps(self.options)) == self.options and "null" not in json.dumps(self.options)
        except (TypeError, ValueError):
            held = False
        if not held:
            raise InputError(
                f"network.options: found {self.options}; expected numbers, texts, lists and tables of them, which a "
                "file can hold. Leave out what is None, or let a function of your own be the factory."
            )


class AdaptedSegmenter(BaseSegmenter):
    """Any network from pictures to class scores, with a context module and all it takes to be used alone.

    The context module reads scores less their least over the classes, which are not negative, and what it changes is
    added to the scores: a fresh one changes nothing, whatever follows. One map for two classes is read as (0, score).

    Args:
        classes: names, in the order of the label ids.
        colors: one (red, green, blue) of 0..255 per class.
        network: what it is built of.
        card: facts about the network that travel in its file.
        base: the network itself; built by `network.factory` where it is not given.

    Shapes:
        images (N, 3, H, W), RGB in 0..1, any H and W -> scores (N, C, H, W).

    Raises:
        ValueError: no layer that makes the scores, or a factory that gives no such network.
    """

    network: ModuleNetwork
    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        colors: Sequence[Color],
        network: ModuleNetwork | None = None,
        card: dict[str, object] | None = None,
        base: nn.Module | None = None,
    ) -> None:
        network = network or ModuleNetwork()
        super().__init__(classes, colors, network, card)
        self.base: nn.Module = base if base is not None else construct(network.factory, network.options)
        self.register_buffer("_mean", torch.tensor(network.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(network.std).view(1, 3, 1, 1), persistent=False)
        self.mean, self.std = network.mean, network.std
        self.context: ContextModule | None = None

        side = math.lcm(network.multiple, 32) * 4
        found = score_layer(self.base, len(classes), side, network.layer)
        self.network = replace(network, layer=found.name)
        self.grid = Grid(found.stride, (found.stride - 1) / 2)  # as up-sampling without aligned corners has it
        self.map_grids = (PIXELS,)
        if network.context != "none":
            self.context = ContextModule(
                len(classes), network.context, network.dilations, network.padding, network.init, network.sigma
            ).to(next(self.base.parameters()))

    @property
    def output_stride(self) -> int:
        return int(self.grid.stride)

    @property
    def alignment(self) -> int:
        return math.lcm(self.network.multiple, self.output_stride, 32)

    @property
    def halo(self) -> int:
        """The context module runs inside `maps`; only interpolation follows."""
        return 1

    def maps(self, images: Tensor) -> list[Tensor]:
        """The network's scores at every pixel: (N, C, H, W)."""
        return [self._run(images)[0]]

    def finish(self, maps: list[Tensor], places: Sequence[Axes]) -> tuple[Tensor, Axes]:
        return maps[0], places[0]

    def scores(self, images: Tensor) -> Tensor:
        """What the network goes on with after the layer that makes the scores: (N, C, ceil(H/r), ceil(W/r))."""
        height, width = (-(-side // self.output_stride) for side in images.shape[-2:])
        return self._run(images)[1][..., :height, :width]

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores at every pixel, and those of the layer after the context module."""
        kept: list[Tensor] = []

        def through(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            scores = two(output, len(self.classes))
            if self.context is not None:
                above = scores - scores.amin(1, keepdim=True)
                scores = scores + (self.context(above) - above)  # a fresh module changes no bit, in any precision
            kept.append(scores)
            return scores if scores.shape == output.shape else scores[:, 1:] - scores[:, :1]

        height, width = images.shape[-2:]
        x = (images - self._mean) / self._std
        below, beside = (-side % self.network.multiple for side in (height, width))
        with hooked(self.base.get_submodule(self.network.layer), through):
            output = two(scores_in(self.base(F.pad(x, (0, beside, 0, below))), len(self.classes)), len(self.classes))
        if output.shape[-2:] != (height + below, width + beside):
            output = F.interpolate(output, (height + below, width + beside), mode="bilinear", align_corners=False)
        return output[..., :height, :width], kept[-1]

    def first_levels(self, levels: int) -> list[nn.Module]:
        if levels:
            raise ValueError(
                f"freeze: found {levels}; expected 0, since what the levels of this network are is not known"
            )
        return []

    def pretrained(self, name: str) -> bool:
        """Everything but the context module."""
        return name.startswith("base.")

    def with_network(self, network: ModuleNetwork) -> AdaptedSegmenter:
        return AdaptedSegmenter(self.classes, self.colors, network, self.card, copy.deepcopy(self.base))


def add_context(
    network: nn.Module,
    classes: Sequence[str],
    colors: Sequence[Color] | None = None,
    *,
    layer: str = "",
    width: Literal["basic", "large"] = "basic",
    dilations: Sequence[int] = DILATIONS,
    sigma: float = 0.0,
    mean: tuple[float, float, float] = ModuleNetwork.mean,
    std: tuple[float, float, float] = ModuleNetwork.std,
    multiple: int = 1,
    factory: str = "",
    options: Mapping[str, Any] | None = None,
) -> BaseSegmenter:
    """Put a context module on the class scores of an existing network, which is used as it is, not copied.

    Args:
        network: any module that maps (N, 3, H, W) to scores (N, C, h, w), or to a mapping, tuple or object that holds
            them first: torchvision's, segmentation_models.pytorch's, transformers', your own; or a `Segmenter`.
        classes: names, in the order of its maps; two names for a network with one map.
        colors: one per class; evenly spread hues by default.
        layer: the layer that makes the scores, if it is not the last convolution with one map per class.
        width, dilations, sigma: of the context module; with sigma 0 it starts as exactly the identity.
        mean, std: what the network expects subtracted from RGB in 0..1, and what divided by.
        multiple: of what it expects the sides of pictures to be a multiple.
        factory, options: what builds the network (`package.module:name` and keyword arguments, without downloads), so
            that it can be saved, loaded and trained by `dilated train --start`.

    Returns:
        A segmenter: for `Predictor`, for `.save`, for training.

    Raises:
        ValueError: no layer of the network makes these scores; the message lists what was found.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Upsample(None, 2))
        >>> segmenter = add_context(network, ["sky", "road"], multiple=2).eval()
        >>> images = torch.rand(1, 3, 20, 31)
        >>> segmenter(images).shape, segmenter.network.layer
        (torch.Size([1, 2, 20, 31]), '2')
    """
    names = tuple(classes)
    settings: dict[str, Any] = {"context": width, "dilations": tuple(dilations), "sigma": sigma}
    if isinstance(network, BaseSegmenter):
        if network.classes != names:
            raise ValueError(f"add_context: found the classes {names}; expected the network's own, {network.classes}")
        return network.rebuild(**settings)
    module = ModuleNetwork(factory, dict(options or {}), layer, mean, std, multiple, **settings)
    return AdaptedSegmenter(names, colors or hues(len(names)), module, base=network)


def hues(count: int) -> list[Color]:
    """Colours that differ as much as their number allows."""
    turns = (colorsys.hsv_to_rgb(i / count, 0.75, 0.6 + 0.35 * (i % 2)) for i in range(count))
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in turns]


__all__ = ["AdaptedSegmenter", "ModuleNetwork", "add_context"]
