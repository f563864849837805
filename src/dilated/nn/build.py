"""A segmentation network of whichever kind its settings say."""

from __future__ import annotations

from collections.abc import Sequence

from dilated.nn.adapted import AdaptedSegmenter, ModuleNetwork
from dilated.nn.base import BaseSegmenter, Color
from dilated.nn.paper import VGGNetwork, VGGSegmenter
from dilated.nn.segmenter import Network, Segmenter

AnyNetwork = Network | VGGNetwork | ModuleNetwork


def build_segmenter(
    classes: Sequence[str],
    colors: Sequence[Color],
    network: AnyNetwork,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    card: dict[str, object] | None = None,
) -> BaseSegmenter:
    """The segmenter that the settings are for; `mean` and `std` are for `Segmenter`, the others' settings have them.

    Example:
        >>> build_segmenter(["sky", "road"], [(0, 0, 255), (128, 64, 128)], VGGNetwork(width=1 / 32)).output_stride
        8
    """
    if isinstance(network, VGGNetwork):
        return VGGSegmenter(classes, colors, network, card)
    if isinstance(network, ModuleNetwork):
        return AdaptedSegmenter(classes, colors, network, card)
    return Segmenter(classes, colors, network, mean, std, card)
