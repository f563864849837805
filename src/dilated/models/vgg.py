"""The paper's front end: VGG-16 with its last two poolings removed and what follows them dilated (Section 4).

    front_end = VGGFrontEnd(21)
    logits = front_end(torch.rand(1, 3, 500, 500))       # (1, 21, 16, 16): one logit for each 8x8 pixels
    [row.field for row in receptive_field(front_end)][-1]  # 380 pixels

pool4 and pool5 are gone, so conv5 is dilated by 2 and fc6 by 4, and ImageNet's weights fit unchanged. Nothing is padded
inside: the output covers 372 pixels fewer than the input, 186 on each side, so images are extended beforehand. The
paper argues (Section 4) that this simplification makes the front end better than its predecessors; `pools`, `padding`
and `fc6` restore those, one at a time, so that the claim can be tested.

`load_vgg16` fills it with ImageNet's VGG-16. The classifier's fully connected fc6 and fc7 become convolutions of 7x7
and 1x1: the same numbers in the same order. torchvision's network reads (RGB / 255 - mean) / std, the paper's reads BGR
minus its mean; the difference is folded into conv1_1, so that the outputs are the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.fields.arithmetic import receptive_field

Pools = Literal["removed", "dense", "kept"]
Padding = Literal["none", "same"]
FC6 = Literal["7x7", "large_fov"]

_BLOCKS = (("conv1", 2, 64), ("conv2", 2, 128), ("conv3", 3, 256), ("conv4", 3, 512), ("conv5", 3, 512))
"""Name, number of 3x3 convolutions and channels of each block of VGG-16; a pooling follows each."""
VGG16_CONVOLUTIONS = tuple(f"{name}_{i}" for name, depth, _ in _BLOCKS for i in range(1, depth + 1))
"""Caffe's names of VGG-16's 3x3 convolutions, in the order in which they run."""
_TORCHVISION_INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""The positions of these convolutions in torchvision's `features`."""
_TORCHVISION_MEAN, _TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of torchvision's input: red, green, blue."""


class VGGFrontEnd(nn.Sequential):
    """VGG-16 as a dense predictor. Layers have Caffe's names: `conv1_1` ... `conv5_3`, `fc6`, `fc7`, `final`.

    Args:
        classes: C, the channels of the last layer.
        pools: of pool4 and pool5. `"removed"` is the paper; `"dense"` keeps them with stride 1 (as DeepLab did);
            `"kept"` leaves their stride 2, so nothing is dilated and the stride is 32 (as FCN-32s did).
        padding: `"none"` is the paper; `"same"` pads every convolution with zeros, as VGG-16 did for classification.
        fc6: `"7x7"` with dilation 4 and 4096 channels is the paper; `"large_fov"` is DeepLab's 3x3 with dilation 12 and
            1024 channels: the same field, and a network of 20 instead of 134 million parameters.
        width: factor on the number of channels of all inner layers, for small machines.
        dropout: probability after fc6 and fc7 while training.

    Shapes:
        (N, 3, H, W) -> (N, C, (H - 372) / 8, (W - 372) / 8); poolings round up as Caffe's do, so other sizes are
        rounded up once. Logit k stands for the 8x8 pixels from 186 + 8k on.

    Raises:
        InputError: an option that is none of the above.

    Example:
        >>> front_end = VGGFrontEnd(11, width=1 / 16)
        >>> front_end(torch.zeros(1, 3, 500, 388)).shape
        torch.Size([1, 11, 16, 2])
        >>> front_end.margin, front_end.stride
        (186, 8)
    """

    def __init__(
        self,
        classes: int,
        pools: Pools = "removed",
        padding: Padding = "none",
        fc6: FC6 = "7x7",
        width: float = 1.0,
        dropout: float = 0.5,
    ) -> None:
        require_choice("front end: pools", pools, ("removed", "dense", "kept"))
        require_choice("front end: padding", padding, ("none", "same"))
        require_choice("front end: fc6", fc6, ("7x7", "large_fov"))
        if classes < 1 or width <= 0:
            raise InputError(f"front end: classes={classes}, width={width}", hint="give numbers above 0")
        layers: OrderedDict[str, nn.Module] = OrderedDict()

        def conv(name: str, c_in: int, c_out: int, kernel: int, dilation: int) -> int:
            pad = (kernel - 1) * dilation // 2 if padding == "same" else 0
            layers[name] = nn.Conv2d(c_in, c_out, kernel, padding=pad, dilation=dilation)
            return c_out

        def scaled(channels: int) -> int:
            return max(1, round(channels * width))

        channels, dilation = 3, 1
        for block, (name, depth, block_channels) in enumerate(_BLOCKS, 1):
            for i in range(1, depth + 1):
                channels = conv(f"{name}_{i}", channels, scaled(block_channels), 3, dilation)
                layers[f"relu{block}_{i}"] = nn.ReLU(inplace=True)
            if block <= 3 or pools == "kept":
                layers[f"pool{block}"] = nn.MaxPool2d(2, 2, ceil_mode=True)
            else:
                if pools == "dense":
                    layers[f"pool{block}"] = nn.MaxPool2d(3, 1, padding=1 if padding == "same" else 0)
                dilation *= 2  # for the stride that is missing
        kernel, step, fc_channels = (7, 1, 4096) if fc6 == "7x7" else (3, 3, 1024)
        for name, size, rate in (("fc6", kernel, dilation * step), ("fc7", 1, 1)):
            channels = conv(name, channels, scaled(fc_channels), size, rate)
            layers[f"relu{name[-1]}"] = nn.ReLU(inplace=True)
            layers[f"drop{name[-1]}"] = nn.Dropout(dropout)
        conv("final", channels, classes, 1, 1)
        super().__init__(layers)

        last = receptive_field(self)[-1]
        self.stride = last.jump
        self.margin = round(last.start - (last.jump - 1) / 2)
        """Pixels by which an image is extended on each side, so that its first stride x stride pixels get logit 0."""
        self.reset_parameters()

    def __getitem__(self, index: Any) -> Any:
        """A layer by its index, or a slice of the layers as a plain `nn.Sequential`."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self.named_children())[index]))
        return super().__getitem__(index)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw fresh weights: He et al. 2015 for what ImageNet would fill, N(0, 0.001) for `final`; biases are zero."""
        for name, layer in self.convolutions().items():
            if name == "final":
                nn.init.normal_(layer.weight, std=0.001)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def convolutions(self) -> dict[str, nn.Conv2d]:
        """The layers with weights, by name, in the order in which they run."""
        return {name: layer for name, layer in self.named_children() if isinstance(layer, nn.Conv2d)}


def require_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise an InputError where an option is none of those allowed."""
    if value not in allowed:
        raise InputError(f"{name}: {value!r}", hint=f"give one of {', '.join(map(repr, allowed))}")


def load_vgg16(
    frontend: VGGFrontEnd, mean: tuple[float, float, float], weights: Mapping[str, Tensor], source: str
) -> str:
    """Fill the front end with weights of VGG-16, in place.

    Args:
        mean: blue, green and red in 0..255, which the front end's input has subtracted.
        weights: under torchvision's names (`features.0.weight`; also `frontend.0.weight`) or Caffe's
            (`conv1_1.weight`), which are taken to read BGR minus the mean.
        source: for messages.

    Returns:
        One line that says what was loaded and what starts fresh.

    Raises:
        InputError: no layer of VGG-16, or layers of another shape; nothing is changed.
    """
    layers = frontend.convolutions()
    del layers["final"]  # another number of classes, whatever they are called
    available = {
        name: (weights[f"{name}.weight"], weights[f"{name}.bias"].flatten())
        for name in layers
        if f"{name}.weight" in weights and f"{name}.bias" in weights
    }
    available |= _fold_input_normalization(_read_torchvision_names(weights), mean)
    matching = [name for name in layers if name in available]
    if not matching:
        raise InputError(
            f"weights: {source} holds no layer of VGG-16", hint="give weights under torchvision's or Caffe's names"
        )
    loaded: dict[str, tuple[Tensor, Tensor]] = {}
    for name in matching:
        weight, bias = available[name]
        shape = layers[name].weight.shape
        if name.startswith("fc"):
            weight = _linear_to_convolution(weight, shape)
        if weight.shape != shape or bias.shape != weight.shape[:1]:
            if name.startswith("fc") and layers["fc6"].kernel_size == (3, 3):
                continue  # DeepLab's fc6 and fc7 are not VGG-16's
            raise InputError(
                f"weights: {source}: {name} is {tuple(weight.shape)} with a bias {tuple(bias.shape)}; the network's is "
                f"{tuple(shape)} with {tuple(shape[:1])}",
                hint="give weights of VGG-16, which fit network.width = 1",
            )
        loaded[name] = weight, bias
    if not loaded:
        raise InputError(f"weights: {source} holds {', '.join(matching)} only, which fc6 = 'large_fov' cannot use")
    frontend.load_state_dict(  # all of them fit
        {
            f"{name}.{kind}": x
            for name, pair in loaded.items()
            for kind, x in zip(("weight", "bias"), pair, strict=True)
        },
        strict=False,
    )
    fresh = [name for name in [*layers, "final"] if name not in loaded]
    names = list(loaded)
    summary = f"{names[0]} to {names[-1]}, {len(names)} layers"
    return f"VGG-16: {summary}, from {source}; fresh: {', '.join(fresh)}"


def _read_torchvision_names(weights: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Weight and bias by Caffe's names; `frontend.N` counts like `features.N`, other names are left out.

    Example:
        >>> sorted(_read_torchvision_names({"features.2.weight": torch.zeros(64), "features.2.bias": torch.zeros(64)}))
        ['conv1_2']
    """
    names = {
        f"{prefix}.{index}": name
        for prefix in ("features", "frontend")
        for index, name in zip(_TORCHVISION_INDICES, VGG16_CONVOLUTIONS, strict=True)
    }
    return {
        name: (weights[f"{prefix}.weight"].float(), weights[f"{prefix}.bias"].float())
        for prefix, name in (names | {"classifier.0": "fc6", "classifier.3": "fc7"}).items()
        if f"{prefix}.weight" in weights and f"{prefix}.bias" in weights
    }


def _fold_input_normalization(
    layers: dict[str, tuple[Tensor, Tensor]], mean: tuple[float, float, float]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Rewrite conv1_1 for blue, green, red in 0..255 minus `mean` instead of torchvision's input."""
    if "conv1_1" not in layers:
        return layers
    weight, bias = (part.double() for part in layers["conv1_1"])
    if weight.ndim != 4 or weight.shape[1] != 3 or bias.shape != weight.shape[:1]:
        return layers  # of another shape, which the caller reports
    torchvision_mean, scale = (
        255 * torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (_TORCHVISION_MEAN, _TORCHVISION_STD)
    )
    weight = weight / scale  # reads RGB in 0..255 minus torchvision's mean
    shift = torch.tensor(mean, dtype=torch.float64).flip(0).view(1, 3, 1, 1) - torchvision_mean
    bias = bias + (weight * shift).sum((1, 2, 3))
    return layers | {"conv1_1": (weight.flip(1).float(), bias.float())}


def _linear_to_convolution(weight: Tensor, shape: torch.Size) -> Tensor:
    """A fully connected layer's (out, in), or Caffe's old (1, 1, out, in), as a convolution; other shapes unchanged."""
    matrix = weight[0, 0] if weight.ndim == 4 and weight.shape[:2] == (1, 1) else weight
    matches = matrix.ndim == 2 and matrix.shape[0] == shape[0] and matrix.numel() == shape.numel()
    return matrix.reshape(shape) if matches else weight
