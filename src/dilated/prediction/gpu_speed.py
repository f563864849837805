"""What half precision gains and changes on a GPU, for one network and one size of image."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from dilated.kernels.gpu_layers import GPUConv2d, GPUKernel
from dilated.models.base import BaseSegmenter
from dilated.prediction.acceleration import Precision
from dilated.prediction.predictor import Predictor


@dataclass(frozen=True)
class GPUGain:
    """A network in float32, and its copy in half precision."""

    seconds: dict[Precision, float]
    """Of an image in memory to labels, by precision."""
    changed: float
    """The fraction of the pixels whose label differs."""
    dtype: str
    """What the copy computes in, such as bfloat16."""
    kernels: dict[str, int]
    """Layers by what they run by."""


def measure_gpu_gain(segmenter: BaseSegmenter, size: tuple[int, int], rounds: int = 5) -> GPUGain | None:
    """Compare a network on the GPU with its copy in half precision, on one random image.

    Args:
        size: height and width of the image.
        rounds: runs of each, in turns; the least time counts.

    Returns:
        None where there is no copy: without a GPU that multiplies half precision fast.
    """
    if not torch.cuda.is_available():
        return None
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (*size, segmenter.num_bands), dtype=np.uint8)
    precisions: tuple[Precision, ...] = ("fp32", "fast")
    predictors = {name: Predictor(segmenter, device="cuda", precision=name) for name in precisions}
    fast = predictors["fast"]
    if fast.network is segmenter:
        return None
    chosen: dict[str, int] = {}

    def note(layer: GPUConv2d, x: torch.Tensor) -> None:
        kernel = layer.kernel if isinstance(layer.kernel, GPUKernel) else layer.kernel(layer, layer.prepare(x))
        chosen[str(kernel)] = chosen.get(str(kernel), 0) + 1

    layers = [layer for layer in fast.network.modules() if isinstance(layer, GPUConv2d)]
    handles = [layer.register_forward_pre_hook(lambda m, x: note(m, x[0])) for layer in layers]
    try:
        labels = {name: predictor(image).labels for name, predictor in predictors.items()}
    finally:
        for handle in handles:
            handle.remove()
    seconds: dict[Precision, float] = dict.fromkeys(predictors, float("inf"))
    for turn in range(rounds + 2):  # the second run of a size is recorded
        for name, predictor in predictors.items():
            began = time.perf_counter()
            predictor(image)
            if turn > 1:
                seconds[name] = min(seconds[name], time.perf_counter() - began)
    changed = float((labels["fp32"] != labels["fast"]).mean())
    return GPUGain(seconds, changed, str(fast.autocast().fast_dtype).removeprefix("torch."), chosen)
