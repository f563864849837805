"""Where the time of a prediction goes, from the image's file to the labels', and what an accelerated copy gains."""

from __future__ import annotations

import io
import itertools
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dilated.errors import InputError
from dilated.kernels.inverted_residual import FusedInvertedResidual
from dilated.kernels.layers import FastConv2d, Kernel
from dilated.label_ids import label_dtype
from dilated.models.base import BaseSegmenter
from dilated.models.sampling import PIXEL_GRID, upsample_labels
from dilated.prediction.image_input import to_pixels
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor
from dilated.tensors import to_tensor

STEPS = ("decode", "convert", "network", "labels", "write")
"""Read the file; make it a tensor; logits on the network's grid; labels of all pixels; the labels as PNG."""


@dataclass(frozen=True)
class StepTimes:
    """The seconds of each step, of each run."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    first_seconds: float = 0.0
    """Seconds of the first image, which builds the kernels if need be, and transforms weights."""

    def totals(self) -> list[float]:
        """Seconds of each run, all steps together."""
        return [sum(run) for run in zip(*self.seconds.values(), strict=True)]

    def percentile(self, fraction: float) -> float:
        """Seconds that so many runs stay within.

        Example:
            >>> StepTimes({"decode": [1.0, 2.0, 3.0, 4.0]}).percentile(0.5)
            2.0
        """
        ordered = sorted(self.totals())
        return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


@dataclass(frozen=True)
class LayerKernel:
    """What one layer of an accelerated network runs by."""

    name: str
    kernel: Kernel
    products: int
    """Multiply-adds of the layer for one input as the definition has them."""
    weight_bytes: int
    """Memory of the kernel's copy of the weights."""


def measure_steps(predictor: Predictor, images: Sequence[Path], rounds: int = 5) -> StepTimes:
    """Time the steps of labelling images one by one, whole; the first image is timed apart.

    Args:
        images: image files of any sizes.
        rounds: how often each is labelled.

    Raises:
        InputError: no image, one that cannot be read, or a predictor with tiles or test-time augmentation.
    """
    if not images or rounds < 1:
        raise InputError(f"speed: {len(images)} images, {rounds} rounds", hint="give one or more of each")
    if not predictor.is_single_pass:
        raise InputError("speed: steps are timed for whole images", hint="leave out tiles, flips and scales")
    began = time.perf_counter()
    _run_steps(predictor, images[0])
    times = StepTimes(first_seconds=time.perf_counter() - began)
    for _ in range(rounds):
        for image in images:
            for step, seconds in zip(STEPS, _run_steps(predictor, image), strict=True):
                times.seconds[step].append(seconds)
    return times


@torch.inference_mode()
def _run_steps(predictor: Predictor, image: Path) -> list[float]:
    """Label an image step by step; the seconds of each of STEPS."""
    clock = [time.perf_counter()]

    def tick() -> None:
        if predictor.device.type == "cuda":
            torch.cuda.synchronize(predictor.device)
        clock.append(time.perf_counter())

    network = predictor.network
    pixels = to_pixels(image, predictor.segmenter.input)
    tick()
    images = to_tensor(pixels, predictor.device, predictor.segmenter.input)
    tick()
    with predictor.autocast():
        if network.is_tileable:
            logits, grids = network.decode(network.extract_features(images), network.feature_grids)
            tick()
            labels = upsample_labels(logits, grids, PIXEL_GRID, pixels.shape[:2])
        else:  # the authors' tiles: logits of all pixels are the network's own
            labels = network.label_pixels(images)
            tick()
    array = labels[0].cpu().numpy().astype(label_dtype(len(network.classes)), copy=False)
    tick()
    prediction = Prediction(pixels, array, None, network.classes, network.colors)
    prediction.label_image().save(io.BytesIO(), format="PNG")
    tick()
    return [after - before for before, after in itertools.pairwise(clock)]


@torch.inference_mode()
def list_kernels(network: BaseSegmenter, height: int, width: int) -> list[LayerKernel]:
    """List what each replaced convolution of an accelerated network runs by, for one image of a size."""
    layers: dict[str, LayerKernel] = {}

    def note(name: str, layer: FastConv2d, x: Tensor, kernel: Kernel) -> tuple[int, int]:
        size = layer.geometry.output_size(x.shape[2], x.shape[3])
        products = x.shape[0] * math.prod(size) * layer.weight.numel()
        layers[name] = LayerKernel(name, kernel, products, layer.kernel_bytes(kernel))
        return size

    def note_layer(name: str, layer: FastConv2d, inputs: tuple[Any, ...]) -> None:
        kernel = layer.kernel if isinstance(layer.kernel, Kernel) else layer.kernel(layer, inputs[0])
        note(name, layer, inputs[0], kernel)

    def note_block(name: str, block: FusedInvertedResidual, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        for child, layer in block.layers.named_children():
            assert isinstance(layer, FastConv2d)
            x = x.new_empty(1).expand(len(x), 1, *note(f"{name}.{child}", layer, x, Kernel("fused")))

    with ExitStack() as stack:
        for name, layer in network.named_modules():
            hook = note_layer if isinstance(layer, FastConv2d) else note_block
            if isinstance(layer, FastConv2d | FusedInvertedResidual):
                handle = layer.register_forward_pre_hook(lambda m, x, name=name, hook=hook: hook(name, m, x))
                stack.callback(handle.remove)
        network.label_pixels(torch.rand(1, network.num_bands, height, width))
    return list(layers.values())


@torch.inference_mode()
def measure_gain(segmenter: BaseSegmenter, fast: BaseSegmenter, size: tuple[int, int], rounds: int = 5) -> list[float]:
    """The least seconds that a segmenter and its accelerated copy take to label an image in memory, interleaved."""
    images = torch.rand(1, segmenter.num_bands, *size)
    networks = (segmenter, fast)
    for network in networks:
        network.label_pixels(images)
    least = [math.inf, math.inf]
    for _ in range(rounds):
        for i, network in enumerate(networks):
            began = time.perf_counter()
            network.label_pixels(images)
            least[i] = min(least[i], time.perf_counter() - began)
    return least
