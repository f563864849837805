"""The lattice filter against a plain implementation that follows the paper with dictionaries."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor

from dilated.errors import InputError
from dilated.models.permutohedral import PermutohedralLattice


def _plain_filter(features: list[list[float]], values: list[float]) -> list[float]:
    """Filter one value per point: one point, one vertex and one axis at a time."""
    d = len(features[0])
    corners = []
    for feature in features:
        scaled = [x * math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i, x in enumerate(feature)]
        elevated = [sum(scaled[i:]) - (i * scaled[i - 1] if i else 0.0) for i in range(d + 1)]
        nearest = [(d + 1) * round(x / (d + 1)) for x in elevated]
        while (total := sum(nearest)) != 0:  # to the hyperplane, by the coordinate that is rounded the most
            rest = [x - n for x, n in zip(elevated, nearest, strict=True)]
            if total > 0:
                nearest[min(range(d + 1), key=lambda i: rest[i])] -= d + 1
            else:
                nearest[max(range(d + 1), key=lambda i: rest[i])] += d + 1
        rest = [x - n for x, n in zip(elevated, nearest, strict=True)]
        order = sorted(range(d + 1), key=lambda i: -rest[i])
        vertex, inside = list(nearest), []
        for k in range(d + 1):  # from the vertex of remainder k, one step down along the least coordinate is k + 1
            before = rest[order[d - k]]
            after = rest[order[d + 1 - k]] if k else rest[order[0]] - (d + 1)
            inside.append((tuple(vertex), (before - after) / (d + 1)))
            vertex = [x + 1 for x in vertex]
            vertex[order[d - k]] -= d + 1
        corners.append(inside)
    grid: dict[tuple[int, ...], float] = defaultdict(float)
    for inside, value in zip(corners, values, strict=True):
        for vertex, weight in inside:
            grid[vertex] += weight * value
    for axis in range(d + 1):
        steps = {key: tuple(x - 1 + (d + 1) * (i == axis) for i, x in enumerate(key)) for key in grid}
        back = {key: tuple(x + 1 - (d + 1) * (i == axis) for i, x in enumerate(key)) for key in grid}
        grid = {k: v + (grid.get(steps[k], 0.0) + grid.get(back[k], 0.0)) / 2 for k, v in grid.items()}
    return [sum(w * grid[v] for v, w in inside) / (1 + 2**-d) for inside in corners]


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_filter_equals_the_plain_implementation(dimensions: int) -> None:
    random = torch.Generator().manual_seed(dimensions)
    features = 4 * torch.rand(60, dimensions, generator=random, dtype=torch.float64) - 1
    values = torch.rand(60, 2, generator=random, dtype=torch.float64)
    filtered = PermutohedralLattice(features).filter(values)
    for channel in range(2):
        expected = _plain_filter(features.tolist(), values[:, channel].tolist())
        assert filtered[:, channel].tolist() == pytest.approx(expected, abs=1e-12)


def _matrix(lattice: PermutohedralLattice, transpose: bool = False) -> Tensor:
    return lattice.apply_kernel(torch.eye(lattice.num_points, dtype=torch.float64), transpose)


def test_transposed_filter_is_the_transposed_matrix() -> None:
    features = torch.rand(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5
    lattice = PermutohedralLattice(features)
    torch.testing.assert_close(_matrix(lattice, transpose=True), _matrix(lattice).T)


def test_normalized_filter_is_scaled_on_both_sides() -> None:
    features = torch.rand(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5
    matrix = _matrix(PermutohedralLattice(features))
    scale = matrix.sum(1).rsqrt()
    torch.testing.assert_close(
        _matrix(PermutohedralLattice(features, normalized=True)), scale[:, None] * matrix * scale
    )


def test_gradients_of_the_filter_are_right() -> None:
    features = torch.rand(12, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    lattice = PermutohedralLattice(features, normalized=True)
    assert torch.autograd.gradcheck(lattice.filter, torch.rand(12, 3, dtype=torch.float64, requires_grad=True))


def test_lattice_is_near_the_gaussian_on_a_plane() -> None:
    steps = torch.arange(24, dtype=torch.float64)
    features = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).flatten(0, 1) / 3
    lattice = _matrix(PermutohedralLattice(features, normalized=True))
    exact = torch.exp(-torch.cdist(features, features).square() / 2)
    scale = exact.sum(1).rsqrt()
    difference = lattice - scale[:, None] * exact * scale
    assert difference.abs().sum(1).max() < 0.25  # of rows whose sums are about 1


def test_more_than_65536_vertices_are_sorted() -> None:
    features = torch.arange(70_000, dtype=torch.float64)[:, None] * 5
    filtered = PermutohedralLattice(features).filter(torch.ones(70_000, 1, dtype=torch.float64))
    expected = _plain_filter(features[[0, 1, 69_999]].tolist(), [1.0, 1.0, 1.0])
    assert filtered[[0, 1, 69_999], 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="not finite"):
        PermutohedralLattice(torch.tensor([[0.0], [value]]))


def test_features_that_are_spread_too_far_are_refused() -> None:
    with pytest.raises(InputError, match="spread too far"):
        PermutohedralLattice(torch.tensor([[0.0] * 5, [1e6] * 5], dtype=torch.float64))
