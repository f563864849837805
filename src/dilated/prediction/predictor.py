"""From one image to its labels.

    predictor = Predictor(dilated.load("street"))
    prediction = predictor("photo.jpg")                  # or an (H, W, 3) uint8 array, or a pillow image
    prediction.labels                                    # (H, W) uint8, ids of predictor.segmenter.classes

Images of any size and form go in; one label for each of their pixels comes out. `tile` bounds the memory and changes
no label; `flips` and `scales` show the image in several ways and average the probabilities.
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

from dilated.data.images import ImageArray, read_image
from dilated.environment import resolve_device
from dilated.errors import InputError
from dilated.fields.measured import find_global_layers, measure_margin, windows_match_whole_image
from dilated.models.base import BaseSegmenter
from dilated.prediction.blend import BlendedTiler
from dilated.prediction.prediction import Prediction, label_dtype
from dilated.prediction.tile_cache import TileCache, TileKey
from dilated.prediction.tiling import MAX_BLOCK_BYTES, TilePlan, Tiler, label_blocks, logit_blocks
from dilated.prediction.tta import InMemoryRaster, TTAView
from dilated.tensors import to_tensor

if TYPE_CHECKING:
    from dilated.data.raster.reader import Raster


class Predictor:
    """Labels images of any size with a segmenter.

    Args:
        segmenter: set to evaluation mode and moved to the device.
        tile: pixels along a side that are labelled at a time; the whole image by default. Labels do not depend on it.
        device: `cpu`, `cuda`, ...; by default CUDA where there is one.
        precision: `fp32`, or `bf16` for autocast, which is faster on new processors and changes a few pixels.
        flips: also look at the mirror image.
        scales: the sizes in which the image is looked at; the probabilities of all are averaged.
        blend: for a network with layers that see the whole image, of which no tile can give the same labels: let
            tiles overlap and blend their probabilities. Refused for a network that can be tiled exactly.

    Raises:
        InputError: a device that this machine lacks, a tile or a scale that is not positive; for a network that cannot
            be tiled exactly, a `tile` without `blend` that is smaller than an image (the message names the layers).

    Example:
        >>> from dilated import SegmenterConfig, Segmenter
        >>> net = SegmenterConfig(backbone="resnet18", features=8)
        >>> predictor = Predictor(Segmenter(["a", "b"], [(0, 0, 0), (255, 0, 0)], net), tile=32, device="cpu")
        >>> predictor(np.zeros((30, 41, 3), np.uint8)).labels.shape
        (30, 41)
    """

    def __init__(
        self,
        segmenter: BaseSegmenter,
        *,
        tile: int | None = None,
        device: str | torch.device | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
        flips: bool = False,
        scales: Sequence[float] = (1.0,),
        blend: bool = False,
    ) -> None:
        self.device = resolve_device(device)
        if tile is not None and tile < 1:
            raise InputError(f"tile: found {tile}; expected a positive number of pixels, such as 1024")
        if not scales or not all(math.isfinite(scale) and 0 < scale <= 8 for scale in scales):
            raise InputError(
                f"scales: found {list(scales)}; expected numbers above 0 and at most 8, such as 0.75 1 1.25"
            )
        self.segmenter = segmenter.to(self.device).eval()
        self.precision, self.tile = precision, tile
        self.flips, self.scales, self.blend = flips, tuple(scales), blend
        if not segmenter.is_tileable and not self.is_single_pass:
            raise InputError(
                "network.inference: 'authors' labels by tiles of its own, whose seams are part of the result; expected "
                "'whole' for a tile, flips or scales"
            )

    def __call__(self, image: Path | str | ImageArray | Image.Image, *, logits: bool = False) -> Prediction:
        """Label an image; with `logits` keep those of all classes too."""
        return self.batch([_as_rgb_array(image)], logits=logits)[0]

    def batch(self, images: Sequence[ImageArray], *, logits: bool = False) -> list[Prediction]:
        """Label images of one size, (H, W, 3) uint8 each, together."""
        if not self.is_single_pass:
            if not logits:
                return [self._make_prediction(pixels, self._predict_labels(pixels), None) for pixels in images]
            image_logits = [self.logits(pixels) for pixels in images]
            return [
                self._make_prediction(p, self._argmax_labels(s), s.cpu())
                for p, s in zip(images, image_logits, strict=True)
            ]
        batch_logits = self._forward(np.stack(images))
        return [
            self._make_prediction(pixels, self._argmax_labels(output), output.float().cpu() if logits else None)
            for pixels, output in zip(images, batch_logits, strict=True)
        ]

    def logits(self, pixels: ImageArray) -> Tensor:
        """(H, W, 3) uint8 -> (C, H, W) float32 logits before the softmax, on the device.

        With several views: the logarithms of their mean probabilities.
        """
        if self.is_single_pass:
            return self._forward(pixels[None])[0].float()
        logits = torch.empty(len(self.segmenter.classes), *pixels.shape[:2], device=self.device)
        for block, strips in logit_blocks(self, InMemoryRaster(pixels)):
            for row, strip in strips:
                top = block.top + row
                logits[:, top : top + strip.shape[1], block.left : block.right] = strip
        return logits

    @property
    def num_views(self) -> int:
        """How many views of an image are averaged."""
        return len(self.scales) * (2 if self.flips else 1)

    @property
    def is_single_pass(self) -> bool:
        """Whether an image is simply given to the network."""
        return self.tile is None and not self.flips and self.scales == (1.0,)

    def tta_views(self, height: int, width: int) -> list[TTAView]:
        """What the network is shown of an image."""
        flips = (False, True) if self.flips else (False,)
        return [TTAView(height, width, scale, flip) for scale in self.scales for flip in flips]

    @torch.inference_mode()
    def _forward(self, pixels: ImageArray) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, C, H, W)."""
        images = to_tensor(pixels, self.device)
        with self.autocast():
            logits: Tensor = self.segmenter(images)
        return logits

    def _predict_labels(self, pixels: ImageArray) -> Any:
        labels = np.empty(pixels.shape[:2], dtype=label_dtype(len(self.segmenter.classes)))
        for block, block_labels in label_blocks(self, InMemoryRaster(pixels)):
            labels[block.top : block.bottom, block.left : block.right] = block_labels
        return labels

    def _argmax_labels(self, logits: Tensor) -> Any:
        dtype = getattr(torch, label_dtype(len(self.segmenter.classes)).name)
        return logits.argmax(0).to(dtype).cpu().numpy()

    def _make_prediction(self, pixels: ImageArray, labels: Any, logits: Tensor | None) -> Prediction:
        return Prediction(pixels, labels, logits, self.segmenter.classes, self.segmenter.colors)

    def autocast(self) -> torch.autocast:
        """The context in which the network runs."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def make_tiler(self, raster: Raster, view: TTAView, name: TileKey, store: TileCache) -> Tiler | BlendedTiler:
        """What computes the logits of a view, block by block, exactly or blended."""
        side = max(view.rows, view.across)
        if self.tile is None or side <= self.tile:
            return Tiler(self, raster, view, self._align_up(side), 0, name, store)
        if self.tile_plan is not None:
            if self.blend:
                raise InputError(
                    "blend: this network can be tiled exactly; expected --tile alone, which changes no label"
                )
            return Tiler(self, raster, view, self._align_up(self.tile), self.tile_plan.margin, name, store)
        if not self.blend:
            image = torch.zeros(1, 3, 64, 2048, device=self.device)
            layers = find_global_layers(self.segmenter, image)
            more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
            reason = f"layers that see the whole image ({', '.join(layers[:3])}{more})"
            raise InputError(
                f"tile: this network has {reason if layers else 'something that depends on the size of the image'}, so "
                "no tile can give the labels of the whole. Leave out --tile, or add --blend to have overlapping tiles "
                "blended; labels then depend on the tile."
            )
        return BlendedTiler(self, raster, view, self._align_up(self.tile), name, store)

    def _align_up(self, tile: int) -> int:
        """A tile that the network's strides divide."""
        return -(-tile // self.segmenter.alignment) * self.segmenter.alignment

    @cached_property
    def tile_plan(self) -> TilePlan | None:
        """What exact tiles are like, measured on the network; None where none are."""
        segmenter = self.segmenter
        stride = int(max(grid.stride for grid in segmenter.feature_grids))
        margin = measure_margin(segmenter.extract_features, stride, segmenter.alignment, self.device)
        if margin is None or not windows_match_whole_image(
            segmenter.extract_features, margin, segmenter.alignment, self.device
        ):
            return None
        with torch.inference_mode():
            maps = segmenter.extract_features(
                torch.zeros(1, 3, segmenter.alignment, segmenter.alignment, device=self.device)
            )
            logits, _ = segmenter.decode(maps, segmenter.feature_grids)
        return TilePlan(margin, max(output[0].numel() for output in [*maps, logits]) / segmenter.alignment**2)

    def block_size(self, height: int, width: int) -> int:
        """Pixels along a side of the blocks in which an image is labelled: some tiles each, to share their halo."""
        if self.tile is None or max(height, width) <= self.tile:
            return max(height, width)
        tile = self._align_up(self.tile)
        if self.tile_plan is None:
            return tile
        halo_pixels = 2 * self.segmenter.halo * int(self.segmenter.grid.stride)
        return (
            max(1, int((math.sqrt(MAX_BLOCK_BYTES / 4 / self.tile_plan.values_per_pixel) - halo_pixels) / tile)) * tile
        )


def _as_rgb_array(image: Path | str | ImageArray | Image.Image) -> ImageArray:
    """Any accepted form of an image as (H, W, 3) uint8 RGB.

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
