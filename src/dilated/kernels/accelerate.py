"""A copy of a network for inference on a CPU: batch norm folded, activations fused, convolutions by the fastest kernel.

    fast = accelerate(segmenter)                         # shares the weights that it can; the original is unchanged
    logits = fast(images)                                # those of the original to rounding

The copy computes in float32, channels last. It is verified against the original when it is made.
"""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.kernels.chain import chain_pointwise
from dilated.kernels.dispatch import ROUNDING_ERROR, choose_by_count
from dilated.kernels.inverted_residual import fuse_inverted_residuals, undo
from dilated.kernels.layers import TORCH, Chooser, FastConv2d
from dilated.kernels.native import load_native
from dilated.kernels.trace import CLAMPS, Trace, is_foldable, require_equal, trace_layers

Module = TypeVar("Module", bound=nn.Module)


def accelerate(
    module: Module, example: Tensor | None = None, max_error: float = ROUNDING_ERROR, chooser: Chooser | None = None
) -> Module:
    """Make a copy of a network that gives the same output faster, on a CPU, in float32, without gradients.

    Batch norm and activations are folded into convolutions, and each convolution runs by the kernel that takes least
    multiplications for the size of its input: torch's, Winograd's of the phases of its dilation, or a direct or
    depthwise one. The kernels are built on first use by the system's C++ compiler, once per machine, which takes some
    seconds; without one, Winograd's runs in plain PyTorch. Weights are shared with the network, and transformed
    copies of them are kept once a layer has run.

    Args:
        module: a network or `Segmenter` in evaluation mode whose parameters are float32 on the CPU. What it shares
            with the copy must not change afterwards.
        example: an input on which the layers are found and the copy is verified; by default one image of 97x130 pixels
            (33x42 of more than 255 classes) with the bands that a segmenter reads, otherwise three.
        max_error: the relative error, root mean square, that a kernel may have on random data. By default outputs
            change by no more than the rounding of float32. 5e-5 admits Winograd's kernels for 7x7 layers, which
            take an eighth of the multiplications.
        chooser: what chooses the kernels instead, such as a `dilated.kernels.dispatch.KernelChooser`, which measures.

    Returns:
        The copy, of the same type.

    Raises:
        InputError: a network that is on another device, of another type or in training mode, or whose copy gives
            something else.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
        >>> accelerate(net)
        Sequential(
          (0): FastConv2d(3, 8, kernel_size=(3, 3), dilation=(1, 1), chosen by shape)
          (1): Identity()
          (2): Identity()
        )
    """
    parameters = list(module.parameters())
    if module.training or any(p.device.type != "cpu" or p.dtype != torch.float32 for p in parameters):
        raise InputError(
            "accelerate: the network is not in evaluation mode, in float32 and on the CPU",
            hint="call .cpu().float().eval()",
        )
    with torch.inference_mode(False), torch.no_grad():  # tensors of inference mode have no versions
        if example is None:
            example = make_example(module)
        fast, expected, reader = fold(module, example)
        if load_native() is not None:
            _fuse_blocks(fast, example, expected, reader)
    for layer in fast.modules():
        if isinstance(layer, FastConv2d):
            layer.kernel = chooser or partial(choose_by_count, max_error=max_error)
    chain_pointwise(fast)
    return fast


def make_example(module: nn.Module, device: str | torch.device = "cpu") -> Tensor:
    """Make one image on which the layers of a network are found, of random values of 0 to 1."""
    generator = torch.Generator().manual_seed(0)
    size = (97, 130) if len(getattr(module, "classes", ())) <= 255 else (33, 42)  # whose logits are compared
    return torch.rand(1, getattr(module, "num_bands", 3), *size, generator=generator).to(device)


def fold(module: Module, example: Tensor) -> tuple[Module, Any, dict[nn.Module, nn.Module]]:
    """Copy a network, with FastConv2d in the place of convolutions and of the batch norms and clamps after them.

    Returns:
        The copy, its expected output for the example, and what alone reads the output of each of its layers, run once.

    Raises:
        InputError: the copy gives something else.
    """
    shared: dict[int, Any] = {id(t): t for t in (*module.parameters(), *module.buffers())}
    fast = copy.deepcopy(module, shared)
    trace, expected = trace_layers(fast, example)
    for name, conv in trace.convolutions.items():
        _replace(fast, name, conv, trace)
    return fast, expected, _check(fast, example, expected)


def _check(fast: nn.Module, example: Tensor, expected: Any) -> dict[nn.Module, nn.Module]:
    """Raise where a copy gives something else; what alone reads the output of each of its layers, run once."""
    trace, output = trace_layers(fast, example)
    require_equal(expected, output)
    return {layer: after for layer, after in trace.reader.items() if trace.calls[layer] == trace.calls[after] == 1}


def _fuse_blocks(fast: nn.Module, example: Tensor, expected: Any, reader: dict[nn.Module, nn.Module]) -> None:
    """Fuse inverted residual blocks, unless that changes the output: plain functions may read maps within them."""
    changes = fuse_inverted_residuals(fast, reader)
    if changes:
        try:
            require_equal(expected, fast(example))
        except Exception:  # a function may expect another shape, or anything of the layers that are gone
            undo(changes)


def _replace(module: nn.Module, name: str, conv: nn.Conv2d, trace: Trace) -> None:
    """Put a FastConv2d in the place of a convolution, and fold what follows into it where nothing else reads it."""
    weight, bias, last = conv.weight.detach(), None if conv.bias is None else conv.bias.detach(), conv
    low, high = -math.inf, math.inf
    norm: Any = trace.reader.get(conv) if trace.calls[conv] == 1 else None
    activation: nn.Module | None = None
    if is_foldable(norm) and trace.calls[norm] == 1:
        weight, bias = _fold(norm, weight, bias)
        activation = getattr(norm, "act", None) or nn.Identity()
        if type(activation) in CLAMPS:
            low, high = CLAMPS[type(activation)]
            activation = nn.Identity()
        _set(module, trace.names[norm], activation)
        last = norm
    reader: Any = trace.reader.get(last)
    is_last = activation is None or isinstance(activation, nn.Identity)
    if is_last and low == -math.inf and type(reader) in CLAMPS and trace.calls[last] == trace.calls[reader] == 1:
        low, high = CLAMPS[type(reader)]
        _set(module, trace.names[reader], nn.Identity())
    layer = FastConv2d(conv, TORCH, low, high)
    layer.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
    layer.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    _set(module, name, layer.eval())


def _fold(norm: Any, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The weight and bias of a convolution that does what a batch norm after it did."""
    scale: Tensor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = (-norm.running_mean.double() if bias is None else bias.double() - norm.running_mean.double()) * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return (weight.double() * scale[:, None, None, None]).float(), shift.float()


def _set(module: nn.Module, name: str, replacement: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, replacement)
