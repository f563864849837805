"""Label maps as polygons along the edges of their pixels: exactly, with holes.

    for outline in trace_polygons(labels):                     # one for each 4-connected region of equal values
        outline.value, outline.rings                     # the outer ring, then the holes, each (n, 2) of x, y

Corners are whole numbers: pixel (0, 0) covers 0 to 1 along both. No ring touches itself, holes touch each other and the
outer ring in single corners at most, and filling the rings (even-odd) gives exactly the mask. With y pointing up, outer
rings run counterclockwise and holes clockwise, as RFC 7946 has it; on the screen, where y points down, it is the other
way round.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Ring = NDArray[np.int64]

# Directions: right, down, left, up, as (down, right). Edges run with their region on the right hand, along its top,
# right, bottom and left. Then, of the four pixels around the corner where an edge ends, the two ahead of it.
_STEP = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
_AHEAD_LEFT = np.array([(0, 1), (1, 1), (1, 0), (0, 0)])
_AHEAD_RIGHT = np.array([(1, 1), (1, 0), (0, 0), (0, 1)])


@dataclass(frozen=True)
class RegionPolygon:
    """The outline of one region.

    Args:
        value: of the label map.
        rings: the outer ring, then the holes; (n, 2) corners of x and y each, the first not repeated at the end.
    """

    value: int
    rings: tuple[_Ring, ...]

    @property
    def area(self) -> int:
        """How many pixels the region has."""
        return sum(compute_signed_area(ring) for ring in self.rings)

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """Left, top, width and height."""
        (left, top), (right, bottom) = self.rings[0].min(0).tolist(), self.rings[0].max(0).tolist()
        return left, top, right - left, bottom - top


def compute_signed_area(ring: _Ring) -> int:
    """The area within a ring, negative for a hole.

    Example:
        >>> compute_signed_area(np.array([(0, 0), (2, 0), (2, 1), (0, 1)]))
        2
    """
    x, y = ring.T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) // 2


def sort_for_drawing(polygons: Iterable[RegionPolygon]) -> list[RegionPolygon]:
    """Return polygons larger outer rings first: outer rings drawn in this order, one over another, are the label map.

    Example:
        >>> outlines = trace_polygons(np.array([[1, 7, 7, 7], [1, 7, 2, 7], [1, 7, 7, 7]]))
        >>> [outline.value for outline in sort_for_drawing(outlines)]
        [7, 1, 2]
    """
    return sorted(polygons, key=lambda polygon: compute_signed_area(polygon.rings[0]), reverse=True)


def trace_polygons(labels: NDArray[np.integer]) -> list[RegionPolygon]:
    """The outlines of all 4-connected regions of equal values.

    Args:
        labels: (H, W) of any integers.

    Returns:
        One outline for each region, in the order of the regions' first pixels, row by row.

    Example:
        >>> for outline in trace_polygons(np.array([[7, 7, 7], [7, 1, 7], [7, 7, 7]])):
        ...     outline.value, outline.area, [ring.tolist() for ring in outline.rings]
        (7, 8, [[[0, 0], [3, 0], [3, 3], [0, 3]], [[1, 2], [2, 2], [2, 1], [1, 1]]])
        (1, 1, [[[1, 1], [2, 1], [2, 2], [1, 2]]])
    """
    if labels.size == 0:
        return []
    region, values = label_components(labels)
    padded = np.pad(region, 1, constant_values=-1)
    direction, row, column, next_edge, turns = _find_edges(padded)
    order, first = _chain_edges(next_edge, int((direction == 0).sum()))

    # A corner is where an edge begins that goes on in another direction than the one before it.
    begins = np.zeros(len(order), dtype=np.bool_)
    begins[next_edge[turns]] = True
    ring = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(order))))[begins[order]]
    corner = order[begins[order]]
    corners = np.stack([column[corner], row[corner]], axis=1)
    rings = np.split(corners, np.flatnonzero(np.diff(ring)) + 1)

    # The first ring of a region, row by row, is its outer one: it has the region's first pixel.
    start = order[first]  # always along the top of a pixel
    region_index = region[row[start], column[start]]
    rings_by_region: list[list[_Ring]] = [[] for _ in values]
    for index, region_ring in zip(region_index.tolist(), rings, strict=True):
        rings_by_region[index].append(region_ring)
    return [RegionPolygon(value, tuple(group)) for value, group in zip(values.tolist(), rings_by_region, strict=True)]


def label_components(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.integer]]:
    """The 4-connected regions of equal values.

    Args:
        labels: (H, W) of any integers, not empty.

    Returns:
        (H, W) the number of each pixel's region, from 0 in the order of their first pixels; (n,) the regions' values.

    Example:
        >>> label_components(np.array([[5, 5, 6], [6, 5, 6]]))[0].tolist()
        [[0, 0, 1], [2, 0, 1]]
    """
    starts = np.ones(labels.shape, dtype=np.bool_)
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    run = np.cumsum(starts).reshape(labels.shape) - 1
    touching = (labels[1:] == labels[:-1]) & (starts[1:] | starts[:-1])  # where two runs first meet
    above, below = run[:-1][touching], run[1:][touching]
    parent = np.arange(run[-1, -1] + 1)  # never greater than the run itself, so a root is its region's first run
    while len(above):
        np.minimum.at(parent, np.maximum(above, below), np.minimum(above, below))
        while (parent[parent] != parent).any():
            parent = parent[parent]
        above, below = parent[above], parent[below]
        unmerged = above != below
        above, below = above[unmerged], below[unmerged]
    roots, number = np.unique(parent, return_inverse=True)
    return number[run], labels[starts][roots]


def _find_edges(padded: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """The edges of all regions, sorted by direction, row and column of the corner where they begin.

    Args:
        padded: (H + 2, W + 2) regions within a frame of -1.

    Returns:
        The direction, row and column of each edge, the edge that follows it, and the edges after which there is a turn.
    """
    north, south = padded[:-1, 1:-1], padded[1:, 1:-1]  # of each horizontal side
    west, east = padded[1:-1, :-1], padded[1:-1, 1:]
    horizontal, vertical = north != south, west != east
    inside = (horizontal & (south >= 0), vertical & (west >= 0), horizontal & (north >= 0), vertical & (east >= 0))
    positions = [np.nonzero(mask) for mask in inside]
    direction = np.repeat(np.arange(4), [len(rows) for rows, _ in positions])
    row = np.concatenate([rows for rows, _ in positions]) + (direction == 3)
    column = np.concatenate([columns for _, columns in positions]) + (direction == 2)
    region = np.concatenate([side[mask] for side, mask in zip((south, west, north, east), inside, strict=True)])

    end_row, end_column = row + _STEP[direction, 0], column + _STEP[direction, 1]

    def ahead(side: NDArray[np.int64]) -> NDArray[np.bool_]:
        is_same_region: NDArray[np.bool_] = (
            padded[end_row + side[direction, 0], end_column + side[direction, 1]] == region
        )
        return is_same_region

    # Where a region meets itself across a corner it is passed as one piece: rings then never touch themselves.
    left, right = ahead(_AHEAD_LEFT), ahead(_AHEAD_RIGHT)
    turn = np.where(left, -1, np.where(right, 0, 1))
    rows, columns = padded.shape[0] - 1, padded.shape[1] - 1  # of corners

    key = (direction * rows + row) * columns + column
    next_edge = np.searchsorted(key, ((direction + turn) % 4 * rows + end_row) * columns + end_column)
    return direction, row, column, next_edge, np.flatnonzero(turn)


def _chain_edges(next_edge: NDArray[np.int64], starts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The edges ring by ring, and where in that order each ring begins: with one of the first `starts` edges."""
    successors = next_edge.tolist()
    seen = bytearray(len(successors))
    order: list[int] = []
    first: list[int] = []
    for start in range(starts):
        if seen[start]:
            continue
        first.append(len(order))
        edge = start
        while not seen[edge]:
            seen[edge] = 1
            order.append(edge)
            edge = successors[edge]
    return np.array(order, dtype=np.int64), np.array(first, dtype=np.int64)
