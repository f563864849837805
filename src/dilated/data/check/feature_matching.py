"""Pairs of images of which one may be a part, a mirror image or a rescaled copy of the other: proposals, by voting.

    proposals = propose_alignments(features, may_pair)
    proposals[0].map_points(points)                      # from the first image into the second

Points with equal codes vote for how one image lies in the other: turned or mirrored, how much larger, and where. Codes
are compared by hashing, so that time and memory grow with the number of points, not with that of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.data.check.local_features import CODE_BITS, LocalFeatures

_TABLES = 8
_MIN_KEY_BITS, _MAX_KEY_BITS = 12, 26
_MAX_RUN = 48  # points of one key; those of more say nothing, as the edge of a round spot
_MAX_PAIRS = 30_000_000  # pairs of points that one table may hold
_MAX_DISTANCE = 6  # bits in which the codes of one point may differ; those of two points differ in 16 on average
_MIN_WEIGHT = 6  # the sum of 7 less the distance over the points that agree: two points, or one that is nearly equal
_BIN = 0.3  # of the second image's sides: how far apart votes for one place may be
_PROPOSALS_PER_IMAGE = 6
_POPCOUNT = np.array([bin(i).count("1") for i in range(1 << 16)], dtype=np.uint8)


@dataclass(frozen=True)
class Alignment:
    """How one image may lie in another, in pixels of their reductions: q = matrix @ p + offset.

    Args:
        first, second: indices of the images.
        matrix: (2, 2).
        offset: (2,).
        votes: pairs of points that agree on it.
    """

    first: int
    second: int
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    votes: int


@dataclass(frozen=True)
class Proposals:
    """The most likely alignments, and whether none was left out because too many points are alike."""

    alignments: list[Alignment]
    complete: bool


@dataclass(frozen=True)
class _Points:
    """The points of all images in one table."""

    codes: NDArray[np.uint64]
    images: NDArray[np.int64]
    points: NDArray[np.float32]
    poses: NDArray[np.int8]
    sizes: NDArray[np.float32]
    """(N, 2): width and height of each image."""


MayPair = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
"""Says of each pair of images, as two arrays of indices, whether it is looked for."""


def propose_alignments(features: Sequence[LocalFeatures], may_pair: MayPair) -> Proposals:
    """Find the pairs of images that have several points in common in a consistent way.

    Args:
        features: of each image.
        may_pair: which pairs are looked for.

    Example:
        >>> propose_alignments([], lambda first, second: first != second)
        Proposals(alignments=[], complete=True)
    """
    table = _join_features(features)
    if len(table.codes) < 2:
        return Proposals([], True)
    pairs, complete = _match_codes(table, may_pair)
    if not len(pairs):
        return Proposals([], complete)
    return Proposals(_vote(table, pairs), complete)


def _join_features(features: Sequence[LocalFeatures]) -> _Points:
    counts = [len(f.codes) for f in features]
    return _Points(
        np.concatenate([f.codes for f in features] or [np.zeros(0, np.uint64)]),
        np.repeat(np.arange(len(features)), counts),
        np.concatenate([f.points for f in features] or [np.zeros((0, 3), np.float32)]),
        np.concatenate([f.poses for f in features] or [np.zeros((0, 2, 2), np.int8)]),
        np.array([f.size[::-1] for f in features], dtype=np.float32).reshape(-1, 2),
    )


def _match_codes(table: _Points, may_pair: MayPair) -> tuple[NDArray[np.int64], bool]:
    """(P, 2): pairs of points of two images whose codes agree in the bits of one of the tables."""
    count = len(table.codes)
    bits = int(np.clip(np.ceil(np.log2(count)) - 2, _MIN_KEY_BITS, _MAX_KEY_BITS))
    rng = np.random.default_rng(0)
    keys = [np.zeros(0, np.int64)]
    complete = True
    for _ in range(_TABLES):
        chosen = rng.permutation(CODE_BITS)[:bits]
        key = np.zeros(count, np.uint64)
        for place, bit in enumerate(chosen.tolist()):
            key |= ((table.codes >> np.uint64(bit)) & np.uint64(1)) << np.uint64(place)
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        lengths = np.diff(np.r_[starts, count])
        usable = np.repeat(lengths <= _MAX_RUN, lengths)
        num_pairs = 0
        for step in range(1, _MAX_RUN):
            same = np.flatnonzero((ordered[step:] == ordered[:-step]) & usable[step:])
            if not len(same):
                break
            first, second = order[same], order[same + step]
            first, second = np.minimum(first, second), np.maximum(first, second)
            near = _count_bits(table.codes[first] ^ table.codes[second]) <= _MAX_DISTANCE
            first, second = first[near], second[near]
            wanted = may_pair(table.images[first], table.images[second])
            keys.append(first[wanted] * count + second[wanted])
            num_pairs += len(keys[-1])
            if num_pairs > _MAX_PAIRS:
                complete = False
                break
        keys = [np.unique(np.concatenate(keys))]
    return np.stack(np.divmod(keys[0], count), axis=1), complete


def _count_bits(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    return _POPCOUNT[values.view(np.uint16).reshape(-1, 4)].sum(1, dtype=np.int64)


def _vote(table: _Points, pairs: NDArray[np.int64]) -> list[Alignment]:
    first, second = pairs.T
    pose = np.einsum("nji,njk->nik", table.poses[second], table.poses[first])  # second's, undone, after first's
    ratio = table.points[second, 2] / table.points[first, 2]
    images = table.images[first], table.images[second]
    center = table.sizes[images[0]] / 2
    place = table.points[second, :2] + ratio[:, None] * np.einsum("nij,nj->ni", pose, center - table.points[first, :2])
    relative = place / table.sizes[images[1]]
    pose_code = ((pose.reshape(-1, 4) + 1) @ np.array([27, 9, 3, 1])).astype(np.int64)
    weight = _MAX_DISTANCE + 1 - _count_bits(table.codes[first] ^ table.codes[second])
    pair_code = images[0] * len(table.sizes) + images[1]
    best: dict[int, tuple[int, NDArray[np.int64]]] = {}
    for shift in (0.0, 0.5):
        bins = np.stack([np.log2(ratio) / 0.7 + shift, *(relative / _BIN + shift).T]).clip(-40, 40)
        cells = np.floor(bins).astype(np.int64) + 64
        key = np.stack([pair_code, pose_code, *cells], axis=1)
        order = np.lexsort(key.T[::-1])
        ordered = key[order]
        starts = np.flatnonzero(np.r_[True, (ordered[1:] != ordered[:-1]).any(1)])
        lengths = np.diff(np.r_[starts, len(order)])
        totals = np.add.reduceat(weight[order], starts)
        strong = totals >= _MIN_WEIGHT
        for start, length, total in zip(*(a[strong].tolist() for a in (starts, lengths, totals)), strict=True):
            rows = order[start : start + length]
            code = int(pair_code[rows[0]])
            if total > best.get(code, (0, rows))[0]:
                best[code] = total, rows
    return [
        _fit_alignment(table, pairs[rows], pose[rows[0]], ratio[rows]) for rows in _select_pairs(best, len(table.sizes))
    ]


def _select_pairs(best: dict[int, tuple[int, NDArray[np.int64]]], num_images: int) -> list[NDArray[np.int64]]:
    """Of each image the pairs with the most votes."""
    counts = np.zeros(num_images, np.int64)
    chosen = []
    for code, (_, rows) in sorted(best.items(), key=lambda item: (-item[1][0], item[0])):
        members = divmod(code, num_images)
        if min(counts[list(members)]) < _PROPOSALS_PER_IMAGE:
            counts[list(members)] += 1
            chosen.append(rows)
    return chosen


def _fit_alignment(
    table: _Points, pairs: NDArray[np.int64], pose: NDArray[np.int8], ratio: NDArray[np.float32]
) -> Alignment:
    """The scale and offset of least squares for points that agree on the pose."""
    source = table.points[pairs[:, 0], :2].astype(np.float64) @ pose.T
    target = table.points[pairs[:, 1], :2].astype(np.float64)
    deviation = source - source.mean(0)
    spread = float((deviation**2).sum())
    scale = float(np.median(ratio))
    if spread > 16 * len(pairs):  # points that lie close together do not tell the scale
        fitted = float((deviation * (target - target.mean(0))).sum()) / spread
        scale = fitted if abs(np.log2(max(fitted, 1e-3) / scale)) < 0.5 else scale
    first, second = (int(table.images[pairs[0, side]]) for side in (0, 1))
    matrix = scale * pose.astype(np.float64)
    return Alignment(first, second, matrix, target.mean(0) - scale * source.mean(0), len(pairs))
