"""Triton kernels that move or reduce maps, channels last: padding and unfolding, pooling, labels of up-sampled logits.

Only imported where Triton is installed: see `dilated.kernels.gpu_layers`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dilated.kernels.geometry import Pair

_VALUES = 2048
"""Values that one program moves."""
_VECTOR = 8
"""Values that one thread moves at once: 16 bytes of half precision."""


def _index_type(*tensors: Tensor) -> tl.dtype:
    """The type that holds the position of every element."""
    return tl.int32 if max(tensor.numel() for tensor in tensors) < 2**30 else tl.int64


@triton.jit(do_not_specialize=["total", "height", "width", "rows", "columns"])
def _unfold(
    x_ptr, y_ptr, total, height, width, c_in, slabs_h, slabs_w, rows, columns, in_chunks, chunks, padding_h, padding_w,
    step_h, step_w, BLOCK: tl.constexpr, VECTOR: tl.constexpr, ALIGNED: tl.constexpr, COLUMN: tl.constexpr,
    INDEX: tl.constexpr,
):  # fmt: skip
    """Copy vectors of channels of the output from where their slab reads the input."""
    index = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    chunk = index % chunks
    rest = index // chunks
    slabs = slabs_h * slabs_w
    if COLUMN:  # (image, row, column, slab)
        slab = rest % slabs
        rest = rest // slabs
    column = rest % columns
    rest = rest // columns
    row = rest % rows
    image = rest // rows
    if not COLUMN:  # (image, slab, row, column)
        slab = image % slabs
        image = image // slabs
    h = row + slab // slabs_w * step_h - padding_h
    w = column + slab % slabs_w * step_w - padding_w
    lanes = tl.arange(0, VECTOR)[None, :]
    c = chunk[:, None] * VECTOR + lanes
    is_inside = (h >= 0) & (h < height) & (w >= 0) & (w < width) & (index < total)
    place = (image * height + h) * width + w
    if ALIGNED:
        source = x_ptr + ((place * in_chunks + chunk) * VECTOR)[:, None] + lanes
        mask = (is_inside & (chunk < in_chunks))[:, None]
    else:
        source = x_ptr + (place * c_in)[:, None] + c
        mask = is_inside[:, None] & (c < c_in)
    value = tl.load(source, mask=mask, other=0.0)
    tl.store(y_ptr + (index * VECTOR)[:, None] + lanes, value, mask=(index < total)[:, None])


def unfold(
    x: Tensor, size: Pair, padding: Pair, slabs: Pair, steps: Pair, channels: int, is_column: bool = False
) -> Tensor:
    """Copy a map once per slab, shifted by a step from slab to slab, with zeros around it.

    Args:
        x: (N, H, W, C) contiguous.
        size: rows and columns of each slab.
        padding: rows and columns of zeros before the first.
        slabs: how many down and across.
        steps: rows and columns of the input from one slab to the next.
        channels: of the output, a multiple of 8, at least C; those beyond are zeros.
        is_column: put the slabs of a position next to each other instead of one after the other.

    Returns:
        (N, slabs, rows * columns, channels); (N, rows * columns, slabs * channels) for columns.
    """
    n, height, width, c_in = x.shape
    rows, count = size[0] * size[1], slabs[0] * slabs[1]
    shape = (n, rows, count * channels) if is_column else (n, count, rows, channels)
    y = x.new_empty(shape)
    total, block = y.numel() // _VECTOR, _VALUES // _VECTOR
    _unfold[(-(-total // block),)](
        x, y, total, height, width, c_in, *slabs, *size, c_in // _VECTOR, channels // _VECTOR, *padding, *steps,
        BLOCK=block, VECTOR=_VECTOR, ALIGNED=c_in % _VECTOR == 0, COLUMN=is_column, INDEX=_index_type(x, y),
    )  # fmt: skip
    return y


@triton.jit(do_not_specialize=["total", "height", "width", "out_h", "out_w"])
def _max_pool(
    x_ptr, y_ptr, total, height, width, chunks, out_h, out_w, BLOCK: tl.constexpr, VECTOR: tl.constexpr,
    INDEX: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    chunk = index % chunks
    rest = index // chunks
    w = rest % out_w * 2
    rest = rest // out_w
    h = rest % out_h * 2
    image = rest // out_h
    base = ((((image * height + h) * width + w) * chunks + chunk) * VECTOR)[:, None] + tl.arange(0, VECTOR)[None, :]
    inside = (index < total)[:, None] & (base >= 0)
    best = tl.load(x_ptr + base, mask=inside, other=0.0)
    lowest = float("-inf")
    step = chunks * VECTOR  # a multiple that the compiler sees, unlike the number of channels
    right, below = inside & (w + 1 < width)[:, None], inside & (h + 1 < height)[:, None]
    best = tl.maximum(best, tl.load(x_ptr + base + step, mask=right, other=lowest), tl.PropagateNan.ALL)
    base += width * step
    best = tl.maximum(best, tl.load(x_ptr + base, mask=below, other=lowest), tl.PropagateNan.ALL)
    best = tl.maximum(best, tl.load(x_ptr + base + step, mask=right & below, other=lowest), tl.PropagateNan.ALL)
    tl.store(y_ptr + (index * VECTOR)[:, None] + tl.arange(0, VECTOR)[None, :], best, mask=inside)


def max_pool(x: Tensor) -> Tensor:
    """The greatest of each 2x2 values, rounding up at the end, without torch's map of indices.

    Args:
        x: (N, C, H, W), channels last.

    Returns:
        (N, C, ceil(H / 2), ceil(W / 2)), channels last.
    """
    n, channels, height, width = x.shape
    out_h, out_w = -(-height // 2), -(-width // 2)
    y = x.new_empty((n, out_h, out_w, channels))
    vector = _VECTOR if channels % _VECTOR == 0 else 1
    total, block = y.numel() // vector, _VALUES // _VECTOR
    _max_pool[(triton.cdiv(total, block),)](
        x, y, total, height, width, channels // vector, out_h, out_w, BLOCK=block, VECTOR=vector,
        INDEX=_index_type(x),
    )  # fmt: skip
    return y.permute(0, 3, 1, 2)


@triton.jit(do_not_specialize=["total", "height", "width", "out_h", "out_w", "stride_image", "stride_row"])
def _upsample_argmax(
    logits_ptr, labels_ptr, row_ptr, row_weight_ptr, column_ptr, column_weight_ptr, total, height, width, classes,
    out_h, out_w, stride_image, stride_class, stride_row, stride_column, BLOCK: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < total
    column = index % out_w
    row = index // out_w % out_h
    image = index // out_w // out_h
    top = tl.load(row_ptr + row, mask=inside, other=0)
    left = tl.load(column_ptr + column, mask=inside, other=0)
    down = tl.load(row_weight_ptr + row, mask=inside, other=0.0)
    across = tl.load(column_weight_ptr + column, mask=inside, other=0.0)
    p00 = logits_ptr + image * stride_image + top * stride_row + left * stride_column
    to_right = tl.where(left + 1 < width, stride_column, 0)
    to_below = tl.where(top + 1 < height, stride_row, 0)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    label = tl.zeros((BLOCK,), dtype=tl.int32)
    for c in range(classes):
        p = p00 + c * stride_class
        a = tl.load(p, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(p + to_right, mask=inside, other=0.0).to(tl.float32)
        upper = a + across * (b - a)
        a = tl.load(p + to_below, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(p + to_below + to_right, mask=inside, other=0.0).to(tl.float32)
        lower = a + across * (b - a)
        value = upper + down * (lower - upper)
        is_better = (value > best) | ((value != value) & (best == best))  # torch's argmax takes NaN for the greatest
        best = tl.where(is_better, value, best)
        label = tl.where(is_better, c, label)
    tl.store(labels_ptr + index, label, mask=inside)


def upsample_argmax(
    logits: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], dtype: torch.dtype
) -> Tensor:
    """Interpolate logits bilinearly and take the greatest class of each pixel, without the logits of every pixel.

    Args:
        logits: (N, C, h, w) of any memory layout, float32 or half precision.
        rows: for each row of pixels, (H,), the row of logits before it, int64, and the weight of the next, float32.
        columns: the same of the columns, (W,).
        dtype: of the labels.

    Returns:
        (N, H, W), the first of classes that are equal.
    """
    n, classes, height, width = logits.shape
    out_h, out_w = len(rows[0]), len(columns[0])
    labels = torch.empty((n, out_h, out_w), dtype=dtype, device=logits.device)
    block = 256
    _upsample_argmax[(triton.cdiv(labels.numel(), block),)](
        logits, labels, *rows, *columns, labels.numel(), height, width, classes, out_h, out_w, logits.stride(0),
        logits.stride(1), logits.stride(2), logits.stride(3), BLOCK=block,
    )  # fmt: skip
    return labels
