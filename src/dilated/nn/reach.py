"""How far a network looks, measured: which outputs change when pixels do, shown by pixels that are not a number.

    >>> reach(lambda images: [conv(images)], stride=1) if (conv := nn.Conv2d(3, 1, 3, padding=4, dilation=4)) else 0
    4

NaN is contagious: whatever a layer computes of it is NaN, whether the weight is great or zero. So one run over a
picture of which one half is NaN tells exactly which outputs can see that half, for any network: branches, poolings,
functions that no module owns. A layer that sees the whole picture, such as squeeze-and-excitation or attention, makes
all its outputs NaN, which names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Maps = Callable[[Tensor], Sequence[Tensor]]

FARTHEST = 8192
"""Pixels along the longest strip that is tried; what sees farther is taken to see everything."""


@torch.no_grad()
def reach(
    maps: Maps, stride: int = 1, alignment: int = 1, device: torch.device | None = None, farthest: int = FARTHEST
) -> int | None:
    """How many pixels beyond a window a network looks to compute the values inside it, on any side.

    Args:
        maps: (1, 3, H, W) -> maps of which value k along an axis answers for pixels [s k, s k + s), where s is how many
            times smaller the map is than the picture.
        stride: the greatest s.
        alignment: windows begin at multiples of it; a multiple of `stride`.
        farthest: the longest side of a picture to try.

    Returns:
        Pixels, a multiple of `alignment`; None where no window suffices.

    Raises:
        ValueError: maps that are not as many times smaller than the picture as they should be.
    """
    if alignment % stride:
        raise ValueError(f"reach: found alignment={alignment}; expected a multiple of the stride {stride}")
    most = 0
    for axis, late in ((-1, False), (-1, True), (-2, False), (-2, True)):
        end = _along(maps, axis, late, alignment, device, farthest)
        if end is None:
            return None
        most = max(most, end)
    return most


def _along(maps: Maps, axis: int, late: bool, alignment: int, device: torch.device | None, farthest: int) -> int | None:
    """The reach along an axis, to the early (left, upper) or the late side."""
    thick = max(64, 2 * alignment)
    side = -(-256 // (2 * alignment)) * 2 * alignment
    while side <= farthest:
        size = [thick, thick]
        size[axis] = side
        image = torch.zeros(1, 3, *size, device=device)
        half = side // 2
        image.narrow(axis, half if late else 0, half).fill_(torch.nan)
        found = [_beyond(one, axis, late, side) for one in maps(image)]
        if all(pixels is not None for pixels in found):
            most = max(0, *(pixels for pixels in found if pixels is not None))
            return -(-most // alignment) * alignment
        side *= 2
    return None


def _beyond(one: Tensor, axis: int, late: bool, side: int) -> int | None:
    """How many pixels beyond the middle NaN reaches in a map; None where it reaches the other end."""
    count = one.shape[axis]
    if not count or side % count:
        raise ValueError(
            f"reach: found a map of {count} values for {side} pixels; expected a whole number of pixels each"
        )
    stride = side // count
    others = tuple(i for i in range(one.ndim) if i != one.ndim + axis)
    dirty = one.isnan().any(dim=others).nonzero().flatten()
    if not len(dirty):
        return 0
    if late:
        return side // 2 - stride * int(dirty[0]) if dirty[0] > 0 else None
    return stride * (int(dirty[-1]) + 1) - side // 2 if dirty[-1] < count - 1 else None


@torch.no_grad()
def same_in_windows(maps: Maps, margin: int, alignment: int, device: torch.device | None = None) -> bool:
    """Whether a window of a picture gives the maps that the whole gives there, `margin` pixels from its ends.

    NaN does not show a network that treats pictures of different sizes differently, such as one that resizes by the
    ratio of its own input to something else. This does.

    Args:
        margin: from `reach`.
        alignment: windows begin at multiples of it.
    """
    thick, side = max(64, 2 * alignment), 2 * margin + 4 * alignment
    for axis in (-1, -2):
        size = [thick, thick]
        size[axis] = side
        image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device or "cpu")
        whole = maps(image)
        part = maps(image.narrow(axis, alignment, side - 2 * alignment))
        for one, other in zip(whole, part, strict=True):
            stride = side // one.shape[axis]
            first, count = (alignment + margin) // stride, 2 * alignment // stride
            here = one.narrow(axis, first, count)
            there = other.narrow(axis, margin // stride, count)
            if not torch.allclose(here, there, rtol=1e-3, atol=1e-4 * float(here.abs().max())):
                return False
    return True


@torch.no_grad()
def global_layers(network: nn.Module, image: Tensor) -> list[str]:
    """The innermost modules that turn a picture of which a part is NaN into maps that are NaN all over.

    Args:
        image: (1, 3, H, W), larger than the network's receptive field where it has one.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1))
        >>> global_layers(network, torch.zeros(1, 3, 64, 64))
        ['1']
    """
    image = image.clone()
    image[..., : image.shape[-1] // 8] = torch.nan
    found: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            given = [x for x in inputs if isinstance(x, Tensor) and x.is_floating_point()]
            if not given or not isinstance(output, Tensor):
                return
            spread = bool(output.isnan().all()) and not any(bool(_everywhere(x)) for x in given)
            if spread and any(bool(x.isnan().any()) for x in given):
                inside = any(other.startswith(f"{name}.") for other in found)
                found.extend([] if inside else [name])

        return look

    handles = [module.register_forward_hook(hook(name)) for name, module in network.named_modules() if name]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _everywhere(x: Tensor) -> Tensor:
    """Whether every position has a NaN in some map."""
    return (x.isnan().any(1) if x.ndim == 4 else x.isnan()).all()
