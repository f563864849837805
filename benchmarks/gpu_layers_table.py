"""The convolutions of the released networks, and the kernels that are tried for each on a GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dilated.kernels.gpu_layers import GPUConv2d, GPUKernel
from dilated.kernels.layers import FastConv2d


@dataclass(frozen=True)
class LayerSpec:
    """A convolution with bias and ReLU, and the size of its input."""

    name: str
    c_in: int
    c_out: int
    kernel: int
    dilation: int
    padding: int
    side: int

    @property
    def key(self) -> tuple[int, int, int, int]:
        """What the choice of a kernel is kept by: sizes vary within a block."""
        return self.c_in, self.c_out, self.kernel, self.dilation

    @property
    def out_side(self) -> int:
        return self.side + 2 * self.padding - self.dilation * (self.kernel - 1)

    @property
    def flops(self) -> int:
        return 2 * self.out_side**2 * self.kernel**2 * self.c_in * self.c_out

    def shrink(self) -> LayerSpec:
        """A tiny layer of this kind, for Triton's interpreter."""
        span = self.dilation * (self.kernel - 1)
        return replace(self, c_in=min(self.c_in, 24), c_out=min(self.c_out, 32), side=span + 6)

    def build(self, device: str, dtype: torch.dtype) -> GPUConv2d:
        """The layer with weights of He et al., and a bias."""
        torch.manual_seed(0)
        with torch.device(device):
            conv = nn.Conv2d(self.c_in, self.c_out, self.kernel, padding=self.padding, dilation=self.dilation)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        return GPUConv2d(FastConv2d(conv.requires_grad_(False), low=0.0), dtype)

    def make_input(self, device: str, dtype: torch.dtype) -> Tensor:
        """(1, c_in, side, side), channels last, rectified."""
        generator = torch.Generator(device).manual_seed(1)
        x = torch.randn(1, self.side, self.side, self.c_in, generator=generator, device=device).relu()
        return x.to(dtype).permute(0, 3, 1, 2)


LAYERS = (
    LayerSpec("fc6", 512, 4096, 7, 4, 0, 137),
    LayerSpec("conv5_2", 512, 512, 3, 2, 0, 145),
    LayerSpec("conv4_2", 512, 512, 3, 1, 0, 153),
    LayerSpec("fc7", 4096, 4096, 1, 1, 0, 113),
    LayerSpec("conv3_2", 256, 256, 3, 1, 0, 315),
    LayerSpec("conv3_1", 128, 256, 3, 1, 0, 317),
    LayerSpec("conv4_1", 256, 512, 3, 1, 0, 155),
    LayerSpec("conv2_2", 128, 128, 3, 1, 0, 632),
    LayerSpec("conv1_2", 64, 64, 3, 1, 0, 1270),
    LayerSpec("conv2_1", 64, 128, 3, 1, 0, 634),
    LayerSpec("conv1_1", 3, 64, 3, 1, 0, 1272),
    LayerSpec("context 672", 672, 672, 3, 1, 0, 115),
    LayerSpec("context 336", 336, 672, 3, 16, 0, 147),
    LayerSpec("context 168", 168, 336, 3, 8, 0, 163),
    LayerSpec("context 84", 84, 168, 3, 4, 0, 171),
    LayerSpec("context 42", 42, 84, 3, 2, 0, 175),
    LayerSpec("context 42 d1", 42, 42, 3, 1, 0, 177),
    LayerSpec("context 21", 21, 42, 3, 1, 0, 179),
    LayerSpec("basic 19", 19, 19, 3, 4, 4, 128),
)
"""Of Dilation8 for an image of 900x900, whole; the last is one of Dilation10's."""

_WIDE = (
    "128x256x64 s3 w8 g8 e2 p",
    "128x256x64 s3 w8 g8 e1",
    "256x128x64 s3 w8 g8 e1 p",
    "128x256x64 s3 w8 g8 e2 pf",
    "128x128x64 s3 w4 g8 e2",
)
_WIDEST = (*_WIDE, "128x256x64 s4 w8 g8 e2 p", "256x128x64 s4 w8 g8 e2 p", "128x256x64 s4 w8 g16 e2 p")
_MIDDLE = ("128x128x64 s3 w4 g8 e2", "128x128x64 s4 w4 g8 e1 p", "256x128x64 s3 w8 g8 e1 p", "128x128x64 s4 w8 g8 e1")
_NARROW = ("128x64x64 s3 w4 g8 e1", "256x64x64 s3 w8 g8 e1", "128x64x64 s4 w4 g8 e1 p", "256x64x64 s4 w8 g8 e1 pf")
_THIN = ("128x32x32 s4 w4 g8 e1", "64x64x64 s3 w4 g8 e1", "64x32x32 s4 w4 g8 e1")
_GATHER = ("128x64x32 s2 w4 g8 e1", "128x64x32 s2 w8 g8 e1", "64x64x32 s2 w4 g8 e1")


def list_kernels(spec: LayerSpec) -> list[GPUKernel]:
    """The kernels that are tried, those that are expected to be best first."""
    texts = ["matmul"] if spec.kernel == 1 else ["columns"] if spec.c_in >= 16 else []
    if spec.c_in >= 16:
        tiles = (
            _WIDEST if spec.name == "fc6" else _WIDE if spec.c_out >= 256 else _MIDDLE if spec.c_out >= 128 else _NARROW
        )
        tiles = tiles if spec.c_in >= 64 else _THIN
        tiles = tiles[:3] if spec.name in ("fc7", "conv3_1", "conv4_1", "conv2_1") or "context" in spec.name else tiles
        kinds = ["rows"]
        if spec.name == "fc6" or spec.padding:
            kinds = ["slabs"]
        texts += [f"{kind} {tile}" for tile in tiles for kind in kinds]
        if spec.name in ("conv5_2", "context 336"):
            texts += [f"slabs {tile}" for tile in tiles[:2]]
    if spec.c_in < 8:
        texts += [f"gather {tile}" for tile in _GATHER]
    texts += ["cudnn", "cudnn relu"]  # last: their plans may take long to build, or run
    return [GPUKernel.parse(text) for text in texts]
