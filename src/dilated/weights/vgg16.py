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
from dilated.nn.paper import VGGSegmenter
from dilated.weights import caffe
from dilated.weights.network_file import checkpoint, read

FEATURES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""The places of VGG-16's 13 convolutions in torchvision's `features`."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of torchvision's input, red, green, blue."""

Layers = dict[str, tuple[Tensor, Tensor]]


def load_vgg16(segmenter: VGGSegmenter, source: str) -> str:
    """Fill the front end, in place.

    Args:
        source: `torchvision:vgg16`, or a `.pth`, `.safetensors`, `.npz` or `.caffemodel` file.

    Returns:
        One line that says what was loaded and what starts fresh.

    Raises:
        InputError: the source cannot be had, holds no layer of VGG-16, or layers of another shape.
    """
    found = (
        from_torchvision(segmenter.network.mean)
        if source == "torchvision:vgg16"
        else from_file(Path(source), segmenter)
    )
    layers = segmenter.frontend.convolutions()
    del layers["final"]  # another number of classes, whatever they are called
    fitting = [name for name in layers if name in found]
    if not fitting:
        raise InputError(f"weights: {source} holds no layer of VGG-16; expected torchvision's or Caffe's names")
    taken: dict[str, tuple[Tensor, Tensor]] = {}
    for name in fitting:
        weight, bias = found[name]
        layer = layers[name]
        if name.startswith("fc"):
            weight = _convolution(weight, layer.weight.shape)
        if weight.shape != layer.weight.shape or bias.shape != weight.shape[:1]:
            if segmenter.network.fc6 == "large_fov" and name.startswith("fc"):
                continue  # DeepLab's fc6 and fc7 are not VGG-16's
            raise InputError(
                f"weights: {source}: {name} is {tuple(weight.shape)} with a bias {tuple(bias.shape)}; expected "
                f"{tuple(layer.weight.shape)} and {tuple(layer.weight.shape[:1])}. VGG-16's weights fit "
                "network.width = 1 only."
            )
        taken[name] = weight, bias
    if not taken:
        raise InputError(f"weights: {source} holds {', '.join(fitting)} only, which fc6 = 'large_fov' cannot use")
    for name, (weight, bias) in taken.items():  # all of them fit
        _fill(layers[name], weight, bias)
    fresh = [name for name in [*layers, "final"] if name not in taken]
    names = list(taken)
    ends = f"{names[0]} to {names[-1]}, {len(names)} layers"
    return f"VGG-16: {ends}, from {source}; fresh: {', '.join(fresh)}"


def from_torchvision(mean: tuple[float, float, float]) -> Layers:
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
    return adapted(renamed(weights), mean)


def from_file(path: Path, segmenter: VGGSegmenter) -> Layers:
    """The layers that a file has, by Caffe's names, for BGR input.

    Raises:
        InputError: a file that is missing, damaged or of another kind.
    """
    if path.suffix == ".caffemodel":
        blobs = caffe.read(path)
        known = segmenter.frontend.convolutions().keys() & blobs.keys()
        return {n: (_tensor(blobs[n][0]), _tensor(blobs[n][1]).flatten()) for n in known if len(blobs[n]) == 2}
    if path.suffix == ".npz":
        return adapted(renamed(_numpy(path)), segmenter.network.mean)
    if path.suffix in (".pth", ".pt"):
        return adapted(renamed(checkpoint(path)), segmenter.network.mean)
    if path.suffix == ".safetensors":
        return adapted(renamed(read(path)[0]), segmenter.network.mean)
    raise InputError(
        f"weights: found {str(path)!r}; expected torchvision:vgg16, random, or a .pth, .safetensors, .npz or "
        ".caffemodel file of VGG-16"
    )


def renamed(weights: dict[str, Tensor]) -> Layers:
    """torchvision's names -> Caffe's; `frontend.N` counts like `features.N`, other names are left out.

    Example:
        >>> sorted(renamed({"features.2.weight": torch.zeros(64, 64, 3, 3), "features.2.bias": torch.zeros(64)}))
        ['conv1_2']
    """
    return {
        name: (weights[f"{place}.weight"].float(), weights[f"{place}.bias"].float())
        for place, name in _places().items()
        if f"{place}.weight" in weights and f"{place}.bias" in weights
    }


def _places() -> dict[str, str]:
    """torchvision's name of each layer -> Caffe's."""
    blocks = [f"conv{block}_{i}" for block, depth in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, depth + 1)]
    places = {f"features.{n}": name for n, name in zip(FEATURES, blocks, strict=True)}
    places |= {f"frontend.{n}": name for n, name in zip(FEATURES, blocks, strict=True)}
    return places | {"classifier.0": "fc6", "classifier.3": "fc7"}


def adapted(layers: Layers, mean: tuple[float, float, float]) -> Layers:
    """conv1_1 of torchvision's input, rewritten for blue, green, red in 0..255 less `mean`."""
    if "conv1_1" not in layers:
        return layers
    weight, bias = (part.double() for part in layers["conv1_1"])
    if weight.ndim != 4 or weight.shape[1] != 3 or bias.shape != weight.shape[:1]:
        return layers  # no such layer, as who fills it will say
    theirs, scale = (255 * torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (MEAN, STD))
    weight = weight / scale  # reads RGB in 0..255 less their mean
    shift = torch.tensor(mean, dtype=torch.float64).flip(0).view(1, 3, 1, 1) - theirs
    bias = bias + (weight * shift).sum((1, 2, 3))
    return layers | {"conv1_1": (weight.flip(1).float(), bias.float())}


def _numpy(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: _tensor(file[name]) for name in file.files}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected numpy arrays under torchvision's names") from error
    except Exception as error:  # zipfile and numpy raise what they like on foreign bytes
        raise InputError(f"{path}: is no .npz file of plain arrays ({error}); expected torchvision's names") from error


def _tensor(array: NDArray[np.floating]) -> Tensor:
    return torch.tensor(np.asarray(array, dtype=np.float32))


def _convolution(weight: Tensor, shape: torch.Size) -> Tensor:
    """A fully connected layer's (out, in), or Caffe's old (1, 1, out, in), as the convolution that it is, if it is."""
    matrix = weight[0, 0] if weight.ndim == 4 and weight.shape[:2] == (1, 1) else weight
    same = matrix.ndim == 2 and matrix.shape[0] == shape[0] and matrix.numel() == shape.numel()
    return matrix.reshape(shape) if same else weight


@torch.no_grad()
def _fill(layer: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight)
    assert layer.bias is not None
    layer.bias.copy_(bias)
