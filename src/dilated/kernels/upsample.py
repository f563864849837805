"""Bilinear up-sampling of maps that are channels last in memory, without turning them."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from dilated.kernels.labels import split_positions
from dilated.kernels.native import Upsample, empty_map, load_native


def is_upsampled_natively(x: Tensor) -> bool:
    """Whether the compiled kernel can interpolate a map, and the map lies in memory as it reads it."""
    return (
        type(x) is Tensor  # what stands for a tensor while a graph is traced has no memory
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not (x.requires_grad and torch.is_grad_enabled())
        and x.dim() == 4
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.stride(1) == 1
        and not torch.compiler.is_compiling()
        and load_native() is not None
    )


def upsample_channels_last(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Interpolate a map, for which `is_upsampled_natively` is true, bilinearly.

    Args:
        x: (N, C, h, w) float32, channels last.
        rows: (H,) float64: where each row of the result lies between those of the map, in 0..h-1.
        columns: (W,) float64, the same along the columns, in 0..w-1.

    Returns:
        (N, C, H, W), channels last.

    Example:
        >>> x = torch.tensor([[[[0.0, 4.0], [2.0, 8.0]]]])
        >>> x = x.expand(1, 2, 2, 2).contiguous(memory_format=torch.channels_last)
        >>> y = upsample_channels_last(x, torch.tensor([0.5]), torch.linspace(0, 1, 3)) if load_native() else None
    """
    native = load_native()
    assert native is not None
    n, channels, height, width = x.shape
    y = empty_map((n, len(rows), len(columns), channels))
    (first_rows, row_weights), (first_columns, column_weights) = split_positions(rows), split_positions(columns)
    tensors = {
        "x": x, "y": y, "rows": first_rows, "columns": first_columns, "row_weights": row_weights,
        "column_weights": column_weights,
    }  # fmt: skip
    arguments = Upsample(
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        batch=n, channels=channels, height=height, width=width, out_height=len(rows), out_width=len(columns),
        threads=torch.get_num_threads(),
    )  # fmt: skip
    native.dilated_upsample(ctypes.byref(arguments))
    return y.permute(0, 3, 1, 2)
