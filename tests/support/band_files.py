"""Image files of any bands and numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 21, 34
BANDS = ("red", "green", "blue", "nir")
FIELD_CLASSES = """
[[class]]
name = "soil"
color = [120, 90, 60]

[[class]]
name = "crop"
color = [0, 160, 0]
"""


def band_values(count: int, dtype: Any, greatest: int = 4095) -> NDArray[Any]:
    """(21, 34, count) numbers of 1 to `greatest`; floats are a 1000th."""
    values = np.random.default_rng(count).integers(1, greatest + 1, (HEIGHT, WIDTH, count))
    return (values / 1000).astype(dtype) if np.dtype(dtype).kind == "f" else values.astype(dtype)


def write_geotiff(path: Path, values: NDArray[Any], names: tuple[str, ...] = (), **options: Any) -> Path:
    """Write (H, W, n) as GDAL does, with the names of its bands."""
    import rasterio

    height, width, count = values.shape
    settings = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": values.dtype, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", **settings) as file:
            file.write(values.transpose(2, 0, 1))
            for i, name in enumerate(names, 1):
                file.set_band_description(i, name)
    return path


def make_field(seed: int, nodata: bool = True) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Four bands (48, 64) of which the fourth tells the two classes apart, and the label; a corner without data."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :64]
    row, column = random.integers(12, 36, 2)
    label = ((y - row) ** 2 + (x - column) ** 2 < 150).astype(np.uint8)
    values = random.integers(300, 2000, (48, 64, 4)).astype(np.uint16)
    values[..., 3] = np.where(label, 2500, 900) + random.integers(0, 200, (48, 64))
    if nodata:
        values[:6, :9] = 0
    return values, label


def save_fields(root: Path, bands: tuple[str, ...] = BANDS, count: int = 6, **options: Any) -> Path:
    """A data set of such images as GeoTIFFs with nodata 0: every third is val."""
    for i in range(count):
        split = "val" if i % 3 == 2 else "train"
        values, label = make_field(i)
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        chosen = [BANDS.index(name) for name in bands]
        write_geotiff(root / "images" / split / f"s{i}.tif", values[..., chosen], bands, nodata=0, **options)
        Image.fromarray(label).save(root / "labels" / split / f"s{i}.png")
    (root / "classes.toml").write_text(FIELD_CLASSES)
    return root
