"""The paper's whole network: VGG-16 front end, context module, mirrored border, zoom.

    image (N,3,H,W) -> mirror by 186 -> front end -> scores (N,C,H/8,W/8) -> context -> softmax -> zoom (N,C,H,W)

    segmenter = VGGSegmenter(classes, colors, VGGNetwork(context="basic"))
    labels = segmenter(images).argmax(1)                 # images: RGB in 0..1, any H and W

Two ways to label a picture. `inference = "whole"`: the front end runs over tiles of the mirrored picture, which changes
nothing since it pads nothing; then the context module runs once over the whole score map. `inference = "authors"`: as
their code does, the context module runs on each tile by itself, so every seam is a border to it.

Three faults of the authors' code are mended in both. Their zoom reads beyond the last score where a picture is as large
as its tiles: here the last score is repeated. Where nothing is zoomed (Cityscapes), any picture but a whole number of
tiles crashed: here the map is cropped. A tile whose output is no multiple of 8 (KITTI's 1268) shifts the tiles after it
by 4 pixels: here tiles beside others are 1264 wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.nn.base import BaseSegmenter, Color
from dilated.nn.border import mirror
from dilated.nn.context import DILATIONS, ContextModule
from dilated.nn.sampling import PIXELS, Axes, Grid, axes
from dilated.nn.vgg import FC6, Padding, Pools, VGGFrontEnd


@dataclass(frozen=True)
class VGGNetwork:
    """What the paper's network is built of."""

    mean: tuple[float, float, float] = (102.93, 111.36, 116.52)
    """Blue, green and red in 0..255, subtracted from pictures; VOC's by default. Nothing is divided."""
    context: Literal["none", "basic", "large"] = "none"
    """The context module (paper, Table 1), on the class scores."""
    dilations: tuple[int, ...] = DILATIONS
    """Of the context module; Dilation7 lacks the 16, Dilation10 has 32 and 64 too."""
    padding: Literal["same", "once"] = "same"
    """What the context module sees beyond the border: zeros at each layer (streets) or at the first (VOC)."""
    init: Literal["identity", "random"] = "identity"
    """How the context module starts."""
    sigma: float = 0.01
    """Noise on the identity, as in the authors' code."""
    upsampling: Literal["zoom", "deconvolution"] = "zoom"
    """`zoom` interpolates probabilities; `deconvolution` scores, by a fixed bilinear kernel (Cityscapes)."""
    inference: Literal["whole", "authors"] = "whole"
    """The context module once over the whole score map, or on each tile by itself."""
    tile: tuple[int, int] = (900, 900)
    """Height and width of what the front end reads at once, its margins of 186 included."""
    pools: Pools = "removed"
    """pool4 and pool5 (Section 4): `removed` (paper), `dense` (stride 1, as DeepLab), `kept` (as FCN-32s)."""
    frontend_padding: Padding = "none"
    """Zeros around intermediate maps: `none` (paper) or `same` (as in classification)."""
    fc6: FC6 = "7x7"
    """`7x7` (paper) or `large_fov`, DeepLab's."""
    width: float = 1.0
    """Factor on the number of maps of the front end."""
    dropout: float = 0.5
    """After fc6 and fc7 while training."""
    kind: Literal["vgg"] = "vgg"
    """Which front end: the paper's."""


class VGGSegmenter(BaseSegmenter):
    """The network of the paper with all it takes to be used alone.

    Score k is trained on pixel r * k, the first of its r x r pixels, and is put back there: the authors' convention.

    Args:
        classes: names, in the order of the label ids.
        colors: one (red, green, blue) of 0..255 per class.
        network: what it is built of.
        card: facts about the network that travel in its file.

    Shapes:
        images (N, 3, H, W), RGB in 0..1, any H and W -> (N, C, H, W): scores before the softmax or, zoomed, logarithms
        of probabilities; softmax and argmax treat both alike.

    Raises:
        ValueError: an option that does not exist, a tile too small for the margin.

    Example:
        >>> net = VGGNetwork(width=1 / 32, context="basic", tile=(436, 436))
        >>> segmenter = VGGSegmenter(["sky", "road"], [(0, 0, 255), (128, 64, 128)], net).eval()
        >>> segmenter(torch.rand(1, 3, 50, 71)).shape, segmenter.scores(torch.rand(1, 3, 50, 71)).shape
        (torch.Size([1, 2, 50, 71]), torch.Size([1, 2, 7, 9]))
    """

    network: VGGNetwork
    _mean: Tensor
    _bilinear: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        colors: Sequence[Color],
        network: VGGNetwork | None = None,
        card: dict[str, object] | None = None,
    ) -> None:
        network = network or VGGNetwork()
        for key, value, known in (
            ("context", network.context, ("none", "basic", "large")),
            ("padding", network.padding, ("same", "once")),
            ("upsampling", network.upsampling, ("zoom", "deconvolution")),
            ("inference", network.inference, ("whole", "authors")),
        ):
            if value not in known:
                raise ValueError(f"network.{key}: found {value!r}; expected one of {known}")
        super().__init__(classes, colors, network, card)
        count = len(classes)
        self.frontend = VGGFrontEnd(
            count, network.pools, network.frontend_padding, network.fc6, network.width, network.dropout
        )
        self.context: ContextModule | None = None
        if network.context != "none":
            self.context = ContextModule(
                count, network.context, network.dilations, network.padding, network.init, network.sigma
            )
        self.grid = Grid(self.frontend.stride, 3.5 if network.upsampling == "deconvolution" else 0.0)
        self.map_grids = (self.grid,)
        if min(network.tile) < 2 * self.frontend.margin + self.frontend.stride:
            least = 2 * self.frontend.margin + self.frontend.stride
            raise ValueError(f"network.tile: found {list(network.tile)}; expected sides of at least {least}")
        if network.upsampling == "deconvolution" and self.frontend.stride != 8:
            raise ValueError("network.upsampling: 'deconvolution' is for stride 8; expected 'zoom' for kept pools")
        self.mean = tuple(m / 255 for m in reversed(network.mean))
        self.std = (1 / 255,) * 3
        self.register_buffer("_mean", torch.tensor(network.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_bilinear", bilinear(8), persistent=False)

    @property
    def output_stride(self) -> int:
        return self.frontend.stride

    @property
    def alignment(self) -> int:
        return self.frontend.stride

    @property
    def stitches(self) -> bool:
        """Not as the authors do it: their seams are part of the result."""
        return self.network.inference == "whole"

    def forward(self, images: Tensor) -> Tensor:
        """Scores, or logarithms of probabilities, at every pixel: (N, 3, H, W) -> (N, C, H, W)."""
        if self.network.inference == "whole":
            return super().forward(images)
        places = self.grid if self.network.upsampling == "zoom" else PIXELS
        return self.zoom(self._tile_by_tile(self.blob(images)), places, PIXELS, (images.shape[-2], images.shape[-1]))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The front end's scores: (N, C, ceil(H/r), ceil(W/r))."""
        return [self.front(images)]

    def finish(self, maps: list[Tensor], places: Sequence[Axes]) -> tuple[Tensor, Axes]:
        """Probabilities on the grid, or with deconvolution scores at every pixel, and where they sit."""
        scores = self._upsampled(self.with_context(maps[0]))
        if self.network.upsampling == "zoom":
            return scores, places[0]
        rows, columns = (Grid(1, grid.start - self.grid.start) for grid in axes(places[0]))
        return scores, (rows, columns)

    def zoom(self, scores: Tensor, source: Axes, target: Axes, size: tuple[int, int]) -> Tensor:
        """As all segmenters do; probabilities become logarithms."""
        zoomed = super().zoom(scores, source, target, size)
        if self.network.upsampling == "deconvolution":
            return zoomed
        return zoomed.clamp(min=torch.finfo(zoomed.dtype).tiny).log()

    def scores(self, images: Tensor) -> Tensor:
        """Scores on the network's own grid: (N, 3, H, W) -> (N, C, ceil(H/r), ceil(W/r)).

        Score k is that of pixel `grid.start + r * k`.
        """
        return self.with_context(self.front(images))

    def front(self, images: Tensor) -> Tensor:
        """The front end's scores alone, on the same grid; what the context module reads."""
        x, r, margin = self.blob(images), self.output_stride, self.frontend.margin
        height, width = x.shape[-2:]
        rows, columns = -(-height // r), -(-width // r)
        x = mirror(x, margin, margin + rows * r - height, margin, margin + columns * r - width)
        if self.network.frontend_padding == "same":  # it sees its own borders, so it cannot be tiled
            return self.frontend(x)
        down, across = ((side - 2 * margin) // r * r for side in self.network.tile)
        tiled = [
            [
                self.frontend(x[..., top : top + down + 2 * margin, left : left + across + 2 * margin])
                for left in range(0, width, across)
            ]
            for top in range(0, height, down)
        ]
        return torch.cat([torch.cat(row, -1) for row in tiled], -2)

    def learn(self, images: Tensor) -> Tensor:
        """Scores of pictures that are extended by the margin already: (N, 3, H, W) -> (N, C, (H - 372) / 8, ...)."""
        return self.with_context(self.frontend(self.blob(images)))

    def with_context(self, scores: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        return scores if self.context is None else self.context(scores)

    def blob(self, images: Tensor) -> Tensor:
        """RGB in 0..1 as the layers read it: blue, green, red in 0..255, less the mean; (N, 3, H, W)."""
        return images.flip(1) * 255 - self._mean

    def deploy(self, blob: Tensor) -> Tensor:
        """One tile as the released network runs it: (N, 3, H, W), see `blob` -> probabilities.

        They are (N, C, (H - 372) / 8, (W - 372) / 8), with deconvolution 8 times as fine.
        """
        maps = self._upsampled(self.with_context(self.frontend(blob)))
        return maps.softmax(1) if self.network.upsampling == "deconvolution" else maps

    def _upsampled(self, scores: Tensor) -> Tensor:
        """Scores at every pixel (deconvolution), or probabilities on the grid, to be zoomed."""
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # bf16 is too coarse for probabilities
        if self.network.upsampling == "zoom":
            return scores.softmax(1)
        weight = self._bilinear.to(scores.dtype).expand(len(self.classes), 1, -1, -1)
        return F.conv_transpose2d(scores, weight, stride=8, padding=4, groups=len(self.classes))

    def _tile_by_tile(self, x: Tensor) -> Tensor:
        """The authors' order: mirror, cut, run everything on each tile, put the results side by side.

        (N, 3, H, W) -> at least the ceil(H/r) x ceil(W/r) values that the picture has, or H x W where upsampled.
        """
        margin, (high, wide) = self.frontend.margin, self.network.tile
        height, width = x.shape[-2:]
        down, across = self._step(high, height), self._step(wide, width)
        x = mirror(x, margin, margin, margin, margin)
        rows = []
        for top in range(0, height, down):
            row = []
            for left in range(0, width, across):
                tile = x[..., top : top + high, left : left + wide]
                tile = mirror(tile, 0, high - tile.shape[-2], 0, wide - tile.shape[-1])
                row.append(self._upsampled(self.with_context(self.frontend(tile))))
            rows.append(self._joined(row, across, -1))
        return self._joined(rows, down, -2)

    def _step(self, tile: int, side: int) -> int:
        """How many pixels a tile answers for, along one axis of a picture of that side."""
        answered = tile - 2 * self.frontend.margin
        return answered if answered >= side else answered // self.output_stride * self.output_stride

    def _joined(self, parts: list[Tensor], step: int, axis: int) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        count = step // self.output_stride if self.network.upsampling == "zoom" else step
        return torch.cat([part.narrow(axis, 0, count) for part in parts], axis)

    def first_levels(self, levels: int) -> list[nn.Module]:
        """The convolutions of the first blocks: level 1 is conv1, level 5 conv5."""
        return [
            layer
            for name, layer in self.frontend.convolutions().items()
            if name.startswith("conv") and int(name[4]) <= levels
        ]

    def pretrained(self, name: str) -> bool:
        """The front end's, but for its last layer."""
        return name.startswith("frontend.") and not name.startswith("frontend.final.")

    def with_network(self, network: VGGNetwork) -> VGGSegmenter:
        return VGGSegmenter(self.classes, self.colors, network, self.card)


def bilinear(factor: int) -> Tensor:
    """Caffe's bilinear kernel for up-sampling by an even factor: (1, 1, 2 * factor, 2 * factor)."""
    taps = torch.arange(2 * factor, dtype=torch.float64)
    line = 1 - (taps / factor - (2 * factor - 1) / (2 * factor)).abs()
    return torch.outer(line, line).float()[None, None]
