"""What every segmentation network here is: a module from images to logits that carries all it takes to be used alone.

segmenter.classes, segmenter.colors, segmenter.output_stride, segmenter.network, segmenter.card
segmenter(images)                                    # (N, 3, H, W), RGB in 0..1 -> logits (N, C, H, W)
segmenter.logits(images)                             # -> (N, C, ceil(H/r), ceil(W/r)), on segmenter.grid
segmenter.rebuild(context="basic")                   # other settings, the same weights

An image becomes logits in three steps: `extract_features` reads pixels, `finish` reads maps (the context module is here), `upsample`
reads logits. Each can run on a window of what the one before gave, and the windows' results be laid side by side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from torch import Tensor, nn

from dilated.fields.measured import measure_field
from dilated.fields.probing import eval_mode
from dilated.models.context import ContextModule
from dilated.models.sampling import PIXEL_GRID, AxisGrids, Grid, upsample
from dilated.palettes import Color


class BaseSegmenter(nn.Module, ABC):
    """The part that all segmentation networks share; `Segmenter` and `VGGSegmenter` are the two there are.

    Args:
        classes: names, in the order of the label ids.
        colors: one (red, green, blue) of 0..255 per class.
        network: the settings that it is built of.
        card: facts about the network (its data, its licence, its figures) that travel in its file.

    Raises:
        ValueError: no class, or a number of colors that is not that of the classes.
    """

    context: ContextModule | None
    grid: Grid
    """Where the logits of `logits` sit in the image."""
    feature_grids: tuple[Grid, ...]
    """Where the values of each of `extract_features` sit in the image."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __init__(
        self,
        classes: Sequence[str],
        colors: Sequence[Color],
        config: Any,
        card: dict[str, object] | None = None,
    ) -> None:
        super().__init__()
        if len(colors) != len(classes) or not classes:
            raise ValueError(f"Segmenter: found {len(classes)} classes and {len(colors)} colors; expected one each")
        self.classes, self.colors = tuple(classes), tuple(colors)
        self.config, self.card = config, dict(card or {})

    @property
    @abstractmethod
    def output_stride(self) -> int:
        """Pixels per logit along each axis."""

    @property
    @abstractmethod
    def alignment(self) -> int:
        """A window of the image gives the same maps as the whole if it begins at a multiple of so many pixels."""

    @property
    def is_tileable(self) -> bool:
        """Whether logits of windows of the image, laid side by side, are this network's logits of the whole."""
        return True

    @property
    def halo(self) -> int:
        """How many values of `maps[0]` beyond a window, along each axis, `finish` and `upsample` look at."""
        return (self.context.radius if self.context is not None else 0) + 3  # three: interpolation and sub-cell detail

    def theoretical_field(self) -> int | None:
        """The theoretical receptive field of one of `logits`: the span of pixels on which it can depend, along an axis.

        It reaches from the first to the last such pixel, in the middle of an image that is larger than the field, with
        the context module included; measured on the network, whatever its branches. None where there is no limit.
        """
        with eval_mode(self):
            return measure_field(self.logits, next(self.parameters()).device)

    def forward(self, images: Tensor) -> Tensor:
        """Logits at every pixel: (N, 3, H, W) -> (N, C, H, W), before the softmax."""
        logits, grids = self.decode(self.extract_features(images), self.feature_grids)
        return self.upsample(logits, grids, PIXEL_GRID, (images.shape[-2], images.shape[-1]))

    @abstractmethod
    def extract_features(self, images: Tensor) -> list[Tensor]:
        """The front end: (N, 3, H, W) -> maps (N, F, ceil(H/r), ceil(W/r)), then finer ones if any; see `feature_grids`."""

    @abstractmethod
    def decode(self, feature_maps: list[Tensor], grids: Sequence[AxisGrids]) -> tuple[Tensor, AxisGrids]:
        """What follows the front end: maps, or windows of them, -> the finest logits before up-sampling.

        Args:
            places: where the first value of each window sits; `feature_grids` for whole maps.

        Returns:
            (N, C, h, w), and where they sit.
        """

    def upsample(self, logits: Tensor, source: AxisGrids, target: AxisGrids, size: tuple[int, int]) -> Tensor:
        """Logits, or a window of them, interpolated: (N, C, h, w) on `input_layout` -> (N, C, *size) on `label_path`."""
        return upsample(logits, source, target, size)

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """Logits on the network's own grid: (N, 3, H, W) -> (N, C, ceil(H/r), ceil(W/r))."""

    def training_logits(self, images: Tensor) -> Tensor:
        """The logits that a loss reads, on the grid of the training labels: those of every pixel."""
        logits: Tensor = self(images)
        return logits

    @abstractmethod
    def first_level_modules(self, levels: int) -> list[nn.Module]:
        """The modules of the front end up to the end of its first levels, in order of registration."""

    @property
    def backbone_levels(self) -> int:
        """How many levels `first_level_modules` knows."""
        return 5

    @abstractmethod
    def is_backbone_parameter(self, name: str) -> bool:
        """Whether a parameter, by name, is one that a classifier's weights fill."""

    @abstractmethod
    def with_config(self, config: Any) -> Self:
        """A network of the same classes with fresh weights and other settings."""

    def rebuild(self, **changes: object) -> Self:
        """A segmenter with other settings and the same weights wherever both have them.

        Example: `segmenter.rebuild(output_stride=8)` after training at 16; `segmenter.rebuild(context="basic")`.
        """
        other = self.with_config(replace(self.config, **changes)).to(next(self.parameters()))
        other.load_matching_weights(self)
        return other.train(self.training)

    def load_matching_weights(self, other: BaseSegmenter) -> list[str]:
        """Copy each weight that another segmenter has under the same name and shape; returns the names of the rest."""
        state, other_state = self.state_dict(), other.state_dict()
        matching = {k: v for k, v in other_state.items() if k in state and state[k].shape == v.shape}
        self.load_state_dict(matching, strict=False)
        return [k for k in state if k not in matching]

    def save(self, path: str, half: bool = True) -> None:
        """Write a network file (see `dilated.models.network_file`); `dilated.load` reads it."""
        from dilated.models.network_file import save  # files are not this folder's business, but users look here

        save(self, path, half=half)
