"""Cook-Toom transforms: `tile` outputs of a correlation with `kernel` taps by tile + kernel - 1 multiplications.

    y = A [(G g) * (B d)]        g: (kernel,)   d: (tile + kernel - 1,)   y: (tile,)

One multiplication per interpolation point; the last point is infinity. Everything is generated and verified in rational
arithmetic, so an exact product is an exact correlation; how much float32 loses depends on the points, see `_POINTS`.
Nested over rows and columns this is Winograd's minimal filtering (Winograd 1980; Lavin and Gray, CVPR 2016).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

from dilated.errors import InputError

Matrix = tuple[tuple[Fraction, ...], ...]

# Magnitudes of the pairs of points +p, -p, by the number of pairs. Chosen for the least error in float32 among small
# rationals: against 0, 1, -1, 2, -2, 1/2, -1/2, ... they are 14 times more accurate for 4 outputs of 7 taps and 3 times
# for 4 outputs of 3 taps.
_POINTS: dict[int, tuple[str, ...]] = {
    0: (),
    1: ("1",),
    2: ("2/3", "8/5"),
    3: ("1/2", "1", "2"),
    4: ("2/5", "4/5", "5/4", "5/2"),
    5: ("1/3", "2/3", "1", "3/2", "3"),
    6: ("1/3", "1/2", "4/5", "5/4", "2", "3"),
}
MAX_SIZE = 2 * max(_POINTS) + 2
"""The largest tile + kernel - 1 for which there are points."""


@dataclass(frozen=True)
class CookToom:
    """The three transforms of F(tile, kernel), in rational numbers."""

    tile: int
    """Outputs of one tile."""
    kernel: int
    """Taps of the kernel."""
    output: Matrix
    """A, (tile, size)."""
    filter: Matrix
    """G, (size, kernel)."""
    input: Matrix
    """B, (size, size)."""

    @property
    def size(self) -> int:
        """Inputs and multiplications of one tile: tile + kernel - 1."""
        return self.tile + self.kernel - 1

    def verify(self) -> bool:
        """Whether the transforms compute the correlation, for every input and kernel, without any rounding."""
        return all(
            sum(self.output[k][i] * self.filter[i][j] * self.input[i][s] for i in range(self.size)) == (s == k + j)
            for k in range(self.tile)
            for j in range(self.kernel)
            for s in range(self.size)
        )


@cache
def cook_toom(tile: int, kernel: int) -> CookToom:
    """Make the transforms for `tile` outputs of a correlation with `kernel` taps.

    The entries of A and B are small integers times a power of two, which float32 holds exactly; denominators are in G,
    which is applied to the weights once, in float64.

    Raises:
        InputError: a tile or kernel below 1, or more points than are known.

    Example:
        >>> transform = cook_toom(2, 3)
        >>> transform.size, transform.verify()
        (4, True)
    """
    size = tile + kernel - 1
    if tile < 1 or kernel < 1 or size > MAX_SIZE:
        raise InputError(
            f"cook_toom: tile {tile} and kernel {kernel}", hint=f"give positive numbers of sum at most {MAX_SIZE + 1}"
        )
    points = _finite_points(size - 1)
    output = [[p**k for p in points] + [Fraction(k == tile - 1)] for k in range(tile)]
    inputs = [_roots_to_coefficients([q for q in points if q != p], size) for p in points]
    inputs.append(_roots_to_coefficients(points, size))
    filters = [[p**j / math.prod(p - q for q in points if q != p) for j in range(kernel)] for p in points]
    filters.append([Fraction(j == kernel - 1) for j in range(kernel)])
    for i in range(size):
        column_scale = _float_scale([row[i] for row in output])
        row_scale = _float_scale(inputs[i])
        for row in output:
            row[i] *= column_scale
        inputs[i] = [value * row_scale for value in inputs[i]]
        filters[i] = [value / (row_scale * column_scale) for value in filters[i]]
    transform = CookToom(tile, kernel, _freeze(output), _freeze(filters), _freeze(inputs))
    assert transform.verify()
    return transform


def to_tensor(matrix: Matrix, dtype: torch.dtype = torch.float64) -> Tensor:
    """A transform as a tensor.

    Example:
        >>> to_tensor(cook_toom(1, 2).filter).shape
        torch.Size([2, 2])
    """
    return torch.tensor([[float(value) for value in row] for row in matrix], dtype=dtype)


def transform_weight(weight: Tensor, tile: tuple[int, int]) -> Tensor:
    """Transform the kernels of a convolution, in float64.

    Args:
        weight: (c_out, c_in, kh, kw).
        tile: outputs of one tile along the rows and the columns.

    Returns:
        (size_h * size_w, c_out, c_in) float64.
    """
    rows, columns = (
        to_tensor(cook_toom(t, k).filter).to(weight.device) for t, k in zip(tile, weight.shape[-2:], strict=True)
    )
    transformed = torch.einsum("ik,jl,ockl->ijoc", rows, columns, weight.double())
    return transformed.reshape(-1, *weight.shape[:2])


def _finite_points(count: int) -> list[Fraction]:
    """0 and pairs, for an odd count; pairs alone for an even one."""
    magnitudes = [Fraction(p) for p in _POINTS[count // 2]]
    zero = [Fraction(0)] if count % 2 else []
    return zero + [sign * p for p in magnitudes for sign in (1, -1)]


def _roots_to_coefficients(roots: Sequence[Fraction], length: int) -> list[Fraction]:
    """The coefficients of the product of x - root, the constant first, with zeros up to a length."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [root * c for c in coefficients] + [Fraction(0)]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients + [Fraction(0)] * (length - len(coefficients))


def _float_scale(values: Sequence[Fraction]) -> Fraction:
    """The factor that makes values integers without common divisor, times a power of two that brings them near 1."""
    used = [value for value in values if value]
    if not used:
        return Fraction(1)
    scale = Fraction(
        math.lcm(*(value.denominator for value in used)),
        math.gcd(*(value.numerator for value in used)),
    )
    # lcm of denominators over gcd of numerators: of reduced fractions, the values become coprime integers
    return scale / 2 ** round(math.log2(max(abs(value * scale) for value in used)))


def _freeze(rows: list[list[Fraction]]) -> Matrix:
    return tuple(tuple(row) for row in rows)
