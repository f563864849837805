"""Decoders, the other way to resolution: coarse logits or features are brought up again with the backbone's finer maps.

    decoder = build_decoder("unet", layout, width=128, classes=11)
    features = decoder(feature_maps, grids)              # the backbone's maps, finest first -> (N, F, h, w)

| name | what it is |
|---|---|
| `fcn-32s`, `fcn-16s`, `fcn-8s` | FCN (Long et al. 2015): logits at stride 32, to which finer ones are added |
| `duc` | dense up-sampling convolution (Wang et al. 2018): a 1x1 makes the logits of all r x r pixels of a feature |
| `unet` | U-Net's (Ronneberger et al. 2015): per level nearest neighbors, the backbone's map, two 3x3 |
| `pup` | progressive up-sampling (SETR, Zheng et al. 2021): twice bilinear doubling and a 3x3, for plain transformers |

FCN's deconvolutions are learned and start as bilinear interpolation; those that double have a kernel for each pair of
classes, as the authors' have, and the last one, which the authors keep fixed, a kernel for each class. At the border
the outermost logits are repeated, where the authors extend the image by 100 zeros. Logits that are added start at 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.models.heads import conv_norm_relu
from dilated.models.paper import bilinear_kernel
from dilated.models.sampling import Grid, upsample
from dilated.models.timm_backbone import BackboneLayout

DecoderName = Literal["fcn-32s", "fcn-16s", "fcn-8s", "duc", "unet", "pup"]
_FCN_NAMES = ("fcn-32s", "fcn-16s", "fcn-8s")
_MOST_CLASSES = 1_024


def decoder_rules(
    head: str, output_stride: int, detail: int, context: str, context_on: str
) -> dict[str, tuple[bool, str]]:
    """Rules of `require_valid` for what does not go with a decoder.

    Example:
        >>> decoder_rules("fcn-8s", 8, 0, "none", "features")["output_stride"]
        (False, "set 32 with head = 'fcn-8s', and in each stage of a recipe")
    """
    if head not in get_args(DecoderName):
        return {}
    rules = {"detail": (detail == 0, f"set 0 with head = {head!r}")}
    if head == "duc":
        rules["context_on"] = context == "none" or context_on == "features", "set 'features' with head = 'duc'"
    if head in _FCN_NAMES:
        rules["output_stride"] = output_stride == 32, f"set 32 with head = {head!r}, and in each stage of a recipe"
        rules["context"] = context == "none", f"set 'none' with head = {head!r}"
    return rules


class Decoder(nn.Module, ABC):
    """The backbone's maps, finest first, and where they sit -> one map (N, out_channels, h, w)."""

    out_channels: int

    @abstractmethod
    def output_grid(self, grids: Sequence[Grid]) -> Grid:
        """Where the values of the map sit.

        Args:
            grids: of the backbone's maps.
        """


class LogitUpsampling(nn.Module, ABC):
    """What makes logits on a finer grid, of features or of coarse logits."""

    @abstractmethod
    def output_grid(self, grid: Grid, full: Grid) -> Grid:
        """Where the logits sit, along an axis.

        Args:
            grid: where what they are made of sits, which may be a window.
            full: that of a full image.
        """


def build_decoder(name: str, layout: BackboneLayout, width: int, classes: int, dropout: float = 0.0) -> Decoder | None:
    """Build a decoder with fresh weights; None for heads that are none.

    Args:
        layout: of the backbone.
        width: F, the feature channels: before the classifier of FCN, and half those of U-Net's first level.
        classes: C.
        dropout: before FCN's classifier, while training.

    Raises:
        InputError: a backbone without a level of a stride that is read.
    """
    if name == "unet":
        return UNetDecoder(layout.channels, width)
    if name == "pup":
        return ProgressiveDecoder(layout, width)
    if name in _FCN_NAMES:
        return FCNDecoder(name, layout, width, classes, dropout)
    return None


def build_upsampling(name: str, channels: int, classes: int, output_stride: int) -> LogitUpsampling | None:
    """Build what makes the logits of every pixel; None for heads whose logits are interpolated.

    Args:
        channels: of what it reads.
        output_stride: pixels per feature.
    """
    if name == "duc":
        return DenseUpsampling(channels, classes, output_stride)
    if name in _FCN_NAMES:
        return LearnedUpsampling(classes, _fcn_stride(name), is_grouped=True)
    return None


def _fcn_stride(name: str) -> int:
    return int(name.removeprefix("fcn-").removesuffix("s"))


class LearnedUpsampling(LogitUpsampling):
    """A deconvolution that starts as bilinear interpolation.

    Args:
        classes: C.
        factor: an even number.
        is_grouped: whether there is a kernel for each class instead of for each pair of classes.

    Shapes:
        (N, C, h, w) -> (N, C, (h + 1) * factor, (w + 1) * factor), from between the first logit and its repetition
        before it to the same place behind the last one.

    Example:
        >>> LearnedUpsampling(1, 2)(torch.tensor([[[[0.0, 4.0]]]]))[0, 0, 1].tolist()
        [0.0, 0.0, 1.0, 3.0, 4.0, 4.0]
    """

    def __init__(self, classes: int, factor: int, is_grouped: bool = False) -> None:
        super().__init__()
        self.factor, self.groups = factor, classes if is_grouped else 1
        if not is_grouped and classes > _MOST_CLASSES:
            raise InputError(
                f"network.head: FCN learns a kernel for each pair of classes, and there are {classes:,} classes",
                hint=f"use another head, or have up to {_MOST_CLASSES:,} classes",
            )
        diagonal = torch.ones(classes, 1) if is_grouped else torch.eye(classes)
        self.weight = nn.Parameter(diagonal[..., None, None] * bilinear_kernel(factor).to(diagonal))

    def forward(self, logits: Tensor) -> Tensor:
        extended = F.pad(logits, (1, 1, 1, 1), mode="replicate")
        return F.conv_transpose2d(extended, self.weight, stride=self.factor, padding=self.factor, groups=self.groups)

    def output_grid(self, grid: Grid, full: Grid) -> Grid:
        stride = grid.stride / self.factor
        return Grid(stride, grid.start - grid.stride + stride / 2)


class DenseUpsampling(LogitUpsampling):
    """DUC: the logits of all factor x factor pixels of a feature by a 1x1, laid side by side.

    Args:
        channels: F.
        classes: C.
        factor: pixels per feature.

    Shapes:
        (N, F, h, w) -> (N, C, h * factor, w * factor).

    Example:
        >>> DenseUpsampling(8, 3, 4)(torch.rand(1, 8, 5, 6)).shape
        torch.Size([1, 3, 20, 24])
    """

    def __init__(self, channels: int, classes: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        bound = 1 / math.sqrt(channels)  # as torch initialises a 1x1
        self.weight = nn.Parameter(torch.empty(classes, factor**2, channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(classes, factor**2))

    def forward(self, features: Tensor) -> Tensor:
        logits = F.conv2d(features, self.weight.flatten(0, 1)[..., None, None], self.bias.flatten())
        return F.pixel_shuffle(logits, self.factor)

    def output_grid(self, grid: Grid, full: Grid) -> Grid:
        stride = grid.stride / self.factor
        return Grid(stride, grid.start - full.start + (stride - 1) / 2)


class FCNDecoder(Decoder):
    """FCN's, up to its last deconvolution: logits at stride 32, doubled, plus those of stride 16, and so on.

    Args:
        name: `fcn-32s`, `fcn-16s` or `fcn-8s`.
        layout: of the backbone.
        width: F, of the 1x1 between the backbone's last map and its classifier.
        classes: C.
        dropout: before the classifier of the last map, while training.

    Shapes:
        the backbone's maps -> logits (N, C, h, w) at stride 32, 16 or 8.

    Raises:
        InputError: a backbone without a level of one of these strides.
    """

    def __init__(self, name: str, layout: BackboneLayout, width: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.out_channels = classes
        strides = [stride for stride in (32, 16, 8) if stride >= _fcn_stride(name)]
        missing = [stride for stride in strides if stride not in layout.strides]
        if missing:
            raise InputError(
                f"network.head: {name} reads the backbone's levels of strides {', '.join(map(str, strides))}, and it "
                f"has none of {missing[0]}",
                hint="set network.levels = 0, or use another backbone",
            )
        self.levels = [max(i for i, s in enumerate(layout.strides) if s == stride) for stride in strides]
        first, *skips = (layout.channels[level] for level in self.levels)
        self.neck = conv_norm_relu(first, width, 1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(width, classes, 1)
        self.skips = nn.ModuleList(nn.Conv2d(channels, classes, 1) for channels in skips)
        self.upsamplings = nn.ModuleList(LearnedUpsampling(classes, 2) for _ in skips)
        for parameter in self.skips.parameters():
            nn.init.zeros_(parameter)

    def forward(self, feature_maps: Sequence[Tensor], grids: Sequence[Grid]) -> Tensor:
        first, *skips = self.levels
        logits: Tensor = self.classifier(self.dropout(self.neck(feature_maps[first])))
        grid = grids[first]
        for level, classifier, upsampling in zip(skips, self.skips, self.upsamplings, strict=True):
            finer = classifier(feature_maps[level])
            size = finer.shape[-2], finer.shape[-1]
            grid = upsampling.output_grid(grid, grid)  # type: ignore[operator]
            logits = finer + upsample(upsampling(logits), grid, grids[level], size)
            grid = grids[level]
        return logits

    def output_grid(self, grids: Sequence[Grid]) -> Grid:
        return grids[self.levels[-1]]


class UNetDecoder(Decoder):
    """U-Net's, as in `segmentation_models_pytorch`: per level nearest neighbors, the backbone's map, two 3x3.

    Args:
        channels: of the backbone's maps, finest first.
        width: F; the first level has 2 F channels, and each after it half as many.

    Shapes:
        maps (N, channels[i], H / s_i, W / s_i) -> (N, out_channels, 2 H / s_0, 2 W / s_0).

    Example:
        >>> maps = [torch.rand(1, 4, 16, 24), torch.rand(1, 8, 8, 12)]
        >>> UNetDecoder([4, 8], 16)(maps, [Grid(2, 0.5), Grid(4, 1.5)]).shape
        torch.Size([1, 16, 32, 48])
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        deepest, *skips = reversed(channels)
        widths = [max(1, 2 * width // 2**i) for i in range(len(channels))]
        self.out_channels = widths[-1]
        self.blocks = nn.ModuleList(
            nn.Sequential(conv_norm_relu(before + skip, after, 3), conv_norm_relu(after, after, 3))
            for before, skip, after in zip([deepest, *widths[:-1]], [*skips, 0], widths, strict=True)
        )

    def forward(self, feature_maps: Sequence[Tensor], grids: Sequence[Grid]) -> Tensor:
        features, *skips = reversed(feature_maps)
        for block, skip in zip(self.blocks, [*skips, None], strict=True):
            if skip is None:
                features = block(F.interpolate(features, scale_factor=2.0, mode="nearest"))
            else:
                size = skip.shape[-2], skip.shape[-1]
                features = block(torch.cat([F.interpolate(features, size, mode="nearest"), skip], 1))
        return features

    def output_grid(self, grids: Sequence[Grid]) -> Grid:
        stride = grids[0].stride / 2
        return Grid(stride, (stride - 1) / 2)


class ProgressiveDecoder(Decoder):
    """A 1x1 over the maps of the last level's stride, then bilinear doubling and a 3x3: twice, so that 16 becomes 4.

    Args:
        layout: of the backbone.
        width: F, the channels of its maps.

    Shapes:
        maps of which the last have stride r -> (N, F, 4 H / r, 4 W / r), or of 2 H / r where 4 does not divide r.
    """

    def __init__(self, layout: BackboneLayout, width: int) -> None:
        super().__init__()
        stride = layout.strides[-1]
        self.levels = [level for level, other in enumerate(layout.strides) if other == stride]
        self.out_channels = width
        self.neck = conv_norm_relu(sum(layout.channels[level] for level in self.levels), width, 1)
        doublings = 2 if stride % 4 == 0 else 1
        self.blocks = nn.ModuleList(conv_norm_relu(width, width, 3) for _ in range(doublings))

    def forward(self, feature_maps: Sequence[Tensor], grids: Sequence[Grid]) -> Tensor:
        features: Tensor = self.neck(torch.cat([feature_maps[level] for level in self.levels], 1))
        for block in self.blocks:
            features = block(F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False))
        return features

    def output_grid(self, grids: Sequence[Grid]) -> Grid:
        full = grids[self.levels[-1]]
        stride = full.stride / 2 ** len(self.blocks)
        return Grid(stride, full.start - (full.stride - stride) / 2)
