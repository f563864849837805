"""What the images of a data set hold: by the table [input] of classes.toml, and by some of them where it is silent.

    [input]
    bands = ["red", "green", "blue", "nir"]      # by default the files' own names; those that are named are used
    scaling = "percentile"                       # or "fixed", from low to high, or "image", by each image's percentiles
    low = [0, 0, 0, 0]                           # by band, the value that becomes 0
    high = [4000, 4000, 4000, 4000]              # by band, the value that becomes 1
    nodata = 0                                   # marks pixels without data, where all bands have it

Images of 8-bit RGB, grey or a palette need no description, and get none unless there is such a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dilated.config import build_dataclass, to_toml
from dilated.data.band_header import BandHeader, read_band_header
from dilated.data.images import read_image
from dilated.data.raster.bands import open_band_raster, sample_windows
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.input_config import MAX_BANDS, RGB, InputConfig, value_range

_MAX_IMAGES = 24
"""Images that are looked at, evenly spaced."""
_MAX_PIXELS = 1 << 16
"""Pixels of each of them."""
_MIN_STD = 0.01


@dataclass(frozen=True)
class InputRules:
    """The table [input] of a classes.toml."""

    bands: tuple[str, ...] = ()
    """The bands that are used, by the files' own names, or names for all of them in their order."""
    scaling: Literal["auto", "fixed", "percentile", "image"] = "auto"
    """`auto` is fixed for 8 bits and where low or high are given, else percentile."""
    low: tuple[float, ...] = ()
    """By band, the value that becomes 0; that of the data where it is left out."""
    high: tuple[float, ...] = ()
    """By band, the value that becomes 1; that of the data where it is left out."""
    nodata: float | None = None
    """The value that marks pixels without data; that of the files where it is left out."""


def build_input_rules(table: dict[str, Any], path: Path) -> InputRules:
    """Build the rules of a table [input].

    Args:
        path: the classes.toml, for messages.

    Raises:
        InputError: an unknown key, or a value of another type.
    """
    rules: InputRules = build_dataclass(InputRules, table, f"{path}: input")
    return rules


def describe_samples(samples: Sequence[Sample], rules: InputRules | None) -> InputConfig | None:
    """Describe the images of samples; None for 8-bit RGB without rules, and for images inside other files.

    Raises:
        InputError: as `describe_images`, or rules for images inside other files.
    """
    inside = [sample for sample in samples if sample.image_reader is not read_image]
    if inside and rules is not None:
        raise InputError(
            f"classes.toml: input: {inside[0].image} holds images inside another file, which are read as 8-bit RGB",
            hint="keep the images as files of their own, or remove the table",
        )
    return None if inside or not samples else describe_images([sample.image for sample in samples], rules)


def describe_images(images: Sequence[Path], rules: InputRules | None = None) -> InputConfig | None:
    """Describe the images of a data set by some of them; None for 8-bit RGB without rules.

    Args:
        images: the files of the training split.
        rules: what is known already.

    Raises:
        InputError: rules that the images do not have, more bands than a network reads, or no readable image.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "a.npy", np.arange(101, dtype=np.uint16).repeat(2).reshape(101, 1, 2))
        >>> describe_images([folder / "a.npy"]).describe()
        '2 bands (band_1, band_2) of uint16 from 1 to 99 (percentiles of the data)'
    """
    indices = np.linspace(0, len(images) - 1, min(_MAX_IMAGES, len(images))).round().astype(int)
    chosen = [images[i] for i in indices]
    headers = [_read_header(image) for image in chosen]
    described = [header for header in headers if header is not None and not header.is_rgb]
    if rules is None and (not described or len(described) < len(headers)):
        return None  # of two kinds, those that are not RGB are refused one by one
    config = _choose_bands(described, rules or InputRules())
    values = [values for image in chosen if (values := _sample_values(image, config)) is not None]
    if not values:
        open_band_raster(chosen[0], config).close()  # which says what is wrong with it
        raise InputError(f"{chosen[0]}: no pixel of {len(chosen)} images has data", hint="correct input.nodata")
    try:
        return _set_range(config, values, rules or InputRules())
    except InputError as error:  # such as of means that are not finite, of numbers near the greatest
        raise InputError(f"{chosen[0]} and {len(chosen) - 1} others: {error.message}", error.hint) from error


def format_proposal(config: InputConfig) -> str:
    """The table [input] that says what was guessed, for classes.toml.

    Example:
        >>> print(format_proposal(InputConfig(("red", "nir"), "uint16", "percentile", (1, 2), (300, 400), nodata=0.0)))
        [input]
        bands = ["red", "nir"]
        scaling = "percentile"
        low = [1.0, 2.0]
        high = [300.0, 400.0]
        nodata = 0.0
    """
    table = asdict(config)
    keys = ["bands", "scaling", *(["low", "high"] if config.scaling != "image" else []), "nodata"]
    return to_toml({"input": {key: table[key] for key in keys}}).strip()


def _read_header(path: Path) -> BandHeader | None:
    try:
        return read_band_header(path)
    except InputError:  # reported where the image is read
        return None


def _choose_bands(headers: list[BandHeader], rules: InputRules) -> InputConfig:
    """Bands, numbers and nodata, as the first file has them."""
    if not headers:  # plain 8-bit images
        return InputConfig(rules.bands or RGB, nodata=rules.nodata, is_exact=not rules.bands)
    first = headers[0]
    bands = rules.bands or first.bands
    if len(bands) > MAX_BANDS:
        raise InputError(
            f"{first.path}: found {first.describe()}; expected {MAX_BANDS} bands at most",
            hint='name those to use in classes.toml, such as [input] with bands = ["band_1", "band_7"]',
        )
    nodata = rules.nodata
    if nodata is None:
        nodata = next((header.nodata for header in headers if header.nodata is not None), None)
    if nodata is None and first.dtype != "float32" and any(header.alpha is not None for header in headers):
        nodata = 0.0  # what transparent pixels are given
    config: InputConfig = build_dataclass(
        InputConfig,
        {"bands": bands, "dtype": first.dtype, "nodata": nodata, "is_exact": not rules.bands},
        str(first.path),
    )
    first.select(config)
    return config


def _sample_values(image: Path, config: InputConfig) -> NDArray[Any] | None:
    """Some pixels with data of an image, (n pixels, n bands); None where there are none, or it cannot be read."""
    try:
        with open_band_raster(image, config) as raster:
            values = sample_windows(raster)
    except InputError:  # reported where the image is read
        return None
    valid = config.find_valid(values)
    pixels = values.reshape(-1, values.shape[2]) if valid is None else values[valid]
    return pixels[:: -(-len(pixels) // _MAX_PIXELS)] if len(pixels) else None


def _set_range(config: InputConfig, values: list[NDArray[Any]], rules: InputRules) -> InputConfig:
    """The description with the range of the rules or of the data, and with the mean and deviation of the data."""
    is_given = bool(rules.low or rules.high)
    scaling = rules.scaling
    if scaling == "auto":
        scaling = "fixed" if config.dtype == "uint8" or is_given else "percentile"
    low, high = rules.low, rules.high
    if scaling == "percentile" and not (low and high):
        measured = value_range(np.concatenate(values)[None], None)
        low, high = (given or tuple(map(_round, limit)) for given, limit in zip((low, high), measured, strict=True))
    config = replace(config, scaling=scaling, low=low, high=high)
    scaled = np.concatenate([config.resolve(part[None]).scale(part[None])[0] for part in values]).astype(np.float64)
    mean, std = scaled.mean(0), scaled.std(0).clip(min=_MIN_STD)
    return replace(config, mean=tuple(map(_round, mean)), std=tuple(map(_round, std)))


def _round(value: float) -> float:
    """Six digits, which are enough for people and for networks."""
    return float(f"{value:.6g}")
