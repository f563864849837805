"""The dense CRF: labels that agree with the network, with their neighbors, and with pixels of like color further off.

    crf = DenseCRF(bilateral_weight=5)
    crf.refine(logits, image)                            # (C, H, W) and (H, W, 3) uint8 -> (C, H, W) log-marginals

Every pixel is tied to every other by two Gaussian kernels, one of position and color and one of position alone; mean
field inference is a softmax and a filtering by each kernel per iteration. The energy and the order of the steps are
those of the authors' code, with its symmetric normalization D^-1/2 K D^-1/2; the kernels are filtered by the
permutohedral lattice, which approximates them.

Source: Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dilated.config import build_dataclass, require_valid
from dilated.errors import InputError
from dilated.models.permutohedral import PermutohedralLattice

_Window = tuple[slice, slice]


class Kernel(Protocol):
    """A kernel between N points, as mean field takes it: a `PermutohedralLattice`, or one that is exact."""

    def add_filtered(self, total: Tensor, values: Tensor, weight: float) -> Tensor:
        """Return the (N, C) total plus `weight` times the filtered (N, C) values."""


@dataclass(frozen=True)
class DenseCRF:
    """The parameters of a dense CRF; the standard ones are those of the authors' example.

    Raises:
        InputError: a number outside its range.

    Example:
        >>> logits = torch.tensor([2.0, -1.0, 2.0]).view(1, 1, 3) * torch.tensor([1.0, -1.0]).view(2, 1, 1)
        >>> DenseCRF().refine(logits, np.zeros((1, 3, 3), np.uint8)).argmax(0).tolist()
        [[0, 0, 0]]
    """

    iterations: int = 10
    """Steps of mean field."""
    bilateral_weight: float = 10.0
    """Of the kernel of position and color."""
    bilateral_position: float = 80.0
    """Its standard deviation of position, in pixels."""
    bilateral_color: float = 13.0
    """Its standard deviation of each color, of 0 to 255."""
    smooth_weight: float = 3.0
    """Of the kernel of position alone."""
    smooth_position: float = 3.0
    """Its standard deviation, in pixels."""
    block: int = 1024
    """Images with a longer side are refined in blocks of up to so many pixels a side, each with twice
    `bilateral_position` around it; labels depend on it a little."""

    def __post_init__(self) -> None:
        weight, deviation = "give a number from 0 to 1000", "give a number from 0.5 to 1000"
        require_valid(
            self,
            "crf",
            {
                "iterations": (0 <= self.iterations <= 100, "give a number from 0 to 100"),
                "bilateral_weight": (0 <= self.bilateral_weight <= 1000, weight),
                "bilateral_position": (0.5 <= self.bilateral_position <= 1000, deviation),
                "bilateral_color": (0.5 <= self.bilateral_color <= 1000, deviation),
                "smooth_weight": (0 <= self.smooth_weight <= 1000, weight),
                "smooth_position": (0.5 <= self.smooth_position <= 1000, deviation),
                "block": (64 <= self.block <= 8192, "give a number of pixels from 64 to 8192"),
            },
        )

    @classmethod
    def parse(cls, settings: Sequence[str], default: DenseCRF | None = None) -> DenseCRF:
        """Read settings of the form NAME=VALUE.

        Args:
            default: what those that are not named come from.

        Raises:
            InputError: no such setting, or no such value.

        Example:
            >>> DenseCRF.parse(["bilateral_weight=5", "iterations=3"]).bilateral_weight
            5.0
        """
        table = dataclasses.asdict(default or cls())
        for text in settings:
            name, separator, value = text.partition("=")
            if not separator:
                raise InputError(f"crf: {text!r} is no setting", hint="give NAME=VALUE, such as bilateral_weight=5")
            try:
                table[name] = int(value) if name in ("iterations", "block") else float(value)
            except ValueError as error:
                raise InputError(f"crf: {name}: {value!r} is no number", hint="give a number") from error
        return cls.from_dict(table)

    @classmethod
    def from_dict(cls, table: object) -> DenseCRF:
        """Read what `to_dict` wrote, or what anybody else did.

        Raises:
            InputError: an unknown key, or a value of another type or outside its range.
        """
        crf: DenseCRF = build_dataclass(cls, table, "crf")
        return crf

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return dataclasses.asdict(self)

    def describe(self) -> list[str]:
        """Return the parameters in the form that `parse` reads."""
        return [f"{name}={value:g}" for name, value in self.to_dict().items()]

    def kernels(self, positions: Tensor, colors: Tensor, smooth: Kernel | None = None) -> list[tuple[float, Kernel]]:
        """Return the kernels of so many pixels with their weights; those of weight 0 are left out.

        Args:
            positions: (N, 2) float32, in pixels.
            colors: (N, 3) float32, of 0 to 255.
            smooth: the kernel of position alone, where it is known already.
        """
        kernels: list[tuple[float, Kernel]] = []
        if self.smooth_weight:
            smooth = smooth or PermutohedralLattice(positions / self.smooth_position, normalized=True)
            kernels.append((self.smooth_weight, smooth))
        if self.bilateral_weight:
            features = torch.cat([positions / self.bilateral_position, colors / self.bilateral_color], 1)
            kernels.append((self.bilateral_weight, PermutohedralLattice(features, normalized=True)))
        return kernels

    @torch.no_grad()
    def refine(self, logits: Tensor, image: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None) -> Tensor:
        """Return the logarithms of the marginals of mean field, which take the place of the logits.

        Args:
            logits: (C, H, W) before the softmax.
            image: (H, W, 3) uint8, in whose colors pixels are compared.
            valid: (H, W), the pixels that have data; the others have no part in it, and keep their logits.

        Returns:
            (C, H, W) float32 on the logits' device, whose softmax are the marginals.
        """
        refined = torch.empty_like(logits, dtype=torch.float32)
        for inner, outer in self.split(*image.shape[:2]):
            part = self._refine_block(logits[:, *outer].float(), image[outer], None if valid is None else valid[outer])
            rows, columns = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
            refined[:, *inner] = part[:, rows, columns]
        return refined

    def split(self, height: int, width: int) -> Iterator[tuple[_Window, _Window]]:
        """Yield the blocks of an image, row by row, each alone and with a margin around it; (rows, columns)."""
        margin = math.ceil(2 * self.bilateral_position)
        for rows, outer_rows in _split_side(height, self.block, margin):
            for columns, outer_columns in _split_side(width, self.block, margin):
                yield (rows, columns), (outer_rows, outer_columns)

    def _refine_block(self, logits: Tensor, image: NDArray[np.uint8], valid: NDArray[np.bool_] | None) -> Tensor:
        positions = pixel_positions(logits)
        colors = torch.from_numpy(image.astype(np.float32)).to(logits.device).flatten(0, 1)
        if valid is None:
            smooth = _grid_kernel(*image.shape[:2], self.smooth_position, logits.device)
            marginals = mean_field(logits.flatten(1).T, self.kernels(positions, colors, smooth), self.iterations)
            return marginals.T.view_as(logits)
        refined, used = logits.flatten(1).log_softmax(0), torch.from_numpy(np.flatnonzero(valid)).to(logits.device)
        if len(used):
            kernels = self.kernels(positions[used], colors[used])
            refined[:, used] = mean_field(refined[:, used].T, kernels, self.iterations).T
        return refined.view_as(logits)


@lru_cache(maxsize=1)
def _grid_kernel(height: int, width: int, deviation: float, device: torch.device) -> PermutohedralLattice:
    """Return the kernel of position alone of a complete image: the same for the next image of its size."""
    positions = pixel_positions(torch.empty(1, height, width, device=device))
    return PermutohedralLattice(positions / deviation, normalized=True)


def pixel_positions(logits: Tensor) -> Tensor:
    """Return x and y of each pixel of (C, H, W), (H * W, 2) float32.

    x comes first, as in the authors' code: the lattice is not round.
    """
    rows, columns = (torch.arange(side, dtype=torch.float32, device=logits.device) for side in logits.shape[1:])
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1)


def mean_field(unary: Tensor, kernels: Sequence[tuple[float, Kernel]], iterations: int) -> Tensor:
    """Return the logarithms of the marginals after some iterations, with Potts compatibility.

    Args:
        unary: (N, C) logarithms of probabilities, which may lack a constant per pixel.
        kernels: weights and filters; a filter's matrix has its diagonal, as in the authors' code.
        iterations: 0 gives the unary itself, normalized.

    Returns:
        (N, C).
    """
    unary = energy = unary.contiguous().log_softmax(1)
    for _ in range(iterations):
        marginals, energy = energy.softmax(1), unary
        for weight, kernel in kernels:
            energy = kernel.add_filtered(energy, marginals, weight)
    return energy.log_softmax(1)


def _split_side(side: int, block: int, margin: int) -> list[tuple[slice, slice]]:
    count = -(-side // block)
    edges = [side * i // count for i in range(count + 1)]
    return [
        (slice(start, stop), slice(max(0, start - margin), min(side, stop + margin)))
        for start, stop in itertools.pairwise(edges)
    ]
