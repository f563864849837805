"""The paper's front end: VGG-16 with its last two poolings removed and what follows them dilated (Section 4).

    front_end = VGGFrontEnd(21)
    logits = front_end(torch.rand(1, 3, 500, 500))       # (1, 21, 16, 16): one logit for each 8x8 pixels
    [row.field for row in receptive_field(front_end)][-1]  # 380 pixels

pool4 and pool5 are gone, so conv5 is dilated by 2 and fc6 by 4, and ImageNet's weights fit unchanged. Nothing is padded
inside: 372 pixels fewer are answered than are seen, 186 on each side, so images are extended beforehand. The paper
argues (Section 4) that this simplification is what makes the front end better than its forerunners; `pools`, `padding`
and `fc6` bring those back, one at a time, so that the claim can be tested.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

import torch
from torch import nn

from dilated.fields.arithmetic import receptive_field

Pools = Literal["removed", "dense", "kept"]
Padding = Literal["none", "same"]
FC6 = Literal["7x7", "large_fov"]

_BLOCKS = (("conv1", 2, 64), ("conv2", 2, 128), ("conv3", 3, 256), ("conv4", 3, 512), ("conv5", 3, 512))
"""Name, number of 3x3 convolutions and maps of each block of VGG-16; a pooling follows each."""


class VGGFrontEnd(nn.Sequential):
    """VGG-16 as a dense predictor. Layers have Caffe's names: `conv1_1` ... `conv5_3`, `fc6`, `fc7`, `final`.

    Args:
        classes: C, the maps of the last layer.
        pools: of pool4 and pool5. `"removed"` is the paper; `"dense"` keeps them with stride 1 (as DeepLab did);
            `"kept"` leaves their stride 2, so nothing is dilated and the stride is 32 (as FCN-32s did).
        padding: `"none"` is the paper; `"same"` pads every convolution with zeros, as VGG-16 did for classification.
        fc6: `"7x7"` with dilation 4 and 4096 maps is the paper; `"large_fov"` is DeepLab's 3x3 with dilation 12 and
            1024 maps: the same field, and a network of 20 instead of 134 million parameters.
        width: factor on the number of maps of all inner layers, for small machines.
        dropout: after fc6 and fc7 while training.

    Shapes:
        (N, 3, H, W) -> (N, C, (H - 372) / 8, (W - 372) / 8); poolings round up as Caffe's do, so a size between is
        rounded up once. Logit k stands for the 8x8 pixels from 186 + 8k on.

    Raises:
        ValueError: an option that is none of the above.

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
        for key, value, allowed in (
            ("pools", pools, ("removed", "dense", "kept")),
            ("padding", padding, ("none", "same")),
            ("fc6", fc6, ("7x7", "large_fov")),
        ):
            if value not in allowed:
                raise ValueError(f"VGGFrontEnd: found {key}={value!r}; expected one of {allowed}")
        if classes < 1 or width <= 0:
            raise ValueError(f"VGGFrontEnd: found classes={classes}, width={width}; expected more than 0")
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
        """A layer by its place, or a slice of the layers as a plain `nn.Sequential`."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self.named_children())[index]))
        return super().__getitem__(index)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fresh weights: He et al. 2015 for what ImageNet would fill, N(0, 0.001) for `final`; biases zero."""
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
