"""What an output value really looks at: the effective receptive field, by gradient (Luo et al. 2016).

    >>> field = effective_field(nn.Conv2d(3, 1, 3, dilation=2), torch.rand(2, 3, 9, 9))
    >>> field.shape, effective_field_size(field, fraction=1.0)
    (torch.Size([9, 9]), 5)

`receptive_field` counts the pixels that can matter. Few of them do: paths to an output crowd in the middle, as
`coverage` counts, and what a network learnt weighs them. The gradient of one output tells how much each pixel matters.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from dilated.fields.eval_mode import eval_mode


def effective_field(
    network: nn.Module, images: Tensor, reduce: Literal["sum", "max"] = "sum", position: tuple[int, int] | None = None
) -> Tensor:
    """How much each pixel matters to one output value: the mean absolute gradient, over the images and their channels.

    The network runs in evaluation mode, one image at a time. Its modes, its parameters and their gradients are
    afterwards as they were before.

    Args:
        network: maps (N, 3, H, W) to (N, C, h, w).
        images: (N, 3, H, W) float, on the network's device.
        of: which value: `"sum"` over the C channels, or `"max"`, the greatest of the C.
        at: its (row, column) in the output; by default the middle, (h // 2, w // 2).

    Returns:
        (H, W) float64 on the CPU, not negative, that sums to 1.

    Raises:
        ValueError: images or output of other shapes, a place outside the output, or a gradient that is zero
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
        raise ValueError(
            f"effective_field: found images {tuple(images.shape)} of {images.dtype}; expected (N, 3, H, W), at least "
            "one, of floats"
        )
    if reduce not in ("sum", "max"):
        raise ValueError(f"effective_field: found of={reduce!r}; expected 'sum' or 'winner'")
    total = torch.zeros(images.shape[-2:], dtype=torch.float64)
    with eval_mode(network), torch.enable_grad():
        for image in images.split(1):
            pixels = image.detach().clone().requires_grad_()
            values = _values_at(network(pixels), position)  # (C,)
            value = values.sum() if reduce == "sum" else values.max()
            if not value.requires_grad:
                raise ValueError("effective_field: the output does not depend on the pixels; expected one that does")
            # The gradient for the pixels alone: nothing is added to that of any parameter.
            (gradient,) = torch.autograd.grad(value, pixels, materialize_grads=True)
            total += gradient[0].abs().sum(0).double().cpu()
    total_sum = total.sum()
    if not (torch.isfinite(total_sum) and total_sum > 0):
        raise ValueError(
            f"effective_field: found gradients that add up to {total_sum.item():g}; expected a finite number above 0. Try "
            "other images, or a network whose weights are neither dead nor NaN."
        )
    return total / total_sum


def effective_field_size(field: Tensor, fraction: float = 0.95, center: tuple[int, int] | None = None) -> int:
    """The side in pixels of the smallest centred square that holds a share of a field; it may reach over the border.

    Args:
        field: (H, W), not negative, as from `effective_field`.
        share: of the field's sum, above 0 and at most 1.
        centre: (row, column) of the square's middle pixel; by default (H // 2, W // 2).

    Returns:
        An odd number.

    Raises:
        ValueError: another shape or share, or a field that is zero everywhere.

    Example:
        >>> spread = torch.tensor([[1.0, 1, 1], [1, 8, 1], [1, 1, 1]])
        >>> effective_field_size(spread, 0.5), effective_field_size(spread, 0.51)
        (1, 3)
    """
    if field.ndim != 2 or not 0 < fraction <= 1 or not field.sum() > 0:
        raise ValueError(
            f"extent: found a field {tuple(field.shape)} and share={fraction}; expected (H, W), not zero everywhere, and "
            "a share above 0 and at most 1"
        )
    row, column = center or (field.shape[0] // 2, field.shape[1] // 2)
    row_distance = (torch.arange(field.shape[0]) - row).abs()
    column_distance = (torch.arange(field.shape[1]) - column).abs()
    distance = torch.maximum(
        row_distance[:, None], column_distance[None, :]
    )  # a pixel's distance to the centre, as squares grow
    ring_sums = torch.zeros(int(distance.max()) + 1, dtype=torch.float64)
    cumulative = ring_sums.index_add(0, distance.flatten(), field.double().cpu().flatten()).cumsum(0)
    return 2 * int((cumulative < fraction * cumulative[-1]).sum()) + 1


def backbone_field(backbone: nn.Module, side: int = 256) -> int | None:
    """At most how many pixels along an axis one value of a backbone's last map can see.

    Each convolution and pooling adds (kernel - 1) * dilation of its own steps, which are as many pixels as the image
    is larger than the layer's input. Exact where one layer follows another and shortcuts have 1x1 kernels; more than
    there is where wider layers run side by side. `receptive_field` is for chains alone.

    Args:
        backbone: maps (1, 3, H, W) to a list of maps, the deepest last, with padding that keeps H and W but for strides.
        side: of the image on which it is tried, a multiple of its stride.

    Returns:
        The number of pixels, or None where a value sees the whole image (squeeze and excitation, for example).

    Example:
        >>> class Backbone(nn.Sequential):
        ...     def forward(self, x):
        ...         return [super().forward(x)]
        >>> backbone_field(Backbone(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=2, dilation=2)))
        11
    """
    increments = []

    def hook(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kernel, dilation = (_first_value(getattr(layer, name, 1)) for name in ("kernel_size", "dilation"))
        increments.append((kernel - 1) * dilation * round(side / inputs[0].shape[-1]))

    layers = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    like = next(backbone.parameters())
    with eval_mode(backbone), torch.no_grad():
        try:
            backbone(torch.zeros(1, 3, side, side).to(like))
        finally:
            for handle in handles:
                handle.remove()
        field = 1 + sum(increments)
        # What is no convolution, such as a mean over the map, shows in that a change out of reach is felt.
        strip = torch.rand(1, 3, 32, side * (field // side + 2), generator=torch.Generator().manual_seed(0)).to(like)
        altered = strip.clone()
        altered[..., : side // 2] = 0
        is_local = torch.equal(backbone(strip)[-1][..., -1], backbone(altered)[-1][..., -1])
    return field if is_local else None


def _values_at(output: Any, position: tuple[int, int] | None) -> Tensor:
    """The (C,) values of an output (1, C, h, w) at a place."""
    if not isinstance(output, Tensor) or output.ndim != 4 or not output.numel():
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"effective_field: found the output {found}; expected (N, C, h, w), at least one value")
    height, width = output.shape[-2:]
    row, column = position or (height // 2, width // 2)
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"effective_field: found at={position}; expected a place in an output of {height}x{width}")
    return output[0, :, row, column]


def _first_value(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]
