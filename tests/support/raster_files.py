"""Image files for the tests of rasters, and what a reader makes of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dilated.data.raster.reader as module
from dilated.data.images import read_image
from dilated.data.raster.reader import open_raster

HEIGHT, WIDTH = 67, 53


def noise(channels: int, dtype: Any = np.uint8) -> NDArray[Any]:
    """Pixels that resemble their neighbours, so that writers use every way of storing rows."""
    steps = np.random.default_rng(channels).integers(-3, 4, (HEIGHT, WIDTH, channels))
    return (np.cumsum(steps, axis=1) * (257 if dtype == np.uint16 else 1)).astype(dtype)


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name in packages else find(name))


def whole(path: Path, **options: Any) -> NDArray[np.uint8]:
    with open_raster(path, **options) as raster:
        return raster.read(0, 0, raster.height, raster.width)


def mask(path: Path) -> Any:
    with open_raster(path) as raster:
        return raster.read_mask(0, 0, raster.height, raster.width)


def as_read_image(path: Path) -> bool:
    return bool(np.array_equal(whole(path), read_image(path)))


@pytest.fixture(params=["pillow", "GDAL"])
def png_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who decodes PNGs: pillow those that it may decode whole, GDAL the larger ones."""
    if request.param == "GDAL":
        monkeypatch.setattr(module, "MAX_DECODED_PIXELS", 0)
    return str(request.param)
