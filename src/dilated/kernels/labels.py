"""Labels of every pixel from logits on a coarser grid, without the logits of every pixel."""

from __future__ import annotations

import ctypes
from functools import lru_cache

import torch
from torch import Tensor

from dilated.kernels.native import Labels, load_native, try_triton
from dilated.tensors import label_tensor_dtype

_BAND_FLOATS = 2**22
"""Logits of pixels that are held at a time in plain PyTorch."""


@torch.no_grad()
def upsample_argmax(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Interpolate logits bilinearly and take the greatest class of each pixel, band by band.

    Args:
        logits: (N, C, h, w) float32.
        rows: (H,) float64 on the CPU, ascending: where each row of pixels lies between those of the logits, in 0..h-1.
        columns: (W,) float64, the same along the columns, in 0..w-1.

    Returns:
        (N, H, W), uint8 for up to 255 classes, otherwise int32; the first of classes that are equal.

    Example:
        >>> logits = torch.tensor([[[[0.0, 4.0]], [[1.0, 2.0]]]])
        >>> upsample_argmax(logits, torch.zeros(1), torch.linspace(0, 1, 5)).tolist()
        [[[1, 1, 0, 0, 0]]]
    """
    if logits.is_cuda and logits.numel():
        on_gpu = try_triton(lambda: _by_triton(logits, rows, columns))
        if on_gpu is not None:
            return on_gpu
    native = load_native()
    n, classes, height, width = logits.shape
    is_compiled = native is not None and logits.device.type == "cpu" and logits.dtype == torch.float32
    if native is None or not is_compiled or not logits.numel():
        return _in_bands(logits, rows, columns)
    logits = logits.contiguous()
    labels = torch.empty((n, len(rows), len(columns)), dtype=label_tensor_dtype(classes))
    (first_rows, row_weights), (first_columns, column_weights) = split_positions(rows), split_positions(columns)
    tensors = {
        "logits": logits, "labels": labels, "rows": first_rows, "columns": first_columns, "row_weights": row_weights,
        "column_weights": column_weights,
    }  # fmt: skip
    n_rows, n_columns = len(rows), len(columns)
    arguments = Labels(
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        batch=n, classes=classes, height=height, width=width, out_height=n_rows, out_width=n_columns,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    native.dilated_labels(ctypes.byref(arguments))
    return labels


def _by_triton(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The same on a GPU, by one kernel."""
    from dilated.kernels.triton_maps import upsample_argmax as upsample_argmax_on_gpu

    down, across = (_positions_on(logits.device, p.double().numpy().tobytes()) for p in (rows, columns))
    return upsample_argmax_on_gpu(logits, down, across, label_tensor_dtype(logits.shape[1]))


def _in_bands(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The same in plain PyTorch."""
    n, classes, height, width = logits.shape
    dtype = label_tensor_dtype(classes)
    labels = torch.empty((n, len(rows), len(columns)), dtype=dtype, device=logits.device)
    (first_rows, row_weights), (first_columns, column_weights) = (split_positions(p, logits) for p in (rows, columns))
    band = max(1, _BAND_FLOATS // max(1, n * classes * len(columns)))
    bounds = rows.floor().long().tolist()
    for start in range(0, len(rows), band):
        part = slice(start, start + band)
        samples, weights = first_rows[part], row_weights[part, None]
        top, bottom = bounds[start], min(bounds[part][-1] + 1, height - 1)
        window = logits[:, :, top : bottom + 1]
        wide = torch.lerp(
            window.index_select(3, first_columns),
            window.index_select(3, (first_columns + 1).clamp(max=width - 1)),
            column_weights,
        )
        low, high = samples - top, (samples + 1).clamp(max=height - 1) - top
        labels[:, part] = torch.lerp(wide.index_select(2, low), wide.index_select(2, high), weights).argmax(1).to(dtype)
    return labels


@lru_cache(maxsize=64)
def _positions_on(device: torch.device, positions: bytes) -> tuple[Tensor, Tensor]:
    """What `split_positions` gives, on a GPU, where it stays for the next image of the size."""
    samples, weights = split_positions(torch.frombuffer(bytearray(positions), dtype=torch.float64))
    return samples.to(device), weights.to(device)


def split_positions(positions: Tensor, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The sample before each position, and the weight of the one after it."""
    samples = positions.floor()
    weights = (positions - samples).to(torch.float32 if like is None else like)
    return samples.long().to(weights.device), weights
