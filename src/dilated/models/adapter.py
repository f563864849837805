"""A segmentation network of another library with a context module on its class logits.

    network = torchvision.models.segmentation.fcn_resnet50(weights="DEFAULT")
    segmenter = add_context(network, classes, colors)
    labels = segmenter(images).argmax(1)                 # at once as good as before: the module starts as the identity

One idea fits every library: the layer that makes the class logits. Its output passes through the context module, and
the network goes on with the result, up-sampling as before. The layer is found by running the network
once: the last convolution with one map per class that the network's logits depend on.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.config import require_valid
from dilated.errors import InputError
from dilated.fields.probing import temporary_hooks
from dilated.input_config import InputConfig
from dilated.models.allowed_factories import WEIGHT_OPTIONS
from dilated.models.base import BaseConfig, BaseSegmenter
from dilated.models.context import DILATIONS, context_rules
from dilated.models.factory import build_from_factory, find_shapes, is_trusted
from dilated.models.logit_layer import binary_to_two_class, find_logit_layer, find_logits
from dilated.models.sampling import PIXEL_GRID, AxisGrids, Grid
from dilated.models.segmenter import make_non_negative
from dilated.palettes import Color

_LARGEST_MULTIPLE = 512
"""Of a network's size divisor and 32, in pixels: four of them are the side of the image that it is examined with."""
_LARGEST_NORMALIZATION = 1e6


@dataclass(frozen=True)
class AdapterConfig(BaseConfig):
    """The settings of a network of another library, and of the context module on its class logits."""

    factory: str = ""
    """What builds it, as `package.module:name`; only needed to train, save and load it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the factory. A table with a `factory` key is built first."""
    layer: str = ""
    """The layer that makes the class logits, by its name in the network; searched for where it is empty."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of red, green and blue in 0..1, which the network expects subtracted."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """What the network expects red, green and blue divided by."""
    size_divisor: int = 1
    """The number of which the sides of images must be multiples; they are extended by zeros."""
    context: Literal["none", "basic", "large"] = "none"
    dilations: tuple[int, ...] = DILATIONS
    padding: Literal["same", "once"] = "same"
    init: Literal["identity", "random"] = "identity"
    sigma: float = 0.0
    """Standard deviation of the noise on the identity; `large` needs some, such as 0.001, so that copies of a channel
    can become different."""
    input: InputConfig | None = None
    """What images hold, with the mean and standard deviation that are used instead of those above; left out for 8-bit
    RGB."""
    kind: Literal["adapter"] = "adapter"
    """A network of another library."""

    def __post_init__(self) -> None:
        rules = {
            "mean": (all(abs(value) <= _LARGEST_NORMALIZATION for value in self.mean), "give three numbers"),
            "std": (all(0 < value <= _LARGEST_NORMALIZATION for value in self.std), "give three numbers above 0"),
            "size_divisor": (
                0 < self.size_divisor <= _LARGEST_MULTIPLE and math.lcm(self.size_divisor, 32) <= _LARGEST_MULTIPLE,
                f"give a number that has a multiple of up to {_LARGEST_MULTIPLE} with 32",
            ),
        }
        require_valid(self, "network", rules | context_rules(self.dilations, self.sigma))
        if self.context == "large" and self.init == "identity" and not self.sigma:
            raise InputError("network.sigma: 0 with context 'large'", hint="give more, such as 0.001")
        options = {k: v for k, v in self.options.items() if k not in WEIGHT_OPTIONS or v is not None}
        object.__setattr__(self, "options", options)
        if not _is_serializable(options):
            raise InputError(
                f"network.options: {options} cannot be written to a file, which holds numbers, texts, lists and tables "
                "of them",
                hint="leave out what is None, or let a function of your own be the factory",
            )

    def build(
        self,
        classes: Sequence[str],
        colors: Sequence[Color] | None = None,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        card: dict[str, object] | None = None,
    ) -> AdaptedSegmenter:
        return AdaptedSegmenter(classes, colors, self, card)

    @property
    def is_trusted(self) -> bool:
        return is_trusted(self.factory)

    def expected_shapes(self, classes: int) -> dict[str, tuple[int, ...]] | None:
        if self.is_trusted:
            return None  # code of one's own runs once
        shapes = find_shapes(self.factory, self.options)
        if shapes is None:
            return None
        with torch.device("meta"):
            context = self.build_context(classes)
        tensors = {} if context is None else context.state_dict()
        model = {f"model.{name}": shape for name, shape in shapes.items()}
        return model | {f"context.{name}": tuple(tensor.shape) for name, tensor in tensors.items()}

    def require_savable(self, path: Path) -> None:
        if not self.factory:
            raise InputError(
                f"{path}: nothing says what builds this network, so its file could not be read again",
                hint="give a factory, as in add_context(network, classes, config=AdapterConfig("
                "factory='torchvision.models.segmentation:fcn_resnet50'))",
            )


class AdaptedSegmenter(BaseSegmenter):
    """Any network from images to class logits, with a context module and all that it takes to be used alone.

    The context module reads logits minus their minimum over the classes, which are not negative, and the difference it
    makes is added to the logits: a fresh one changes nothing. One channel for two classes is read as (0, logit).

    Args:
        classes, colors, config, card: as of `BaseSegmenter`.
        model: the network itself; built by `config.factory` where it is not given.

    Shapes:
        images (N, 3, H, W), RGB in 0..1, any H and W -> logits (N, C, H, W).

    Raises:
        InputError: no layer that makes the logits, or a factory that does not build such a network.
    """

    config: AdapterConfig
    backbone_prefixes = ("model.",)

    def __init__(
        self,
        classes: Sequence[str],
        colors: Sequence[Color] | None = None,
        config: AdapterConfig | None = None,
        card: dict[str, object] | None = None,
        model: nn.Module | None = None,
    ) -> None:
        config = config or AdapterConfig()
        super().__init__(classes, colors, config, card)
        self.model: nn.Module = model if model is not None else build_from_factory(config.factory, config.options)
        normalization = config if config.input is None else config.input
        self._set_normalization(normalization.mean, normalization.std)

        probe_size = math.lcm(config.size_divisor, 32) * 4
        logit_layer = find_logit_layer(self.model, len(classes), probe_size, config.layer, config.num_bands)
        self.config = replace(config, layer=logit_layer.name)
        # The grid of up-sampling without aligned corners.
        self.grid = Grid(logit_layer.stride, (logit_layer.stride - 1) / 2)
        self.feature_grids = (PIXEL_GRID,)
        context = config.build_context(len(classes))
        self.context = None if context is None else context.to(next(self.model.parameters()))

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

    @property
    def logit_bias(self) -> Tensor | None:
        if self.context is not None:
            return self.context.final.bias
        bias = getattr(self.model.get_submodule(self.config.layer), "bias", None)
        return bias if isinstance(bias, Tensor) else None

    def extract_features(self, images: Tensor) -> list[Tensor]:
        """The network's logits at every pixel: (N, C, H, W)."""
        return [self._run_model(images)[0]]

    def decode(self, feature_maps: list[Tensor], grids: Sequence[AxisGrids]) -> tuple[Tensor, AxisGrids]:
        return feature_maps[0], grids[0]

    def logits(self, images: Tensor) -> Tensor:
        """The logits that the network goes on with, after the context module: (N, C, ceil(H/r), ceil(W/r))."""
        height, width = (-(-side // self.output_stride) for side in images.shape[-2:])
        return self._run_model(images)[1][..., :height, :width]

    def _run_model(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at every pixel, and those of the layer after the context module."""
        captured: list[Tensor] = []

        def insert_context(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            logits = binary_to_two_class(output, len(self.classes))
            if self.context is not None:
                non_negative = make_non_negative(logits)
                # A fresh module changes no bit, in any precision.
                logits = logits + (self.context(non_negative) - non_negative)
            captured.append(logits)
            return logits if logits.shape == output.shape else logits[:, 1:] - logits[:, :1]

        height, width = images.shape[-2:]
        x = self._normalize_and_pad(images, self.config.size_divisor)
        padded_size = x.shape[-2], x.shape[-1]
        layer = self.model.get_submodule(self.config.layer)
        with temporary_hooks([layer.register_forward_hook(insert_context)]):
            output = binary_to_two_class(find_logits(self.model(x), len(self.classes)), len(self.classes))
        if output.shape[-2:] != padded_size:
            output = F.interpolate(output, padded_size, mode="bilinear", align_corners=False)
        return output[..., :height, :width], captured[-1]

    @property
    def backbone_levels(self) -> int:
        return 0

    def first_level_modules(self, levels: int) -> list[nn.Module]:
        if levels:
            raise InputError(f"freeze: {levels} levels of a network whose levels are not known", hint="give 0")
        return []

    def describe_random_weights(self) -> str:
        return f"{self.config.factory}: weights as it gives them"

    def load_pretrained(self, weights: Mapping[str, Tensor], source: str) -> str:
        """Fill the network with its state_dict."""
        factory, state = self.config.factory, self.model.state_dict()
        mismatched = sorted(state.keys() ^ weights.keys()) or [k for k in state if state[k].shape != weights[k].shape]
        if mismatched:
            raise InputError(
                f"weights: {source} does not fit {factory}: {len(mismatched)} weights are missing, unknown or of "
                f"another shape, first {mismatched[0]!r}",
                hint="give the state_dict of that network",
            )
        self.model.load_state_dict(weights)
        return f"{factory}: {len(state)} tensors from {source}"

    def with_config(self, config: Any) -> AdaptedSegmenter:
        return AdaptedSegmenter(self.classes, self.colors, config, self.card, copy.deepcopy(self.model))


def add_context(
    network: nn.Module,
    classes: Sequence[str],
    colors: Sequence[Color] | None = None,
    *,
    width: Literal["basic", "large"] = "basic",
    dilations: Sequence[int] = DILATIONS,
    sigma: float = 0.0,
    config: AdapterConfig | None = None,
) -> BaseSegmenter:
    """Put a context module on the class logits of an existing network, which is used as it is, not copied.

    Args:
        network: any module that maps (N, 3, H, W), or the bands of `config.input`, to logits (N, C, h, w), or to a
            mapping, tuple or object that holds them first: torchvision's, segmentation_models.pytorch's,
            transformers', your own; or a `Segmenter`.
        classes: names, in the order of its channels; two names for a network with one channel.
        colors: one per class; evenly spread hues by default.
        width, dilations, sigma: of the context module; with sigma 0 it starts as exactly the identity.
        config: what the network expects and what builds it, where the defaults do not fit: `mean`, `std`,
            `size_divisor`, `layer`, `input` (for images other than 8-bit RGB), and `factory` with its `options`, with
            which the result can be saved, loaded and trained by `dilated train --init-from`. Its width, dilations
            and sigma are replaced by those above.

    Returns:
        A segmenter: for `Predictor`, for `.save`, for training.

    Raises:
        InputError: no layer of the network makes these logits; the message lists its last layers.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Upsample(None, 2))
        >>> segmenter = add_context(network, ["sky", "road"], config=AdapterConfig(size_divisor=2)).eval()
        >>> images = torch.rand(1, 3, 20, 31)
        >>> segmenter(images).shape, segmenter.config.layer
        (torch.Size([1, 2, 20, 31]), '2')
    """
    names = tuple(classes)
    if isinstance(network, BaseSegmenter):
        if network.classes != names:
            raise InputError(
                f"add_context: the classes {names} differ from the network's", hint=f"give {network.classes}"
            )
        return network.rebuild(context=width, dilations=tuple(dilations), sigma=sigma)
    config = replace(config or AdapterConfig(), context=width, dilations=tuple(dilations), sigma=sigma)
    return AdaptedSegmenter(names, colors or None, config, model=network)


def _is_serializable(value: Any) -> bool:
    """Whether TOML and JSON give a value back as it is."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_serializable(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_serializable, value))
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
