"""What an operation does to the picture's axes: which stride its result has, and along which axes it lies.

    >>> x = torch.rand(1, 3, 20, 28)
    >>> place = Place((Fraction(8), Fraction(8)), (2, 3), (20, 28))
    >>> follow("max_pool2d", (x, 2), {}, {0: place}, torch.rand(1, 3, 10, 14))
    ('window', Place(stride=(16, 16), axes=(2, 3), size=(10, 14)))

Operations that read one position each (activations, 1x1 convolutions, linear layers, sums of maps) are "pointwise";
they serve maps of any rate as they are. The others say how they must be treated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["pointwise", "window", "reduce", "up", "attention", "other"]

REDUCTIONS = frozenset(
    {"mean", "sum", "amax", "amin", "max", "min", "norm", "vector_norm", "var", "std", "var_mean", "std_mean"}
    | {"logsumexp", "prod", "median"}
)
ADAPTIVE = frozenset({"adaptive_avg_pool2d", "adaptive_max_pool2d"})
POOLS = frozenset({"max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "lp_pool2d"})
PRODUCTS = frozenset({"matmul", "__matmul__", "__rmatmul__", "bmm", "einsum", "baddbmm"})
ATTENTION = frozenset({"scaled_dot_product_attention", "multi_head_attention_forward"})
NEIGHBOURS = frozenset(
    {"group_norm", "instance_norm", "roll", "flip", "cumsum", "grid_sample", "fft2", "rfft2", "fold", "unfold"}
)
"""Operations that keep the size of a map but let its positions mix."""


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: rows and columns `stride` pixels apart, along `axes` of the given `size`.

    Both axes are the same one where rows and columns are flattened into one.
    """

    stride: tuple[Fraction, Fraction]
    axes: tuple[int, int]
    size: tuple[int, int]
    ndim: int = 4
    """Of the tensor."""

    def __repr__(self) -> str:
        stride = tuple(int(s) if s.denominator == 1 else float(s) for s in self.stride)
        return f"Place(stride={stride}, axes={self.axes}, size={self.size})"

    @property
    def flat(self) -> bool:
        """Whether rows and columns share an axis."""
        return self.axes[0] == self.axes[1]


def follow(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], places: Mapping[int, Place], out: Tensor
) -> tuple[Kind, Place | None]:
    """What an operation does, and the place of one of its results.

    Args:
        name: of the function, as PyTorch names it.
        places: of the arguments that have one, by their position among the tensors in args and kwargs.
        out: a result.

    Returns:
        The kind, and None for a result that has no rows and columns (any more).
    """
    source = max(places.values(), key=lambda place: (not place.flat, place.size[0] * place.size[1]))
    if name in ATTENTION:
        return "attention", _found(out, source)
    if name in PRODUCTS and len(places) > 1:  # positions times positions; or positions summed out, a statistic
        place = _found(out, source)
        return ("attention" if place else "other"), place
    if name == "softmax" and _dims(args, kwargs, out.ndim) & set(source.axes):
        return "other", _found(out, source)
    if name == "pad" and not source.flat:
        return _padded(args[1] if len(args) > 1 else kwargs["pad"], source, out)
    if name == "conv2d" or name in POOLS:
        return _window(name, args, kwargs, source, out)
    if name in ADAPTIVE:
        return "reduce", None
    if name in REDUCTIONS and not source.flat and _tensor_ndim(args) is not None:
        dims = _dims(args, kwargs, _tensor_ndim(args) or 0)
        if not dims or set(source.axes) <= dims:
            return "reduce", None
    if name in NEIGHBOURS:
        return "other", _found(out, source) or resized(out, source)
    if name == "layer_norm" and min(source.axes) >= _tensor_ndim(args, 0) - len(args[1]):
        return "other", source
    if name in ("permute", "transpose", "movedim", "swapaxes") and not source.flat:
        return "pointwise", _permuted(name, args, kwargs, source, out)
    place = _found(out, source)
    if place is not None:
        return "pointwise", place
    place = resized(out, source)
    if place is None:
        return "other", None
    return "up" if place.stride[0] < source.stride[0] or place.stride[1] < source.stride[1] else "other", place


def resized(out: Tensor, source: Place) -> Place | None:
    """The place of a result of another size: the stride changes as the ratio of the sizes, to the nearest integer."""
    if source.flat or out.ndim != source.ndim:
        return None
    size = out.shape[source.axes[0]], out.shape[source.axes[1]]
    if min(size) == 0 or (size == (1, 1) and source.size != (1, 1)):
        return None
    ratios = [_ratio(before, after) for before, after in zip(source.size, size, strict=True)]
    stride = source.stride[0] * ratios[0], source.stride[1] * ratios[1]
    return Place(stride, source.axes, size, out.ndim)


def locate(out: Tensor, source: Place) -> Place | None:
    """The place of a module's result, of which only its input's place is known."""
    return _found(out, source) or resized(out, source)


def _ratio(before: int, after: int) -> Fraction:
    return Fraction(max(round(before / after), 1)) if before >= after else Fraction(1, max(round(after / before), 1))


def _window(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], source: Place, out: Tensor
) -> tuple[Kind, Place | None]:
    kernel = tuple(args[1].shape[-2:]) if name == "conv2d" else None
    position, window = (3, 2) if name == "lp_pool2d" else (3, 1) if name == "conv2d" else (2, 1)
    stride = kwargs["stride"] if "stride" in kwargs else args[position] if len(args) > position else None
    if stride is None or stride == []:
        stride = 1 if name == "conv2d" else kwargs["kernel_size"] if "kernel_size" in kwargs else args[window]
    down, across = pair(stride)
    if source.flat or source.axes != (out.ndim - 2, out.ndim - 1):
        return "other", locate(out, source)
    size = out.shape[-2], out.shape[-1]
    if kernel == (1, 1) and (down, across) == (1, 1) and size == source.size:
        return "pointwise", source
    return "window", Place((source.stride[0] * down, source.stride[1] * across), source.axes, size, out.ndim)


def _padded(pad: Sequence[int], source: Place, out: Tensor) -> tuple[Kind, Place]:
    """Padding keeps the stride, however much it adds to a small map; of the same size, it may still have moved."""
    size = out.shape[source.axes[0]], out.shape[source.axes[1]]
    moved = any(any(pad[2 * (out.ndim - 1 - axis) :][:2]) for axis in source.axes)
    return ("other" if moved else "pointwise"), Place(source.stride, source.axes, size, out.ndim)


def _found(out: Tensor, source: Place) -> Place | None:
    """Rows and columns of the same size in a result, side by side or flattened into one axis."""
    shape = out.shape
    candidates = [(i, i + 1) for i in range(out.ndim - 1) if tuple(shape[i : i + 2]) == source.size]
    candidates.sort(key=lambda axes: axes != source.axes)
    if not candidates:
        count = source.size[0] * source.size[1]
        candidates = [(i, i) for i in range(out.ndim) if shape[i] == count and count > 1]
        candidates.sort(key=lambda axes: axes != source.axes)
    return Place(source.stride, candidates[0], source.size, out.ndim) if candidates else None


def _permuted(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], source: Place, out: Tensor) -> Place | None:
    """Follows the axes by a tensor whose sizes tell them apart."""
    marked = torch.empty([101 + axis for axis in range(out.ndim)], device="meta")
    shape = list(getattr(marked, name)(*args[1:], **kwargs).shape)
    axes = shape.index(101 + source.axes[0]), shape.index(101 + source.axes[1])
    return Place(source.stride, axes, source.size, out.ndim) if axes[1] == axes[0] + 1 else None


def _tensor_ndim(args: Sequence[Any], default: int | None = None) -> Any:
    return args[0].ndim if args and isinstance(args[0], Tensor) else default


def _dims(args: Sequence[Any], kwargs: Mapping[str, Any], ndim: int) -> set[int]:
    """The axes that a reduction names; none for all of them."""
    dim = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
    if isinstance(dim, int):
        dim = (dim,)
    if not isinstance(dim, list | tuple):
        return set()
    return {d % ndim for d in dim if isinstance(d, int)}


def pair(value: Any) -> tuple[int, int]:
    """A setting's numbers for rows and columns."""
    if isinstance(value, int):
        return value, value
    values = tuple(value)
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])
