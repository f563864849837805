"""What the images of a network or a data set hold: bands, numbers, range, and how values become a network's input.

    config = InputConfig(("red", "green", "blue", "nir"), "uint16", high=(4000.0,) * 4, nodata=0)
    config.scale(values)                                 # (H, W, 4) uint16 -> (H, W, 4) float32, 0..1 from low to high
    config.find_valid(values)                            # (H, W) bool; None where every pixel has data

Plain 8-bit RGB has no `InputConfig`: such images stay uint8, and networks read them as RGB in 0..1.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dilated.errors import InputError

BandArray = NDArray[Any]
"""(H, W, n) values as a file has them: uint8, uint16, int16 or float32."""

MAX_BANDS = 20
RGB = ("red", "green", "blue")
SCALED_RANGE = (-1.0, 2.0)
"""What scaled values are clipped to: outliers of floats and of dead sensors would drown everything else."""
_PERCENTILES = (1.0, 99.0)
_MAX_OUTSIDE = 0.5
"""Of an image's values, the share that may lie beyond the clipped range before the image is refused."""
_MIN_SPAN = 1 / 256
"""Of the range, the least that the values of an image may reach; below it, the image is in another unit."""


@dataclass(frozen=True)
class InputConfig:
    """The bands that images have, and how their values are scaled."""

    bands: tuple[str, ...] = RGB
    """The name of each band, in the order of the network's channels."""
    dtype: Literal["uint8", "uint16", "int16", "float32"] = "uint8"
    """The numbers that files hold; float64 is read as float32."""
    scaling: Literal["fixed", "percentile", "image"] = "fixed"
    """Where `low` and `high` are from: you, or percentiles of the training data; `image` takes those of each image."""
    low: tuple[float, ...] = ()
    """By band, the value that becomes 0; by default the least of the type, 0 for floats."""
    high: tuple[float, ...] = ()
    """By band, the value that becomes 1; by default the greatest of the type, 1 for floats."""
    nodata: float | None = None
    """The value that marks a pixel without data where all bands have it; NaN in any band marks one too."""
    mean: tuple[float, ...] = ()
    """By band, of the scaled values of the training data, subtracted by the network; 0.5 by default."""
    std: tuple[float, ...] = ()
    """By band, what the network divides by; 0.25 by default."""
    is_exact: bool = False
    """Whether images hold these bands and no others, as where they were guessed; else bands are picked by name."""

    def __post_init__(self) -> None:
        count = len(self.bands)
        if not 1 <= count <= MAX_BANDS:
            raise InputError(f"input.bands: found {count}; expected 1 to {MAX_BANDS}", hint="choose among the bands")
        if len(set(self.bands)) < count:
            raise InputError(f"input.bands: found {list(self.bands)}", hint="give each band a name of its own")
        is_integer = self.dtype != "float32"
        limits = np.iinfo(self.dtype) if is_integer else None
        defaults = {
            "low": float(max(0, limits.min)) if limits else 0.0,
            "high": float(limits.max) if limits else 1.0,
            "mean": 0.5,
            "std": 0.25,
        }
        for key, default in defaults.items():
            values = getattr(self, key) or (default,) * count
            if len(values) != count or not np.isfinite(values).all():
                raise InputError(f"input.{key}: found {list(values)}", hint=f"give {count} numbers, one for each band")
            object.__setattr__(self, key, tuple(float(value) for value in values))
        if self.nodata is not None and not np.isfinite(self.nodata):
            raise InputError(f"input.nodata: found {self.nodata}", hint="leave it out: NaN always means no data")
        if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
            raise InputError(
                f"input.high: found {list(self.high)} with low = {list(self.low)}", hint="give greater ones"
            )
        if min(self.std) <= 0:
            raise InputError(f"input.std: found {list(self.std)}", hint="give positive numbers")

    @property
    def may_lack_data(self) -> bool:
        """Whether a pixel of such an image can be without data."""
        return self.nodata is not None or self.dtype == "float32"

    def describe(self) -> str:
        """One phrase for messages.

        Example:
            >>> InputConfig(("red", "nir"), "uint16", "percentile", (10, 20), (900, 3000.5), nodata=0).describe()
            '2 bands (red, nir) of uint16 from 10 to 3000.5 (percentiles of the data), nodata 0'
        """
        origin = {"fixed": "", "percentile": " (percentiles of the data)", "image": ""}[self.scaling]
        span = "scaled by each image" if self.scaling == "image" else f"from {min(self.low):g} to {max(self.high):g}"
        nodata = "" if self.nodata is None else f", nodata {self.nodata:g}"
        return f"{describe_bands(self.bands)} of {self.dtype} {span}{origin}{nodata}"

    def find_valid(self, values: BandArray) -> NDArray[np.bool_] | None:
        """Find the pixels with data: (H, W, n) -> (H, W) bool; None where all have.

        Example:
            >>> InputConfig(("a", "b"), "uint16", nodata=0).find_valid(np.array([[[0, 0], [0, 7]]], np.uint16)).tolist()
            [[False, True]]
        """
        if not self.may_lack_data:
            return None
        valid = np.ones(values.shape[:2], dtype=bool)
        if values.dtype.kind == "f":
            valid &= np.isfinite(values).all(axis=2)
        if self.nodata is not None:
            valid &= (values != self.nodata).any(axis=2)
        return None if valid.all() else valid

    def scale(self, values: BandArray) -> NDArray[np.float32]:
        """Scale values to about 0..1, clipped to -1..2; pixels without data get the mean, which means nothing.

        Args:
            values: (H, W, n) as the file has them.

        Returns:
            (H, W, n) float32.

        Raises:
            InputError: `scaling` is "image"; see `resolve`.

        Example:
            >>> InputConfig(("a",), "uint16", high=(4000.0,)).scale(np.full((1, 1, 1), 1000, np.uint16)).item()
            0.25
        """
        if self.scaling == "image":
            raise InputError("input.scaling: 'image' has no range of its own", hint="resolve it for an image first")
        low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = ((values.astype(np.float32) - low) / (high - low)).clip(*SCALED_RANGE)
        valid = self.find_valid(values)
        if valid is not None:
            scaled[~valid] = np.array(self.mean, np.float32)
        return scaled

    def resolve(self, sample: BandArray) -> InputConfig:
        """The same with a fixed range where `scaling` is "image": percentiles 1 and 99 of each band.

        Args:
            sample: (H, W, n) values of the image, or of a part that stands for it.
        """
        if self.scaling != "image":
            return self
        low, high = value_range(sample, self.find_valid(sample))
        return dataclasses.replace(self, scaling="fixed", low=low, high=high)

    def require_range(self, sample: BandArray, where: str) -> None:
        """Refuse an image whose values are in another unit or range than the data that the network learned from.

        Args:
            sample: (H, W, n) values of the image, or of a part that stands for it.
            where: the image, for the message.

        Raises:
            InputError: most values lie far outside the range, or all of them in a 256th of it.
        """
        valid = self.find_valid(sample)
        pixels = sample.reshape(-1, len(self.bands)) if valid is None else sample[valid]
        if self.scaling == "image" or not len(pixels):
            return
        low, high = np.array(self.low), np.array(self.high)
        scaled = (pixels.astype(np.float64) - low) / (high - low)
        outside = float(((scaled < SCALED_RANGE[0]) | (scaled > SCALED_RANGE[1])).mean())
        span = float((scaled.max(0) - scaled.min(0)).max())
        is_flat = span == 0
        if outside > _MAX_OUTSIDE or (span < _MIN_SPAN and not is_flat):
            raise InputError(
                f"{where}: its values are from {pixels.min():g} to {pixels.max():g}; "
                f"the network reads {self.describe()}",
                hint="give an image in the unit of the training data",
            )


def value_range(values: BandArray, valid: NDArray[np.bool_] | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Percentiles 1 and 99 of each band, over the pixels with data; a constant band gets a range of 1 above it.

    Example:
        >>> value_range(np.arange(101, dtype=np.uint16).reshape(101, 1, 1), None)
        ((1.0,), (99.0,))
    """
    pixels = values.reshape(-1, values.shape[-1]) if valid is None else values[valid]
    if not len(pixels):
        return (0.0,) * values.shape[-1], (1.0,) * values.shape[-1]
    low, high = np.percentile(pixels.astype(np.float64), _PERCENTILES, axis=0)
    return tuple(low.tolist()), tuple(np.where(high > low, high, low + 1).tolist())


def describe_bands(names: tuple[str, ...]) -> str:
    """ "4 bands (red, green, blue, nir)"; many are cut short."""
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"{len(names)} band{'s' * (len(names) > 1)} ({shown})"


def to_display(values: BandArray) -> NDArray[np.uint8]:
    """An image for people: 8-bit RGB as it is; of others the first three bands, or one, by percentiles 1 to 99.

    Args:
        values: (H, W, n).

    Returns:
        (H, W, 3) uint8.

    Example:
        >>> to_display(np.array([[[0], [500], [1000]]], np.uint16))[0, :, 0].tolist()
        [0, 127, 255]
    """
    if values.dtype == np.uint8 and values.shape[2] == 3:
        return values
    shown = values[:, :, : 3 if values.shape[2] >= 3 else 1].astype(np.float32)
    finite: NDArray[np.bool_] = np.isfinite(shown).all(axis=2)  # type: ignore[assignment]  # a bool only without axes
    low, high = (np.array(limit, np.float32) for limit in value_range(shown, finite))
    with np.errstate(invalid="ignore"):
        scaled = np.nan_to_num((shown - low) / (high - low)).clip(0, 1) * 255
    return np.ascontiguousarray(np.broadcast_to(scaled.astype(np.uint8), (*values.shape[:2], 3)))
