"""What every segmentation network here is: a module from pictures to scores that carries all it takes to be used alone.

segmenter.classes, segmenter.colors, segmenter.output_stride, segmenter.network, segmenter.card
segmenter(images)                                    # (N, 3, H, W), RGB in 0..1 -> scores (N, C, H, W)
segmenter.scores(images)                             # -> (N, C, ceil(H/r), ceil(W/r)), on segmenter.grid
segmenter.rebuild(context="basic")                   # other settings, the same weights

A picture becomes scores in three steps: `maps` reads pixels, `finish` reads maps (the context module is here), `zoom`
reads scores. Each can run on a window of what the one before gave, and the windows' results be laid side by side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from torch import Tensor, nn

from dilated.nn.context import ContextModule
from dilated.nn.sampling import PIXELS, Axes, Grid, upsample

Color = tuple[int, int, int]


class BaseSegmenter(nn.Module, ABC):
    """The part that all segmentation networks share; `Segmenter` and `VGGSegmenter` are the two there are.

    Args:
        classes: names, in the order of the label ids.
        colors: one (red, green, blue) of 0..255 per class.
        network: the settings that it is built of.
        card: facts about the network (its data, its licence, its figures) that travel in its file.

    Raises:
        ValueError: no class, or a number of colours that is not that of the classes.
    """

    context: ContextModule | None
    grid: Grid
    """Where the scores of `scores` sit in the picture."""
    map_grids: tuple[Grid, ...]
    """Where the values of each of `maps` sit in the picture."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __init__(
        self,
        classes: Sequence[str],
        colors: Sequence[Color],
        network: Any,
        card: dict[str, object] | None = None,
    ) -> None:
        super().__init__()
        if len(colors) != len(classes) or not classes:
            raise ValueError(f"Segmenter: found {len(classes)} classes and {len(colors)} colours; expected one each")
        self.classes, self.colors = tuple(classes), tuple(colors)
        self.network, self.card = network, dict(card or {})

    @property
    @abstractmethod
    def output_stride(self) -> int:
        """Pixels per score along each axis."""

    @property
    @abstractmethod
    def alignment(self) -> int:
        """A window of the picture gives the same maps as the whole if it begins at a multiple of so many pixels."""

    @property
    def stitches(self) -> bool:
        """Whether scores of windows of the picture, laid side by side, are this network's scores of the whole."""
        return True

    @property
    def halo(self) -> int:
        """How many values of `maps[0]` beyond a window, along each axis, `finish` and `zoom` look at."""
        return (self.context.reach if self.context is not None else 0) + 3  # three: interpolation and sub-cell detail

    def forward(self, images: Tensor) -> Tensor:
        """Scores at every pixel: (N, 3, H, W) -> (N, C, H, W), before the softmax."""
        scores, places = self.finish(self.maps(images), self.map_grids)
        return self.zoom(scores, places, PIXELS, (images.shape[-2], images.shape[-1]))

    @abstractmethod
    def maps(self, images: Tensor) -> list[Tensor]:
        """The front end: (N, 3, H, W) -> maps (N, F, ceil(H/r), ceil(W/r)), then finer ones if any; see `map_grids`."""

    @abstractmethod
    def finish(self, maps: list[Tensor], places: Sequence[Axes]) -> tuple[Tensor, Axes]:
        """What follows the front end: maps, or windows of them, -> the finest scores before up-sampling.

        Args:
            places: where the first value of each window sits; `map_grids` for whole maps.

        Returns:
            (N, C, h, w), and where they sit.
        """

    def zoom(self, scores: Tensor, source: Axes, target: Axes, size: tuple[int, int]) -> Tensor:
        """Scores, or a window of them, interpolated: (N, C, h, w) on `source` -> (N, C, *size) on `target`."""
        return upsample(scores, source, target, size)

    @abstractmethod
    def scores(self, images: Tensor) -> Tensor:
        """Scores on the network's own grid: (N, 3, H, W) -> (N, C, ceil(H/r), ceil(W/r))."""

    def learn(self, images: Tensor) -> Tensor:
        """The scores that a loss reads, on the grid of the training labels: those of every pixel."""
        scores: Tensor = self(images)
        return scores

    @abstractmethod
    def first_levels(self, levels: int) -> list[nn.Module]:
        """The modules of the front end up to the end of its first levels, in order of registration."""

    @property
    def levels_of_trunk(self) -> int:
        """How many levels `first_levels` knows."""
        return 5

    @abstractmethod
    def pretrained(self, name: str) -> bool:
        """Whether a parameter, by name, is one that a classifier's weights fill."""

    @abstractmethod
    def with_network(self, network: Any) -> Self:
        """A network of the same classes with fresh weights and other settings."""

    def rebuild(self, **changes: object) -> Self:
        """A segmenter with other settings and the same weights wherever both have them.

        Example: `segmenter.rebuild(output_stride=8)` after training at 16; `segmenter.rebuild(context="basic")`.
        """
        other = self.with_network(replace(self.network, **changes)).to(next(self.parameters()))
        other.take(self)
        return other.train(self.training)

    def take(self, other: BaseSegmenter) -> list[str]:
        """Copy each weight that another segmenter has under the same name and shape; returns the names of the rest."""
        own, theirs = self.state_dict(), other.state_dict()
        kept = {k: v for k, v in theirs.items() if k in own and own[k].shape == v.shape}
        self.load_state_dict(kept, strict=False)
        return [k for k in own if k not in kept]

    def save(self, path: str, half: bool = True) -> None:
        """Write a network file (see `dilated.weights.network_file`); `dilated.load` reads it."""
        from dilated.weights.network_file import save  # files are not this folder's business, but users look here

        save(self, path, half=half)
