"""Lay one image over another and say how well they agree there: proposals of alignments, refined and verified.

    overlap = register(first, second, alignment)
    overlap.correlation                                  # of the gray values where both images are

The alignment is refined by the inverse of what a small affine change does to the correlation (Gauss-Newton on the
normalized difference, coarse to fine; Lucas and Kanade, 1981).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dilated.data.check.feature_matching import Alignment
from dilated.data.check.local_features import blur, sample_bilinear

_GRID = 40  # samples along each side of the first image; every second of them where it is blurred much
_MIN_SAMPLES = 150
_COARSE_SIGMA, _FINE_SIGMA = 4.0, 1.0  # pixels
_COARSE_STEPS, _FINE_STEPS = 8, 6
_PATIENCE, _MIN_COARSE = 3, 0.4  # steps after which a coarse correlation below this is given up
_MAX_CHANGE = 0.35  # of the scale and of the shear, from what was proposed


@dataclass(frozen=True)
class Overlap:
    """Where an image lies in another.

    Args:
        correlation: of their gray values where both are, -1 to 1; -1 where they do not overlap.
        fraction: the part of the first image that lies inside the second, 0 to 1.
        matrix, offset: from the first image's pixels to the second's.
        coverage: the part of the second image that the first covers, 0 to 1.
    """

    correlation: float
    fraction: float
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    coverage: float


@dataclass(frozen=True)
class BlurredImage:
    """A reduction, (H, W), blurred twice: what registration needs of an image."""

    levels: NDArray[np.float32]
    """(2, H, W): coarse, then fine."""


def blur_for_registration(gray: NDArray[np.float32]) -> BlurredImage:
    """Blur a reduction that `reduce_to_gray` gave."""
    return BlurredImage(np.stack([blur(gray, _COARSE_SIGMA), blur(gray, _FINE_SIGMA)]))


def register(first: BlurredImage, second: BlurredImage, alignment: Alignment) -> Overlap:
    """Refine an alignment, and measure the agreement of the two images.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> gray = rng.normal(size=(16, 16)).repeat(8, 0).repeat(8, 1).astype(np.float32)
        >>> whole, part = blur_for_registration(gray), blur_for_registration(gray[:90, 20:])
        >>> overlap = register(part, whole, Alignment(0, 1, np.eye(2), np.array([18.0, 1.0]), 5))
        >>> overlap.offset.round().tolist(), overlap.correlation > 0.99
        ([20.0, 0.0], True)
    """
    height, width = first.levels.shape[1:]
    margin = 2.0
    x, y = np.meshgrid(np.linspace(margin, width - 1 - margin, _GRID), np.linspace(margin, height - 1 - margin, _GRID))
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    center = points.mean(0)
    matrix, offset = alignment.matrix.copy(), alignment.offset.copy()
    best = Overlap(-1.0, 0.0, matrix, offset, 0.0)
    every_second = points.reshape(_GRID, _GRID, 2)[::2, ::2].reshape(-1, 2)
    for level, steps, grid, min_samples in (
        (0, _COARSE_STEPS, every_second, _MIN_SAMPLES // 4),
        (1, _FINE_STEPS, points, _MIN_SAMPLES),
    ):
        values = sample_bilinear(first.levels, grid[:, 1], grid[:, 0], level)
        for iteration in range(steps + 1):
            mapped = grid @ matrix.T + offset
            inside = _is_inside(mapped, second.levels.shape[1:])
            if inside.sum() < min_samples:
                return best
            target, gradient = _sample_with_gradient(second.levels, mapped[inside], level)
            source = values[inside] - values[inside].mean()
            target = target - target.mean()
            norms = float(np.linalg.norm(source)), float(np.linalg.norm(target))
            if min(norms) < 1e-3:
                return best
            correlation = float(source @ target) / (norms[0] * norms[1])
            if level == 1 and correlation > best.correlation:
                best = _measure(grid, inside, correlation, matrix, offset, second)
            if level == 0 and iteration >= _PATIENCE and correlation < _MIN_COARSE:
                return best
            local = grid[inside] - center
            design = np.concatenate(
                [gradient[:, :1] * local, gradient[:, :1], gradient[:, 1:] * local, gradient[:, 1:]], axis=1
            )
            design = design - design.mean(0)
            residual = source * (norms[1] / norms[0]) - target
            system = design.T @ design
            system[np.diag_indices(6)] *= 1.01
            try:
                step = np.linalg.solve(system, design.T @ residual)
            except np.linalg.LinAlgError:
                return best
            change = step.reshape(2, 3)
            matrix = matrix + change[:, :2]
            offset = offset + change[:, 2] - change[:, :2] @ center
            limit = _MAX_CHANGE * abs(np.linalg.det(alignment.matrix)) ** 0.5
            if not np.isfinite(matrix).all() or np.abs(matrix - alignment.matrix).max() > limit:
                return best
    return best


def _is_inside(points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    height, width = shape
    x, y = points.T
    return (x >= 1) & (x <= width - 2) & (y >= 1) & (y <= height - 2)


def _sample_with_gradient(
    levels: NDArray[np.float32], points: NDArray[np.float64], level: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = points.T
    half = np.array([[0.0, 0.5, -0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5, -0.5]])[:, :, None]
    value, right, left, below, above = sample_bilinear(levels, y + half[1], x + half[0], level)
    return value.astype(np.float64), np.stack([right - left, below - above], axis=1).astype(np.float64)


def _measure(
    points: NDArray[np.float64],
    inside: NDArray[np.bool_],
    correlation: float,
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    second: BlurredImage,
) -> Overlap:
    height, width = second.levels.shape[1:]
    fraction = float(inside.mean())
    size = np.ptp(points, axis=0).prod()
    coverage = min(1.0, fraction * float(size) * abs(float(np.linalg.det(matrix))) / (height * width))
    return Overlap(correlation, fraction, matrix, offset, coverage)
