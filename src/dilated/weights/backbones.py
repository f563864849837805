"""Where a network's pretrained weights come from: the package, a library's download, a file, or nowhere.

    load_pretrained(segmenter, "bundled")
    load_pretrained(segmenter, "timm:resnet50.a1_in1k")    # downloads through timm
    load_pretrained(segmenter, "torchvision:vgg16")        # the paper's front end; downloads through torchvision
    load_pretrained(segmenter, "weights/resnet50.safetensors")
    load_pretrained(segmenter, "random")

A source that is not available is an error that says how to get it; nothing falls back to random weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn

from dilated.environment import require_memory
from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.models.network_file import read_safetensors, require_usable
from dilated.weights import caffe
from dilated.weights.catalog import BUNDLED_FILES
from dilated.weights.torch_files import load_torch_file


def load_pretrained(segmenter: BaseSegmenter, source: str) -> str:
    """Fill, in place, what a classifier's weights can fill: timm's backbone, the paper's VGG-16, an adapted network.

    Args:
        source: `random`, one of the segmenter's `weight_sources`, or the path of a `.safetensors`, `.pth`, `.npz` or
            `.caffemodel` file under the names of the backbone's library (a complete classifier's head is left out).

    Returns:
        One line that says what was loaded.

    Raises:
        InputError: the source is not available, does not fit or is not finite; the network is unchanged.
    """
    if source == "init-from":
        raise InputError("weights: this recipe continues from a trained network", hint="give it as --init-from NETWORK")
    if source == "random":
        return segmenter.describe_random_weights()
    scheme, colon, name = source.partition(":")
    if source in segmenter.weight_sources or f"{scheme}{colon}" in segmenter.weight_sources:
        readers: dict[str, Callable[[], dict[str, Tensor]]] = {
            "bundled": lambda: _read_bundled(segmenter.config.backbone),
            "timm": lambda: _download_from_timm(name),
            "torchvision": _download_from_torchvision,
        }
        weights = readers[scheme]()
    else:
        weights = _read_weights(source, segmenter.weight_sources)
    require_usable(weights, f"weights: {source}")
    return segmenter.load_pretrained(weights, source)


def _read_weights(source: str, other_sources: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of a file of weights, by name."""
    path = Path(source)
    readers: dict[str, Callable[[Path], dict[str, Tensor]]] = {
        ".safetensors": lambda path: read_safetensors(path)[0],
        ".pth": _read_checkpoint,
        ".pt": _read_checkpoint,
        ".npz": _read_npz,
        ".caffemodel": _read_caffemodel,
    }
    if path.suffix not in readers:
        names = [f"{name}NAME" if name.endswith(":") else name for name in other_sources]
        raise InputError(
            f"weights: {source!r} is not a source of weights for this network",
            hint=f"give {', '.join([*names, 'random'])}, or a {', '.join(readers)} file",
        )
    if not path.is_file():
        raise InputError(f"weights: {path}: no such file", hint="give the path of a file of weights")
    return readers[path.suffix](path)


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch file, read without running anything in it."""
    weights = load_torch_file(path)
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise InputError(f"{path}: holds something other than tensors by name", hint="save a state_dict of tensors")
    return weights


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: torch.tensor(np.asarray(file[name], dtype=np.float32)) for name in file.files}
    except Exception as error:  # zipfile and numpy can raise anything on foreign bytes
        require_memory(error, f"{path}: reading the weights")
        raise InputError(
            f"{path}: not an .npz file of plain arrays ({error})", hint="write it by numpy.savez"
        ) from error


def _read_caffemodel(path: Path) -> dict[str, Tensor]:
    """The layers with a weight and a bias, as `<layer>.weight` and `<layer>.bias`."""
    layers = {name: blobs for name, blobs in caffe.read_caffemodel(path).items() if len(blobs) == 2}
    return {
        f"{name}.{kind}": torch.tensor(np.asarray(blob))
        for name, blobs in layers.items()
        for kind, blob in zip(("weight", "bias"), blobs, strict=True)
    }


def _read_bundled(backbone: str) -> dict[str, Tensor]:
    path = Path(str(BUNDLED_FILES / f"{backbone}.safetensors"))
    if not path.is_file():
        available = ", ".join(sorted(p.stem for p in Path(str(BUNDLED_FILES)).glob("tf_*.safetensors")))
        raise InputError(
            f"weights: nothing is bundled for {backbone}; the package has {available}",
            hint=f'set weights = "timm:{backbone}" (a download), the path of a file, or "random"',
        )
    return read_safetensors(path)[0]


def _download_from_timm(name: str) -> dict[str, Tensor]:
    return _download(
        lambda: timm.create_model(name, pretrained=True, features_only=True),
        f"timm could not supply {name!r}",
        "give a name of `timm.list_pretrained()`, or download the file elsewhere and give its path",
    )


def _download_from_torchvision() -> dict[str, Tensor]:
    from torchvision.models import VGG16_Weights, vgg16  # here, as only the paper's network needs them

    weights = VGG16_Weights.IMAGENET1K_V1
    hint = f"download {weights.url} elsewhere and give the file's path"
    return _download(lambda: vgg16(weights=weights), "torchvision could not supply VGG-16", hint)


def _download(build: Callable[[], nn.Module], problem: str, hint: str) -> dict[str, Tensor]:
    try:
        return build().state_dict()
    except Exception as error:  # the hub's libraries can raise anything
        raise InputError(f"weights: {problem} ({type(error).__name__}: {str(error)[:200]})", hint=hint) from error
