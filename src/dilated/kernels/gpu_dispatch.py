"""Which kernel a convolution runs by on a GPU: measured once per shape and device, and remembered in a file.

    fast = accelerate_on_gpu(segmenter, torch.bfloat16, GPUKernelChooser())

The file is the one that holds the times of this machine's processor.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dilated.kernels.dispatch import KernelChooser, shape_key
from dilated.kernels.gpu_layers import CUDNN, GPUConv2d, GPUKernel, choose_cudnn
from dilated.kernels.native import has_triton

_WRONG = 1e-2
"""Relative error, root mean square, against cuDNN's result, with which a kernel is not used; rounding makes 2e-3."""
_ROUNDS = 3
_MARGIN = 0.95
"""The fraction of another kernel's time that one must take to replace it."""
_COLUMN_CHANNELS = 16
"""Channels in from which writing all taps side by side may pay: cuDNN has no fast kernel for some dilated layers."""
_BOX_CAPABILITY = (9, 0)
"""Of the first GPUs that fetch boxes of memory by themselves."""
# Few of each, since Triton takes seconds to compile one.
_WIDE = ("128x256x64 s3 w8 g8 e2 p", "256x128x64 s3 w8 g8 e1 p")
_MIDDLE = ("128x128x64 s3 w4 g8 e2",)
_NARROW = ("128x64x64 s3 w4 g8 e1",)
_THIN = ("128x32x32 s4 w4 g8 e1",)
_GATHER = ("128x64x32 s2 w4 g8 e1",)


def list_gpu_kernels(layer: GPUConv2d, capability: tuple[int, int]) -> list[GPUKernel]:
    """List the kernels that may suit a layer, cuDNN's first.

    Args:
        layer: a convolution.
        capability: of the GPU, as torch.cuda.get_device_capability gives it.
    """
    texts = ["cudnn", "cudnn relu", "matmul"]
    if has_triton():  # without it, its kernels' names cannot even be read
        texts += _name_triton_kernels(layer, capability)
    return [kernel for kernel in map(GPUKernel.parse, texts) if layer.can_run(kernel)]


def _name_triton_kernels(layer: GPUConv2d, capability: tuple[int, int]) -> list[str]:
    c_out, c_in = layer.weight.shape[:2]
    texts: list[str] = []
    if c_in < 8:
        texts += [f"gather {tile}" for tile in _GATHER]
    elif capability >= _BOX_CAPABILITY:
        tiles = _THIN if c_in < 64 else _WIDE if c_out >= 256 else _MIDDLE if c_out >= 128 else _NARROW
        texts += [f"rows {tile}" for tile in tiles]
        if layer.geometry.dilation[1] * (layer.geometry.kernel[1] - 1) >= 16:
            texts += [f"slabs {tile}" for tile in tiles]
    if c_in >= _COLUMN_CHANNELS and layer.geometry.kernel != (1, 1):
        texts.append("columns")
    return texts


@dataclass
class GPUKernelChooser:
    """Choose the fastest kernel for a layer and an input; callable as `GPUConv2d` wants it."""

    times: KernelChooser = field(default_factory=KernelChooser)
    """What keeps the measured times."""
    _choices: dict[str, GPUKernel] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __call__(self, layer: GPUConv2d, x: Tensor) -> GPUKernel:
        """The kernel for an input; timed if this shape is new to the device."""
        key = f"{_describe_device(x.device)} {str(layer.dtype).removeprefix('torch.')} {shape_key(layer, x)}"
        if key not in self._choices:
            if x.is_cuda and torch.cuda.is_current_stream_capturing():
                return choose_cudnn(layer, x)  # nothing can be timed now
            with self._lock:
                self._choices[key] = self._choose(key, layer, x)
        return self._choices[key]

    def __deepcopy__(self, memo: object) -> GPUKernelChooser:
        return self  # copies of a network share what has been measured

    def _choose(self, key: str, layer: GPUConv2d, x: Tensor) -> GPUKernel:
        capability = torch.cuda.get_device_capability(x.device) if x.is_cuda else (0, 0)
        kernels = {str(kernel): kernel for kernel in list_gpu_kernels(layer, capability)}
        measured = self.times.load().setdefault(key, {})
        missing = [kernel for name, kernel in kernels.items() if name not in measured]
        if missing:
            measured |= measure_on_gpu(layer, x, missing)
            self.times.save()
        best = str(CUDNN)
        for name in kernels:
            if measured[name] < _MARGIN * measured[best]:
                best = name
        return kernels[best]


@torch.no_grad()
def measure_on_gpu(layer: GPUConv2d, x: Tensor, kernels: list[GPUKernel]) -> dict[str, float]:
    """Seconds that each kernel takes: the least of some interleaved runs; infinite where it fails or is wrong."""
    expected = layer.run(x, CUDNN).float()
    scale = expected.square().mean().sqrt().clamp(min=1e-30)
    seconds = {str(kernel): float("inf") for kernel in kernels}
    working = []
    for kernel in kernels:
        try:
            error = (layer.run(x, kernel).float() - expected).square().mean().sqrt() / scale
        except Exception:  # of Triton's compiler, cuDNN or the driver, each with types of its own; cuDNN's remains
            continue
        if float(error) < _WRONG:
            working.append(kernel)
    for _ in range(_ROUNDS):
        for kernel in working:
            seconds[str(kernel)] = min(seconds[str(kernel)], _time(layer, x, kernel))
    return seconds


def _time(layer: GPUConv2d, x: Tensor, kernel: GPUKernel) -> float:
    import time

    if not x.is_cuda:
        began = time.perf_counter()
        layer.run(x, kernel)
        return time.perf_counter() - began
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    layer.run(x, kernel)
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def _describe_device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
