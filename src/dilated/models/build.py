"""A segmentation network of whichever kind its settings say."""

from __future__ import annotations

from collections.abc import Sequence

from dilated.models.adapter import AdaptedSegmenter, AdapterConfig
from dilated.models.base import BaseSegmenter
from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.models.segmenter import Segmenter, SegmenterConfig
from dilated.palettes import Color

AnyConfig = SegmenterConfig | VGGConfig | AdapterConfig


def build_segmenter(
    classes: Sequence[str],
    colors: Sequence[Color],
    config: AnyConfig,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    card: dict[str, object] | None = None,
) -> BaseSegmenter:
    """The segmenter that the settings are for; `mean` and `std` are for `Segmenter`, the others' settings have them.

    Example:
        >>> build_segmenter(["sky", "road"], [(0, 0, 255), (128, 64, 128)], VGGConfig(width=1 / 32)).output_stride
        8
    """
    if isinstance(config, VGGConfig):
        return VGGSegmenter(classes, colors, config, card)
    if isinstance(config, AdapterConfig):
        return AdaptedSegmenter(classes, colors, config, card)
    return Segmenter(classes, colors, config, mean, std, card)
