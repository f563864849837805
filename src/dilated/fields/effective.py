"""How much each pixel matters to an output value: the effective receptive field, by gradient (Luo et al. 2016).

    >>> field = effective_field(nn.Conv2d(3, 1, 3, dilation=2), torch.rand(2, 3, 9, 9))
    >>> field.shape, effective_field_size(field, fraction=1.0)
    (torch.Size([9, 9]), 5)

`receptive_field` counts the pixels that can matter. Few of them do: the paths to an output crowd in the middle, as
`coverage` counts them, and the learned weights favor some of them. The gradient of one output says how much.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.fields.probing import eval_mode


def effective_field(
    segmenter_or_module: Callable[[Tensor], Tensor],
    images: Tensor,
    reduce: Literal["sum", "max"] = "sum",
    position: tuple[int, int] | None = None,
) -> Tensor:
    """Measure how much each pixel matters to one output: the mean absolute gradient over images and their channels.

    The network runs in evaluation mode, one image at a time. Afterwards the modes of its modules, its parameters and
    their gradients are what they were.

    Args:
        segmenter_or_module: a segmenter, whose outputs are its logits at every pixel; any module; or one method of a
            module, such as `segmenter.logits` for the logits on the segmenter's own grid. It maps (N, 3, H, W) to
            (N, C, h, w).
        images: (N, 3, H, W) float, on the network's device.
        reduce: which value to differentiate: `"sum"` over the C channels, or `"max"`, the greatest of the C.
        position: (row, column) of the value in the output; by default the middle, (h // 2, w // 2).

    Returns:
        (H, W) float64 on the CPU, not negative, with the sum 1.

    Raises:
        InputError: images or an output of another shape, a position outside the output, or a gradient that is zero
            everywhere or not finite.

    Example:
        >>> network = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        >>> _ = nn.init.ones_(network.weight)
        >>> (effective_field(network, torch.rand(1, 1, 3, 4)) * 9).round().int()
        tensor([[0, 1, 1, 1],
                [0, 1, 1, 1],
                [0, 1, 1, 1]], dtype=torch.int32)
    """
    if images.ndim != 4 or not images.numel() or not images.is_floating_point():
        raise InputError(
            f"effective_field: images {tuple(images.shape)} of {images.dtype}",
            hint="give floats (N, 3, H, W), at least one image",
        )
    if reduce not in ("sum", "max"):
        raise InputError(f"effective_field: reduce={reduce!r}", hint="give 'sum' or 'max'")
    network = getattr(segmenter_or_module, "__self__", segmenter_or_module)  # the module that a method belongs to
    total = torch.zeros(images.shape[-2:], dtype=torch.float64)
    with eval_mode(network) if isinstance(network, nn.Module) else nullcontext(), torch.enable_grad():
        for image in images.split(1):
            pixels = image.detach().clone().requires_grad_()
            values = _values_at(segmenter_or_module(pixels), position)  # (C,)
            value = values.sum() if reduce == "sum" else values.max()
            if not value.requires_grad:
                raise InputError("effective_field: the output does not depend on the pixels")
            # The gradient of the pixels alone: nothing is added to that of any parameter.
            (gradient,) = torch.autograd.grad(value, pixels, materialize_grads=True)
            total += gradient[0].abs().sum(0).double().cpu()
    total_sum = total.sum()
    if not (torch.isfinite(total_sum) and total_sum > 0):
        raise InputError(
            f"effective_field: the gradients add up to {total_sum.item():g}, not to a finite number above 0",
            hint="try other images, or a network whose weights are neither all zero nor NaN",
        )
    return total / total_sum


def effective_field_size(field: Tensor, fraction: float = 0.95, center: tuple[int, int] | None = None) -> int:
    """Measure the side of the smallest centered square that holds a fraction of a field; it may cross the border.

    Args:
        field: (H, W), not negative, as from `effective_field`.
        fraction: of the field's sum, above 0 and at most 1.
        center: (row, column) of the square's middle pixel; by default (H // 2, W // 2).

    Returns:
        Pixels, an odd number.

    Raises:
        InputError: another shape or fraction, or a field that is zero everywhere.

    Example:
        >>> spread = torch.tensor([[1.0, 1, 1], [1, 8, 1], [1, 1, 1]])
        >>> effective_field_size(spread, 0.5), effective_field_size(spread, 0.51)
        (1, 3)
    """
    if field.ndim != 2 or not 0 < fraction <= 1 or not field.sum() > 0:
        raise InputError(
            f"effective_field_size: a field {tuple(field.shape)} and fraction={fraction}",
            hint="give a field (H, W) that is not zero everywhere, and a fraction above 0 and at most 1",
        )
    row, column = center or (field.shape[0] // 2, field.shape[1] // 2)
    row_distance = (torch.arange(field.shape[0]) - row).abs()
    column_distance = (torch.arange(field.shape[1]) - column).abs()
    distance = torch.maximum(row_distance[:, None], column_distance)  # from the center, in steps of the square's growth
    ring_sums = torch.zeros(int(distance.max()) + 1, dtype=torch.float64)
    cumulative = ring_sums.index_add(0, distance.flatten(), field.double().cpu().flatten()).cumsum(0)
    return 2 * int((cumulative < fraction * cumulative[-1]).sum()) + 1


def _values_at(output: Any, position: tuple[int, int] | None) -> Tensor:
    """The (C,) values of an output (1, C, h, w) at a position."""
    if not isinstance(output, Tensor) or output.ndim != 4 or not output.numel():
        kind = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(f"effective_field: the output is {kind}", hint="give a network that maps to (N, C, h, w)")
    height, width = output.shape[-2:]
    row, column = position or (height // 2, width // 2)
    if not (0 <= row < height and 0 <= column < width):
        raise InputError(
            f"effective_field: position={position} is outside the output",
            hint=f"give a row below {height} and a column below {width}",
        )
    return output[0, :, row, column]
