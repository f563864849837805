"""Gaussian filtering in several dimensions at once, by the permutohedral lattice: time grows with the points alone.

    lattice = PermutohedralLattice(features)             # (N, d): positions and colors, divided by their deviations
    lattice.filter(values)                               # (N, C) -> (N, C): about sum_j exp(-|f_i - f_j|^2 / 2) v_j

Each point lies in a simplex of the lattice A*_d, and its value is splatted to the d + 1 vertices by barycentric
weights; the vertices are blurred by (1/2, 1, 1/2) along each of the d + 1 axes, and points read the sum back by the
same weights. The lattice approximates the Gaussian; it is a linear filter, whose transpose blurs in the other order.

Source: Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010.
Vertices are found by sorting integer keys instead of hashing; splat and slice are products with sparse matrices.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dilated.errors import InputError
from dilated.quiet import without_warnings

_MOST_CODES = 2**62
"""Keys are coded as one number each; more of them would need another type."""


class PermutohedralLattice:
    """The lattice around a set of points.

    Args:
        features: (N, d) floating point, in units of the Gaussian's standard deviation, on any device.
        normalized: filter by D^-1/2 K D^-1/2 instead of K, where D are the sums of K's rows.

    Raises:
        InputError: features that are not finite, or spread so far that keys would not fit into 64 bits.

    Example:
        >>> lattice = PermutohedralLattice(torch.tensor([[0.0], [0.5], [9.0]]))
        >>> smooth = lattice.filter(torch.tensor([[1.0], [0.0], [0.0]]))[:, 0]
        >>> bool(smooth[0] > smooth[1] > 0) and smooth[2].item() == 0.0
        True
    """

    def __init__(self, features: Tensor, normalized: bool = False) -> None:
        if not bool(torch.isfinite(features).all()):
            raise InputError("lattice: features that are not finite", hint="leave out pixels without data")
        self.num_points, self.dimensions = features.shape
        axes = self.dimensions + 1
        corner, rank, weights = _find_simplices(features)
        simplices, simplex_of_point = _unique_simplices(corner, rank)
        keys = _vertex_keys(corner[:, simplices], rank[:, simplices])  # (d, U, d + 1)
        codes, strides = _encode(keys, margin=axes)
        vertices, vertex_of_corner = torch.unique(codes, return_inverse=True)
        self.num_vertices = len(vertices)
        self._neighbors = [_find_neighbors(vertices, strides, axis) for axis in range(axes)]
        columns = vertex_of_corner[simplex_of_point].flatten()  # (N * (d + 1),): the vertices of each point
        rows = torch.arange(0, len(columns) + 1, axes, device=features.device)
        order = _stable_order(columns)
        starts = torch.bincount(columns, minlength=self.num_vertices).cumsum(0)
        starts = torch.cat([starts.new_zeros(1), starts])
        points = order // axes

        def fill(weights: Tensor) -> None:
            """Set the matrices of reading values back and of splatting them, from (N, d + 1) weights."""
            entries, size = weights.flatten(), (self.num_points, self.num_vertices)
            self._slice = _sparse(rows, columns, entries, size)
            self._splat = _sparse(starts, points, entries[order], size[::-1])

        # Of a Gaussian, the weights along all axes come to this for a vertex itself; a half of it goes to each matrix.
        weights = weights.T / math.sqrt(1 + 2**-self.dimensions)
        fill(weights)
        if normalized:
            sums = self.apply_kernel(features.new_ones(self.num_points, 1))
            fill(weights * (sums + 1e-20).rsqrt())

    def filter(self, values: Tensor) -> Tensor:
        """Filter values of the points; gradients flow through it.

        Args:
            values: (N, C), of the features' type and on their device.

        Returns:
            (N, C): a sum, not a mean; `filter` of ones gives what to divide by.
        """
        filtered: Tensor = _Filter.apply(values, self)
        return filtered

    def apply_kernel(self, values: Tensor, transpose: bool = False) -> Tensor:
        """Filter without gradients; transposed, by the transpose of the same matrix."""
        return self._slice @ self._blur(values, transpose)

    def add_filtered(self, total: Tensor, values: Tensor, weight: float) -> Tensor:
        """Return the total plus `weight` times the filtered values, (N, C), in one pass; without gradients."""
        return torch.addmm(total, self._slice, self._blur(values), alpha=weight)

    def _blur(self, values: Tensor, transpose: bool = False) -> Tensor:
        """Splat values to the vertices and blur them: (M, C)."""
        grid = values.new_zeros(self.num_vertices + 1, values.shape[1])  # the last row is the vertex that none has
        grid[:-1] = self._splat @ values
        for before, after in reversed(self._neighbors) if transpose else self._neighbors:
            neighbors = grid.index_select(0, before).add_(grid.index_select(0, after))
            grid[:-1].add_(neighbors, alpha=0.5)
        return grid[:-1]


class _Filter(torch.autograd.Function):
    """The filter, whose gradient is the transposed filter of the gradient."""

    @staticmethod
    def forward(context: Any, values: Tensor, lattice: PermutohedralLattice) -> Tensor:
        context.lattice = lattice
        return lattice.apply_kernel(values)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return context.lattice.apply_kernel(gradient, transpose=True), None


def _find_simplices(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the simplex of each point.

    Returns:
        The remainder-0 vertex divided by d + 1, (d + 1, N); the rank of each coordinate, (d + 1, N); and the
        barycentric weights of the vertices of remainder 0 to d, (d + 1, N).
    """
    num_points, d = features.shape
    # Onto the hyperplane whose coordinates sum to 0, so that the blur has a deviation of 1.
    scales = features.new_tensor([math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(d)])
    scaled = (features * scales).T
    elevated = features.new_zeros(d + 1, num_points)
    for i in range(d):
        elevated[: i + 1] += scaled[i]
        elevated[i + 1] -= (i + 1) * scaled[i]
    corner = (elevated / (d + 1)).round()
    excess = corner.sum(0).long()
    rest = elevated - corner * (d + 1)
    rank = torch.zeros(d + 1, num_points, dtype=torch.long, device=features.device)
    for i in range(d):
        for j in range(i + 1, d + 1):
            is_less = rest[i] < rest[j]
            rank[i] += is_less
            rank[j] += ~is_less
    rank += excess  # of points that are not on the hyperplane, some coordinates go to the next multiple
    shift = (rank < 0).long() - (rank > d).long()
    rank += shift * (d + 1)
    corner = corner.long() + shift
    rest = (elevated - corner * (d + 1)) / (d + 1)
    by_rank = torch.empty_like(rest).scatter_(0, rank, rest).flip(0)
    weights = by_rank.clone()
    weights[1:] -= by_rank[:-1]
    weights[0] += 1 - by_rank[-1]
    return corner, rank, weights


def _unique_simplices(corner: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Return a point of each simplex, (U,), and the simplex of each point, (N,)."""
    d = len(corner) - 1
    codes, _ = _encode(corner[:d], margin=0)
    _, corner_of_point = torch.unique(codes, return_inverse=True)
    permutation = torch.zeros_like(codes)
    for axis in range(d):
        permutation = permutation * (d + 1) + rank[axis]
    codes = corner_of_point * (d + 1) ** d + permutation
    simplices, simplex_of_point = torch.unique(codes, return_inverse=True)
    representatives = torch.empty_like(simplices)
    representatives[simplex_of_point] = torch.arange(len(codes), device=codes.device)
    return representatives, simplex_of_point


def _vertex_keys(corner: Tensor, rank: Tensor) -> Tensor:
    """Return the first d coordinates of the vertices of remainder 0 to d of each simplex, (d, U, d + 1)."""
    d = len(corner) - 1
    remainder = torch.arange(d + 1, device=corner.device)
    ranks = rank[:d, :, None]
    return corner[:d, :, None] * (d + 1) + remainder - (ranks > d - remainder).long() * (d + 1)


def _encode(keys: Tensor, margin: int) -> tuple[Tensor, list[int]]:
    """Code integer coordinates, (d, ...), as one number each.

    Args:
        margin: how far beyond the keys there may be others whose code is asked for.

    Returns:
        The codes, (...), and how much one step along each coordinate adds to them.
    """
    flat = keys.flatten(1)
    low = flat.amin(1) - margin
    sizes = (flat.amax(1) + margin - low + 1).tolist()
    if math.prod(sizes) > _MOST_CODES:
        raise InputError("lattice: the features are spread too far", hint="give larger standard deviations")
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    codes = torch.zeros_like(keys[0])
    for axis, stride in enumerate(strides):
        codes += (keys[axis] - low[axis]) * stride
    return codes, strides


def _find_neighbors(vertices: Tensor, strides: list[int], axis: int) -> tuple[Tensor, Tensor]:
    """Return the vertices before and after each along an axis, (M,) each; M where there is none."""
    count = len(vertices)
    step = (len(strides) + 1) * strides[axis] - sum(strides) if axis < len(strides) else -sum(strides)
    wanted = vertices + step
    after = torch.searchsorted(vertices, wanted).clamp_(max=count - 1)
    after = torch.where(vertices[after] == wanted, after, count)
    before = torch.full((count + 1,), count, device=vertices.device)
    before[after] = torch.arange(count, device=vertices.device)
    return before[:count], after


def _stable_order(keys: Tensor) -> Tensor:
    """Return the order that sorts non-negative integers, equal ones as they come."""
    if keys.device.type != "cpu":
        return torch.sort(keys, stable=True)[1]
    values = keys.numpy()  # numpy sorts 16 bits by radix, several times faster than torch sorts 64
    order = np.argsort((values & 0xFFFF).astype(np.uint16), kind="stable")
    if len(values) and values.max() >> 16:
        order = order[np.argsort((values[order] >> 16).astype(np.uint16), kind="stable")]
    return torch.from_numpy(order)


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, size: tuple[int, ...]) -> Tensor:
    with without_warnings(UserWarning):  # that the layout is in beta
        # MKL multiplies by 32-bit indices, and torch would convert them each time.
        return torch.sparse_csr_tensor(rows.int(), columns.int(), values, size)
