"""What a network depends on, measured: which outputs change when pixels do, shown by pixels that are not a number.

    >>> conv = nn.Conv2d(3, 1, 3, padding=4, dilation=4)
    >>> measure_margin(lambda images: [conv(images)], stride=1), measure_field(conv)
    (4, 9)

NaN is contagious: whatever a layer computes from it is NaN, whether the weight is large or zero. So one run on an image
of which one half is NaN tells exactly which outputs depend on that half, for any network: branches, poolings, functions
that no module owns. A layer that reads the whole image, such as squeeze-and-excitation or attention, makes all its
outputs NaN, which names it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.fields.probing import eval_mode, temporary_hooks

_FeatureExtractor = Callable[[Tensor], Sequence[Tensor]]

_MAX_SIDE = 8192
"""Pixels along the longest strip that is tried; what depends on more is taken to depend on everything."""


@torch.no_grad()
def measure_field(
    network: Callable[[Tensor], Tensor], device: torch.device | None = None, max_side: int = _MAX_SIDE // 2
) -> int | None:
    """Measure the theoretical receptive field: the span of pixels on which the output in the middle can depend.

    The span reaches from the first to the last pixel that can change the output, in the middle of an image that is
    larger than the field. This is what `receptive_field` computes for chains, for any network.

    Args:
        network: maps (1, 3, H, W) to (1, C, h, w), in evaluation mode.
        device: where it runs.
        max_side: the longest side in pixels of an image to try.

    Returns:
        Pixels along the axis on which the field is larger; None where the output depends on all of `max_side` pixels.
    """
    side, margins = 256, [0, 0]
    fields = []
    for axis in (-1, -2):
        start, end = margins  # on the other axis
        while not (
            (start := _unseen_pixels(network, axis, side, 0, start, device))
            and (end := _unseen_pixels(network, axis, side, 1, end, device))
        ):
            side *= 2
            if side > max_side:
                return None
        margins = [start, end]
        fields.append(side - start - end)
    return max(fields)


def _unseen_pixels(
    network: Callable[[Tensor], Tensor], axis: int, side: int, at_end: int, estimate: int, device: torch.device | None
) -> int:
    """How many pixels at the start or the end of a strip the output in the middle does not depend on.

    Args:
        side: pixels along the strip.
        estimate: the answer on the other axis, or 0.

    Returns:
        0 where the strip is too short to tell.
    """

    def nan_outputs(count: int) -> Tensor:
        """Which outputs along the axis are NaN if `count` pixels at that end are, from that end on, (n,)."""
        size = [64, 64]
        size[axis] = side
        image = torch.zeros(1, 3, *size, device=device)
        image.narrow(axis, side - count if at_end else 0, count).fill_(torch.nan)
        nan = network(image).isnan().any(1)[0].any(-2 if axis == -1 else -1)
        return nan.flip(0) if at_end else nan

    step = 1
    nan = nan_outputs(1 if estimate else side // 2)
    if nan[-1]:
        return 0
    middle = (len(nan) - 1) // 2 if at_end else len(nan) // 2
    if not estimate:
        # What reaches n outputs beyond the middle reaches the one in the middle from n strides further away, but for
        # the position within a stride, which the search finds.
        step = max(1, side // len(nan))
        estimate = side // 2 - (int(nan.sum()) - 1 - middle) * step - 1
    return _least(lambda count: bool(nan_outputs(count)[middle]), estimate + 1, step, side) - 1


def _least(holds: Callable[[int], bool], estimate: int, step: int, most: int) -> int:
    """The least number of 1 to `most` from which on a condition holds; fast if it is `step` below the estimate."""
    estimate = min(max(estimate, 1), most)
    if not holds(estimate):
        low, high = estimate + 1, most
    elif estimate > step and not holds(estimate - step):
        low, high = estimate - step + 1, estimate
    else:
        low, high = 1, estimate
    return bisect_left(range(most + 1), True, lo=low, hi=high, key=holds)


@torch.no_grad()
def measure_margin(
    extract_features: _FeatureExtractor,
    stride: int = 1,
    alignment: int = 1,
    device: torch.device | None = None,
    max_side: int = _MAX_SIDE,
) -> int | None:
    """Measure how many pixels around a window the values inside it depend on, on any side.

    Args:
        extract_features: (1, 3, H, W) -> maps of which value k along an axis answers for pixels [s k, s k + s), where s
            is how many times smaller the map is than the image.
        stride: the greatest s.
        alignment: windows begin at multiples of it; a multiple of `stride`.
        device: where the network runs.
        max_side: the longest side in pixels of an image to try.

    Returns:
        Pixels, a multiple of `alignment`; None where no window suffices.

    Raises:
        InputError: an alignment that the stride does not divide, or maps whose size does not divide the image's.
    """
    if alignment % stride:
        raise InputError(f"measure_margin: alignment={alignment} is not a multiple of the stride {stride}")
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
    """The margin along an axis, towards the start (left, upper) or the end."""
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
    """How many pixels beyond the middle NaN extends in a map; None where it extends to the other end."""
    count = feature_map.shape[axis]
    if not count or side % count:
        raise InputError(
            f"measure_margin: a map of {count} values for {side} pixels, not an integer number of pixels for each value"
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
    """Check that a window of an image gives the same maps as the image does there, `margin` pixels from its ends.

    NaN does not show a network that treats images of different sizes differently, such as one that resizes by the
    ratio of its own input to something else. This does.

    Args:
        extract_features: as for `measure_margin`.
        margin: from `measure_margin`.
        alignment: windows begin at multiples of it.
        device: where the network runs.
    """
    thickness, side = max(64, 2 * alignment), 2 * margin + 4 * alignment
    for axis in (-1, -2):
        size = [thickness, thickness]
        size[axis] = side
        image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device or "cpu")
        full_maps = extract_features(image)
        window_maps = extract_features(image.narrow(axis, alignment, side - 2 * alignment))
        for full_map, window_map in zip(full_maps, window_maps, strict=True):
            stride = side // full_map.shape[axis]
            start, count = (alignment + margin) // stride, 2 * alignment // stride
            expected = full_map.narrow(axis, start, count)
            actual = window_map.narrow(axis, margin // stride, count)
            if not torch.allclose(expected, actual, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
                return False
    return True


@torch.no_grad()
def find_global_layers(network: nn.Module, image: Tensor) -> list[str]:
    """Name all modules that read the whole image: given maps of which a part is NaN, they return NaN everywhere.

    What such a module returns is made finite again where its input was, so that the modules after it are tested too.

    Args:
        network: run in evaluation mode.
        image: (1, 3, H, W), larger than the network's receptive field where it has one.

    Returns:
        The innermost modules, by name, in the order in which they run.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1))
        >>> find_global_layers(network, torch.zeros(1, 3, 64, 64))
        ['1']
    """
    image = image.clone()
    image[..., : image.shape[-1] // 8] = torch.nan
    names: list[str] = []

    def make_hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], Tensor | None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor | None:
            maps = [x for x in inputs if isinstance(x, Tensor) and x.is_floating_point()]
            if not isinstance(output, Tensor) or not output.isnan().all():
                return None
            if any(map(_is_nan_everywhere, maps)) or not any(bool(x.isnan().any()) for x in maps):
                return None
            names.append(name)
            return _restore_finite_values(output, maps)

        return hook

    handles = (module.register_forward_hook(make_hook(name)) for name, module in network.named_modules() if name)
    with eval_mode(network), temporary_hooks(handles):
        network(image)
    return list(dict.fromkeys(names))


def _is_nan_everywhere(x: Tensor) -> bool:
    """Whether every position has a NaN in some channel."""
    return bool((x.isnan().any(1) if x.ndim == 4 else x.isnan()).all())


def _restore_finite_values(output: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """Replace NaN by ones, but not where the input has NaN: the same positions, or the first eighth of the columns."""
    restored = torch.ones_like(output)
    like = next((x for x in inputs if x.shape == output.shape), None)
    if like is not None:
        return restored.masked_fill(like.isnan(), torch.nan)
    restored[..., : output.shape[-1] // 8] = torch.nan  # a statistic, of width 1, stays finite
    return restored
