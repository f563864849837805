"""ImageNet's VGG-16 as the first weights of the paper's front end.

    load_vgg16(segmenter, "torchvision:vgg16")           # downloads through torchvision
    load_vgg16(segmenter, "vgg16-397923af.pth")          # that file, from elsewhere
    load_vgg16(segmenter, "VGG_ILSVRC_16_layers.caffemodel")
    load_vgg16(segmenter, "frontend.npz")                # numpy arrays under torchvision's names, any first layers

The classifier's fully connected fc6 and fc7 become convolutions of 7x7 and 1x1: the same numbers in the same order.
torchvision's network reads (RGB / 255 - mean) / std, the paper's reads BGR less its mean; the difference goes into
conv1_1, so that its answers stay the same. Whatever starts fresh is said.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.models.network_file import read_checkpoint, read_safetensors
from dilated.models.paper import VGGSegmenter
from dilated.weights import caffe

_TORCHVISION_CONV_INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""The places of VGG-16's 13 convolutions in torchvision's `make_feature_collection`."""
_TORCHVISION_MEAN, _TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of torchvision's input, red, green, blue."""

_Layers = dict[str, tuple[Tensor, Tensor]]


def load_vgg16(segmenter: VGGSegmenter, source: str) -> str:
    """Fill the front end, in place.

    Args:
        source: `torchvision:vgg16`, or a `.pth`, `.safetensors`, `.npz` or `.caffemodel` file.

    Returns:
        One line that says what was loaded and what starts fresh.

    Raises:
        InputError: the source cannot be had, holds no layer of VGG-16, or layers of another shape.
    """
    available = (
        _download_from_torchvision(segmenter.config.mean)
        if source == "torchvision:vgg16"
        else _read_layers(Path(source), segmenter)
    )
    layers = segmenter.frontend.convolutions()
    del layers["final"]  # another number of classes, whatever they are called
    matching = [name for name in layers if name in available]
    if not matching:
        raise InputError(f"weights: {source} holds no layer of VGG-16; expected torchvision's or Caffe's names")
    loaded: dict[str, tuple[Tensor, Tensor]] = {}
    for name in matching:
        weight, bias = available[name]
        layer = layers[name]
        if name.startswith("fc"):
            weight = _linear_to_convolution(weight, layer.weight.shape)
        if weight.shape != layer.weight.shape or bias.shape != weight.shape[:1]:
            if segmenter.config.fc6 == "large_fov" and name.startswith("fc"):
                continue  # DeepLab's fc6 and fc7 are not VGG-16's
            raise InputError(
                f"weights: {source}: {name} is {tuple(weight.shape)} with a bias {tuple(bias.shape)}; expected "
                f"{tuple(layer.weight.shape)} and {tuple(layer.weight.shape[:1])}. VGG-16's weights fit "
                "network.width = 1 only."
            )
        loaded[name] = weight, bias
    if not loaded:
        raise InputError(f"weights: {source} holds {', '.join(matching)} only, which fc6 = 'large_fov' cannot use")
    for name, (weight, bias) in loaded.items():  # all of them fit
        _copy_weights(layers[name], weight, bias)
    fresh = [name for name in [*layers, "final"] if name not in loaded]
    names = list(loaded)
    ends = f"{names[0]} to {names[-1]}, {len(names)} layers"
    return f"VGG-16: {ends}, from {source}; fresh: {', '.join(fresh)}"


def _download_from_torchvision(mean: tuple[float, float, float]) -> _Layers:
    """torchvision's weights of ImageNet, by its own download.

    Raises:
        InputError: they cannot be had.
    """
    from torchvision.models import VGG16_Weights, vgg16

    try:
        weights = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).state_dict()
    except Exception as error:  # the download raises what it likes
        raise InputError(
            f"weights: torchvision could not supply VGG-16 ({type(error).__name__}: {str(error)[:200]}). Without a "
            f"network, fetch {VGG16_Weights.IMAGENET1K_V1.url} elsewhere and give the file's path."
        ) from error
    return _fold_input_normalization(_to_caffe_names(weights), mean)


def _read_layers(path: Path, segmenter: VGGSegmenter) -> _Layers:
    """The layers that a file has, by Caffe's names, for BGR input.

    Raises:
        InputError: a file that is missing, damaged or of another kind.
    """
    if path.suffix == ".caffemodel":
        blobs = caffe.read_caffemodel(path)
        known = segmenter.frontend.convolutions().keys() & blobs.keys()
        return {n: (_to_tensor(blobs[n][0]), _to_tensor(blobs[n][1]).flatten()) for n in known if len(blobs[n]) == 2}
    if path.suffix == ".npz":
        return _fold_input_normalization(_to_caffe_names(_read_npz(path)), segmenter.config.mean)
    if path.suffix in (".pth", ".pt"):
        return _fold_input_normalization(_to_caffe_names(read_checkpoint(path)), segmenter.config.mean)
    if path.suffix == ".safetensors":
        return _fold_input_normalization(_to_caffe_names(read_safetensors(path)[0]), segmenter.config.mean)
    raise InputError(
        f"weights: found {str(path)!r}; expected torchvision:vgg16, random, or a .pth, .safetensors, .npz or "
        ".caffemodel file of VGG-16"
    )


def _to_caffe_names(weights: dict[str, Tensor]) -> _Layers:
    """torchvision's names -> Caffe's; `frontend.N` counts like `features.N`, other names are left out.

    Example:
        >>> sorted(_to_caffe_names({"features.2.weight": torch.zeros(64, 64, 3, 3), "features.2.bias": torch.zeros(64)}))
        ['conv1_2']
    """
    return {
        name: (weights[f"{prefix}.weight"].float(), weights[f"{prefix}.bias"].float())
        for prefix, name in _caffe_names_by_torchvision_name().items()
        if f"{prefix}.weight" in weights and f"{prefix}.bias" in weights
    }


def _caffe_names_by_torchvision_name() -> dict[str, str]:
    """torchvision's name of each layer -> Caffe's."""
    blocks = [f"conv{block}_{i}" for block, depth in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, depth + 1)]
    places = {f"features.{n}": name for n, name in zip(_TORCHVISION_CONV_INDICES, blocks, strict=True)}
    places |= {f"frontend.{n}": name for n, name in zip(_TORCHVISION_CONV_INDICES, blocks, strict=True)}
    return places | {"classifier.0": "fc6", "classifier.3": "fc7"}


def _fold_input_normalization(layers: _Layers, mean: tuple[float, float, float]) -> _Layers:
    """conv1_1 of torchvision's input, rewritten for blue, green, red in 0..255 less `mean`."""
    if "conv1_1" not in layers:
        return layers
    weight, bias = (part.double() for part in layers["conv1_1"])
    if weight.ndim != 4 or weight.shape[1] != 3 or bias.shape != weight.shape[:1]:
        return layers  # no such layer, as who fills it will say
    theirs, scale = (
        255 * torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (_TORCHVISION_MEAN, _TORCHVISION_STD)
    )
    weight = weight / scale  # reads RGB in 0..255 less their mean
    shift = torch.tensor(mean, dtype=torch.float64).flip(0).view(1, 3, 1, 1) - theirs
    bias = bias + (weight * shift).sum((1, 2, 3))
    return layers | {"conv1_1": (weight.flip(1).float(), bias.float())}


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: _to_tensor(file[name]) for name in file.files}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected numpy arrays under torchvision's names") from error
    except Exception as error:  # zipfile and numpy raise what they like on foreign bytes
        raise InputError(f"{path}: is no .npz file of plain arrays ({error}); expected torchvision's names") from error


def _to_tensor(array: NDArray[np.floating]) -> Tensor:
    return torch.tensor(np.asarray(array, dtype=np.float32))


def _linear_to_convolution(weight: Tensor, shape: torch.Size) -> Tensor:
    """A fully connected layer's (out, in), or Caffe's old (1, 1, out, in), as the convolution that it is, if it is."""
    matrix = weight[0, 0] if weight.ndim == 4 and weight.shape[:2] == (1, 1) else weight
    same = matrix.ndim == 2 and matrix.shape[0] == shape[0] and matrix.numel() == shape.numel()
    return matrix.reshape(shape) if same else weight


@torch.no_grad()
def _copy_weights(layer: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight)
    assert layer.bias is not None
    layer.bias.copy_(bias)
