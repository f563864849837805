"""What an operation does to the axes of an image: the stride of its result, and the axes along which it lies.

    >>> x = torch.rand(1, 3, 20, 28)
    >>> layout = SpatialLayout((Fraction(8), Fraction(8)), (2, 3), (20, 28))
    >>> propagate_layout("max_pool2d", (x, 2), {}, {0: layout}, torch.rand(1, 3, 10, 14))
    ('window', SpatialLayout(stride=(16, 16), axes=(2, 3), size=(10, 14)))

Operations that read one position each (activations, 1x1 convolutions, linear layers, sums of maps) are "pointwise":
they run on maps of any rate unchanged. The kinds of the others say how they must be treated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor

from dilated.fields.arithmetic import to_2tuple

OperationKind = Literal["pointwise", "window", "reduce", "upsample", "attention", "other"]

_REDUCTIONS = frozenset(
    {"mean", "sum", "amax", "amin", "max", "min", "norm", "vector_norm", "var", "std", "var_mean", "std_mean"}
    | {"logsumexp", "prod", "median"}
)
_ADAPTIVE_POOLS = frozenset({"adaptive_avg_pool2d", "adaptive_max_pool2d"})
_POOLS = frozenset({"max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "lp_pool2d"})
MATRIX_PRODUCTS = frozenset({"matmul", "__matmul__", "__rmatmul__", "bmm", "einsum", "baddbmm"})
ATTENTION_FUNCTIONS = frozenset({"scaled_dot_product_attention", "multi_head_attention_forward"})
_POSITION_MIXING = frozenset(
    {"group_norm", "instance_norm", "roll", "flip", "cumsum", "grid_sample", "fft2", "rfft2", "fold", "unfold"}
)
"""Operations that keep the size of a map but mix its positions."""


@dataclass(frozen=True)
class SpatialLayout:
    """Where the rows and columns of an image lie in a tensor."""

    stride: tuple[Fraction, Fraction]
    """Pixels between neighboring rows and between neighboring columns."""
    axes: tuple[int, int]
    """Along which axes of the tensor they lie; the same axis twice where rows and columns are flattened into one."""
    size: tuple[int, int]
    """How many there are of each."""
    ndim: int = 4
    """Number of axes of the tensor."""

    def __repr__(self) -> str:
        stride = tuple(int(s) if s.denominator == 1 else float(s) for s in self.stride)
        return f"SpatialLayout(stride={stride}, axes={self.axes}, size={self.size})"

    @property
    def is_flattened(self) -> bool:
        """Whether rows and columns share an axis."""
        return self.axes[0] == self.axes[1]


def propagate_layout(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], layouts: Mapping[int, SpatialLayout], output: Tensor
) -> tuple[OperationKind, SpatialLayout | None]:
    """Tell what an operation does, and the layout of one of its results.

    Args:
        name: of the function, as PyTorch names it.
        args: of the call.
        kwargs: of the call.
        layouts: of the arguments that have one, by their position among the tensors in args and kwargs.
        output: a result.

    Returns:
        The kind of operation, and the layout, None for a result without rows and columns.
    """
    input_layout = max(layouts.values(), key=lambda layout: (not layout.is_flattened, layout.size[0] * layout.size[1]))
    if name in ATTENTION_FUNCTIONS:
        return "attention", _match_layout(output, input_layout)
    if name in MATRIX_PRODUCTS and len(layouts) > 1:  # positions times positions; or positions summed out, a statistic
        layout = _match_layout(output, input_layout)
        return ("attention" if layout else "other"), layout
    if name == "softmax" and _reduced_dims(args, kwargs, output.ndim) & set(input_layout.axes):
        return "other", _match_layout(output, input_layout)
    if name == "pad" and not input_layout.is_flattened:
        return _padded_layout(args[1] if len(args) > 1 else kwargs["pad"], input_layout, output)
    if name == "conv2d" or name in _POOLS:
        return _window_layout(name, args, kwargs, input_layout, output)
    if name in _ADAPTIVE_POOLS:
        return "reduce", None
    if name in _REDUCTIONS and not input_layout.is_flattened and _tensor_ndim(args) is not None:
        dims = _reduced_dims(args, kwargs, _tensor_ndim(args) or 0)
        if not dims or set(input_layout.axes) <= dims:
            return "reduce", None
    if name in _POSITION_MIXING:
        return "other", _match_layout(output, input_layout) or _resized_layout(output, input_layout)
    if name == "layer_norm" and min(input_layout.axes) >= _tensor_ndim(args, 0) - len(args[1]):
        return "other", input_layout
    if name in ("permute", "transpose", "movedim", "swapaxes") and not input_layout.is_flattened:
        return "pointwise", _permuted_layout(name, args, kwargs, input_layout, output)
    layout = _match_layout(output, input_layout)
    if layout is not None:
        return "pointwise", layout
    layout = _resized_layout(output, input_layout)
    if layout is None:
        return "other", None
    is_finer = any(new < old for new, old in zip(layout.stride, input_layout.stride, strict=True))
    return "upsample" if is_finer else "other", layout


def axis_after_reduction(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], input_layout: SpatialLayout, output: Tensor
) -> int | None:
    """The axis along which the positions lie after an operation that leaves a map one axis of them.

    That is a flattening of rows and columns into one, or a statistic along either. If nothing but statistics over this
    axis follow, both together are a statistic over the map.

    Returns:
        The axis of the output; None for any other operation, and where the sizes are written into the call.
    """
    if input_layout.is_flattened or _tensor_ndim(args) is None:
        return None
    if name in ("flatten", "reshape", "view"):
        layout = _match_layout(output, input_layout)
        finds_size = name == "flatten" or -1 in args[1:] or (len(args) == 2 and -1 in to_2tuple(args[1]))
        return layout.axes[0] if layout is not None and layout.is_flattened and finds_size else None
    if name not in _REDUCTIONS:
        return None
    kept = set(input_layout.axes) - _reduced_dims(args, kwargs, args[0].ndim)
    if len(kept) != 1 or not _reduced_dims(args, kwargs, args[0].ndim):
        return None
    (axis,) = kept
    before = sum(dim < axis for dim in _reduced_dims(args, kwargs, args[0].ndim))
    return axis if output.ndim == args[0].ndim else axis - before


def reduces_axis(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], axis: int) -> bool:
    """Whether an operation is a statistic over an axis of its first argument, and maybe others."""
    if name not in _REDUCTIONS or _tensor_ndim(args) is None:
        return False
    dims = _reduced_dims(args, kwargs, args[0].ndim)
    return not dims or axis in dims


def is_strip(name: str, input_layout: SpatialLayout, output: Tensor, kept_axis: int | None) -> bool:
    """Whether an operation leaves a map one of its two axes: a strip, whose values belong to whole rows or columns."""
    if name in _ADAPTIVE_POOLS and not input_layout.is_flattened:
        size = tuple(output.shape[-2:])
        return size != input_layout.size and any(
            kept == before > 1 for kept, before in zip(size, input_layout.size, strict=True)
        )
    return name in _REDUCTIONS and kept_axis is not None


def _resized_layout(output: Tensor, input_layout: SpatialLayout) -> SpatialLayout | None:
    """The layout of a result of another size: the stride changes as the ratio of the sizes, rounded to an integer."""
    if input_layout.is_flattened or output.ndim != input_layout.ndim:
        return None
    size = output.shape[input_layout.axes[0]], output.shape[input_layout.axes[1]]
    if min(size) == 0 or (size == (1, 1) and input_layout.size != (1, 1)):
        return None
    ratios = [
        _stride_ratio(input_size, output_size) for input_size, output_size in zip(input_layout.size, size, strict=True)
    ]
    stride = input_layout.stride[0] * ratios[0], input_layout.stride[1] * ratios[1]
    return SpatialLayout(stride, input_layout.axes, size, output.ndim)


def infer_layout(output: Tensor, input_layout: SpatialLayout) -> SpatialLayout | None:
    """Infer the layout of a module's result from that of its input."""
    return _match_layout(output, input_layout) or _resized_layout(output, input_layout)


def _stride_ratio(input_size: int, output_size: int) -> Fraction:
    return (
        Fraction(max(round(input_size / output_size), 1))
        if input_size >= output_size
        else Fraction(1, max(round(output_size / input_size), 1))
    )


def _window_layout(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], input_layout: SpatialLayout, output: Tensor
) -> tuple[OperationKind, SpatialLayout | None]:
    kernel = tuple(args[1].shape[-2:]) if name == "conv2d" else None
    stride_index, kernel_index = (3, 2) if name == "lp_pool2d" else (3, 1) if name == "conv2d" else (2, 1)
    stride = kwargs["stride"] if "stride" in kwargs else args[stride_index] if len(args) > stride_index else None
    if stride is None or stride == []:
        stride = 1 if name == "conv2d" else kwargs["kernel_size"] if "kernel_size" in kwargs else args[kernel_index]
    row_stride, column_stride = to_2tuple(stride)
    if input_layout.is_flattened or input_layout.axes != (output.ndim - 2, output.ndim - 1):
        return "other", infer_layout(output, input_layout)
    size = output.shape[-2], output.shape[-1]
    if kernel == (1, 1) and (row_stride, column_stride) == (1, 1) and size == input_layout.size:
        return "pointwise", input_layout
    return "window", SpatialLayout(
        (input_layout.stride[0] * row_stride, input_layout.stride[1] * column_stride),
        input_layout.axes,
        size,
        output.ndim,
    )


def _padded_layout(
    pad: Sequence[int], input_layout: SpatialLayout, output: Tensor
) -> tuple[OperationKind, SpatialLayout]:
    """Padding keeps the stride, however much it adds to a small map; a map of the same size may still be shifted."""
    size = output.shape[input_layout.axes[0]], output.shape[input_layout.axes[1]]
    pads_map = any(any(pad[2 * (output.ndim - 1 - axis) :][:2]) for axis in input_layout.axes)
    return ("other" if pads_map else "pointwise"), SpatialLayout(
        input_layout.stride, input_layout.axes, size, output.ndim
    )


def _match_layout(output: Tensor, input_layout: SpatialLayout) -> SpatialLayout | None:
    """Rows and columns of the same size in a result, side by side or flattened into one axis."""
    shape = output.shape
    candidates = [(i, i + 1) for i in range(output.ndim - 1) if tuple(shape[i : i + 2]) == input_layout.size]
    candidates.sort(key=lambda axes: axes != input_layout.axes)
    if not candidates:
        count = input_layout.size[0] * input_layout.size[1]
        candidates = [(i, i) for i in range(output.ndim) if shape[i] == count and count > 1]
        candidates.sort(key=lambda axes: axes != input_layout.axes)
    return SpatialLayout(input_layout.stride, candidates[0], input_layout.size, output.ndim) if candidates else None


def _permuted_layout(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], input_layout: SpatialLayout, output: Tensor
) -> SpatialLayout | None:
    """Follow the axes by a tensor whose sizes tell them apart."""
    probe = torch.empty([101 + axis for axis in range(output.ndim)], device="meta")
    shape = list(getattr(probe, name)(*args[1:], **kwargs).shape)
    axes = shape.index(101 + input_layout.axes[0]), shape.index(101 + input_layout.axes[1])
    return SpatialLayout(input_layout.stride, axes, input_layout.size, output.ndim) if axes[1] == axes[0] + 1 else None


def _tensor_ndim(args: Sequence[Any], default: int | None = None) -> Any:
    return args[0].ndim if args and isinstance(args[0], Tensor) else default


def _reduced_dims(args: Sequence[Any], kwargs: Mapping[str, Any], ndim: int) -> set[int]:
    """The axes that a reduction names; none for all of them."""
    dim = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
    if isinstance(dim, int):
        dim = (dim,)
    if not isinstance(dim, list | tuple):
        return set()
    return {d % ndim for d in dim if isinstance(d, int)}


def format_stride(stride: Iterable[Fraction]) -> str:
    """A stride for a message: one number, or two where rows and columns differ.

    Example:
        >>> format_stride((Fraction(8), Fraction(8))), format_stride((Fraction(8), Fraction(4)))
        ('8', '8x4')
    """
    return "x".join(dict.fromkeys(map(str, stride)))
