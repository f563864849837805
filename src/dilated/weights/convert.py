"""The authors' weight files and ours: `.caffemodel` to network and back.

    network = from_caffe("dilation8_camvid.caffemodel", "dilation8_camvid")
    network.save("dilation8_camvid.safetensors", half=False)
    to_caffe(network, "dilation8_camvid", "copy.caffemodel")

Every layer must be there, under one of its names, with exactly its shape; nothing is skipped.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dilated.errors import InputError
from dilated.models.paper import VGGSegmenter, bilinear_kernel
from dilated.models.published import PUBLISHED_NETWORKS, caffe_layer_names, published
from dilated.weights import caffe

UPSAMPLING_LAYER = "ctx_upsample"
"""Cityscapes' deconvolution, which was never trained: its weights must be the bilinear kernel."""
_ARCHITECTURE_FIELDS = ("context", "dilations", "padding", "upsampling", "pools", "frontend_padding", "fc6")
"""The settings without which the same weights compute something else."""


def from_caffe(path: Path | str, name: str) -> VGGSegmenter:
    """A released network with the weights of a `.caffemodel`.

    Args:
        name: one of `PUBLISHED_NETWORKS`.

    Raises:
        InputError: no network of that name, a file that is no such file, or layers that differ from the network's.
    """
    path = Path(path)
    if name not in PUBLISHED_NETWORKS:
        raise InputError(f"network: found {name!r}; expected one of {', '.join(PUBLISHED_NETWORKS)}")
    file_layers = caffe.read_caffemodel(path)
    with torch.device("meta"):  # shapes alone: 134 million weights are not drawn for a file that does not fit
        template = published(name)
    if template.config.upsampling == "deconvolution" and UPSAMPLING_LAYER in file_layers:
        _check_bilinear_kernel(file_layers.pop(UPSAMPLING_LAYER), len(template.classes), path)
    expected = {
        n: [tuple(p.shape) for p in layer.parameters()] for n, layer in _layers_by_caffe_name(template, name).items()
    }
    blobs = caffe.match_layers(file_layers, expected, path, aliases={n: _layer_aliases(n) for n in expected})
    segmenter = published(name)
    with torch.no_grad():
        for caffe_name, layer in _layers_by_caffe_name(segmenter, name).items():
            for parameter, blob in zip(layer.parameters(), blobs[caffe_name], strict=True):
                parameter.copy_(torch.tensor(np.asarray(blob)))
    segmenter.card = {"network": name, "source": path.name, "sha256": _sha256(path), "input": "BGR less its mean"}
    return segmenter.eval()


def to_caffe(segmenter: VGGSegmenter, name: str, path: Path | str) -> None:
    """Write the weights of a released network under the authors' layer names.

    Raises:
        InputError: a network of another build than the released one, apart from its classes.
    """
    if name not in PUBLISHED_NETWORKS:
        raise InputError(f"network: found {name!r}; expected one of {', '.join(PUBLISHED_NETWORKS)}")
    layers = _layers_by_caffe_name(segmenter, name)
    blobs = {n: [p.detach().cpu().float().numpy() for p in layer.parameters()] for n, layer in layers.items()}
    if segmenter.config.upsampling == "deconvolution":
        blobs[UPSAMPLING_LAYER] = [bilinear_kernel(8).expand(len(segmenter.classes), 1, -1, -1).contiguous().numpy()]
    caffe.write_caffemodel(path, blobs, name=name)


def _layers_by_caffe_name(segmenter: VGGSegmenter, name: str) -> dict[str, nn.Module]:
    """The network's layers by their names in Caffe, in the order in which they run."""
    layer_names = caffe_layer_names(name)
    module_names = {n for n, module in segmenter.named_modules() if isinstance(module, nn.Conv2d)}
    if module_names != set(layer_names):
        raise InputError(
            f"network: it differs from {name} in {sorted(module_names ^ set(layer_names))[:4]}; expected a network of the same build"
        )
    published_config = PUBLISHED_NETWORKS[name].config
    other = [key for key in _ARCHITECTURE_FIELDS if getattr(segmenter.config, key) != getattr(published_config, key)]
    if other:
        raise InputError(f"network: it differs from {name} in {other}; expected a network of the same build")
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
            f"{path}: {UPSAMPLING_LAYER}: found {[b.shape for b in blobs]}, which is not the bilinear kernel of up-sampling by "
            f"8; expected ({classes}, 1, 16, 16). A deconvolution that was trained is not that of the released network."
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
