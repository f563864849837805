"""Outlines along pixel edges: filled again they are the very mask; rings are simple and wound as RFC 7946 has it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dilated.data.masks import rasterize_polygon
from dilated.data.polygons import RegionPolygon, compute_signed_area, label_components, trace_polygons

maps = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2))


def filled(outline: RegionPolygon, size: tuple[int, int]) -> np.ndarray:
    """Even-odd at pixel centres, edge by edge: for each upright edge, the pixels to its right change sides."""
    inside = np.zeros(size, dtype=bool)
    for ring in outline.rings:
        for (x0, y0), (x1, y1) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
            assert (x0 == x1) != (y0 == y1), "edges are level or upright"
            if x0 == x1:
                inside[min(y0, y1) : max(y0, y1), x0:] ^= True
    return inside


def flooded(labels: np.ndarray) -> np.ndarray:
    """Regions by walking from pixel to pixel."""
    found = np.full(labels.shape, -1)
    number = 0
    for start in np.ndindex(labels.shape):
        if found[start] >= 0:
            continue
        waiting = [start]
        while waiting:
            y, x = waiting.pop()
            inside = 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]
            if inside and found[y, x] < 0 and labels[y, x] == labels[start]:
                found[y, x] = number
                waiting += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        number += 1
    return found


def test_a_map_without_pixels_has_no_outline() -> None:
    assert trace_polygons(np.zeros((0, 3), np.uint8)) == []


def test_one_pixel_is_a_square() -> None:
    (outline,) = trace_polygons(np.array([[300]], np.uint16))
    assert outline.value == 300
    assert [ring.tolist() for ring in outline.rings] == [[[0, 0], [1, 0], [1, 1], [0, 1]]]
    assert (outline.area, outline.bbox) == (1, (0, 0, 1, 1))


def test_pixels_that_meet_in_a_corner_are_two_regions() -> None:
    found = trace_polygons(np.array([[1, 0], [0, 1]]))
    assert [outline.value for outline in found] == [1, 0, 0, 1]
    assert all(outline.area == 1 for outline in found)


def test_a_ring_closed_across_a_corner_has_a_hole_that_touches_its_outside() -> None:
    labels = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    ring = trace_polygons(labels)[0]
    assert ring.area == 7
    assert len(ring.rings) == 2
    assert ring.rings[0].tolist() == [[0, 0], [3, 0], [3, 2], [2, 2], [2, 3], [0, 3]]
    assert sorted(map(tuple, ring.rings[1].tolist())) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_regions_within_holes_within_regions() -> None:
    labels = np.zeros((7, 7), int)
    labels[1:6, 1:6] = 1
    labels[2:5, 2:5] = 0
    labels[3, 3] = 1
    assert [(o.value, o.area, len(o.rings)) for o in trace_polygons(labels)] == [
        (0, 24, 2),
        (1, 16, 2),
        (0, 8, 2),
        (1, 1, 1),
    ]


@settings(max_examples=150, deadline=None)
@given(labels=maps)
def test_outlines_filled_again_are_the_regions(labels: np.ndarray) -> None:
    numbers, values = label_components(labels)
    assert np.array_equal(numbers, flooded(labels))
    found = trace_polygons(labels)
    assert [outline.value for outline in found] == values.tolist()
    for number, outline in enumerate(found):
        mask = numbers == number
        assert np.array_equal(filled(outline, labels.shape), mask)
        again = np.zeros(labels.shape, dtype=bool)
        for ring in outline.rings:
            again ^= rasterize_polygon(ring.astype(float), labels.shape)
        assert np.array_equal(again, mask)
        assert outline.area == mask.sum()
        rows, columns = np.nonzero(mask)
        low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
        assert outline.bbox == (*low, high[0] - low[0], high[1] - low[1])


@settings(max_examples=150, deadline=None)
@given(labels=maps)
def test_rings_are_simple_and_holes_lie_inside(labels: np.ndarray) -> None:
    for outline in trace_polygons(labels):
        assert compute_signed_area(outline.rings[0]) > 0
        assert all(compute_signed_area(hole) < 0 for hole in outline.rings[1:])
        outer = rasterize_polygon(outline.rings[0].astype(float), labels.shape)
        for ring in outline.rings:
            corners = list(map(tuple, ring.tolist()))
            assert len(set(corners)) == len(corners) >= 4, "no corner is passed twice"
            steps = np.sign(np.roll(ring, -1, axis=0) - ring)
            assert (np.abs(steps).sum(1) == 1).all()
            assert (steps != np.roll(steps, 1, axis=0)).any(1).all(), "only corners are kept"
            points = [tuple(p) for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True) for p in _between(a, b)]
            assert len(set(points)) == len(points), "no ring touches itself"
            assert (outer | ~rasterize_polygon(ring.astype(float), labels.shape)).all()


def _between(start: np.ndarray, end: np.ndarray) -> list[tuple[int, int]]:
    step, count = np.sign(end - start), int(np.abs(end - start).sum())
    return [(int(start[0] + i * step[0]), int(start[1] + i * step[1])) for i in range(count)]


@pytest.mark.parametrize("kind", ["blobs", "stripes"])
def test_a_million_pixels_take_two_seconds_at_most(kind: str) -> None:
    y, x = np.mgrid[:1000, :1000]
    blobs = (np.sin(x / 9) * np.cos(y / 11) * 4 + np.sin((x + y) / 31) * 3).round().astype(np.int8)
    labels = blobs if kind == "blobs" else (x // 3 + y // 200) % 3
    began = time.process_time()
    found = trace_polygons(labels)
    assert time.process_time() - began < 2
    assert sum(outline.area for outline in found) == labels.size
