"""From one picture to its labels.

    predictor = Predictor(dilated.load("street"))
    prediction = predictor("photo.jpg")                  # or an (H, W, 3) uint8 array, or a pillow picture
    prediction.labels                                    # (H, W) uint8, ids of predictor.segmenter.classes

Pictures of any size and form go in; one label for each of their pixels comes out. `tile` bounds the memory and changes
no label; `flips` and `scales` show the picture in several ways and average the probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dilated.data.images import Pixels, read_image
from dilated.errors import InputError
from dilated.nn.base import BaseSegmenter
from dilated.nn.reach import global_layers, reach, same_in_windows
from dilated.predict.blend import Blend
from dilated.predict.prediction import Prediction, label_dtype
from dilated.predict.store import Key, Store
from dilated.predict.tiles import ROOM, Geometry, Mosaic, label_blocks, score_blocks
from dilated.predict.views import Held, View

if TYPE_CHECKING:
    from dilated.data.raster import Raster


class Predictor:
    """Labels pictures of any size with a segmenter.

    Args:
        segmenter: set to evaluation mode and moved to the device.
        tile: pixels along a side that are labelled at a time; the whole picture by default. Labels do not depend on it.
        device: `cpu`, `cuda`, ...; by default CUDA where there is one.
        precision: `fp32`, or `bf16` for autocast, which is faster on new processors and changes a few pixels.
        flips: also look at the mirror image.
        scales: the sizes in which the picture is looked at; the probabilities of all are averaged.
        blend: for a network with layers that see the whole picture, of which no tile can give the same labels: let
            tiles overlap and blend their probabilities. Refused for a network that can be tiled exactly.

    Raises:
        InputError: a device that this machine lacks, a tile or a scale that is not positive; for a network that cannot
            be tiled exactly, a `tile` without `blend` that is smaller than a picture (the message names the layers).

    Example:
        >>> from dilated import Network, Segmenter
        >>> net = Network(backbone="resnet18", features=8)
        >>> predictor = Predictor(Segmenter(["a", "b"], [(0, 0, 0), (255, 0, 0)], net), tile=32, device="cpu")
        >>> predictor(np.zeros((30, 41, 3), np.uint8)).labels.shape
        (30, 41)
    """

    def __init__(
        self,
        segmenter: BaseSegmenter,
        *,
        tile: int | None = None,
        device: str | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
        flips: bool = False,
        scales: Sequence[float] = (1.0,),
        blend: bool = False,
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise InputError(f"device: found {device!r}, but this machine has no CUDA device; expected 'cpu'")
        if tile is not None and tile < 1:
            raise InputError(f"tile: found {tile}; expected a positive number of pixels, such as 1024")
        if not scales or not all(math.isfinite(scale) and 0 < scale <= 8 for scale in scales):
            raise InputError(
                f"scales: found {list(scales)}; expected numbers above 0 and at most 8, such as 0.75 1 1.25"
            )
        self.segmenter = segmenter.to(self.device).eval()
        self.precision, self.tile = precision, tile
        self.flips, self.scales, self.blend = flips, tuple(scales), blend
        if not segmenter.stitches and not self.plain:
            raise InputError(
                "network.inference: 'authors' labels by tiles of its own, whose seams are part of the result; expected "
                "'whole' for a tile, flips or scales"
            )

    def __call__(self, image: Path | str | Pixels | Image.Image, *, scores: bool = False) -> Prediction:
        """Label a picture; with `scores` keep those of all classes too."""
        return self.batch([as_pixels(image)], scores=scores)[0]

    def batch(self, images: Sequence[Pixels], *, scores: bool = False) -> list[Prediction]:
        """Label pictures of one size, (H, W, 3) uint8 each, together."""
        if not self.plain:
            if not scores:
                return [self._prediction(pixels, self._labels(pixels), None) for pixels in images]
            found = [self.scores(pixels) for pixels in images]
            return [self._prediction(p, self._argmax(s), s.cpu()) for p, s in zip(images, found, strict=True)]
        together = self._whole(np.stack(images))
        return [
            self._prediction(pixels, self._argmax(one), one.float().cpu() if scores else None)
            for pixels, one in zip(images, together, strict=True)
        ]

    def scores(self, pixels: Pixels) -> Tensor:
        """(H, W, 3) uint8 -> (C, H, W) float32 scores before the softmax, on the device.

        With several views: the logarithms of their mean probabilities.
        """
        if self.plain:
            return self._whole(pixels[None])[0].float()
        whole = torch.empty(len(self.segmenter.classes), *pixels.shape[:2], device=self.device)
        for block, strips in score_blocks(self, Held(pixels)):
            for row, strip in strips:
                top = block.top + row
                whole[:, top : top + strip.shape[1], block.left : block.right] = strip
        return whole

    @property
    def looks(self) -> int:
        """How many views of a picture are averaged."""
        return len(self.scales) * (2 if self.flips else 1)

    @property
    def plain(self) -> bool:
        """Whether a picture is simply given to the network."""
        return self.tile is None and not self.flips and self.scales == (1.0,)

    def views(self, height: int, width: int) -> list[View]:
        """What the network is shown of a picture."""
        flips = (False, True) if self.flips else (False,)
        return [View(height, width, scale, flip) for scale in self.scales for flip in flips]

    @torch.inference_mode()
    def _whole(self, pixels: Pixels) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, C, H, W)."""
        images = torch.tensor(pixels, device=self.device).permute(0, 3, 1, 2).float() / 255  # (N, 3, H, W)
        with self.autocast():
            scores: Tensor = self.segmenter(images)
        return scores

    def _labels(self, pixels: Pixels) -> Any:
        labels = np.empty(pixels.shape[:2], dtype=label_dtype(len(self.segmenter.classes)))
        for block, part in label_blocks(self, Held(pixels)):
            labels[block.top : block.bottom, block.left : block.right] = part
        return labels

    def _argmax(self, scores: Tensor) -> Any:
        dtype = getattr(torch, label_dtype(len(self.segmenter.classes)).name)
        return scores.argmax(0).to(dtype).cpu().numpy()

    def _prediction(self, pixels: Pixels, labels: Any, scores: Tensor | None) -> Prediction:
        return Prediction(pixels, labels, scores, self.segmenter.classes, self.segmenter.colors)

    def autocast(self) -> torch.autocast:
        """The context in which the network runs."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def mosaic(self, raster: Raster, view: View, name: Key, store: Store) -> Mosaic | Blend:
        """What computes the scores of a view, block by block, exactly or blended."""
        side = max(view.rows, view.across)
        if self.tile is None or side <= self.tile:
            return Mosaic(self, raster, view, self._aligned(side), 0, name, store)
        if self.geometry is not None:
            if self.blend:
                raise InputError(
                    "blend: this network can be tiled exactly; expected --tile alone, which changes no label"
                )
            return Mosaic(self, raster, view, self._aligned(self.tile), self.geometry.margin, name, store)
        if not self.blend:
            image = torch.zeros(1, 3, 64, 2048, device=self.device)
            layers = global_layers(self.segmenter, image)
            more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
            why = f"layers that see the whole picture ({', '.join(layers[:3])}{more})"
            raise InputError(
                f"tile: this network has {why if layers else 'something that depends on the size of the picture'}, so "
                "no tile can give the labels of the whole. Leave out --tile, or add --blend to have overlapping tiles "
                "blended; labels then depend on the tile."
            )
        return Blend(self, raster, view, self._aligned(self.tile), name, store)

    def _aligned(self, tile: int) -> int:
        """A tile that the network's strides divide."""
        return -(-tile // self.segmenter.alignment) * self.segmenter.alignment

    @cached_property
    def geometry(self) -> Geometry | None:
        """What exact tiles are like, measured on the network; None where none are."""
        network = self.segmenter
        stride = int(max(grid.stride for grid in network.map_grids))
        margin = reach(network.maps, stride, network.alignment, self.device)
        if margin is None or not same_in_windows(network.maps, margin, network.alignment, self.device):
            return None
        with torch.inference_mode():
            maps = network.maps(torch.zeros(1, 3, network.alignment, network.alignment, device=self.device))
            scores, _ = network.finish(maps, network.map_grids)
        return Geometry(margin, max(one[0].numel() for one in [*maps, scores]) / network.alignment**2)

    def block_side(self, height: int, width: int) -> int:
        """Pixels along a side of the blocks in which a picture is labelled: some tiles each, to share their halo."""
        if self.tile is None or max(height, width) <= self.tile:
            return max(height, width)
        tile = self._aligned(self.tile)
        if self.geometry is None:
            return tile
        beside = 2 * self.segmenter.halo * int(self.segmenter.grid.stride)
        return max(1, int((math.sqrt(ROOM / 4 / self.geometry.area) - beside) / tile)) * tile


def as_pixels(image: Path | str | Pixels | Image.Image) -> Pixels:
    """Any accepted form of a picture as (H, W, 3) uint8 RGB.

    Raises:
        InputError: an unreadable file, or an array of another shape or type.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"image: found an array {image.shape} of {image.dtype}; expected (H, W, 3) of uint8, RGB")
    return image
