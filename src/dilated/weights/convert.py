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
from dilated.nn.paper import VGGSegmenter, bilinear
from dilated.nn.published import PUBLISHED, caffe_names, published
from dilated.weights import caffe

UPSAMPLE = "ctx_upsample"
"""Cityscapes' deconvolution, which was never trained: its weights must be the bilinear kernel."""
BUILD = ("context", "dilations", "padding", "upsampling", "pools", "frontend_padding", "fc6")
"""The settings without which the same weights compute something else."""


def from_caffe(path: Path | str, name: str) -> VGGSegmenter:
    """A released network with the weights of a `.caffemodel`.

    Args:
        name: one of `PUBLISHED`.

    Raises:
        InputError: no network of that name, a file that is no such file, or layers that differ from the network's.
    """
    path = Path(path)
    if name not in PUBLISHED:
        raise InputError(f"network: found {name!r}; expected one of {', '.join(PUBLISHED)}")
    found = caffe.read(path)
    with torch.device("meta"):  # shapes alone: 134 million weights are not drawn for a file that does not fit
        plan = published(name)
    if plan.network.upsampling == "deconvolution" and UPSAMPLE in found:
        _same_kernel(found.pop(UPSAMPLE), len(plan.classes), path)
    expected = {n: [tuple(p.shape) for p in layer.parameters()] for n, layer in _layers(plan, name).items()}
    blobs = caffe.fit(found, expected, path, aliases={n: _other_names(n) for n in expected})
    network = published(name)
    with torch.no_grad():
        for caffe_name, layer in _layers(network, name).items():
            for parameter, blob in zip(layer.parameters(), blobs[caffe_name], strict=True):
                parameter.copy_(torch.tensor(np.asarray(blob)))
    network.card = {"network": name, "source": path.name, "sha256": _sha256(path), "input": "BGR less its mean"}
    return network.eval()


def to_caffe(network: VGGSegmenter, name: str, path: Path | str) -> None:
    """Write the weights of a released network under the authors' layer names.

    Raises:
        InputError: a network of another build than the released one, apart from its classes.
    """
    if name not in PUBLISHED:
        raise InputError(f"network: found {name!r}; expected one of {', '.join(PUBLISHED)}")
    layers = _layers(network, name)
    blobs = {n: [p.detach().cpu().float().numpy() for p in layer.parameters()] for n, layer in layers.items()}
    if network.network.upsampling == "deconvolution":
        blobs[UPSAMPLE] = [bilinear(8).expand(len(network.classes), 1, -1, -1).contiguous().numpy()]
    caffe.write(path, blobs, name=name)


def _layers(network: VGGSegmenter, name: str) -> dict[str, nn.Module]:
    """The network's layers by their names in Caffe, in the order in which they run."""
    places = caffe_names(name)
    own = {n for n, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    if own != set(places):
        raise InputError(
            f"network: it differs from {name} in {sorted(own ^ set(places))[:4]}; expected a network of the same build"
        )
    theirs = PUBLISHED[name].network
    other = [key for key in BUILD if getattr(network.network, key) != getattr(theirs, key)]
    if other:
        raise InputError(f"network: it differs from {name} in {other}; expected a network of the same build")
    return {caffe_name: network.get_submodule(place) for place, caffe_name in places.items()}


def _other_names(name: str) -> list[str]:
    """VOC's file says fc-final and ct_, the others final and ctx_."""
    if name in ("final", "fc-final"):
        return ["fc-final", "final"]
    prefix, _, rest = name.partition("_")
    return [f"{other}_{rest}" for other in ("ct", "ctx")] if prefix in ("ct", "ctx") else []


def _same_kernel(blobs: list[NDArray[np.float32]], classes: int, path: Path) -> None:
    kernel = bilinear(8).numpy()
    if len(blobs) != 1 or blobs[0].shape != (classes, 1, 16, 16) or not np.allclose(blobs[0], kernel, atol=1e-6):
        raise InputError(
            f"{path}: {UPSAMPLE}: found {[b.shape for b in blobs]}, which is not the bilinear kernel of up-sampling by "
            f"8; expected ({classes}, 1, 16, 16). A deconvolution that was trained is not that of the released network."
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
