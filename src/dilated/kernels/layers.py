"""A convolution that runs by one of several kernels: torch's, Winograd's, or a compiled direct or depthwise one.

layer = FastConv2d(conv, Kernel("winograd", (4, 4)))    # the same parameters; inference on a CPU in float32
y = layer(x)                                            # conv(x) to rounding
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.kernels.geometry import Pair, conv_geometry
from dilated.kernels.native import Layer, empty_map, load_native
from dilated.kernels.polyphase import winograd_conv2d
from dilated.kernels.winograd import transform_weight

_SHARED_INPUT_BYTES = 20 * 2**20
"""Transformed input that is held at a time where threads share it: most of a last-level cache."""
_SHARED_WEIGHT_BYTES = 16 * 2**20
"""Transformed weights above which threads share tiles, so that the weights are read from memory less often."""


@dataclass(frozen=True)
class Kernel:
    """A way to compute a convolution."""

    kind: Literal["torch", "winograd", "direct", "depthwise", "fused"]
    """`fused` layers run within the kernel of a whole block, a FusedInvertedResidual."""
    tile: Pair = (1, 1)
    """Outputs of one of Winograd's tiles, along the rows and the columns."""

    def __str__(self) -> str:
        return f"winograd {self.tile[0]}x{self.tile[1]}" if self.kind == "winograd" else self.kind


TORCH = Kernel("torch")

Chooser = Callable[["FastConv2d", Tensor], Kernel]
"""Which kernel a layer uses for an input."""


class FastConv2d(nn.Module):
    """A convolution and an optional clamp, for inference on a CPU in float32, by a kernel of one's choice.

    Parameters, their names and, to rounding, the result are those of the `nn.Conv2d` that it is made of. On another
    device, in another type, or while gradients are recorded, torch's convolution runs. Weights are transformed at the
    first call and kept (`kernel_bytes`); call `reset` after changing them. With Winograd's kernel a value that is not
    finite spreads to all outputs of its tiles.

    Args:
        conv: a convolution that pads with zeros.
        kernel: the kernel, or what chooses one for each input.
        low, high: results are clamped to this range: (0, inf) is a ReLU, (0, 6) a ReLU6.

    Raises:
        InputError: a convolution that pads otherwise.

    Shapes:
        (N, C, H, W) -> (N, c_out, H', W'), channels last if a compiled kernel runs.

    Example:
        >>> conv = nn.Conv2d(3, 5, 3, padding=2, dilation=2).requires_grad_(False)
        >>> x = torch.rand(1, 3, 20, 30)
        >>> torch.allclose(FastConv2d(conv, Kernel("winograd", (4, 4)))(x), conv(x), atol=1e-5)
        True
    """

    def __init__(
        self, conv: nn.Conv2d, kernel: Kernel | Chooser = TORCH, low: float = -math.inf, high: float = math.inf
    ) -> None:
        super().__init__()
        geometry = conv_geometry(conv)
        if geometry is None:
            raise InputError(f"FastConv2d: {conv}", hint="give a convolution that pads with zeros")
        self.weight, self.bias = conv.weight, conv.bias
        self.geometry, self.kernel, self.low, self.high = geometry, kernel, low, high
        self._packed: dict[Kernel, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        recorded = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if recorded or not self.is_supported(x):
            return self.run(x, TORCH)
        return self.run(x, self.kernel if isinstance(self.kernel, Kernel) else self.kernel(self, x))

    def is_supported(self, x: Tensor) -> bool:
        """Whether kernels other than torch's can compute an input."""
        return (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and x.dim() == 4
            and x.numel() > 0
            and x.shape[1] == self.weight.shape[1] * self.geometry.groups
            and min(self.geometry.output_size(x.shape[2], x.shape[3])) > 0
        )

    def can_run(self, kernel: Kernel) -> bool:
        """Whether a kernel can compute this layer."""
        if kernel.kind == "winograd":
            return self.geometry.stride == (1, 1)
        if kernel.kind == "depthwise":
            return load_native() is not None and self._is_depthwise
        return kernel.kind == "torch" or (kernel.kind == "direct" and load_native() is not None)

    def run(self, x: Tensor, kernel: Kernel) -> Tensor:
        """Compute by one kernel, one for which `can_run` is true."""
        if kernel.kind != "torch" and load_native() is not None:
            y = self._run_native(x, kernel)
            if y is not None:
                return y
        if kernel.kind == "winograd":
            if kernel not in self._packed:
                self._packed[kernel] = transform_weight(self.weight.detach(), kernel.tile).float()
            y = winograd_conv2d(x, self._packed[kernel], self.geometry, kernel.tile)
            if self.bias is not None:
                y += self.bias[:, None, None]
        else:
            y = self._torch_conv2d(x)
        if self.low == -math.inf and self.high == math.inf:
            return y
        return y.clamp(self.low, self.high) if y.requires_grad else y.clamp_(self.low, self.high)

    def reset(self) -> None:
        """Forget the transformed weights."""
        self._packed.clear()

    def kernel_bytes(self, kernel: Kernel) -> int:
        """Memory that a kernel's copy of the weights takes, once it has run."""
        if kernel.kind == "torch":
            return 0
        points = math.prod(self.geometry.kernel)
        if kernel.kind == "winograd":
            points = math.prod(t + k - 1 for t, k in zip(kernel.tile, self.geometry.kernel, strict=True))
        return 4 * points * math.prod(self.weight.shape[:2])

    def extra_repr(self) -> str:
        c_out, c_in = self.weight.shape[0], self.weight.shape[1] * self.geometry.groups
        kernel = self.kernel if isinstance(self.kernel, Kernel) else "chosen by shape"
        return f"{c_in}, {c_out}, kernel_size={self.geometry.kernel}, dilation={self.geometry.dilation}, {kernel}"

    @property
    def is_clamped(self) -> bool:
        """Whether results are clamped to a range."""
        return self.low > -math.inf or self.high < math.inf

    @property
    def _is_depthwise(self) -> bool:
        return self.geometry.groups == self.weight.shape[0] and self.weight.shape[1] == 1

    def _torch_conv2d(self, x: Tensor) -> Tensor:
        geometry = self.geometry
        padding = geometry.padding_before(x.shape[-2], x.shape[-1])
        end_padding = geometry.padding_after(x.shape[-2], x.shape[-1])
        if end_padding != padding:
            x = F.pad(x, (padding[1], end_padding[1], padding[0], end_padding[0]))
            padding = (0, 0)
        return F.conv2d(x, self.weight, self.bias, geometry.stride, padding, geometry.dilation, geometry.groups)

    def _run_native(self, x: Tensor, kernel: Kernel) -> Tensor | None:
        """Run a compiled kernel; None where these tiles are not compiled in."""
        native = load_native()
        assert native is not None
        layer = self._describe(x, kernel, native)
        function = getattr(native, f"dilated_{kernel.kind}")
        tile = kernel.tile if kernel.kind == "winograd" else ()
        floats = function(ctypes.byref(layer), 0, *tile)
        if floats < 0:
            return None
        if kernel not in self._packed:
            self._packed[kernel] = self._pack(kernel, native.dilated_panel())
        x = to_channels_last(x)
        shape = (layer.batch, layer.out_height, layer.out_width, self.weight.shape[0])
        y, scratch = empty_map(shape), scratch_memory(floats)
        bias = None if self.bias is None else self.bias.detach().contiguous()
        layer.x, layer.y, layer.u = x.data_ptr(), y.data_ptr(), self._packed[kernel].data_ptr()
        layer.scratch, layer.bias = scratch.data_ptr(), None if bias is None else bias.data_ptr()
        function(ctypes.byref(layer), 1, *tile)
        return y.permute(0, 3, 1, 2)

    def _pack(self, kernel: Kernel, panel: int) -> Tensor:
        """The weights as a compiled kernel reads them."""
        weight, groups = self.weight.detach(), self.geometry.groups
        if kernel.kind == "depthwise":
            return weight.flatten(1).T.contiguous()
        if kernel.kind == "winograd":
            return _pack_weight(weight, groups, panel, lambda part: transform_weight(part, kernel.tile))
        packed = _pack_weight(weight, groups, panel, lambda part: part.flatten(2).permute(2, 0, 1))
        return packed.transpose(1, 2).contiguous()  # (groups, panels, taps, c_in, panel)

    def _describe(self, x: Tensor, kernel: Kernel, native: ctypes.CDLL) -> Layer:
        """The arguments of a compiled kernel but the addresses."""
        n, _, height, width = x.shape
        geometry, threads = self.geometry, torch.get_num_threads()
        out_height, out_width = geometry.output_size(height, width)
        c_out, c_in = self.weight.shape[0] // geometry.groups, self.weight.shape[1]
        panel, rows = native.dilated_panel(), native.dilated_rows()
        chunk, block, shared = 48, 128, False
        if kernel.kind == "winograd":
            points = math.prod(t + k - 1 for t, k in zip(kernel.tile, geometry.kernel, strict=True))
            shared = self.kernel_bytes(kernel) > _SHARED_WEIGHT_BYTES
            if shared:
                chunk = min(max(chunk, _SHARED_INPUT_BYTES // (4 * points * c_in)), 192)
                block = min(block, -(-c_out // threads))
        padding = geometry.padding_before(height, width)
        return Layer(
            batch=n, height=height, width=width, out_height=out_height, out_width=out_width, groups=geometry.groups,
            c_in=c_in, c_out=c_out, kernel_h=geometry.kernel[0], kernel_w=geometry.kernel[1],
            stride_h=geometry.stride[0], stride_w=geometry.stride[1], dilation_h=geometry.dilation[0],
            dilation_w=geometry.dilation[1], padding_h=padding[0], padding_w=padding[1],
            chunk=-(-chunk // rows) * rows, block=-(-min(block, c_out) // panel) * panel, shared=shared,
            threads=threads, low=self.low, high=self.high,
        )  # fmt: skip


def _pack_weight(weight: Tensor, groups: int, panel: int, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Lay weights out as the compiled kernels read them.

    Args:
        weight: (c_out, c_in, kh, kw).
        panel: output channels that are multiplied together.
        transform: (channels, c_in, kh, kw) -> (points, channels, c_in).

    Returns:
        (groups, points, panels, c_in, panel) float32, with zeros beyond the last output channel.
    """
    c_out = weight.shape[0] // groups
    packed: Any = None
    for group, kernels in enumerate(weight.split(c_out)):
        for i, part in enumerate(kernels.split(16 * panel)):  # in parts: float64 takes twice the memory
            u = transform(part)
            u = F.pad(u, (0, 0, 0, -u.shape[1] % panel)).unflatten(1, (-1, panel))
            if packed is None:
                packed = torch.empty(groups, u.shape[0], -(-c_out // panel), weight.shape[1], panel)
            packed[group, :, 16 * i : 16 * i + u.shape[1]] = u.transpose(2, 3)
    return packed


def to_channels_last(x: Tensor) -> Tensor:
    """(N, C, H, W), in memory as (N, H, W, C)."""
    x = x.contiguous(memory_format=torch.channels_last)
    if x.stride(1) != 1:  # torch takes (N, C, 1, 1) and (N, 1, H, W) for both formats
        x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    return x


_local = threading.local()


def scratch_memory(floats: int) -> Tensor:
    """Memory of at least so many floats; each thread keeps the largest it has needed."""
    scratch: Tensor | None = getattr(_local, "scratch", None)
    if scratch is None or scratch.numel() < floats:
        scratch = _local.scratch = torch.empty(floats)
    return scratch
