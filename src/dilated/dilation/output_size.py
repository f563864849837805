"""Give the outputs of a dilated network the size of the image at their stride: ceil(H/r) x ceil(W/r).

Inside the network, a dense map is `rate` times as long as the original's, which rounded up at every stride. What it
has beyond the image is no sample, so it is taken off where the maps leave the network, and maps of one stride have
one size.

    >>> import torch
    >>> network = nn.ZeroPad2d((0, 1, 0, 1))
    >>> crop_outputs(network, 0, (2, 3), (((2, 2), (2, 3)),), output_stride=1)
    >>> network(torch.rand(1, 3, 5, 7)).shape
    torch.Size([1, 3, 5, 7])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

_RateAndAxes = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class _OutputCrop:
    """A forward hook that crops each map of the output."""

    image: int
    """Which tensor among the arguments is the image."""
    image_axes: tuple[int, int]
    """Where its rows and columns lie."""
    outputs: tuple[_RateAndAxes | None, ...]
    """For each tensor of the output, its rate and where its rows and columns lie; None if it has none."""
    output_stride: int

    def __call__(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Any:
        images = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        leaves, structure = tree_flatten(output)
        if len(images) <= self.image or sum(isinstance(leaf, Tensor) for leaf in leaves) != len(self.outputs):
            return output
        sides = [images[self.image].shape[axis] for axis in self.image_axes]
        outputs = iter(self.outputs)
        cropped = [self._crop(x, next(outputs), sides) if isinstance(x, Tensor) else x for x in leaves]
        return tree_unflatten(cropped, structure)

    def _crop(self, x: Tensor, output: _RateAndAxes | None, sides: list[int]) -> Tensor:
        if output is None:
            return x
        for side, rate, axis in zip(sides, *output, strict=True):
            if rate > 1:
                x = x.narrow(axis, 0, cropped_length(x.shape[axis], rate, side, self.output_stride))
        return x


def crop_outputs(
    network: nn.Module,
    image: int,
    image_axes: tuple[int, int],
    outputs: tuple[_RateAndAxes | None, ...],
    output_stride: int,
) -> None:
    """Crop what a dilated network gives, in place, by a forward hook.

    Args:
        network: the dilated network.
        image: which tensor among the arguments is the image.
        image_axes: where its rows and columns lie.
        outputs: for each tensor of the output, its rate and where its rows and columns lie; None if it has none.
        output_stride: pixels per value.
    """
    network.register_forward_hook(_OutputCrop(image, image_axes, outputs, output_stride), with_kwargs=True)


def cropped_length(length: int, rate: int, side: int, output_stride: int) -> int:
    """How many of a map's rows stay: those on the image, and every sample of the original.

    Args:
        length: of the dense map.
        rate: how far apart its samples are.
        side: of the image, in pixels.
        output_stride: pixels between the rows.

    Example:
        >>> [cropped_length(length, rate, 97, 8) for length, rate in ((13, 1), (14, 2), (16, 4))]
        [13, 13, 13]
    """
    last_sample = (length // rate - 1) * rate
    return min(length, max(-(-side // output_stride), last_sample + 1))
