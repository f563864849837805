"""Image files of any bands and numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 21, 34


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
