"""From one image to its labels.

    predictor = Predictor("street")                      # or a segmenter, a network file or a run
    prediction = predictor("photo.jpg")                  # or an array, a tensor, a pillow image, bytes, an open file
    prediction.labels                                    # (H, W) uint8, ids of predictor.segmenter.classes

Images of any size and form go in; one label per pixel comes out. `tile` bounds the memory: labels are equal except
where the two greatest logits differ by less than 1e-5, which is rounding;
`flips` and `scales` are test-time augmentation: the probabilities of several views of the image are averaged.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dilated.data.raster.bands import InMemoryRaster, resolve_range, sample_windows
from dilated.data.raster.reader import Raster
from dilated.environment import resolve_device
from dilated.errors import InputError
from dilated.fields.measured import find_global_layers
from dilated.input_config import BandArray, to_display
from dilated.label_ids import label_dtype
from dilated.models.base import BaseSegmenter
from dilated.models.dense_crf import DenseCRF
from dilated.prediction.acceleration import ComputingNetwork, Precision
from dilated.prediction.decoding import Decode, LabelDecoder
from dilated.prediction.image_input import ImageInput, to_pixels
from dilated.prediction.memory import BLOCK_SHARE, MemoryLimit, MemoryUse
from dilated.prediction.option_checks import load_segmenter, require_logits, require_precision, require_tileable
from dilated.prediction.prediction import LabelMap, Prediction
from dilated.prediction.size_batcher import SizeBatcher
from dilated.prediction.tiling import BlendedTiler, ExactTiler, TilePlan, Tiler, iter_logits, measure_tile_plan
from dilated.prediction.views import Block, TileCache, TileSource, TTAView, require_views
from dilated.tensors import to_tensor

MAX_BLOCK_BYTES = 128 * 2**20
"""Bytes that the maps of one block may take, unless it is a single tile."""

_SkipBlock = Callable[[Block], bool]


class Predictor:
    """Labels images of any size with a segmenter.

    Args:
        segmenter: a segmenter, which is set to evaluation mode and moved to the device; or the name of a bundled
            network, the path of a network file, or that of a run.
        tile: pixels along a side that are labelled at a time. By default the whole image, or as much of it as fits in
            `memory` (see `fit`). Labels are equal except where the two greatest logits differ by less than 1e-5.
        memory: what the process may take in all, such as "3GiB" or a number of bytes; by default what is free.
        device: `cpu`, `cuda`, `mps`, ...; by default CUDA if it is available, else the CPU.
        precision: `auto` computes in fp32, on a CPU by an accelerated copy of the network (`dilated.accelerate`), whose
            logits differ by no more than rounding; `fast` admits Winograd's kernels for 7x7 layers too: logits change
            by up to 5e-5 of their spread, with the tile as well, so labels do where the two greatest are as close; on a
            GPU it is a copy in half precision, which changes a few pixels; `fp32` uses the network itself; `bf16` is
            autocast, which changes a few pixels and is refused on a CPU that only emulates it.
        flips: also predict the image flipped from left to right.
        scales: the sizes in which the image is predicted; the probabilities of all are averaged.
        blend: for a network with layers that see the whole image, of which no tile can give the same labels: let
            tiles overlap and blend their probabilities. Refused for a network that can be tiled exactly.
        decode: `argmax`, or `iou` for the labels of greatest expected IoU of each image (RankSEG-RMA).
        risk: leave pixels unknown (255; 65535 from 256 classes on), so that at most this share of the others is wrong;
            for a network that `dilated tune` has fitted a threshold to, without flips, scales, blend and bf16.
        crf: refine the labels of each image by a dense CRF of its colors; the logits of all of an image's pixels are
            held at once, and those of a prediction are the logarithms of the CRF's marginals.

    Raises:
        InputError: a network that does not exist, a device that this machine lacks, a tile or a scale that is not
            positive; for a network that cannot be tiled exactly, a `tile` without `blend` that is smaller than an
            image (the message names the layers).

    Example:
        >>> from dilated import SegmenterConfig, Segmenter
        >>> net = SegmenterConfig(backbone="resnet18", features=8)
        >>> predictor = Predictor(Segmenter(["a", "b"], [(0, 0, 0), (255, 0, 0)], net), tile=32, device="cpu")
        >>> predictor(np.zeros((30, 41, 3), np.uint8)).labels.shape
        (30, 41)
    """

    def __init__(
        self,
        segmenter: BaseSegmenter | Path | str,
        *,
        tile: int | None = None,
        memory: str | int | None = None,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
        flips: bool = False,
        scales: Sequence[float] = (1.0,),
        blend: bool = False,
        decode: Decode = "argmax",
        risk: float | None = None,
        crf: DenseCRF | None = None,
    ) -> None:
        self.device = resolve_device(device)
        require_views(tile, scales)
        require_precision(precision, self.device)
        loaded = load_segmenter(segmenter)
        require_logits(loaded, {"flips, scales": flips or tuple(scales) != (1.0,), "crf": crf is not None})
        self.segmenter = loaded.to(self.device).eval()
        self.block_bytes: int | None = None  # MAX_BLOCK_BYTES
        self.precision, self.tile = precision, tile
        self._computing = ComputingNetwork(self.segmenter, precision, self.device)
        limit, num_classes = MemoryLimit.parse(memory), len(self.segmenter.classes)
        self.memory_use = MemoryUse(self._computing.get, self.device, limit, num_classes)
        self.flips, self.scales, self.blend, self.crf = flips, tuple(scales), blend, crf
        self.decoder = LabelDecoder(self.segmenter, decode, risk, is_refined=crf is not None)
        if risk is not None and not self.is_plain:
            changes = "flips, scales, blend, bf16 and a CRF"
            raise InputError(f"risk: thresholds are fitted without {changes}", hint="leave them out, or the risk")
        require_tileable(self.segmenter, is_needed=not self.is_single_pass)

    def __call__(self, image: ImageInput, *, logits: bool = False) -> Prediction:
        """Label one image, given in any form of `dilated.prediction.image_input.to_pixels`.

        A network of other images than 8-bit RGB takes those that its `input` describes, with the values of their files.

        Args:
            logits: keep the logits of all classes, which `Prediction.logits` and `.probabilities` need.

        Raises:
            InputError: not an image, or several; the hint says how to convert it.
        """
        if isinstance(image, list | tuple) or (isinstance(image, Iterator) and not hasattr(image, "read")):
            raise InputError(f"image: {type(image).__name__} holds several images", hint="call predictor.batch(images)")
        return self.batch([image], logits=logits)[0]

    def batch(self, images: Iterable[ImageInput], *, logits: bool = False, batch_size: int = 16) -> list[Prediction]:
        """Label several images, of any forms and sizes; those of one size are given to the network together.

        Args:
            images: a list, a generator, a tensor (N, 3, H, W), ...
            logits: keep the logits of all classes.
            batch_size: how many images go to the network at a time at most.

        Returns:
            One prediction per image, in their order.
        """
        if isinstance(images, str | bytes | Path):
            raise InputError(f"images: {type(images).__name__} is one image", hint="call predictor(image)")
        predictions: dict[int, Prediction] = {}
        batches: SizeBatcher[tuple[int, BandArray]] = SizeBatcher(batch_size)

        def predict(batch: list[tuple[int, BandArray]]) -> None:
            pixels = [image for _, image in batch]
            predictions.update(zip((i for i, _ in batch), self._predict_same_size(pixels, logits), strict=True))

        for i, image in enumerate(images):
            pixels = to_pixels(image, self.segmenter.input)
            predict(batches.add(pixels.shape, (i, pixels)))
        while batch := batches.pop():
            predict(batch)
        return [predictions[i] for i in range(len(predictions))]

    def logits(self, pixels: BandArray) -> Tensor:
        """Return the logits before the softmax: (H, W, 3) uint8 or (H, W, n) -> (C, H, W) float32, on the device.

        With several views: the logarithms of their mean probabilities.
        """
        if self.is_single_pass:
            return self._forward([pixels])[0].float()
        logits = torch.empty(len(self.segmenter.classes), *pixels.shape[:2], device=self.device)
        for top, left, strip in self._strips(pixels):
            logits[:, top : top + strip.shape[1], left : left + strip.shape[2]] = strip
        return logits

    def label_blocks(
        self, raster: Raster, skip: _SkipBlock | None = None, cache_folder: Path | None = None
    ) -> Iterator[tuple[Block, LabelMap]]:
        """Label an image block by block.

        Args:
            skip: blocks for which it is true are left out; the labels of the others do not depend on that.
            cache_folder: where the maps wait for their neighbors; in memory if not given.

        Yields:
            Each block and its labels, (height, width), in the order of `split_into_blocks`.
        """
        for block, strips in self.logit_blocks(raster, skip, cache_folder):
            labels = np.empty((block.height, block.width), dtype=self._label_dtype)
            for row, logits in strips:
                labels[row : row + logits.shape[1]] = logits.argmax(0).cpu().numpy()
            yield block, labels

    def logit_blocks(
        self, raster: Raster, skip: _SkipBlock | None = None, cache_folder: Path | None = None
    ) -> Iterator[tuple[Block, Iterator[tuple[int, Tensor]]]]:
        """Yield the logits of each block, as strips of rows: (first row, (C, rows, width)). See `label_blocks`."""
        blocks = [b for b in self.split_into_blocks(raster.height, raster.width) if skip is None or not skip(b)]
        views = self.tta_views(raster.height, raster.width)
        with TileCache(cache_folder) as cache:
            config = self.segmenter.input
            config = config.resolve(sample_windows(raster)) if config else None
            tilers = [self.make_tiler(TileSource(raster, view, i, cache, config)) for i, view in enumerate(views)]
            yield from iter_logits(tilers, blocks, cache)

    @property
    def network(self) -> BaseSegmenter:
        """What computes: the segmenter, or its accelerated copy.

        Raises:
            InputError: `fast` was asked for a network that cannot be accelerated.
        """
        return self._computing.get()

    @property
    def is_single_pass(self) -> bool:
        """Whether an image is simply given to the network."""
        return self.tile is None and not self.flips and self.scales == (1.0,)

    @property
    def is_plain(self) -> bool:
        """Whether logits are those of the network on the image itself: no averaged views, blended tiles, CRF."""
        return self.scales == (1.0,) and not (self.flips or self.blend or self.crf or self._computing.autocast_dtype)

    def fit(self, height: int, width: int) -> Predictor:
        """Return the predictor for images of a size: this one, or one with the largest tile that fits in memory.

        Nothing is measured for small images, nor where a tile was given.

        Raises:
            InputError: it does not fit, and the network cannot be tiled exactly, or not within that memory.
        """
        scale, use = max(self.scales), self.memory_use
        if self.tile is not None or not self.segmenter.is_tileable or use.fits(round(height * width * scale**2)):
            return self
        tile = use.choose_tile(height, width, scale, self.segmenter.alignment, self.tile_plan)
        if tile is None:
            return self
        fitted = copy.copy(self)
        fitted.tile, fitted.block_bytes = tile, min(MAX_BLOCK_BYTES, int(use.budget * BLOCK_SHARE))
        return fitted

    @property
    def settings(self) -> dict[str, Any]:
        """What labels depend on besides the network, as JSON has it."""
        return {
            "tile": self.tile,
            "precision": self.precision,
            "flips": self.flips,
            "scales": self.scales,
            "blend": self.blend,
            "device": self.device.type,
            **self.decoding,
        }

    @property
    def decoding(self) -> dict[str, Any]:
        """How logits become labels, as JSON has it."""
        return self.decoder.settings | ({} if self.crf is None else {"crf": self.crf.to_dict()})

    def tta_views(self, height: int, width: int) -> list[TTAView]:
        """Return the views of an image that are averaged."""
        flips = (False, True) if self.flips else (False,)
        return [TTAView(height, width, scale, flip) for scale in self.scales for flip in flips]

    def autocast(self) -> torch.autocast:
        """Return the context in which the network runs."""
        dtype = self._computing.autocast_dtype
        return torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)

    def make_tiler(self, source: TileSource) -> Tiler:
        """Return what computes the logits of a view, block by block, exactly or blended."""
        side = max(source.view.scaled_height, source.view.scaled_width)
        if self.tile is None or side <= self.tile:
            return ExactTiler(self, source, self._align_up(side), margin=0)
        if self.tile_plan is not None:
            if self.blend:
                raise InputError(
                    "blend: this network can be tiled exactly", hint="give --tile alone, which changes no label"
                )
            return ExactTiler(self, source, self._align_up(self.tile), self.tile_plan.margin)
        if not self.blend:
            image = torch.zeros(1, self.segmenter.num_bands, 64, 2048, device=self.device)
            layers = find_global_layers(self.segmenter, image) if self.segmenter.runs_in_torch else []
            names = f"layers that see the whole image ({', '.join(layers)})"
            raise InputError(
                f"tile: this network has {names if layers else 'something that depends on the size of the image'}, so "
                "no tile can give the labels of the whole",
                hint="leave out --tile, or add --blend to have overlapping tiles blended; labels then depend on the "
                "tile",
            )
        return BlendedTiler(self, source, self._align_up(self.tile))

    @cached_property
    def tile_plan(self) -> TilePlan | None:
        """What exact tiles need, measured on the network; None if it cannot be tiled exactly."""
        return measure_tile_plan(self.segmenter, self.device)

    def split_into_blocks(self, height: int, width: int) -> list[Block]:
        """Return the rectangles in which an image is labelled, row by row; they cover it, and none overlap."""
        side = self.block_size(height, width)
        corners = itertools.product(range(0, height, side), range(0, width, side))
        return [Block(top, left, min(side, height - top), min(side, width - left)) for top, left in corners]

    def block_size(self, height: int, width: int) -> int:
        """Return the pixels along a side of a block: some tiles each, to share their halo."""
        if self.tile is None or max(height, width) <= self.tile:
            return max(height, width)
        tile = self._align_up(self.tile)
        if self.tile_plan is None:
            return tile
        halo_pixels = 2 * self.segmenter.halo * int(self.segmenter.grid.stride)
        max_bytes = MAX_BLOCK_BYTES if self.block_bytes is None else self.block_bytes
        max_side = math.sqrt(max_bytes / 4 / self.tile_plan.values_per_pixel) - halo_pixels
        return max(1, int(max_side / tile)) * tile

    def _align_up(self, tile: int) -> int:
        """Round a tile up to what the network's strides divide."""
        return -(-tile // self.segmenter.alignment) * self.segmenter.alignment

    def _predict_same_size(self, images: list[BandArray], logits: bool) -> list[Prediction]:
        """Label images of one size, together if the network takes them whole."""
        if not images:
            return []
        if (fitted := self.fit(*images[0].shape[:2])) is not self:
            return fitted._predict_same_size(images, logits)
        if len(images) > 1 and not self.memory_use.fits(len(images) * images[0][..., 0].size):
            return [prediction for image in images for prediction in self._predict_same_size([image], logits)]
        if logits and not self.segmenter.gives_logits:
            raise InputError("logits: this file gives labels", hint="export the network with --output logits")
        if logits or self.crf is not None or (self.is_single_pass and not self.decoder.is_argmax):
            outputs = self._forward(images) if self.is_single_pass else map(self.logits, images)
            if self.crf is not None:
                outputs = map(self._refine, outputs, images)
            return [
                self._make_prediction(
                    pixels, self._decode(pixels, [(0, 0, output)]), output.float().cpu() if logits else None
                )
                for pixels, output in zip(images, outputs, strict=True)
            ]
        if self.is_single_pass:
            return [self._make_prediction(*pair, None) for pair in zip(images, self._label(images), strict=True)]
        return [self._make_prediction(pixels, self._decode(pixels, self._strips(pixels)), None) for pixels in images]

    def _refine(self, logits: Tensor, pixels: BandArray) -> Tensor:
        """Return what the CRF makes of the logits of an image, (C, H, W)."""
        assert self.crf is not None
        return self.crf.refine(logits, to_display(pixels), self._find_valid(pixels))

    def _strips(self, pixels: BandArray) -> Iterator[tuple[int, int, Tensor]]:
        """Yield the logits of strips of an image: their first row and column, and (C, rows, columns)."""
        for block, strips in self.logit_blocks(InMemoryRaster(pixels)):
            for row, logits in strips:
                yield block.top + row, block.left, logits

    def _decode(self, pixels: BandArray, parts: Iterable[tuple[int, int, Tensor]]) -> LabelMap:
        """Return the labels of an image from the logits of its parts, (H, W); the type's greatest value for unknown."""
        return self.decoder.decode_image(pixels.shape[:2], parts, self._find_valid(pixels), self._label_dtype)

    def _find_valid(self, pixels: BandArray) -> NDArray[np.bool_] | None:
        return self.segmenter.input.find_valid(pixels) if self.segmenter.input else None

    @torch.inference_mode()
    def _forward(self, images: Sequence[BandArray]) -> Tensor:
        """N images (H, W, 3) uint8 or (H, W, n) -> (N, C, H, W)."""
        with self.autocast():
            logits: Tensor = self.network(self._to_tensor(images))
        return logits

    @torch.inference_mode()
    def _label(self, images: Sequence[BandArray]) -> LabelMap:
        """N images (H, W, 3) uint8 or (H, W, n) -> (N, H, W)."""
        with self.autocast():
            labels = self._computing.label_pixels(self._to_tensor(images))
        array: LabelMap = labels.cpu().numpy().astype(self._label_dtype, copy=False)
        return array

    def _to_tensor(self, images: Sequence[BandArray]) -> Tensor:
        """N images (H, W, 3) uint8 or (H, W, n) -> (N, n, H, W), scaled as the network reads them."""
        config = self.segmenter.input
        if config is None:
            return to_tensor(np.stack(images), self.device)
        return torch.cat([to_tensor(image, self.device, resolve_range(image, config)) for image in images])

    @property
    def _label_dtype(self) -> np.dtype[Any]:
        return label_dtype(len(self.segmenter.classes))

    def _make_prediction(self, pixels: BandArray, labels: LabelMap, logits: Tensor | None) -> Prediction:
        valid, no_label, unknown = self._find_valid(pixels), np.iinfo(labels.dtype).max, None
        if self.decoder.threshold is not None:
            unknown = int(np.count_nonzero((labels == no_label) & (True if valid is None else valid)))
        if valid is not None:
            labels[~valid] = no_label
        names = self.segmenter.classes, self.segmenter.colors
        how = "" if self.decoder.is_argmax and self.crf is None else json.dumps(self.decoding)
        return Prediction(pixels, labels, logits, *names, self.tile, self.decoder.temperature, unknown, how)
