"""The context module: dilations 1, 1, 2, 4, 8, 16, 1 and a 1x1, so that each logit sees 67 x 67 others (Section 3).

    context = ContextModule(channels=21)                 # basic: 64 C^2 + 8 C parameters
    logits = context(logits)                             # (N, C, h, w) -> (N, C, h, w), no resolution lost

C channels go in and C channels come out, so the module plugs into any dense network; and it starts as the identity
(Eq. 4 and Eq. 5), so plugging it in keeps what the network has learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.fields.arithmetic import Layer, as_layer

DILATIONS = (1, 1, 2, 4, 8, 16, 1)


_MOST_DILATIONS, _LARGEST_DILATION = 64, 1_024


def context_rules(dilations: Sequence[int], sigma: float) -> dict[str, tuple[bool, str]]:
    """Rules of `require_valid` for the settings of a context module in a network's.

    Example:
        >>> context_rules((1, 0), sigma=0.1)["dilations"]
        (False, 'give up to 64 numbers of 1 to 1,024')
    """
    return {
        "dilations": (
            0 < len(dilations) <= _MOST_DILATIONS and all(0 < d <= _LARGEST_DILATION for d in dilations),
            f"give up to {_MOST_DILATIONS} numbers of 1 to {_LARGEST_DILATION:,}",
        ),
        "sigma": (0 <= sigma <= 1, "give 0 to 1"),
    }


class ContextModule(nn.Module):
    """Multi-scale context aggregation (paper, Section 3 and Table 1).

    One 3x3 convolution per dilation, each followed by a ReLU, then a 1x1 without.

    Args:
        channels: C, the number of channels in and out.
        width: channels of the inner layers. `"basic"` is C in each. `"large"` is Table 1's 2C, 2C, 4C, 8C, 16C, 32C,
            32C; for other dilations, twice the largest dilation so far. Or one multiple of C for each dilation.
        dilations: of the 3x3 layers. Dilation7 of the paper drops the 16, Dilation10 adds 32 and 64.
        padding: what lies beyond the border. `"same"`: each layer pads its input with zeros (the released street
            networks). `"once"`: the input is padded once with zeros as far as the module sees, 33 by default, and no
            layer pads (the released VOC network). `"valid"`: nothing is padded, the output is smaller by 66.
        init: `"identity"` (Eq. 4, Eq. 5) or `"random"` (He et al. 2015), with which the paper saw no improvement.
        sigma: standard deviation of the noise on the weights that the identity leaves at zero; 0.01 in the authors'
            code. The noise that a layer adds grows as sigma * sqrt(9 C) times its input, so wide or many-layered
            modules on large values need less.

    Shapes:
        (N, C, h, w) -> (N, C, h, w), or (N, C, h - 66, w - 66) for `"valid"`.

    Note:
        Each identity layer is followed by a ReLU, so a fresh module with sigma 0 gives `relu(x)`: the identity for
        non-negative input only. `Segmenter` makes its input non-negative.

    Raises:
        InputError: a width, padding or init that is none of the above, or of the wrong length.

    Example:
        >>> context = ContextModule(3, sigma=0.0)
        >>> x = torch.rand(1, 3, 40, 50)
        >>> torch.allclose(context(x), x, atol=1e-6)
        True
    """

    def __init__(
        self,
        channels: int,
        width: Literal["basic", "large"] | Sequence[int] = "basic",
        dilations: Sequence[int] = DILATIONS,
        padding: Literal["same", "once", "valid"] = "same",
        init: Literal["identity", "random"] = "identity",
        sigma: float = 0.01,
    ) -> None:
        super().__init__()
        if channels < 1 or not dilations or min(dilations) < 1:
            raise InputError(f"ContextModule: channels={channels}, dilations={dilations}", hint="give positive numbers")
        if padding not in ("same", "once", "valid"):
            raise InputError(f"ContextModule: padding={padding!r}", hint="give 'same', 'once' or 'valid'")
        self.channels = channels
        self.radius = sum(dilations)
        """How far an output sees beyond its position, along each axis."""
        self.input_padding = self.radius if padding == "once" else 0
        channel_counts = [channels, *(channels * multiple for multiple in _width_multiples(width, dilations))]
        self.layers = nn.ModuleList(
            nn.Conv2d(c_in, c_out, 3, padding=d if padding == "same" else 0, dilation=d)
            for (c_in, c_out), d in zip(pairwise(channel_counts), dilations, strict=True)
        )
        self.activations = nn.ModuleList(nn.ReLU() for _ in dilations)  # layers, so that accelerate() can fuse them
        self.final = nn.Conv2d(channel_counts[-1], channels, 1)
        self.reset_parameters(init, sigma)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, h, w)
        if self.input_padding:
            x = F.pad(x, (self.input_padding,) * 4)
        for layer, activation in zip(self.layers, self.activations, strict=True):
            x = activation(layer(x))
        return self.final(x)

    @torch.no_grad()
    def reset_parameters(self, init: Literal["identity", "random"], sigma: float = 0.01) -> None:
        """Draw fresh weights for every layer; biases are zero."""
        if init not in ("identity", "random"):
            raise InputError(f"ContextModule: init={init!r}", hint="give 'identity' or 'random'")
        for layer in self.convolutions():
            if init == "identity":
                _fill_identity(layer.weight, self.channels, sigma)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def convolutions(self) -> list[nn.Conv2d]:
        """The layers in the order in which they run."""
        return [layer for layer in [*self.layers, self.final] if isinstance(layer, nn.Conv2d)]

    def receptive_field_layers(self) -> list[Layer]:
        """The layers as `dilated.receptive_field` counts them; what is padded once is padded at the first."""
        first, *rest = (as_layer(name, m) for name, m in self.named_modules() if isinstance(m, nn.Conv2d))
        return [replace(first, padding=self.input_padding) if self.input_padding else first, *rest]


def _width_multiples(width: Literal["basic", "large"] | Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Each inner layer's number of channels, as a multiple of C (Table 1)."""
    if isinstance(width, str):
        if width == "basic":
            return [1] * len(dilations)
        if width == "large":
            return [2 * max(dilations[: i + 1]) for i in range(len(dilations))]
        raise InputError(
            f"ContextModule: width={width!r}", hint="give 'basic', 'large' or one multiple of C per dilation"
        )
    if len(width) != len(dilations) or min(width) < 1:
        raise InputError(f"ContextModule: width={width!r}", hint=f"give {len(dilations)} positive multiples of C")
    return list(width)


@torch.no_grad()
def _fill_identity(weight: Tensor, channels: int, sigma: float = 0.0) -> Tensor:
    """Fill a convolution's weight, (c_out, c_in, k, k), with the identity of Eq. 5, in place.

    Between layers whose widths are multiples of C, channel a feeds channel b where both stand for the same one of the C
    channels: C / c_out at the central tap where floor(a C / c_in) = floor(b C / c_out), noise everywhere else. For
    c_in = c_out = C this is Eq. 4.

    Args:
        weight: filled in place and returned.
        channels: C.
        sigma: standard deviation of the noise.

    Raises:
        InputError: a width is not a multiple of C.

    Example:
        >>> _fill_identity(torch.empty(2, 4, 1, 1), channels=2)[:, :, 0, 0]
        tensor([[1., 1., 0., 0.],
                [0., 0., 1., 1.]])
    """
    c_out, c_in, height, width = weight.shape
    if c_in % channels or c_out % channels:
        raise InputError(
            f"ContextModule: {c_in} channels in and {c_out} out",
            hint=f"channels must divide both widths: {channels} does not",
        )
    if weight.is_meta:
        return weight  # has a shape alone
    weight.normal_(0.0, sigma) if sigma else weight.zero_()
    a = torch.arange(c_in, device=weight.device) * channels // c_in  # which of the C channels each input stands for
    b = torch.arange(c_out, device=weight.device) * channels // c_out
    matches = a[None, :] == b[:, None]  # (c_out, c_in)
    weight[:, :, height // 2, width // 2][matches] = channels / c_out
    return weight
