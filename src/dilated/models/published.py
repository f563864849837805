"""The four networks that the authors released, layer for layer (https://github.com/fyu/dilation).

    network = published("dilation8_pascal_voc")          # random weights; `dilated convert` reads the authors'
    labels = network(images).argmax(1)                   # as their predict.py would, for any size of image

| network               | classes | context                       | tile (H x W) | answers for | then          |
|-----------------------|---------|-------------------------------|--------------|-------------|---------------|
| dilation8_pascal_voc  | 21      | large, padded once by 33      | 900 x 900    | 528 x 528   | zoom by 8     |
| dilation8_camvid      | 11      | basic, each layer padded      | 900 x 1100   | 528 x 728   | zoom by 8     |
| dilation7_kitti       | 11      | basic without dilation 16     | 852 x 1640   | 480 x 1268  | zoom by 8     |
| dilation10_cityscapes | 19      | basic with dilations 32 and 64| 1396 x 1396  | 1024 x 1024 | deconvolution |

All share the front end, its margin of 186 and its stride of 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.palettes import CAMVID_COLORS, CITYSCAPES_COLORS, VOC_CLASSES, Color, voc_color


@dataclass(frozen=True)
class _PublishedNetwork:
    """One of the released networks."""

    classes: dict[str, Color]
    config: VGGConfig
    context_prefix: str
    """Of the context module's layers in its weight file."""
    final_layer: str
    """The front end's last layer there."""


def _street_config(mean: tuple[float, float, float], dilations: tuple[int, ...], tile: tuple[int, int]) -> VGGConfig:
    return VGGConfig(mean, "basic", dilations, "same", inference="authors", tile=tile)


PUBLISHED_NETWORKS = {
    "dilation8_pascal_voc": _PublishedNetwork(
        {name: voc_color(i) for i, name in enumerate(VOC_CLASSES)},
        VGGConfig((102.93, 111.36, 116.52), "large", padding="once", inference="authors", tile=(900, 900)),
        "ct_",
        "fc-final",
    ),
    "dilation8_camvid": _PublishedNetwork(
        CAMVID_COLORS,
        _street_config((110.70313206, 108.77808759, 105.41212523), (1, 1, 2, 4, 8, 16, 1), (900, 1100)),
        "ctx_",
        "final",
    ),
    "dilation7_kitti": _PublishedNetwork(
        CAMVID_COLORS,
        _street_config((96.19429688, 95.55136972, 91.34692262), (1, 1, 2, 4, 8, 1), (852, 1640)),
        "ctx_",
        "final",
    ),
    "dilation10_cityscapes": _PublishedNetwork(
        CITYSCAPES_COLORS,
        VGGConfig(
            (72.39, 82.91, 73.16),
            "basic",
            (1, 1, 2, 4, 8, 16, 32, 64, 1),
            "same",
            upsampling="deconvolution",
            inference="authors",
            tile=(1396, 1396),
        ),
        "ctx_",
        "final",
    ),
}
_CONTEXT_LAYERS = ("conv1_1", "conv1_2", "conv2_1", "conv3_1", "conv4_1", "conv5_1", "conv6_1", "conv7_1")
"""Caffe's names of the dilated layers, without their prefix; a module of fewer layers has the first of them."""


def published(name: str, classes: Sequence[str] | int | None = None) -> VGGSegmenter:
    """One of the released networks, with random weights.

    Args:
        name: one of `PUBLISHED_NETWORKS`.
        classes: names, or a number of classes, where it is to learn others than its own; they get VOC's colors.

    Raises:
        ValueError: no network of that name.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     config = published("dilation7_kitti")
        >>> sum(p.numel() for p in config.context.parameters()), config.classes[:2]
        (6732, ('Building', 'Tree'))
    """
    if name not in PUBLISHED_NETWORKS:
        raise ValueError(f"published: found {name!r}; expected one of {', '.join(PUBLISHED_NETWORKS)}")
    spec = PUBLISHED_NETWORKS[name]
    if classes is None:
        return VGGSegmenter(list(spec.classes), list(spec.classes.values()), spec.config)
    names = [f"class {i}" for i in range(classes)] if isinstance(classes, int) else list(classes)
    return VGGSegmenter(names, [voc_color(i) for i in range(len(names))], spec.config)


def caffe_layer_names(name: str) -> dict[str, str]:
    """Where each layer of a released network is found in its weight file: module name -> Caffe's layer name.

    Example:
        >>> names = caffe_layer_names("dilation8_pascal_voc")
        >>> names["frontend.final"], names["context.layers.0"], names["context.layers.6"], names["context.final"]
        ('fc-final', 'ct_conv1_1', 'ct_fc1', 'ct_final')
    """
    spec = PUBLISHED_NETWORKS[name]
    frontend_layers = [
        f"conv{block}_{i}" for block, depth in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, depth + 1)
    ]
    names = {f"frontend.{layer}": layer for layer in [*frontend_layers, "fc6", "fc7"]} | {
        "frontend.final": spec.final_layer
    }
    dilated = len(spec.config.dilations) - 1
    layers = [*_CONTEXT_LAYERS[:dilated], "fc1"]
    return names | {
        **{f"context.layers.{i}": spec.context_prefix + layer for i, layer in enumerate(layers)},
        "context.final": f"{spec.context_prefix}final",
    }
