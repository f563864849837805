"""Label maps as polygons along the edges of their pixels: exactly, with holes.

    for outline in outlines(labels):                     # one for each 4-connected region of equal values
        outline.value, outline.rings                     # the outer ring, then the holes, each (n, 2) of x, y

Corners are whole numbers: pixel (0, 0) covers 0 to 1 along both. No ring touches itself, holes touch each other and the
outer ring in single corners at most, and filling the rings (even-odd) gives the very mask. In x and y as numbers outer
rings run counterclockwise and holes clockwise, as RFC 7946 has it; on the screen, where y points down, it looks the
other way round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int64]

# Directions: right, down, left, up, as (down, right). Edges run with their region on the right hand, along its top,
# right, bottom and left. Then, of the four pixels around the corner where an edge ends, the two ahead of it.
STEP = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
AHEAD_LEFT = np.array([(0, 1), (1, 1), (1, 0), (0, 0)])
AHEAD_RIGHT = np.array([(1, 1), (1, 0), (0, 0), (0, 1)])


@dataclass(frozen=True)
class Outline:
    """The outline of one region.

    Args:
        value: of the label map.
        rings: the outer ring, then the holes; (n, 2) corners of x and y each, the first not repeated at the end.
    """

    value: int
    rings: tuple[Ring, ...]

    @property
    def area(self) -> int:
        """How many pixels the region has."""
        return sum(signed_area(ring) for ring in self.rings)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height."""
        (left, top), (right, bottom) = self.rings[0].min(0).tolist(), self.rings[0].max(0).tolist()
        return left, top, right - left, bottom - top


def signed_area(ring: Ring) -> int:
    """The area within a ring, negative for a hole.

    Example:
        >>> signed_area(np.array([(0, 0), (2, 0), (2, 1), (0, 1)]))
        2
    """
    x, y = ring.T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) // 2


def outlines(labels: NDArray[np.integer]) -> list[Outline]:
    """The outlines of all 4-connected regions of equal values.

    Args:
        labels: (H, W) of any integers.

    Returns:
        One outline for each region, in the order of the regions' first pixels, row by row.

    Example:
        >>> for outline in outlines(np.array([[7, 7, 7], [7, 1, 7], [7, 7, 7]])):
        ...     outline.value, outline.area, [ring.tolist() for ring in outline.rings]
        (7, 8, [[[0, 0], [3, 0], [3, 3], [0, 3]], [[1, 2], [2, 2], [2, 1], [1, 1]]])
        (1, 1, [[[1, 1], [2, 1], [2, 2], [1, 2]]])
    """
    if labels.size == 0:
        return []
    region, values = regions(labels)
    padded = np.pad(region, 1, constant_values=-1)
    direction, row, column, following, turns = _edges(padded)
    order, first = _chain(following, int((direction == 0).sum()))

    # A corner is where an edge begins that goes on in another direction than the one before it.
    begins = np.zeros(len(order), dtype=np.bool_)
    begins[following[turns]] = True
    ring = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(order))))[begins[order]]
    corner = order[begins[order]]
    corners = np.stack([column[corner], row[corner]], axis=1)
    rings = np.split(corners, np.flatnonzero(np.diff(ring)) + 1)

    # The first ring of a region, row by row, is its outer one: it has the region's first pixel.
    start = order[first]  # always along the top of a pixel
    owner = region[row[start], column[start]]
    found: list[list[Ring]] = [[] for _ in values]
    for index, one in zip(owner.tolist(), rings, strict=True):
        found[index].append(one)
    return [Outline(value, tuple(group)) for value, group in zip(values.tolist(), found, strict=True)]


def regions(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.integer]]:
    """The 4-connected regions of equal values.

    Args:
        labels: (H, W) of any integers, not empty.

    Returns:
        (H, W) the number of each pixel's region, from 0 in the order of their first pixels; (n,) the regions' values.

    Example:
        >>> regions(np.array([[5, 5, 6], [6, 5, 6]]))[0].tolist()
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
        apart = above != below
        above, below = above[apart], below[apart]
    roots, number = np.unique(parent, return_inverse=True)
    return number[run], labels[starts][roots]


def _edges(padded: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """The edges of all regions, sorted by direction, row and column of the corner where they begin.

    Args:
        padded: (H + 2, W + 2) regions within a frame of -1.

    Returns:
        The direction, row and column of each edge, the edge that follows it, and the edges after which there is a turn.
    """
    north, south = padded[:-1, 1:-1], padded[1:, 1:-1]  # of each horizontal side
    west, east = padded[1:-1, :-1], padded[1:-1, 1:]
    level, upright = north != south, west != east
    inside = (level & (south >= 0), upright & (west >= 0), level & (north >= 0), upright & (east >= 0))
    places = [np.nonzero(mask) for mask in inside]
    direction = np.repeat(np.arange(4), [len(rows) for rows, _ in places])
    row = np.concatenate([rows for rows, _ in places]) + (direction == 3)
    column = np.concatenate([columns for _, columns in places]) + (direction == 2)
    region = np.concatenate([side[mask] for side, mask in zip((south, west, north, east), inside, strict=True)])

    end_row, end_column = row + STEP[direction, 0], column + STEP[direction, 1]

    def ahead(side: NDArray[np.int64]) -> NDArray[np.bool_]:
        mine: NDArray[np.bool_] = padded[end_row + side[direction, 0], end_column + side[direction, 1]] == region
        return mine

    # Where a region meets itself across a corner it is passed as one piece: rings then never touch themselves.
    left, right = ahead(AHEAD_LEFT), ahead(AHEAD_RIGHT)
    turn = np.where(left, -1, np.where(right, 0, 1))
    rows, columns = padded.shape[0] - 1, padded.shape[1] - 1  # of corners

    key = (direction * rows + row) * columns + column
    following = np.searchsorted(key, ((direction + turn) % 4 * rows + end_row) * columns + end_column)
    return direction, row, column, following, np.flatnonzero(turn)


def _chain(following: NDArray[np.int64], starts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The edges ring by ring, and where in that order each ring begins: with one of the first `starts` edges."""
    after = following.tolist()
    seen = bytearray(len(after))
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
            edge = after[edge]
    return np.array(order, dtype=np.int64), np.array(first, dtype=np.int64)
