"""The rivals of the context module, each in its paper's arithmetic: features in, features out, at the same resolution.

    head = build_head("aspp", channels=128, output_stride=8)
    features = head(features)                            # (N, F, h, w) -> (N, head.out_channels, h, w), not negative

| name | what it is |
|---|---|
| `aspp` | DeepLabv3 (Chen et al. 2017): a 1x1, three rates and image pooling side by side, projected, then a 3x3 |
| `aspp-v2` | DeepLabv2 (Chen et al., PAMI 2018): four rates side by side, each with its own 1x1; logits are their sum |
| `largefov` | DeepLab-LargeFOV (Chen et al. 2015): one such branch, of rate 12 |
| `psp` | PSPNet (Zhao et al. 2017): means over 1, 4, 9 and 36 parts of the image beside the features |
| `hdc` | hybrid dilated convolution (Wang et al. 2018): rates 1, 2, 5 and 9 one after the other, which leave no gaps |
| `degridding` | DRN-D (Yu et al. 2017): rates 2 and 1 after the dilated backbone, without shortcuts |

Rates are those of output stride 8 (`aspp` gives them for 16) and are scaled with the stride. `aspp` and `psp` read the
whole image, so no tile gives the labels of the whole: tiles are refused, or blended on request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.fields.probing import eval_mode
from dilated.models.factory import build_from_factory

HeadName = Literal["none", "aspp", "aspp-v2", "largefov", "psp", "hdc", "degridding"]
_RATES = {
    "aspp": (12, 24, 36),
    "aspp-v2": (6, 12, 18, 24),
    "largefov": (12,),
    "psp": (),
    "hdc": (1, 2, 5, 9),
    "degridding": (2, 1),
}
"""At output stride 8."""
_SERIAL = ("hdc", "degridding")
_MOST_RATES, _LARGEST_RATE = 16, 1_024
_PARTS = (1, 2, 3, 6)


def head_rules(head: str, rates: Sequence[int]) -> dict[str, tuple[bool, str]]:
    """Rules of `require_valid` for the settings of a head in a network's.

    Example:
        >>> head_rules("psp", (6,))["rates"]
        (False, "leave them out: head = 'psp' has none")
    """
    in_range = (
        isinstance(rates, Sequence)
        and len(rates) <= _MOST_RATES
        and all(isinstance(rate, int) and 0 < rate <= _LARGEST_RATE for rate in rates)
    )
    if rates and not _RATES.get(head):
        return {"rates": (False, f"leave them out: head = {head!r} has none")}
    return {"rates": (in_range, f"give up to {_MOST_RATES} numbers of 1 to {_LARGEST_RATE:,}")}


def build_head(
    name: str, channels: int, output_stride: int = 8, rates: Sequence[int] = (), dropout: float = 0.0
) -> FeatureHead | None:
    """Build a head with fresh weights; None for `none`.

    Args:
        channels: F, the feature channels that it reads.
        output_stride: pixels per feature, for the rates of the paper.
        rates: dilations, instead of the paper's.
        dropout: fraction of the channels dropped inside while training, where the paper does.

    Raises:
        InputError: no such head, or a module of the user's that is none.
    """
    if ":" in name:
        return _FactoryHead(name, channels, output_stride)
    if name not in get_args(HeadName):
        raise InputError(f"head: {name!r} is unknown", hint=f"give one of {', '.join(get_args(HeadName))}")
    if name == "none":
        return None
    dilations = tuple(rates) or tuple(max(1, rate * 8 // output_stride) for rate in _RATES[name])
    if name in _SERIAL:
        dilations = tuple(rates) or _RATES[name]  # what matters is how they follow each other
        return SerialHead(channels, dilations)
    if name == "psp":
        return PyramidPoolingHead(channels)
    if name == "aspp":
        return AtrousPyramidHead(channels, dilations, dropout)
    return ParallelHead(channels, dilations, dropout)


class FeatureHead(nn.Module):
    """Features (N, F, h, w) -> features (N, out_channels, h, w), not negative, of which a 1x1 makes logits."""

    out_channels: int


class _FactoryHead(FeatureHead):
    """A module of the user's, by the name of its factory: features in, features of any number of channels out.

    Args:
        factory: `package.module:name`, called with `channels` and `output_stride`; trusted as those of whole networks.
        channels: F.
        output_stride: pixels per feature.

    Shapes:
        (N, F, h, w) -> (N, out_channels, h, w).

    Raises:
        InputError: a factory that is not trusted or fails, or a module that changes the size of the features.
    """

    def __init__(self, factory: str, channels: int, output_stride: int) -> None:
        super().__init__()
        try:
            self.module = build_from_factory(factory, {"channels": channels, "output_stride": output_stride})
        except InputError as error:
            message = error.args[0].replace("network.factory:", "network.head:")
            raise InputError(message, hint=error.hint) from error
        try:
            with eval_mode(self.module), torch.no_grad():
                features = self.module(torch.zeros(1, channels, 17, 19))
        except (Exception, SystemExit) as error:  # a module of the user's can raise anything
            raise InputError(
                f"network.head: {factory} fails on features (1, {channels}, 17, 19) ({error})", hint="mend the module"
            ) from error
        shape = tuple(getattr(features, "shape", ()))
        if len(shape) != 4 or (shape[0], *shape[2:]) != (1, 17, 19):
            raise InputError(
                f"network.head: {factory} makes {shape or type(features).__name__} of features (1, {channels}, 17, 19)",
                hint="return features (N, channels of any number, h, w) of the same size",
            )
        if features.dtype != torch.get_default_dtype():
            raise InputError(
                f"network.head: {factory} makes {features.dtype} of {torch.get_default_dtype()}",
                hint="return the type of the features that come in",
            )
        self.out_channels = shape[1]

    def forward(self, features: Tensor) -> Tensor:
        final: Tensor = self.module(features)
        return final


class AtrousPyramidHead(FeatureHead):
    """DeepLabv3's: five branches of F channels side by side, projected to F, then a 3x3.

    Args:
        channels: F.
        rates: dilations of the 3x3 branches.
        dropout: after the projection, while training.

    Shapes:
        (N, F, h, w) -> (N, F, h, w).

    Example:
        >>> AtrousPyramidHead(8, (2, 4, 6)).eval()(torch.rand(1, 8, 9, 11)).shape
        torch.Size([1, 8, 9, 11])
    """

    def __init__(self, channels: int, rates: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.out_channels = channels
        self.branches = nn.ModuleList(
            [conv_norm_relu(channels, channels, 1), *(conv_norm_relu(channels, channels, 3, rate) for rate in rates)]
        )
        self.pool = _ImagePooling(channels, channels, 1)
        self.project = conv_norm_relu((len(rates) + 2) * channels, channels, 1)
        self.dropout = nn.Dropout(dropout)
        self.final = conv_norm_relu(channels, channels, 3)

    def forward(self, features: Tensor) -> Tensor:
        parts = [*(branch(features) for branch in self.branches), self.pool(features)]
        final: Tensor = self.final(self.dropout(self.project(torch.cat(parts, 1))))
        return final


class ParallelHead(FeatureHead):
    """DeepLabv2's and LargeFOV's: per rate a 3x3 and a 1x1, side by side.

    One 1x1 classifier on all of them is the sum of one on each, as the paper sums the branches' logits.

    Args:
        channels: F, of the features and of each branch.
        rates: dilations of the branches.
        dropout: after each convolution, while training.

    Shapes:
        (N, F, h, w) -> (N, len(rates) * F, h, w).

    Example:
        >>> ParallelHead(8, (6, 12)).out_channels
        16
    """

    def __init__(self, channels: int, rates: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.out_channels = len(rates) * channels
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=rate, dilation=rate),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Conv2d(channels, channels, 1),
                nn.ReLU(),
                nn.Dropout(dropout),
            )
            for rate in rates
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([branch(features) for branch in self.branches], 1)


class SerialHead(FeatureHead):
    """Convolutions of given dilations one after the other, each with batch norm and ReLU, without shortcuts.

    Shapes:
        (N, F, h, w) -> (N, F, h, w).
    """

    def __init__(self, channels: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.out_channels = channels
        self.layers = nn.Sequential(*(conv_norm_relu(channels, channels, 3, rate) for rate in rates))

    def forward(self, features: Tensor) -> Tensor:
        final: Tensor = self.layers(features)
        return final


class PyramidPoolingHead(FeatureHead):
    """PSPNet's: means over 1, 2x2, 3x3 and 6x6 parts, of F / 4 channels each, beside the features; then a 1x1 to F.

    The mean over the whole image has no batch norm, and means are up-sampled with aligned corners, as in
    `segmentation_models_pytorch`.

    Shapes:
        (N, F, h, w) -> (N, F, h, w).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels, width = channels, max(1, channels // 4)
        self.pools = nn.ModuleList(_ImagePooling(channels, width, parts, parts > 1, True) for parts in _PARTS)
        self.project = conv_norm_relu(channels + len(_PARTS) * width, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        final: Tensor = self.project(torch.cat([*(pool(features) for pool in self.pools), features], 1))
        return final


class _ImagePooling(nn.Module):
    """The mean over each of parts x parts of the image, a 1x1, and up again to the features' size.

    Args:
        channels: of the features.
        width: channels of the result.
        parts: along each axis.
        has_norm: whether batch norm follows the 1x1.
        align_corners: how the means are up-sampled.

    Shapes:
        (N, channels, h, w) -> (N, width, h, w).
    """

    def __init__(
        self, channels: int, width: int, parts: int, has_norm: bool = True, align_corners: bool = False
    ) -> None:
        super().__init__()
        self.parts, self.align_corners = parts, align_corners
        self.reduce = nn.Conv2d(channels, width, 1, bias=not has_norm)
        self.norm = _PooledNorm(width) if has_norm else None

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[-2], features.shape[-1]
        if self.parts == 1:
            means = features.mean((-2, -1), keepdim=True)
        else:  # by matrices: of adaptive pooling to more than one part, exporters take fixed sizes alone
            rows, columns = (_part_means(side, self.parts, features) for side in (height, width))
            means = rows @ features @ columns.T
        reduced: Tensor = self.reduce(means)
        if self.norm is not None:
            reduced = self.norm(reduced)
        return F.interpolate(reduced.relu(), (height, width), mode="bilinear", align_corners=self.align_corners)


class _PooledNorm(nn.BatchNorm2d):
    """Batch norm that takes the running statistics for a batch of one value, which has no variance."""

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def _part_means(side: int, parts: int, like: Tensor) -> Tensor:
    """The matrix of the means over the parts of an axis, (parts, side), as adaptive pooling divides it."""
    part, index = torch.arange(parts, device=like.device)[:, None], torch.arange(side, device=like.device)
    start, stop = part * side // parts, ((part + 1) * side + parts - 1) // parts
    return ((index >= start) & (index < stop)).to(like.dtype) / (stop - start)


def conv_norm_relu(channels: int, width: int, kernel: int, rate: int = 1) -> nn.Sequential:
    """Build a convolution that keeps the size, batch norm and ReLU: (N, channels, h, w) -> (N, width, h, w)."""
    padding = rate * (kernel // 2)
    convolution = nn.Conv2d(channels, width, kernel, padding=padding, dilation=rate, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())
