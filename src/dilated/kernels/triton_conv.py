"""Dilated convolution in Triton as one matrix product per tap, summed in float32: half precision in and out.

A convolution of stride 1 reads, for tap (i, j) and output row m of the flattened map, input row m + i * s + j * t. So a
tile of its output is a sum over taps of plain matrix products, whose operands the tensor memory accelerator fetches as
boxes of rows; no mask is needed. `conv_rows` does this. `conv_gather` reads each element by its own address: slower,
for any number of channels.

Only imported where Triton is installed: see `dilated.kernels.gpu_layers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from dilated.kernels.geometry import Pair


@dataclass(frozen=True)
class TileConfig:
    """How a matrix product is cut into tiles and run."""

    rows: int = 128
    channels: int = 128
    """Output channels of a tile."""
    depth: int = 64
    """Input channels that are multiplied at a time."""
    stages: int = 4
    """Boxes in flight."""
    warps: int = 8
    group: int = 8
    """Tiles of rows that run side by side over all channels, so that their operands stay in the cache."""
    is_persistent: bool = True
    """One program per multiprocessor, which works through many tiles; otherwise one program per tile."""
    is_flat: bool = False
    """Tiles and depth are one loop, so that a tile's first boxes are fetched while the last one is stored."""
    parts: int = 1
    """Parts in which a tile is stored."""
    is_specialized: bool = False
    """Some warps fetch, others multiply."""

    def __str__(self) -> str:
        flags = f"{'p' if self.is_persistent else ''}{'f' if self.is_flat else ''}{'s' if self.is_specialized else ''}"
        size = f"{self.rows}x{self.channels}x{self.depth}"
        return f"{size} s{self.stages} w{self.warps} g{self.group} e{self.parts}{' ' + flags if flags else ''}"

    @classmethod
    def parse(cls, text: str) -> TileConfig:
        """Read what `str` gives.

        Example:
            >>> TileConfig.parse("128x256x64 s3 w8 g8 e2 pf") == TileConfig(128, 256, 64, 3, 8, 8, True, True, 2)
            True
        """
        size, stages, warps, group, parts, *flags = text.split()
        rows, channels, depth = map(int, size.split("x"))
        letters = flags[0] if flags else ""
        return cls(
            rows, channels, depth, int(stages[1:]), int(warps[1:]), int(group[1:]), "p" in letters, "f" in letters,
            int(parts[1:]), "s" in letters,
        )  # fmt: skip


@triton.jit
def _find_tile(tile, tiles_m, tiles_n, GROUP: tl.constexpr):
    """The row and the column of a tile; columns vary within a group of rows."""
    per_group = GROUP * tiles_n
    group = tile // per_group
    first = group * GROUP
    size = min(tiles_m - first, GROUP)
    inside = tile - group * per_group
    return first + inside % size, inside // size


@triton.jit
def _clamp(value, low, high, CLAMP: tl.constexpr):
    if CLAMP:
        value = tl.maximum(value, low, propagate_nan=tl.PropagateNan.ALL)
        value = tl.minimum(value, high, propagate_nan=tl.PropagateNan.ALL)
    return value


@triton.jit
def _store_rows(
    acc, m0, n0, image, y_desc, y_ptr, bias_ptr, pitch, out_h, out_w, c_out, low, high,
    BM: tl.constexpr, BN: tl.constexpr, HAS_BIAS: tl.constexpr, CLAMP: tl.constexpr, BOX_STORE: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    columns = n0 + tl.arange(0, BN)
    if HAS_BIAS:
        acc += tl.load(bias_ptr + columns, mask=columns < c_out, other=0.0)[None, :]
    value = _clamp(acc, low, high, CLAMP).to(DTYPE)
    if BOX_STORE:
        y_desc.store([m0, n0], value)
    else:
        m = m0 + tl.arange(0, BM)
        h = m // pitch
        w = m - h * pitch
        row = ((image * out_h + h) * out_w + w).to(tl.int64)
        is_inside = (h < out_h) & (w < out_w)
        mask = is_inside[:, None] & (columns < c_out)[None, :]
        tl.store(y_ptr + row[:, None] * c_out + columns[None, :], value, mask=mask)


_SIZES = ["images", "rows", "image_rows", "pitch", "out_h", "out_w", "step_i", "step_j"]
"""Arguments that a kernel is not compiled anew for, so that images of many sizes share one."""


@triton.jit(do_not_specialize=_SIZES)
def _conv_rows(
    x_desc, w_desc, y_desc, y_ptr, bias_ptr, images, rows, image_rows, pitch, out_h, out_w, c_out, step_i, step_j,
    low, high,
    TAPS: tl.constexpr, KW: tl.constexpr, KB: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    GROUP: tl.constexpr, PROGRAMS: tl.constexpr, FLAT: tl.constexpr, PARTS: tl.constexpr, SPECIALIZE: tl.constexpr,
    HAS_BIAS: tl.constexpr, CLAMP: tl.constexpr, BOX_STORE: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    tiles_n = tl.cdiv(c_out, BN)
    image_tiles = tl.cdiv(rows, BM)
    tiles_m = images * image_tiles
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, PROGRAMS, flatten=FLAT, warp_specialize=SPECIALIZE):
        tile_m, tile_n = _find_tile(tile, tiles_m, tiles_n, GROUP)
        image = tile_m // image_tiles
        m0 = (tile_m - image * image_tiles) * BM
        row = image * image_rows + m0
        n0 = tile_n * BN
        acc = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(TAPS * KB):
            tap = k // KB
            i = tap // KW
            j = tap - i * KW
            a = x_desc.load([row + i * step_i + j * step_j, (k - tap * KB) * BK])
            b = w_desc.load([n0, k * BK])
            acc = tl.dot(a, b.T, acc)
        if PARTS == 1:
            _store_rows(
                acc, m0, n0, image, y_desc, y_ptr, bias_ptr, pitch, out_h, out_w, c_out, low, high,
                BM, BN, HAS_BIAS, CLAMP, BOX_STORE, DTYPE,
            )  # fmt: skip
        else:
            halves = tl.permute(tl.reshape(acc, (BM, 2, BN // 2)), (0, 2, 1))
            left, right = tl.split(halves)
            _store_rows(
                left, m0, n0, image, y_desc, y_ptr, bias_ptr, pitch, out_h, out_w, c_out, low, high,
                BM, BN // 2, HAS_BIAS, CLAMP, BOX_STORE, DTYPE,
            )  # fmt: skip
            _store_rows(
                right, m0, n0 + BN // 2, image, y_desc, y_ptr, bias_ptr, pitch, out_h, out_w, c_out, low, high,
                BM, BN // 2, HAS_BIAS, CLAMP, BOX_STORE, DTYPE,
            )  # fmt: skip


@triton.jit(do_not_specialize=["images", "height", "width", "out_h", "out_w"])
def _conv_gather(
    x_ptr, w_ptr, y_ptr, bias_ptr, images, height, width, out_h, out_w, c_out, stride_h, stride_w, dilation_h,
    dilation_w, padding_h, padding_w, low, high,
    C_IN: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    HAS_BIAS: tl.constexpr, CLAMP: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    depth = KH * KW * C_IN
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    image = m // (out_h * out_w)
    h = m // out_w % out_h * stride_h - padding_h
    w = m % out_w * stride_w - padding_w
    in_map = m < images * out_h * out_w
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k0 in range(0, depth, BK):
        k = k0 + tl.arange(0, BK)
        tap = k // C_IN
        row = h[:, None] + (tap // KW * dilation_h)[None, :]
        column = w[:, None] + (tap % KW * dilation_w)[None, :]
        mask = (row >= 0) & (row < height) & (column >= 0) & (column < width) & in_map[:, None] & (k < depth)[None, :]
        position = ((image[:, None] * height + row).to(tl.int64) * width + column) * C_IN + (k % C_IN)[None, :]
        a = tl.load(x_ptr + position, mask=mask, other=0.0)
        b_mask = (k < depth)[:, None] & (columns < c_out)[None, :]
        b = tl.load(w_ptr + columns[None, :].to(tl.int64) * depth + k[:, None], mask=b_mask, other=0.0)
        acc = tl.dot(a, b, acc)
    if HAS_BIAS:
        acc += tl.load(bias_ptr + columns, mask=columns < c_out, other=0.0)[None, :]
    value = _clamp(acc, low, high, CLAMP).to(DTYPE)
    y = y_ptr + m[:, None].to(tl.int64) * c_out + columns[None, :]
    tl.store(y, value, mask=in_map[:, None] & (columns < c_out)[None, :])


@dataclass(frozen=True)
class RowLayout:
    """How the rows of an input lie in memory, (images * image_rows, c_in), and which of them an output row reads."""

    images: int
    image_rows: int
    """Rows of one image."""
    pitch: int
    """Rows of the input from one row of the map to the next."""
    steps: Pair
    """Rows from one tap to the next, down and across."""


@dataclass(frozen=True)
class Epilogue:
    """What follows the sum: a bias, (c_out,) float32, and a clamp to a range."""

    bias: Tensor | None = None
    low: float = float("-inf")
    high: float = float("inf")

    @property
    def is_clamped(self) -> bool:
        return self.low > float("-inf") or self.high < float("inf")


def conv_rows(
    x: Tensor, weight: Tensor, y: Tensor, kernel: Pair, layout: RowLayout, end: Epilogue, config: TileConfig
) -> None:
    """Convolve, with stride 1, rows that are already padded.

    Args:
        x: (rows, c_in) half precision; c_in a multiple of 8.
        weight: (c_out, taps * c), c_in rounded up to a multiple of `config.depth`, the rest zeros.
        y: (N, H, W, c_out), written.
        kernel: rows and columns of the kernel.

    Example:
        See `dilated.kernels.gpu_layers.GPUConv2d`, which prepares these.
    """
    images, out_h, out_w, c_out = y.shape
    taps = kernel[0] * kernel[1]
    blocks = weight.shape[1] // taps // config.depth
    rows = (out_h - 1) * layout.pitch + out_w
    tiles = images * -(-rows // config.rows) * -(-c_out // config.channels)
    programs = min(tiles, count_multiprocessors(x)) if config.is_persistent else tiles
    is_box_stored = images == 1 and layout.pitch == out_w and c_out % 8 == 0
    part = config.channels // config.parts
    y_rows = y.view(-1, c_out)
    y_box: Any = TensorDescriptor(y_rows, list(y_rows.shape), [c_out, 1], [config.rows, part]) if is_box_stored else y
    _conv_rows[(programs,)](
        TensorDescriptor(x, list(x.shape), [x.stride(0), 1], [config.rows, config.depth]),
        TensorDescriptor(weight, list(weight.shape), [weight.stride(0), 1], [config.channels, config.depth]),
        y_box, y, y if end.bias is None else end.bias, images, rows, layout.image_rows, layout.pitch, out_h, out_w,
        c_out, *layout.steps, end.low, end.high,
        TAPS=taps, KW=kernel[1], KB=blocks, BM=config.rows, BN=config.channels, BK=config.depth, GROUP=config.group,
        PROGRAMS=programs, FLAT=config.is_flat, PARTS=config.parts, SPECIALIZE=config.is_specialized,
        HAS_BIAS=end.bias is not None, CLAMP=end.is_clamped, BOX_STORE=is_box_stored, DTYPE=DTYPES[y.dtype],
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip


DTYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


def count_multiprocessors(x: Tensor) -> int:
    """The multiprocessors of the device of a tensor; one for the interpreter."""
    return torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 1


def conv_gather(
    x: Tensor, weight: Tensor, y: Tensor, kernel: Pair, geometry: dict[str, Pair], end: Epilogue, config: TileConfig
) -> None:
    """Convolve by reading each element by its own address.

    Args:
        x: (N, H, W, c_in) contiguous.
        weight: (c_out, taps * c_in), contiguous.
        y: (N, H', W', c_out), written.
        geometry: `stride`, `dilation` and `padding`.
    """
    images, out_h, out_w, c_out = y.shape
    grid = (-(-images * out_h * out_w // config.rows), -(-c_out // config.channels))
    _conv_gather[grid](
        x, weight, y, y if end.bias is None else end.bias, images, x.shape[1], x.shape[2], out_h, out_w, c_out,
        *geometry["stride"], *geometry["dilation"], *geometry["padding"], end.low, end.high,
        C_IN=x.shape[3], KH=kernel[0], KW=kernel[1], BM=config.rows, BN=config.channels, BK=config.depth,
        HAS_BIAS=end.bias is not None, CLAMP=end.is_clamped, DTYPE=DTYPES[y.dtype],
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
