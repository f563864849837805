"""Images that show the same thing without being the same: crops, mirror images, rescaled copies, tiles that overlap.

    search = find_overlaps(features, may_pair, lambda blocks: [verify_alignments(read_gray, b) for b in blocks])
    for match in search.matches: print(match.first, match.second, match.describe())

Proposals by local features are verified: the one image is laid over the other, and their gray values must agree. The
limits were chosen on the first 300 nuclei images by name, where true pairs had a correlation of 0.988 or more and a
shear below 0.01, and false ones that correlated had 0.03 or more; `benchmarks/planted_leaks.py` measures on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from dilated.data.check.feature_matching import Alignment, MayPair, propose_alignments
from dilated.data.check.local_features import LocalFeatures
from dilated.data.check.registration import BlurredImage, Overlap, blur_for_registration, register
from dilated.errors import InputError

_MIN_CORRELATION = 0.9
_LOOSE_CORRELATION, _MANY_VOTES = 0.75, 8  # enough where so many points agree, as in frames of a film
_MAX_SHEAR = 0.06
_MIN_AREA = 0.15  # of the image of which the larger part is shared
_WHOLE_AREA = 0.8  # more than this is a whole image: frames of a reduction's border are not compared
_MAX_VERIFICATIONS = 20_000
_BLOCK_ALIGNMENTS = 64
_KEPT_IMAGES = 64  # reductions that are kept in memory


@dataclass(frozen=True)
class Match:
    """Two images that show the same thing.

    Args:
        first, second: their indices.
        correlation: of their gray values where they overlap.
        fraction: the part of the first that is in the second.
        coverage: the part of the second that is in the first.
        is_mirrored: whether one is a mirror image of the other.
        is_turned: whether one is turned against the other, by a quarter or a half.
        scale: how much larger the second shows things, in pixels of the reductions.
    """

    first: int
    second: int
    correlation: float
    fraction: float
    coverage: float
    is_mirrored: bool
    is_turned: bool
    scale: float

    def reversed(self) -> Match:
        """The same pair, the second first."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            fraction=self.coverage,
            coverage=self.fraction,
            scale=1 / self.scale,
        )

    def describe(self) -> str:
        """What the first is of the second, such as `a mirror image of a part of`.

        Example:
            >>> Match(0, 1, 0.99, 1.0, 0.5, True, False, 1.0).describe()
            'a mirror image of a part of'
        """
        inside, around = self.fraction >= _WHOLE_AREA, self.coverage >= _WHOLE_AREA
        if not inside and not around:
            relation = f"has {self.fraction:.0%} of its area in common with"
            return relation + (" (mirrored)" if self.is_mirrored else " (turned)" if self.is_turned else "")
        kind = "a mirror image of" if self.is_mirrored else "a turned copy of" if self.is_turned else "a copy of"
        if inside and around:
            return kind
        return f"{kind} a part of" if inside else f"{kind} more than"


@dataclass(frozen=True)
class OverlapSearch:
    """The pairs that were verified, and whether none was left out because too many are alike."""

    matches: list[Match]
    complete: bool


Verify = Callable[[Sequence[Sequence[Alignment]]], Iterable[list[Match]]]
"""Verifies each block of alignments by `verify_alignments`, here or elsewhere."""


def find_overlaps(features: Sequence[LocalFeatures], may_pair: MayPair, verify: Verify) -> OverlapSearch:
    """Find the pairs of images that show the same thing.

    Args:
        features: of each image.
        may_pair: which pairs are looked for.
        verify: verifies the proposals, which are given in blocks that have images in common.

    Example:
        >>> find_overlaps([], lambda first, second: first != second, lambda blocks: [])
        OverlapSearch(matches=[], complete=True)
    """
    proposals = propose_alignments(features, may_pair)
    ranked = sorted(proposals.alignments, key=lambda alignment: -alignment.votes)[:_MAX_VERIFICATIONS]
    if len({alignment.second for alignment in ranked}) < len({alignment.first for alignment in ranked}):
        ranked.sort(key=lambda alignment: (alignment.second, alignment.first))  # so fewer images are read twice
    else:
        ranked.sort(key=lambda alignment: (alignment.first, alignment.second))
    blocks = [ranked[start : start + _BLOCK_ALIGNMENTS] for start in range(0, len(ranked), _BLOCK_ALIGNMENTS)]
    matches = sorted(chain.from_iterable(verify(blocks)), key=lambda match: (match.first, match.second))
    return OverlapSearch(matches, proposals.complete and len(ranked) == len(proposals.alignments))


def verify_alignments(read_gray: Callable[[int], NDArray[np.float32]], alignments: Sequence[Alignment]) -> list[Match]:
    """Lay the images of alignments over each other, and keep those that agree.

    Args:
        read_gray: reads the reduction of an image again.
        alignments: in an order in which the same images follow each other.

    Example:
        >>> verify_alignments(lambda index: np.zeros((8, 8), np.float32), [])
        []
    """

    @lru_cache(maxsize=_KEPT_IMAGES)
    def read(index: int) -> BlurredImage | None:
        try:
            return blur_for_registration(read_gray(index))
        except InputError:  # the file has changed since
            return None

    matches = []
    for alignment in alignments:
        first, second = read(alignment.first), read(alignment.second)
        if first is None or second is None:
            continue
        overlap = register(first, second, alignment)
        if _is_credible(overlap, alignment):
            matches.append(_make_match(overlap, alignment))
    return matches


def _is_credible(overlap: Overlap, alignment: Alignment) -> bool:
    """Whether the images agree, and the refined alignment is still a turn by quarters, a mirroring and a scale."""
    enough = _LOOSE_CORRELATION if alignment.votes >= _MANY_VOTES else _MIN_CORRELATION
    if overlap.correlation < enough or max(overlap.fraction, overlap.coverage) < _MIN_AREA:
        return False
    pose, scale = _split_pose(overlap.matrix)
    return bool(np.abs(overlap.matrix / scale - pose).max() <= _MAX_SHEAR)


def _split_pose(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The nearest turn by quarters and mirroring, and the scale."""
    scale = float(abs(np.linalg.det(matrix)) ** 0.5) or 1.0
    pose: NDArray[np.float64] = np.clip(matrix / scale, -1, 1).round()
    return pose, scale


def _make_match(overlap: Overlap, alignment: Alignment) -> Match:
    pose, scale = _split_pose(overlap.matrix)
    is_mirrored = bool(np.linalg.det(pose) < 0)
    is_turned = not is_mirrored and not np.array_equal(pose, np.eye(2))
    return Match(
        alignment.first,
        alignment.second,
        overlap.correlation,
        overlap.fraction,
        overlap.coverage,
        is_mirrored,
        is_turned,
        scale,
    )
