"""A copy of a network for inference on a GPU in half precision: folded as on a CPU, its layers by the fastest kernel.

fast = accelerate_on_gpu(segmenter, torch.bfloat16)  # the segmenter is on the GPU
with torch.autocast("cuda", torch.bfloat16):
    logits = fast(images)
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.kernels.accelerate import fold, make_example
from dilated.kernels.gpu_layers import GPUChooser, GPUConv2d, GPUKernel
from dilated.kernels.layers import FastConv2d, to_channels_last
from dilated.kernels.native import has_triton, try_triton

Module = TypeVar("Module", bound=nn.Module)


class _GPUMaxPool(nn.Module):
    """A pooling of 2x2 values that rounds up, without torch's map of indices."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = try_triton(lambda: _pool_by_triton(x))
        return F.max_pool2d(x, 2, ceil_mode=True) if pooled is None else pooled


def _pool_by_triton(x: Tensor) -> Tensor:
    from dilated.kernels.triton_maps import max_pool

    return max_pool(to_channels_last(x))


def accelerate_on_gpu(
    module: Module,
    dtype: torch.dtype,
    kernel: GPUKernel | GPUChooser,
    example: Tensor | None = None,
    has_fused_context: bool = False,
) -> Module:
    """Make a copy of a network whose convolutions run in half precision, channels last.

    Batch norm and activations are folded in float32 and verified; then the weights are rounded.

    Args:
        module: a network in evaluation mode whose parameters are float32 on the GPU.
        dtype: torch.bfloat16 or torch.float16.
        kernel: the kernel of all convolutions, or what chooses one for each input.
        has_fused_context: run a basic context module as one kernel, which no GPU has timed yet.
        example: an input on which the layers are found and the folding is verified; see `dilated.accelerate`.

    Returns:
        The copy, to be called within `torch.autocast` of that type.

    Raises:
        InputError: a network that is elsewhere, of another type or in training mode, or that cannot be folded.
    """
    parameters = list(module.parameters())
    if module.training or any(p.dtype != torch.float32 for p in parameters):
        raise InputError(
            "accelerate: the network is not in evaluation mode and in float32", hint="call .float().eval()"
        )
    device = parameters[0].device if parameters else torch.device("cpu")
    with torch.inference_mode(False), torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        if example is None:
            example = make_example(module, device)
        fast, _, _ = fold(module, example)
    for name, part in list(fast.named_modules()) if has_triton() and has_fused_context else ():
        _fuse_context(fast, name, part, dtype)
    for name, layer in list(fast.named_modules()):
        replacement: Any = None
        if isinstance(layer, FastConv2d):
            replacement = GPUConv2d(layer, dtype, kernel).eval()
        elif has_triton() and _is_halving(layer):
            replacement = _GPUMaxPool().eval()
        if replacement is not None:
            parent, _, child = name.rpartition(".")
            setattr(fast.get_submodule(parent), child, replacement)
    return fast


def _fuse_context(module: nn.Module, name: str, part: nn.Module, dtype: torch.dtype) -> None:
    """Put one kernel in the place of a basic context module."""
    from dilated.kernels.triton_context import GPUContext, find_basic_context

    context = find_basic_context(part) if name else None
    if context is not None:
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, GPUContext(*context, dtype).eval())


def _is_halving(layer: nn.Module) -> bool:
    """Whether a layer is a 2x2 pooling that rounds up."""
    if type(layer) is not nn.MaxPool2d or layer.return_indices or not layer.ceil_mode:
        return False
    sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return [size if isinstance(size, int) else tuple(size) for size in sizes] in (
        [2, 2, 0, 1],
        [(2, 2), (2, 2), (0, 0), (1, 1)],
    )


def choose_half_precision(device: torch.device) -> torch.dtype | None:
    """The type of half precision that a GPU multiplies fast: bf16, or fp16 where that is missing; None without both."""
    if device.type != "cuda":
        return None
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else None
