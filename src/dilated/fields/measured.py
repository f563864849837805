"""How far a network looks, measured: which outputs change when pixels do, shown by pixels that are not a number.

    >>> measure_margin(lambda images: [conv(images)], stride=1) if (conv := nn.Conv2d(3, 1, 3, padding=4, dilation=4)) else 0
    4

NaN is contagious: whatever a layer computes of it is NaN, whether the weight is great or zero. So one run over a
image of which one half is NaN tells exactly which outputs can see that half, for any network: branches, poolings,
functions that no module owns. A layer that sees the whole image, such as squeeze-and-excitation or attention, makes
all its outputs NaN, which names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_FeatureExtractor = Callable[[Tensor], Sequence[Tensor]]

_MAX_SIDE = 8192
"""Pixels along the longest strip that is tried; what sees farther is taken to see everything."""


@torch.no_grad()
def measure_margin(
    extract_features: _FeatureExtractor,
    stride: int = 1,
    alignment: int = 1,
    device: torch.device | None = None,
    max_side: int = _MAX_SIDE,
) -> int | None:
    """How many pixels beyond a window a network looks to compute the values inside it, on any side.

    Args:
        maps: (1, 3, H, W) -> maps of which value k along an axis answers for pixels [s k, s k + s), where s is how many
            times smaller the map is than the image.
        stride: the greatest s.
        alignment: windows begin at multiples of it; a multiple of `stride`.
        farthest: the longest side of an image to try.

    Returns:
        Pixels, a multiple of `alignment`; None where no window suffices.

    Raises:
        ValueError: maps that are not as many times smaller than the image as they should be.
    """
    if alignment % stride:
        raise ValueError(f"reach: found alignment={alignment}; expected a multiple of the stride {stride}")
    widest = 0
    for axis, nan_at_end in ((-1, False), (-1, True), (-2, False), (-2, True)):
        margin_here = _margin_along_axis(extract_features, axis, nan_at_end, alignment, device, max_side)
        if margin_here is None:
            return None
        widest = max(widest, margin_here)
    return widest


def _margin_along_axis(
    extract_features: _FeatureExtractor,
    axis: int,
    nan_at_end: bool,
    alignment: int,
    device: torch.device | None,
    max_side: int,
) -> int | None:
    """The reach along an axis, to the early (left, upper) or the late side."""
    thickness = max(64, 2 * alignment)
    side = -(-256 // (2 * alignment)) * 2 * alignment
    while side <= max_side:
        size = [thickness, thickness]
        size[axis] = side
        image = torch.zeros(1, 3, *size, device=device)
        half = side // 2
        image.narrow(axis, half if nan_at_end else 0, half).fill_(torch.nan)
        results = [_nan_margin(feature_map, axis, nan_at_end, side) for feature_map in extract_features(image)]
        if all(pixels is not None for pixels in results):
            widest = max(0, *(pixels for pixels in results if pixels is not None))
            return -(-widest // alignment) * alignment
        side *= 2
    return None


def _nan_margin(feature_map: Tensor, axis: int, nan_at_end: bool, side: int) -> int | None:
    """How many pixels beyond the middle NaN reaches in a map; None where it reaches the other end."""
    count = feature_map.shape[axis]
    if not count or side % count:
        raise ValueError(
            f"reach: found a map of {count} values for {side} pixels; expected a whole number of pixels each"
        )
    stride = side // count
    other_axes = tuple(i for i in range(feature_map.ndim) if i != feature_map.ndim + axis)
    nan_positions = feature_map.isnan().any(dim=other_axes).nonzero().flatten()
    if not len(nan_positions):
        return 0
    if nan_at_end:
        return side // 2 - stride * int(nan_positions[0]) if nan_positions[0] > 0 else None
    return stride * (int(nan_positions[-1]) + 1) - side // 2 if nan_positions[-1] < count - 1 else None


@torch.no_grad()
def windows_match_whole_image(
    extract_features: _FeatureExtractor, margin: int, alignment: int, device: torch.device | None = None
) -> bool:
    """Whether a window of an image gives the maps that the whole gives there, `margin` pixels from its ends.

    NaN does not show a network that treats images of different sizes differently, such as one that resizes by the
    ratio of its own input to something else. This does.

    Args:
        margin: from `reach`.
        alignment: windows begin at multiples of it.
    """
    thickness, side = max(64, 2 * alignment), 2 * margin + 4 * alignment
    for axis in (-1, -2):
        size = [thickness, thickness]
        size[axis] = side
        image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device or "cpu")
        full_maps = extract_features(image)
        window_maps = extract_features(image.narrow(axis, alignment, side - 2 * alignment))
        for feature_map, other in zip(full_maps, window_maps, strict=True):
            stride = side // feature_map.shape[axis]
            start, count = (alignment + margin) // stride, 2 * alignment // stride
            expected = feature_map.narrow(axis, start, count)
            actual = other.narrow(axis, margin // stride, count)
            if not torch.allclose(expected, actual, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
                return False
    return True


@torch.no_grad()
def find_global_layers(network: nn.Module, image: Tensor) -> list[str]:
    """The innermost modules that turn an image of which a part is NaN into maps that are NaN all over.

    Args:
        image: (1, 3, H, W), larger than the network's receptive field where it has one.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1))
        >>> find_global_layers(network, torch.zeros(1, 3, 64, 64))
        ['1']
    """
    image = image.clone()
    image[..., : image.shape[-1] // 8] = torch.nan
    results: list[str] = []

    def make_hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            float_inputs = [x for x in inputs if isinstance(x, Tensor) and x.is_floating_point()]
            if not float_inputs or not isinstance(output, Tensor):
                return
            spreads_nan = bool(output.isnan().all()) and not any(bool(_nan_everywhere(x)) for x in float_inputs)
            if spreads_nan and any(bool(x.isnan().any()) for x in float_inputs):
                has_inner_match = any(other.startswith(f"{name}.") for other in results)
                results.extend([] if has_inner_match else [name])

        return record

    handles = [module.register_forward_hook(make_hook(name)) for name, module in network.named_modules() if name]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    return results


def _nan_everywhere(x: Tensor) -> Tensor:
    """Whether every position has a NaN in some map."""
    return (x.isnan().any(1) if x.ndim == 4 else x.isnan()).all()
