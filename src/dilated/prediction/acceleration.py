"""The network that computes for a predictor: the segmenter itself, or its accelerated copy."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor

from dilated.errors import InputError
from dilated.kernels.accelerate import accelerate
from dilated.kernels.dispatch import MAX_ERROR
from dilated.kernels.gpu import accelerate_on_gpu, choose_half_precision
from dilated.kernels.gpu_dispatch import GPUKernelChooser
from dilated.kernels.graphs import GraphCache
from dilated.models.base import BaseSegmenter

Precision = Literal["auto", "fp32", "fast", "bf16"]
"""How a network computes; see `Predictor`."""


class ComputingNetwork:
    """What computes in place of a segmenter: itself, or an accelerated copy, made anew when its weights have changed.

    Args:
        precision: `auto` and `fast` ask for the copy where the device is a CPU, `fast` for one in half precision where
            it is a GPU.
    """

    def __init__(self, segmenter: BaseSegmenter, precision: Precision, device: torch.device) -> None:
        self.segmenter, self.precision = segmenter, precision
        is_fast = precision == "fast" and segmenter.runs_in_torch
        self.half_precision = choose_half_precision(device) if is_fast else None
        """The type of a copy on a GPU."""
        self.autocast_dtype = torch.bfloat16 if precision == "bf16" else self.half_precision
        """The type that the network is to run in; None for float32."""
        is_exact = device.type == "cpu" and precision in ("auto", "fast") and segmenter.runs_in_torch
        self.is_accelerated = is_exact or self.half_precision is not None
        if is_fast and device.type == "cuda" and self.half_precision is None:
            warnings.warn(f"fast: {device} multiplies neither bf16 nor fp16 faster; float32 computes", stacklevel=3)
        self._copy: BaseSegmenter | None = None
        self._label = GraphCache(segmenter.label_pixels)
        self._versions: list[tuple[int, int]] = []

    def get(self) -> BaseSegmenter:
        """Return the network for the weights that the segmenter has now.

        Raises:
            InputError: `fast` was asked for a network that cannot be accelerated.
        """
        if not self.is_accelerated:
            return self.segmenter
        versions = [_identify(tensor) for tensor in self.segmenter.state_dict(keep_vars=True).values()]
        if self._copy is None or versions != self._versions:
            self._copy, self._versions = self._accelerate(), versions
            self._label = GraphCache(self._copy.label_pixels)
        return self._copy

    def label_pixels(self, images: Tensor) -> Tensor:
        """The labels of every pixel, on a GPU in half precision by a CUDA graph where that is faster.

        Args:
            images: (N, bands, H, W).

        Returns:
            (N, H, W).
        """
        network = self.get()
        return network.label_pixels(images) if self.half_precision is None else self._label(images)

    def _accelerate(self) -> BaseSegmenter:
        if self.half_precision is not None:
            return accelerate_on_gpu(self.segmenter, self.half_precision, GPUKernelChooser())
        if self.precision == "fast":
            return accelerate(self.segmenter, max_error=MAX_ERROR)
        try:
            return accelerate(self.segmenter)
        except InputError as error:
            warnings.warn(f"{error.message}; the network itself computes", stacklevel=2)
            return self.segmenter


def _identify(tensor: Tensor) -> tuple[int, int]:
    """Return what changes when a tensor is replaced or written to."""
    return id(tensor), 0 if tensor.is_inference() else tensor._version
