"""The part that all segmentation networks share: from images to logits, with all that it takes to be used alone.

segmenter.classes, segmenter.colors, segmenter.output_stride, segmenter.config, segmenter.card
segmenter(images)                                    # (N, 3, H, W), RGB in 0..1 -> logits (N, C, H, W)
segmenter.logits(images)                             # -> (N, C, ceil(H/r), ceil(W/r)), on segmenter.grid
segmenter.rebuild(context="basic")                   # other settings, the same weights

An image becomes logits in three steps: `extract_features` reads pixels, `decode` reads feature maps (the context module
is here), `upsample` reads logits. Each step can run on a window of what the step before gave, and the results of the
windows can be laid side by side; not so with a CRF-RNN, the fourth step, which ties all pixels of an image.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.fields.arithmetic import ReceptiveField
from dilated.fields.measured import measure_field
from dilated.fields.probing import eval_mode
from dilated.files import plural
from dilated.input_config import InputConfig
from dilated.models.context import ContextModule
from dilated.models.crf_settings import CRFSettings
from dilated.models.network_file import hash_network, write_network_file
from dilated.models.network_schema import require_normalization
from dilated.models.sampling import PIXEL_GRID, AuxiliaryLevel, AxisGrids, Grid, upsample, upsample_labels
from dilated.models.stem import adapt_stem
from dilated.palettes import Color, distinct_colors
from dilated.tensors import label_tensor_dtype


class BaseConfig(CRFSettings, ABC):
    """The settings of a segmenter, a frozen dataclass; `kind` tells the kinds apart in files."""

    has_frontend: ClassVar[bool] = False
    """Whether a front end makes the logits that the context module reads from images extended by its margin."""
    input: InputConfig | None = None
    """What images hold; None for 8-bit RGB."""
    context: Literal["none", "basic", "large"]
    """Width of the context module (paper, Table 1), which reads the class logits unless `context_on` says otherwise."""
    dilations: tuple[int, ...]
    """Dilations of the context module's 3x3 layers; Dilation7 lacks the 16, Dilation10 has 32 and 64 too."""
    padding: Literal["same", "once"]
    """Zeros that the context module sees beyond the border: at each layer (streets), or once at the first (VOC)."""
    init: Literal["identity", "random"]
    """Initialization of the context module."""
    sigma: float
    """Standard deviation of the noise on the identity; 0.01 in the authors' code, for 11 to 21 channels."""

    @property
    def num_bands(self) -> int:
        """The channels of the images that the network reads."""
        return len(self.input.bands) if self.input else 3

    @abstractmethod
    def build(
        self,
        classes: Sequence[str],
        colors: Sequence[Color] | None = None,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        card: dict[str, object] | None = None,
    ) -> BaseSegmenter:
        """Build a segmenter with fresh weights.

        Args:
            classes, colors, card: as of `BaseSegmenter`.
            mean, std: of RGB in 0..1, where the settings leave them to the backbone; others ignore them.

        Raises:
            InputError: settings that do not fit each other, or that nothing can be built of.
        """

    @property
    def is_trusted(self) -> bool:
        """Whether the user has named the package that builds the network as one whose code is called as it is."""
        return False

    @abstractmethod
    def expected_shapes(self, classes: int) -> dict[str, tuple[int, ...]] | None:
        """The shape of each tensor of the state dict, found without memory for them; None where only building tells.

        Args:
            classes: C.

        Raises:
            InputError: settings that nothing can be built of.
        """

    def with_output_stride(self, output_stride: int) -> Self:
        """The same settings at another output stride; unchanged where the stride is not a setting."""
        return self

    def require_savable(self, path: Path) -> None:
        """Raise an InputError where a file of this network could not be read again."""

    def build_context(self, channels: int) -> ContextModule | None:
        """A context module with these settings for so many channels; None where they ask for none."""
        if self.context == "none":
            return None
        return ContextModule(channels, self.context, self.dilations, self.padding, self.init, self.sigma)


class BaseSegmenter(nn.Module, ABC):
    """The part that all segmentation networks share.

    Args:
        classes: names, in the order of the label ids.
        colors: one (red, green, blue) of 0..255 per class; evenly spread hues by default.
        config: what the network is built of.
        card: facts about the network (its data, its licence, its figures) that travel in its file.

    Raises:
        InputError: no class, or colors whose number is not that of the classes.
    """

    context: ContextModule | None
    grid: Grid
    """Where the logits of `logits` sit in the image."""
    feature_grids: tuple[Grid, ...]
    """Where the values of each map of `extract_features` sit in the image."""
    mean: tuple[float, ...]
    """Of red, green and blue in 0..1, subtracted inside."""
    std: tuple[float, ...]
    """What they are divided by."""
    weight_sources: ClassVar[tuple[str, ...]] = ()
    """The sources of pretrained weights besides files, such as `bundled`; one that ends in a colon takes a name."""
    backbone_prefixes: ClassVar[tuple[str, ...]]
    """How the names of the parameters begin that a classifier's weights fill."""
    runs_in_torch: ClassVar[bool] = True
    """Whether PyTorch computes; False for exported files."""
    gives_logits: bool = True
    """Whether there are logits; False for exported files that give labels alone."""
    tile_margin: int | None = None
    """Pixels around a window on which it depends, of exported files that can be tiled; otherwise it is measured."""
    known_bytes_per_pixel: float | None = None
    """The bytes that a pass takes for each pixel, where they cannot be measured."""
    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        colors: Sequence[Color] | None,
        config: Any,
        card: dict[str, object] | None = None,
    ) -> None:
        super().__init__()
        colors = distinct_colors(len(classes)) if colors is None else colors
        if len(colors) != len(classes) or not classes:
            raise InputError(
                f"segmenter: {plural(len(classes), 'class')} and {plural(len(colors), 'color')}",
                hint="give at least one class, and one color per class or no colors",
            )
        self.classes, self.colors = tuple(classes), tuple(colors)
        self.config, self.card = config, dict(card or {})
        self.crf = config.build_crf(len(classes)) if isinstance(config, BaseConfig) else None

    @property
    @abstractmethod
    def output_stride(self) -> int:
        """Pixels per logit along each axis."""

    @property
    @abstractmethod
    def alignment(self) -> int:
        """A window that begins at a multiple of this many pixels has the feature maps of the full image."""

    @property
    def is_tileable(self) -> bool:
        """Whether logits of windows of an image, laid side by side, are those of the full image."""
        return self.crf is None

    @property
    def halo(self) -> int:
        """How many values of the first feature map beyond a window, along each axis, `decode` and `upsample` read."""
        return (self.context.radius if self.context is not None else 0) + 3  # three: interpolation and sub-cell detail

    @property
    def logit_bias(self) -> Tensor | None:
        """The bias of the layer that makes the logits, to which numbers by class can be added; None without one."""
        return None

    @property
    def input(self) -> InputConfig | None:
        """What images hold; None for 8-bit RGB."""
        return self.config.input if isinstance(self.config, BaseConfig) else None

    @property
    def num_bands(self) -> int:
        """The channels of the images that the network reads."""
        return len(self.input.bands) if self.input else 3

    def to_bands(self, images: Tensor) -> Tensor:
        """Images of the network's bands for what measures with RGB: (N, 3, H, W) -> (N, n, H, W), of the first channel
        unless n is 3."""
        return images if self.num_bands == 3 else images[:, :1].expand(-1, self.num_bands, -1, -1)

    def theoretical_field(self) -> int | None:
        """The theoretical receptive field of one of `logits`: the span of pixels on which it can depend, along an axis.

        It reaches from the first to the last such pixel, in the middle of an image that is larger than the field, with
        the context module included; measured on the network, whatever its branches. None where there is no limit.
        """
        with eval_mode(self):
            return measure_field(lambda x: self.logits(self.to_bands(x)), next(self.parameters()).device)

    @property
    def required_label_grid(self) -> tuple[int, int] | None:
        """The (margin, stride) in pixels that training samples must have; None where labels have the image's size."""
        return None

    def forward(self, images: Tensor) -> Tensor:
        """Logits at every pixel: (N, 3, H, W) -> (N, C, H, W), before the softmax."""
        logits, grids = self.decode(self.extract_features(images), self.feature_grids)
        return self.refine(self.upsample(logits, grids, PIXEL_GRID, (images.shape[-2], images.shape[-1])), images)

    def refine(self, logits: Tensor, images: Tensor) -> Tensor:
        """Return what the CRF-RNN, if any, makes of logits at every pixel: (N, C, H, W) -> (N, C, H, W)."""
        return logits if self.crf is None else self.crf(logits, images)

    def label_pixels(self, images: Tensor) -> Tensor:
        """The greatest class of every pixel: (N, 3, H, W) -> (N, H, W), without the logits of every pixel.

        Those of `forward`, but for ties to rounding. uint8 for up to 255 classes, otherwise int32.
        """
        if self.crf is not None:
            return self(images).argmax(1).to(label_tensor_dtype(len(self.classes)))
        logits, grids = self.decode(self.extract_features(images), self.feature_grids)
        return upsample_labels(logits, grids, PIXEL_GRID, (images.shape[-2], images.shape[-1]))

    @abstractmethod
    def extract_features(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> features (N, F, ceil(H/r), ceil(W/r)), then finer maps if any; see `feature_grids`."""

    @abstractmethod
    def decode(self, feature_maps: list[Tensor], grids: Sequence[AxisGrids]) -> tuple[Tensor, AxisGrids]:
        """Feature maps, or windows of them, -> the finest logits before up-sampling.

        Args:
            grids: where each map's values sit; `feature_grids` for those of a full image.

        Returns:
            (N, C, h, w), and where they sit.
        """

    def upsample(self, logits: Tensor, source: AxisGrids, target: AxisGrids, size: tuple[int, int]) -> Tensor:
        """Interpolate logits, or a window of them: (N, C, h, w) on `source` -> (N, C, *size) on `target`."""
        return upsample(logits, source, target, size)

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """Logits on the network's grid: (N, 3, H, W) -> (N, C, ceil(H/r), ceil(W/r))."""

    def training_logits(self, images: Tensor) -> Tensor:
        """The logits that a loss reads, on the grid of the training labels: those of every pixel by default."""
        logits: Tensor = self(images)
        return logits

    def auxiliary_level(self) -> AuxiliaryLevel:
        """What `forward_with_auxiliary` gives beside the logits.

        Raises:
            InputError: a network with no such level.
        """
        raise InputError(
            f"recipe.aux_loss_weight: a network of kind {self.config.kind!r} has no level for an auxiliary loss",
            hint="set aux_loss_weight = 0, or network.kind = 'timm'",
        )

    def forward_with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at every pixel, and the feature map of `auxiliary_level`, from one pass through the backbone."""
        raise NotImplementedError

    def frontend_fields(self) -> list[ReceptiveField]:
        """The receptive field of each layer of the front end, in pixels; none where the layers are not one chain."""
        return []

    def frontend_logits(self, images: Tensor) -> Tensor:
        """What the context module reads, (N, C, ceil(H/r), ceil(W/r)), where a front end makes it alone.

        Raises:
            InputError: a network with no such front end.
        """
        raise InputError(
            f"stage.cache_features: a network of kind {self.config.kind!r} has no front end whose logits can be cached",
            hint="set cache_features = false, or network.kind = 'vgg'",
        )

    def frontend_digest(self) -> str:
        """A hash of all that decides `frontend_logits`."""
        raise NotImplementedError

    def apply_context(self, logits: Tensor) -> Tensor:
        """The context module, if any, on `frontend_logits`: (N, C, h, w) -> (N, C, h, w)."""
        return logits if self.context is None else self.context(logits)

    @abstractmethod
    def first_level_modules(self, levels: int) -> list[nn.Module]:
        """The modules of the backbone up to the end of its first levels, in order of registration."""

    @property
    def backbone_levels(self) -> int:
        """How many levels `first_level_modules` knows; 0 for a network whose levels are not known."""
        return 5

    def is_backbone_parameter(self, name: str) -> bool:
        """Whether a parameter, by name, is one that a classifier's weights fill."""
        return name.startswith(self.backbone_prefixes)

    def describe_random_weights(self) -> str:
        """One line for a network that starts without pretrained weights."""
        return "random weights"

    @abstractmethod
    def load_pretrained(self, weights: Mapping[str, Tensor], source: str) -> str:
        """Fill, in place, what a classifier's weights can fill.

        Args:
            weights: by the names of the library that they are from.
            source: where they are from, for messages.

        Returns:
            One line that says what was loaded.

        Raises:
            InputError: weights that do not fit; the network is unchanged.
        """

    def with_config(self, config: BaseConfig) -> BaseSegmenter:
        """A network of the same classes with fresh weights and other settings."""
        return config.build(self.classes, self.colors, mean=self.mean, std=self.std, card=self.card)

    def rebuild(self, config: BaseConfig | None = None, **changes: object) -> Self:
        """A segmenter with other settings and the same weights wherever both have them.

        Args:
            config: the other settings; by default the segmenter's.
            changes: fields of the settings.

        Example: `segmenter.rebuild(output_stride=8)` after training at 16; `segmenter.rebuild(context="basic")`.
        """
        base: Any = self.config if config is None else config
        other: Any = self.with_config(dataclasses.replace(base, **changes)).to(next(self.parameters()))
        other.load_matching_weights(self)
        return other.train(self.training)

    def load_matching_weights(self, other: BaseSegmenter) -> list[str]:
        """Copy each weight that another segmenter has under the same name and shape; returns the names of the rest."""
        state = self.state_dict()
        other_state = adapt_stem(other.state_dict(), state, None if other.input else self.input)
        matching = {k: v for k, v in other_state.items() if k in state and state[k].shape == v.shape}
        self.load_state_dict(matching, strict=False)
        return [k for k in state if k not in matching]

    def save(self, path: Path | str, half: bool = True) -> None:
        """Write a network file, which `dilated.load` reads; it appears complete or not at all.

        Args:
            half: store matrices and kernels in fp16; biases and normalization are kept in fp32.

        Raises:
            InputError: it cannot be written there, or could not be read again.
        """
        self.config.require_savable(Path(path))
        write_network_file(Path(path), self.state_dict(), self._settings() | {"card": self.card}, half)

    def digest(self) -> str:
        """A hash of all that labels depend on: config, classes, normalization, weights."""
        return hash_network(self._settings(), self.state_dict())

    def source_digest(self) -> str:
        """The digest of the network that this computes: another's where it is an exported file."""
        return self.digest()

    def _settings(self) -> dict[str, object]:
        keys = ("classes", "colors", "mean", "std")
        return {"config": dataclasses.asdict(self.config), **{key: getattr(self, key) for key in keys}}

    def _set_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        require_normalization(mean, std, self.num_bands)
        self.mean, self.std = tuple(mean), tuple(std)
        self.register_buffer("_mean", torch.tensor(self.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(1, -1, 1, 1), persistent=False)

    def _normalize_and_pad(self, images: Tensor, divisor: int) -> Tensor:
        """Images as the network reads them, extended by zeros at the bottom and right to multiples of `divisor`."""
        x = (images - self._mean) / self._std
        return F.pad(x, (0, -x.shape[-1] % divisor, 0, -x.shape[-2] % divisor))
