"""The paper's complete network: VGG-16 front end, context module, reflected border, up-sampling.

    image (N,3,H,W) -> reflect by 186 -> front end -> logits (N,C,H/8,W/8) -> context -> softmax -> (N,C,H,W)

    segmenter = VGGSegmenter(classes, colors, VGGConfig(context="basic"))
    labels = segmenter(images).argmax(1)                 # images: RGB in 0..1, any H and W

There are two ways to label an image. `inference = "whole"`: the front end runs over tiles of the reflected image, which
changes nothing since it pads nothing; then the context module runs once over the complete logit map. `inference =
"authors"`: as in their code, the context module runs on each tile by itself, so every seam is a border to it.

Three faults of the authors' code are corrected in both. Their interpolation reads beyond the last logit where an image
is as large as its tiles: here the last logit is repeated. Where nothing is interpolated (Cityscapes), an image that is
not a whole number of tiles crashed: here the map is cropped. A tile whose output is not a multiple of 8 (KITTI's 1268)
shifts the tiles after it by 4 pixels: here tiles that have neighbors are 1264 wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.config import require_valid
from dilated.errors import InputError
from dilated.fields.arithmetic import ReceptiveField, receptive_field
from dilated.models.base import BaseConfig, BaseSegmenter
from dilated.models.context import DILATIONS, context_rules
from dilated.models.dense_crf import DenseCRF
from dilated.models.network_file import hash_network
from dilated.models.sampling import PIXEL_GRID, AxisGrids, Grid, split_axes
from dilated.models.vgg import FC6, Padding, Pools, VGGFrontEnd, load_vgg16, require_choice
from dilated.palettes import Color
from dilated.tensors import reflect_pad

_LARGEST_TILE = 32_768
_LARGEST_WIDTH = 8


@dataclass(frozen=True)
class VGGConfig(BaseConfig):
    """What the paper's network is built of."""

    mean: tuple[float, float, float] = (102.93, 111.36, 116.52)
    """Blue, green and red in 0..255, subtracted from images; VOC's by default. Nothing is divided."""
    context: Literal["none", "basic", "large"] = "none"
    dilations: tuple[int, ...] = DILATIONS
    padding: Literal["same", "once"] = "same"
    init: Literal["identity", "random"] = "identity"
    sigma: float = 0.01
    upsampling: Literal["interpolation", "deconvolution"] = "interpolation"
    """`interpolation` is of probabilities; `deconvolution` of logits, by a fixed bilinear kernel (Cityscapes)."""
    inference: Literal["whole", "authors"] = "whole"
    """The context module once over the complete logit map, or on each tile by itself."""
    tile: tuple[int, int] = (900, 900)
    """Height and width of what the front end reads at once, its margins of 186 included."""
    pools: Pools = "removed"
    """pool4 and pool5 (Section 4): `removed` (paper), `dense` (stride 1, as DeepLab), `kept` (as FCN-32s)."""
    frontend_padding: Padding = "none"
    """Zeros around intermediate feature maps: `none` (paper) or `same` (as in classification)."""
    fc6: FC6 = "7x7"
    """`7x7` (paper) or `large_fov`, DeepLab's."""
    width: float = 1.0
    """Factor on the number of channels of the front end."""
    dropout: float = 0.5
    """Probability of dropout after fc6 and fc7 while training."""
    crf: Literal["none", "rnn"] = "none"
    """`rnn` refines the result at every pixel by a CRF-RNN (Section 5), which is trained with the network."""
    crf_kernels: DenseCRF | None = None
    """The CRF-RNN's kernels and its weights at the start; if left out, those of `DenseCRF` and 5 iterations."""
    kind: Literal["vgg"] = "vgg"
    """The paper's front end."""

    has_frontend = True

    def __post_init__(self) -> None:
        rules = {
            "mean": (all(0 <= value <= 255 for value in self.mean), "give three numbers of 0 to 255"),
            "tile": (all(0 < side <= _LARGEST_TILE for side in self.tile), f"give sides of up to {_LARGEST_TILE:,}"),
            "width": (0 < self.width <= _LARGEST_WIDTH, f"give more than 0, up to {_LARGEST_WIDTH}"),
            "dropout": (0 <= self.dropout <= 1, "give 0 to 1"),
        }
        is_whole = self.crf == "none" or self.inference == "whole"
        rules["inference"] = is_whole, "set network.inference = 'whole': a CRF-RNN refines whole images"
        require_valid(self, "network", rules | self.crf_rules(3) | context_rules(self.dilations, self.sigma))

    def build(
        self,
        classes: Sequence[str],
        colors: Sequence[Color] | None = None,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        card: dict[str, object] | None = None,
    ) -> VGGSegmenter:
        return VGGSegmenter(classes, colors, self, card)

    def expected_shapes(self, classes: int) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            frontend, context, crf = (
                _build_frontend(self, classes),
                self.build_context(classes),
                self.build_crf(classes),
            )
        parts = {"frontend": frontend, "context": context, "crf": crf}
        return {
            f"{part}.{name}": tuple(value.shape)
            for part, module in parts.items()
            if module is not None
            for name, value in module.state_dict().items()
        }


def _build_frontend(config: VGGConfig, classes: int) -> VGGFrontEnd:
    return VGGFrontEnd(classes, config.pools, config.frontend_padding, config.fc6, config.width, config.dropout)


class VGGSegmenter(BaseSegmenter):
    """The network of the paper with all that it takes to be used alone.

    Logit k is trained on pixel r * k, the first of its r x r pixels, and is put back there: the authors' convention.

    Args:
        classes: names, in the order of the label ids.
        colors: one (red, green, blue) of 0..255 per class; evenly spread hues by default.
        config: what it is built of.
        card: facts about the network that travel in its file.

    Shapes:
        images (N, 3, H, W), RGB in 0..1, any H and W -> (N, C, H, W): logits before the softmax or, interpolated,
        logarithms of probabilities; softmax and argmax treat both alike.

    Raises:
        InputError: an option that does not exist, a tile too small for the margin.

    Example:
        >>> config = VGGConfig(width=1 / 32, context="basic", tile=(436, 436))
        >>> segmenter = VGGSegmenter(["sky", "road"], config=config).eval()
        >>> segmenter(torch.rand(1, 3, 50, 71)).shape, segmenter.logits(torch.rand(1, 3, 50, 71)).shape
        (torch.Size([1, 2, 50, 71]), torch.Size([1, 2, 7, 9]))
    """

    config: VGGConfig
    weight_sources = ("torchvision:vgg16",)
    backbone_prefixes = ("frontend.conv", "frontend.fc")  # all but the last layer
    _bilinear: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        colors: Sequence[Color] | None = None,
        config: VGGConfig | None = None,
        card: dict[str, object] | None = None,
    ) -> None:
        config = config or VGGConfig()
        require_choice("network.context", config.context, ("none", "basic", "large"))
        require_choice("network.padding", config.padding, ("same", "once"))
        require_choice("network.upsampling", config.upsampling, ("interpolation", "deconvolution"))
        require_choice("network.inference", config.inference, ("whole", "authors"))
        super().__init__(classes, colors, config, card)
        self.frontend = _build_frontend(config, len(classes))
        self.context = config.build_context(len(classes))
        self.grid = Grid(self.frontend.stride, 3.5 if config.upsampling == "deconvolution" else 0.0)
        self.feature_grids = (self.grid,)
        minimum = 2 * self.frontend.margin + self.frontend.stride
        if min(config.tile) < minimum:
            raise InputError(
                f"network.tile: {list(config.tile)} is smaller than the front end's margins",
                hint=f"give sides of at least {minimum}",
            )
        if config.upsampling == "deconvolution" and self.frontend.stride != 8:
            raise InputError(
                f"network.upsampling: 'deconvolution' is for stride 8, and the front end has {self.frontend.stride}",
                hint="set network.upsampling = 'interpolation'",
            )
        self.mean = tuple(m / 255 for m in reversed(config.mean))
        self.std = (1 / 255,) * 3
        self.register_buffer("_mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_bilinear", bilinear_kernel(8), persistent=False)

    @property
    def output_stride(self) -> int:
        return self.frontend.stride

    @property
    def alignment(self) -> int:
        return self.frontend.stride

    @property
    def is_tileable(self) -> bool:
        """False for the authors' inference, whose seams are part of the result, and with a CRF-RNN."""
        return self.config.inference == "whole" and super().is_tileable

    @property
    def logit_bias(self) -> Tensor | None:
        if self.crf is not None:
            return None
        return self.frontend.convolutions()["final"].bias if self.context is None else self.context.final.bias

    def frontend_fields(self) -> list[ReceptiveField]:
        return receptive_field(self.frontend)

    def theoretical_field(self) -> int:
        """The same as measured, computed layer by layer: one run of the full network takes half a minute of a CPU."""
        rows = self.frontend_fields()
        context = receptive_field(self.context)[-1].field if self.context is not None else 1
        return rows[-1].field + (context - 1) * rows[-1].jump

    @property
    def required_label_grid(self) -> tuple[int, int]:
        """Samples are extended by the front end's margin, and have one label per logit; with a CRF-RNN, per pixel."""
        return self.frontend.margin, self.frontend.stride if self.crf is None else 1

    def forward(self, images: Tensor) -> Tensor:
        """Logits, or logarithms of probabilities, at every pixel: (N, 3, H, W) -> (N, C, H, W)."""
        if self.config.inference == "whole":
            return super().forward(images)
        grids = self.grid if self.config.upsampling == "interpolation" else PIXEL_GRID
        return self.upsample(
            self._forward_tiles(self.preprocess(images)), grids, PIXEL_GRID, (images.shape[-2], images.shape[-1])
        )

    def label_pixels(self, images: Tensor) -> Tensor:
        """The greatest class of every pixel; the tiles of the authors' inference are part of the result."""
        return super().label_pixels(images) if self.config.inference == "whole" else self(images).argmax(1)

    def extract_features(self, images: Tensor) -> list[Tensor]:
        """The front end's logits: (N, C, ceil(H/r), ceil(W/r))."""
        return [self.frontend_logits(images)]

    def decode(self, feature_maps: list[Tensor], grids: Sequence[AxisGrids]) -> tuple[Tensor, AxisGrids]:
        """Probabilities on the grid, or with deconvolution logits at every pixel, and where they sit."""
        logits = self._deconvolve_or_softmax(self.apply_context(feature_maps[0]))
        if self.config.upsampling == "interpolation":
            return logits, grids[0]
        rows, columns = (Grid(1, grid.start - self.grid.start) for grid in split_axes(grids[0]))
        return logits, (rows, columns)

    def upsample(self, logits: Tensor, source: AxisGrids, target: AxisGrids, size: tuple[int, int]) -> Tensor:
        """As all segmenters do; probabilities become logarithms."""
        upsampled = super().upsample(logits, source, target, size)
        if self.config.upsampling == "deconvolution":
            return upsampled
        return upsampled.clamp(min=torch.finfo(upsampled.dtype).tiny).log()

    def logits(self, images: Tensor) -> Tensor:
        """Logits on the network's own grid: (N, 3, H, W) -> (N, C, ceil(H/r), ceil(W/r)).

        Logit k is that of pixel `grid.start + r * k`.
        """
        return self.apply_context(self.frontend_logits(images))

    def frontend_logits(self, images: Tensor) -> Tensor:
        """The front end's logits alone, on the same grid: what the context module reads."""
        x, r, margin = self.preprocess(images), self.output_stride, self.frontend.margin
        height, width = x.shape[-2:]
        rows, columns = (height + r - 1) // r, (width + r - 1) // r
        x = reflect_pad(x, margin, margin + rows * r - height, margin, margin + columns * r - width)
        # Where it sees its own borders it cannot be tiled; a graph for all sizes has no number of tiles.
        if self.config.frontend_padding == "same" or torch.jit.is_tracing():  # type: ignore[attr-defined]
            return self.frontend(x)
        step_y, step_x = ((side - 2 * margin) // r * r for side in self.config.tile)
        tiled = [
            [
                self.frontend(x[..., top : top + step_y + 2 * margin, left : left + step_x + 2 * margin])
                for left in range(0, width, step_x)
            ]
            for top in range(0, height, step_y)
        ]
        return torch.cat([torch.cat(row, -1) for row in tiled], -2)

    def training_logits(self, images: Tensor) -> Tensor:
        """Logits of images already extended by the margin m: (N, 3, H, W) -> (N, C, (H - 2m)/8, (W - 2m)/8).

        With a CRF-RNN at every pixel, (N, C, H - 2m, W - 2m).
        """
        frontend_logits, margin = self.frontend(self.preprocess(images)), self.frontend.margin
        if self.crf is None:
            return self.apply_context(frontend_logits)
        pixels = images[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]
        values, grids = self.decode([frontend_logits], self.feature_grids)
        return self.refine(self.upsample(values, grids, PIXEL_GRID, (pixels.shape[-2], pixels.shape[-1])), pixels)

    def frontend_digest(self) -> str:
        """A hash of all that decides the front end's logits: its build, its mean, its weights."""
        keys = ("mean", "pools", "frontend_padding", "fc6", "width")
        return hash_network({key: getattr(self.config, key) for key in keys}, self.frontend.state_dict())

    def preprocess(self, images: Tensor) -> Tensor:
        """RGB in 0..1 as the layers read it: blue, green, red in 0..255, less the mean; (N, 3, H, W)."""
        return images.flip(1) * 255 - self._mean

    def _deconvolve_or_softmax(self, logits: Tensor) -> Tensor:
        """Logits at every pixel (deconvolution), or probabilities on the grid, to be interpolated."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # bf16 is too coarse for probabilities
        if self.config.upsampling == "interpolation":
            return logits.softmax(1)
        weight = self._bilinear.to(logits.dtype).expand(len(self.classes), 1, -1, -1)
        return F.conv_transpose2d(logits, weight, stride=8, padding=4, groups=len(self.classes))

    def _forward_tiles(self, x: Tensor) -> Tensor:
        """The authors' order: reflect, cut, run everything on each tile, lay the results side by side.

        (N, 3, H, W) -> at least the ceil(H/r) x ceil(W/r) values that the image has, or H x W where upsampled.
        """
        margin, (tile_height, tile_width) = self.frontend.margin, self.config.tile
        height, width = x.shape[-2:]
        step_y, step_x = self._tile_step(tile_height, height), self._tile_step(tile_width, width)
        x = reflect_pad(x, margin, margin, margin, margin)
        rows = []
        for top in range(0, height, step_y):
            row = []
            for left in range(0, width, step_x):
                tile = x[..., top : top + tile_height, left : left + tile_width]
                tile = reflect_pad(tile, 0, tile_height - tile.shape[-2], 0, tile_width - tile.shape[-1])
                row.append(self._deconvolve_or_softmax(self.apply_context(self.frontend(tile))))
            rows.append(self._concatenate_tiles(row, step_x, -1))
        return self._concatenate_tiles(rows, step_y, -2)

    def _tile_step(self, tile: int, side: int) -> int:
        """How many pixels a tile labels along one axis of an image of that side."""
        valid = tile - 2 * self.frontend.margin
        return valid if valid >= side else valid // self.output_stride * self.output_stride

    def _concatenate_tiles(self, parts: list[Tensor], step: int, axis: int) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        count = step // self.output_stride if self.config.upsampling == "interpolation" else step
        return torch.cat([part.narrow(axis, 0, count) for part in parts], axis)

    def first_level_modules(self, levels: int) -> list[nn.Module]:
        """The convolutions of the first blocks: level 1 is conv1, level 5 conv5."""
        return [
            layer
            for name, layer in self.frontend.convolutions().items()
            if name.startswith("conv") and int(name[4]) <= levels
        ]

    def load_pretrained(self, weights: Mapping[str, Tensor], source: str) -> str:
        """Fill the front end with VGG-16's weights, under torchvision's names or Caffe's."""
        return load_vgg16(self.frontend, self.config.mean, weights, source)


def bilinear_kernel(factor: int) -> Tensor:
    """Caffe's bilinear kernel for up-sampling by an even factor: (1, 1, 2 * factor, 2 * factor)."""
    taps = torch.arange(2 * factor, dtype=torch.float64)
    line = 1 - (taps / factor - (2 * factor - 1) / (2 * factor)).abs()
    return torch.outer(line, line).float()[None, None]
