"""Somebody else's segmentation network with a context module on its class logits.

    network = torchvision.models.segmentation.fcn_resnet50(weights="DEFAULT")
    segmenter = add_context(network, classes, colors)
    labels = segmenter(images).argmax(1)                 # at once as good as before: the module starts as the identity

One idea fits every library: the layer that makes the class logits. Whatever that layer gives passes through the context
module, and the network goes on with the result, up-sampling as it always did. The layer is found by running the network
once: the last convolution with one map per class that the network's logits depend on.
"""

from __future__ import annotations

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
from dilated.models.base import BaseSegmenter
from dilated.models.context import DILATIONS, ContextModule
from dilated.models.factory import WEIGHT_OPTIONS, build_from_factory
from dilated.models.logit_layer import binary_to_two_class, find_logit_layer, find_logits, temporary_forward_hook
from dilated.models.sampling import PIXEL_GRID, AxisGrids, Grid
from dilated.palettes import Color, distinct_colors


@dataclass(frozen=True)
class AdapterConfig:
    """A network of another library, and the context module on its class logits."""

    factory: str = ""
    """What builds it, as `package.module:name`; only needed to train, save and load it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the factory. A table with a `factory` of its own is built first."""
    layer: str = ""
    """The layer that makes the class logits, by its name in the network; found where it is empty."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of red, green and blue in 0..1, which the network expects subtracted."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """What it expects them divided by."""
    size_divisor: int = 1
    """Of what the network expects the sides of images to be a multiple; they are extended by zeros."""
    context: Literal["none", "basic", "large"] = "none"
    """The context module (paper, Table 1), on the class logits."""
    dilations: tuple[int, ...] = DILATIONS
    """Of the context module."""
    padding: Literal["same", "once"] = "same"
    """What the context module sees beyond the border."""
    init: Literal["identity", "random"] = "identity"
    """How the context module starts."""
    sigma: float = 0.0
    """Noise on the identity; `large` needs some, such as 0.001, so that the copies of a map can become different."""
    kind: Literal["adapter"] = "adapter"
    """Which front end: any module."""

    def __post_init__(self) -> None:
        if self.context == "large" and self.init == "identity" and not self.sigma:
            raise InputError("network.sigma: found 0 with context 'large'; expected more, such as 0.001")
        object.__setattr__(
            self, "options", {k: v for k, v in self.options.items() if k not in WEIGHT_OPTIONS or v is not None}
        )
        try:
            is_serializable = json.loads(json.dumps(self.options)) == self.options and "null" not in json.dumps(
                self.options
            )
        except (TypeError, ValueError):
            is_serializable = False
        if not is_serializable:
            raise InputError(
                f"network.options: found {self.options}; expected numbers, texts, lists and tables of them, which a "
                "file can hold. Leave out what is None, or let a function of your own be the factory."
            )


class AdaptedSegmenter(BaseSegmenter):
    """Any network from images to class logits, with a context module and all it takes to be used alone.

    The context module reads logits less their least over the classes, which are not negative, and what it changes is
    added to the logits: a fresh one changes nothing, whatever follows. One map for two classes is read as (0, logit).

    Args:
        classes: names, in the order of the label ids.
        colors: one (red, green, blue) of 0..255 per class.
        config: what it is built of.
        card: facts about the network that travel in its file.
        model: the network itself; built by `config.factory` where it is not given.

    Shapes:
        images (N, 3, H, W), RGB in 0..1, any H and W -> logits (N, C, H, W).

    Raises:
        ValueError: no layer that makes the logits, or a factory that gives no such config.
    """

    config: AdapterConfig
    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        colors: Sequence[Color],
        config: AdapterConfig | None = None,
        card: dict[str, object] | None = None,
        model: nn.Module | None = None,
    ) -> None:
        config = config or AdapterConfig()
        super().__init__(classes, colors, config, card)
        self.model: nn.Module = model if model is not None else build_from_factory(config.factory, config.options)
        self.register_buffer("_mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)
        self.mean, self.std = config.mean, config.std
        self.context: ContextModule | None = None

        side = math.lcm(config.size_divisor, 32) * 4
        logit_layer = find_logit_layer(self.model, len(classes), side, config.layer)
        self.config = replace(config, layer=logit_layer.name)
        self.grid = Grid(
            logit_layer.stride, (logit_layer.stride - 1) / 2
        )  # as up-sampling without aligned corners has it
        self.feature_grids = (PIXEL_GRID,)
        if config.context != "none":
            self.context = ContextModule(
                len(classes), config.context, config.dilations, config.padding, config.init, config.sigma
            ).to(next(self.model.parameters()))

    @property
    def output_stride(self) -> int:
        return int(self.grid.stride)

    @property
    def alignment(self) -> int:
        return math.lcm(self.config.size_divisor, self.output_stride, 32)

    @property
    def halo(self) -> int:
        """The context module runs inside `extract_features`; only interpolation follows."""
        return 1

    def extract_features(self, images: Tensor) -> list[Tensor]:
        """The network's logits at every pixel: (N, C, H, W)."""
        return [self._run_model(images)[0]]

    def decode(self, feature_maps: list[Tensor], grids: Sequence[AxisGrids]) -> tuple[Tensor, AxisGrids]:
        return feature_maps[0], grids[0]

    def logits(self, images: Tensor) -> Tensor:
        """What the network goes on with after the layer that makes the logits: (N, C, ceil(H/r), ceil(W/r))."""
        height, width = (-(-side // self.output_stride) for side in images.shape[-2:])
        return self._run_model(images)[1][..., :height, :width]

    def _run_model(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at every pixel, and those of the layer after the context module."""
        captured: list[Tensor] = []

        def insert_context(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            logits = binary_to_two_class(output, len(self.classes))
            if self.context is not None:
                non_negative = logits - logits.amin(1, keepdim=True)
                logits = logits + (
                    self.context(non_negative) - non_negative
                )  # a fresh module changes no bit, in any precision
            captured.append(logits)
            return logits if logits.shape == output.shape else logits[:, 1:] - logits[:, :1]

        height, width = images.shape[-2:]
        x = (images - self._mean) / self._std
        pad_bottom, pad_right = (-side % self.config.size_divisor for side in (height, width))
        with temporary_forward_hook(self.model.get_submodule(self.config.layer), insert_context):
            output = binary_to_two_class(
                find_logits(self.model(F.pad(x, (0, pad_right, 0, pad_bottom))), len(self.classes)), len(self.classes)
            )
        if output.shape[-2:] != (height + pad_bottom, width + pad_right):
            output = F.interpolate(
                output, (height + pad_bottom, width + pad_right), mode="bilinear", align_corners=False
            )
        return output[..., :height, :width], captured[-1]

    def first_level_modules(self, levels: int) -> list[nn.Module]:
        if levels:
            raise ValueError(
                f"freeze: found {levels}; expected 0, since what the levels of this network are is not known"
            )
        return []

    def is_backbone_parameter(self, name: str) -> bool:
        """Everything but the context module."""
        return name.startswith("model.")

    def with_config(self, config: AdapterConfig) -> AdaptedSegmenter:
        return AdaptedSegmenter(self.classes, self.colors, config, self.card, copy.deepcopy(self.model))


def add_context(
    network: nn.Module,
    classes: Sequence[str],
    colors: Sequence[Color] | None = None,
    *,
    layer: str = "",
    width: Literal["basic", "large"] = "basic",
    dilations: Sequence[int] = DILATIONS,
    sigma: float = 0.0,
    mean: tuple[float, float, float] = AdapterConfig.mean,
    std: tuple[float, float, float] = AdapterConfig.std,
    size_divisor: int = 1,
    factory: str = "",
    options: Mapping[str, Any] | None = None,
) -> BaseSegmenter:
    """Put a context module on the class logits of an existing network, which is used as it is, not copied.

    Args:
        network: any module that maps (N, 3, H, W) to logits (N, C, h, w), or to a mapping, tuple or object that holds
            them first: torchvision's, segmentation_models.pytorch's, transformers', your own; or a `Segmenter`.
        classes: names, in the order of its maps; two names for a network with one map.
        colors: one per class; evenly spread hues by default.
        layer: the layer that makes the logits, if it is not the last convolution with one map per class.
        width, dilations, sigma: of the context module; with sigma 0 it starts as exactly the identity.
        mean, std: what the network expects subtracted from RGB in 0..1, and what divided by.
        multiple: of what it expects the sides of images to be a multiple.
        factory, options: what builds the network (`package.module:name` and keyword arguments, without downloads), so
            that it can be saved, loaded and trained by `dilated train --init-from`.

    Returns:
        A segmenter: for `Predictor`, for `.save`, for training.

    Raises:
        ValueError: no layer of the network makes these logits; the message lists what was found.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Upsample(None, 2))
        >>> segmenter = add_context(network, ["sky", "road"], size_divisor=2).eval()
        >>> images = torch.rand(1, 3, 20, 31)
        >>> segmenter(images).shape, segmenter.config.layer
        (torch.Size([1, 2, 20, 31]), '2')
    """
    names = tuple(classes)
    settings: dict[str, Any] = {"context": width, "dilations": tuple(dilations), "sigma": sigma}
    if isinstance(network, BaseSegmenter):
        if network.classes != names:
            raise ValueError(f"add_context: found the classes {names}; expected the network's own, {network.classes}")
        return network.rebuild(**settings)
    config = AdapterConfig(factory, dict(options or {}), layer, mean, std, size_divisor, **settings)
    return AdaptedSegmenter(names, colors or distinct_colors(len(names)), config, model=network)


__all__ = ["AdaptedSegmenter", "AdapterConfig", "add_context"]
