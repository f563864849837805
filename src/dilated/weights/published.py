"""The four networks that the authors released, layer for layer (https://github.com/fyu/dilation), and their weights.

    network = published("dilation8_pascal_voc")          # random weights
    network = from_caffe("dilation8_pascal_voc.caffemodel", "dilation8_pascal_voc")
    labels = network(images).argmax(1)                   # as their predict.py would, for any size of image

| network               | classes | context                       | tile (H x W) | answers for | then             |
|-----------------------|---------|-------------------------------|--------------|-------------|------------------|
| dilation8_pascal_voc  | 21      | large, padded once by 33      | 900 x 900    | 528 x 528   | upsampling by 8  |
| dilation8_camvid      | 11      | basic, each layer padded      | 900 x 1100   | 528 x 728   | upsampling by 8  |
| dilation7_kitti       | 11      | basic without dilation 16     | 852 x 1640   | 480 x 1268  | upsampling by 8  |
| dilation10_cityscapes | 19      | basic with dilations 32 and 64| 1396 x 1396  | 1024 x 1024 | deconvolution    |

All share the front end, its margin of 186 and its stride of 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dilated.errors import InputError, suggest
from dilated.files import hash_file
from dilated.models.network_file import require_usable
from dilated.models.paper import VGGConfig, VGGSegmenter, bilinear_kernel
from dilated.models.vgg import VGG16_CONVOLUTIONS
from dilated.palettes import CAMVID_COLORS, CITYSCAPES_COLORS, VOC_CLASSES, Color, voc_color
from dilated.weights import caffe
from dilated.weights.ports import UPSAMPLING_LAYER, read_port


@dataclass(frozen=True)
class _PublishedNetwork:
    classes: dict[str, Color]
    config: VGGConfig
    context_prefix: str = "ctx_"
    """Of the context module's layers in its weight file."""
    final_layer: str = "final"
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
        CAMVID_COLORS, _street_config((110.70313206, 108.77808759, 105.41212523), (1, 1, 2, 4, 8, 16, 1), (900, 1100))
    ),
    "dilation7_kitti": _PublishedNetwork(
        CAMVID_COLORS, _street_config((96.19429688, 95.55136972, 91.34692262), (1, 1, 2, 4, 8, 1), (852, 1640))
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
    ),
}
_CONTEXT_LAYERS = ("conv1_1", "conv1_2", "conv2_1", "conv3_1", "conv4_1", "conv5_1", "conv6_1", "conv7_1")
"""Caffe's names of the dilated layers, without their prefix; a module of fewer layers has the first of them."""


def published(name: str, classes: Sequence[str] | int | None = None) -> VGGSegmenter:
    """Build one of the released networks, with random weights.

    Args:
        name: `dilation8_pascal_voc`, `dilation8_camvid`, `dilation7_kitti` or `dilation10_cityscapes`.
        classes: names, or a number of classes, where it is to learn others than its own; they get VOC's colors.

    Raises:
        InputError: no network of that name.

    Example:
        >>> with torch.device("meta"):
        ...     network = published("dilation7_kitti")
        >>> sum(p.numel() for p in network.context.parameters()), network.classes[:2]
        (6732, ('Building', 'Tree'))
    """
    network = _find_published(name)
    if classes is None:
        return VGGSegmenter(list(network.classes), list(network.classes.values()), network.config)
    names = [f"class {i}" for i in range(classes)] if isinstance(classes, int) else list(classes)
    return VGGSegmenter(names, [voc_color(i) for i in range(len(names))], network.config)


def _find_published(name: str) -> _PublishedNetwork:
    if name not in PUBLISHED_NETWORKS:
        known = ", ".join(PUBLISHED_NETWORKS)
        hint = suggest(name, PUBLISHED_NETWORKS, "give one of them")
        raise InputError(f"network: {name!r} is not one of {known}", hint=hint)
    return PUBLISHED_NETWORKS[name]


def _caffe_layer_names(name: str) -> dict[str, str]:
    """Where each layer of a released network is found in its weight file: module name -> Caffe's layer name.

    Example:
        >>> names = _caffe_layer_names("dilation8_pascal_voc")
        >>> names["frontend.final"], names["context.layers.0"], names["context.layers.6"], names["context.final"]
        ('fc-final', 'ct_conv1_1', 'ct_fc1', 'ct_final')
    """
    network = _find_published(name)
    num_dilated = len(network.config.dilations) - 1
    context_layers = [*_CONTEXT_LAYERS[:num_dilated], "fc1"]
    return {
        **{f"frontend.{layer}": layer for layer in (*VGG16_CONVOLUTIONS, "fc6", "fc7")},
        "frontend.final": network.final_layer,
        **{f"context.layers.{i}": network.context_prefix + layer for i, layer in enumerate(context_layers)},
        "context.final": f"{network.context_prefix}final",
    }


def from_caffe(path: Path | str, name: str) -> VGGSegmenter:
    """Load a released network from the authors' `.caffemodel`, or from a file that others made of it.

    Every layer must be there, under one of its names, with exactly its shape; nothing is skipped.

    Args:
        path: a `.caffemodel`; a `.h5` of Keras, a `.pickle` of TensorFlow's arrays, or a `.pth` state dict of a port.
        name: one of `PUBLISHED_NETWORKS`.

    Raises:
        InputError: no network of that name, not a complete weight file, layers that differ from the network's, or
            weights that are not finite.
    """
    path = Path(path)
    _find_published(name)
    is_caffe = path.suffix == ".caffemodel"
    file_layers = caffe.read_caffemodel(path) if is_caffe else {}
    with torch.device("meta"):  # shapes alone: 134 million weights are not drawn for a file that does not fit
        template = published(name)
    expected = {
        n: [tuple(p.shape) for p in layer.parameters()] for n, layer in _layers_by_caffe_name(template, name).items()
    }
    read_as = {}
    if not is_caffe:
        file_layers, read_as["read_as"] = read_port(path, expected)
    elif template.config.upsampling == "deconvolution" and UPSAMPLING_LAYER in file_layers:
        _check_bilinear_kernel(file_layers.pop(UPSAMPLING_LAYER), len(template.classes), path)
    blobs = caffe.match_layers(file_layers, expected, path, aliases={n: _layer_aliases(n) for n in expected})
    segmenter = published(name)
    with torch.no_grad():
        for caffe_name, layer in _layers_by_caffe_name(segmenter, name).items():
            for parameter, blob in zip(layer.parameters(), blobs[caffe_name], strict=True):
                parameter.copy_(torch.tensor(np.asarray(blob)))
    require_usable(segmenter.state_dict(), path)
    segmenter.card = {"network": name, "source": path.name, "sha256": hash_file(path), "input": "BGR less its mean"}
    segmenter.card |= read_as
    return segmenter.eval()


def _layers_by_caffe_name(segmenter: VGGSegmenter, name: str) -> dict[str, nn.Module]:
    """The network's layers by their names in Caffe, in the order in which they run."""
    layer_names = _caffe_layer_names(name)
    return {caffe_name: segmenter.get_submodule(module_name) for module_name, caffe_name in layer_names.items()}


def _layer_aliases(name: str) -> list[str]:
    """VOC's file says fc-final and ct_, the others final and ctx_."""
    if name in ("final", "fc-final"):
        return ["fc-final", "final"]
    prefix, _, rest = name.partition("_")
    return [f"{other}_{rest}" for other in ("ct", "ctx")] if prefix in ("ct", "ctx") else []


def _check_bilinear_kernel(blobs: list[NDArray[np.float32]], classes: int, path: Path) -> None:
    kernel = bilinear_kernel(8).numpy()
    if len(blobs) != 1 or blobs[0].shape != (classes, 1, 16, 16) or not np.allclose(blobs[0], kernel, atol=1e-6):
        raise InputError(
            f"{path}: {UPSAMPLING_LAYER}: {[b.shape for b in blobs]} is not the bilinear kernel of up-sampling by 8, "
            f"({classes}, 1, 16, 16), so the deconvolution was trained",
            hint="give the released file",
        )
