"""Labels of every pixel in an exported graph, some rows at a time, so that many classes need little time and memory.

labels = label_in_bands(logits, grid, (height, width))      # (N, C, h, w) -> (N, height, width)
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from dilated.models.sampling import PIXEL_GRID, AxisGrids, positions_any_size, split_axes

_BAND_VALUES = 2**18
"""Logits of pixels that are held at a time: as many as a processor's cache holds."""


def label_in_bands(logits: Tensor, source: AxisGrids, size: tuple[int, int]) -> Tensor:
    """Interpolate logits bilinearly to pixels and take the greatest class of each, in a loop over bands of rows.

    Args:
        logits: (N, C, h, w) float32 on `source`.
        source: where the logits sit.
        size: (H, W) of the image.

    Returns:
        (N, H, W) int32; the first of classes that are equal.

    Example:
        >>> from dilated.models.sampling import Grid
        >>> logits = torch.tensor([[[[0.0, 4.0]], [[1.0, 2.0]]]])
        >>> label_in_bands(logits, Grid(4, 0.0), (1, 5)).tolist()
        [[[1, 1, 0, 0, 0]]]
    """
    rows, columns = (
        positions_any_size(logits.shape[axis], grid, PIXEL_GRID, length)
        for axis, grid, length in zip((2, 3), split_axes(source), size, strict=True)
    )
    # Classes innermost: gathered and compared several times faster than side by side.
    return _scripted_loop()(logits.permute(0, 2, 3, 1).contiguous(), rows, columns, _BAND_VALUES)


def _loop(logits: Tensor, rows: Tensor, columns: Tensor, band_values: int) -> Tensor:
    """Labels (N, H, W) of logits (N, h, w, C) at positions (H,) and (W,), which are counted in samples."""
    n, h, w, c = logits.shape
    height, width = rows.shape[0], columns.shape[0]
    band = max(1, band_values // max(1, n * c * width))
    left = columns.floor()
    column_weights = (columns - left).unsqueeze(1)
    first_columns = left.long()
    second_columns = (first_columns + 1).clamp(max=w - 1)
    labels = torch.zeros([n, 0, width], dtype=torch.int32, device=logits.device)
    for i in range((height + band - 1) // band):
        part = rows[i * band : (i + 1) * band]
        top = part.floor()
        first_rows = top.long()
        above = logits.index_select(1, first_rows)
        below = logits.index_select(1, (first_rows + 1).clamp(max=h - 1))
        tall = above + (part - top).view(-1, 1, 1) * (below - above)
        before = tall.index_select(2, first_columns)
        full = before + column_weights * (tall.index_select(2, second_columns) - before)
        labels = torch.cat([labels, full.argmax(3).int()], 1)
    return labels


@functools.cache
def _scripted_loop() -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """The loop in a form that tracing keeps as one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated: the exporter that traces reads no other form of loops
        scripted: Callable[[Tensor, Tensor, Tensor, int], Tensor] = torch.jit.script(_loop)
    return scripted
