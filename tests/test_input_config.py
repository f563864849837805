"""What images hold, and how their values become a network's input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dilated.config import build_dataclass, to_toml
from dilated.errors import InputError
from dilated.input_config import InputConfig, to_display, value_range
from dilated.tensors import to_tensor


def test_values_of_12_bits_keep_their_grey_levels() -> None:
    config = InputConfig(("gray",), "uint16", "percentile", (0,), (4095,))
    scaled = config.scale(np.arange(4096, dtype=np.uint16).reshape(64, 64, 1))
    assert len(np.unique(scaled)) == 4096
    assert (scaled.min(), scaled.max()) == (0, 1)


def test_pixels_without_data_are_those_where_all_bands_have_the_value() -> None:
    config = InputConfig(("a", "b"), "int16", nodata=-9999)
    values = np.array([[[-9999, -9999], [-9999, 3], [1, 2]]], np.int16)
    valid = config.find_valid(values)
    assert valid is not None
    assert valid.tolist() == [[False, True, True]]
    assert config.scale(values)[0, 0].tolist() == [0.5, 0.5]


def test_a_nan_in_any_band_means_no_data() -> None:
    config = InputConfig(("a", "b"), "float32", mean=(0.3, 0.4))
    values = np.array([[[np.nan, 1.0], [0.0, np.inf], [0.25, 0.75]]], np.float32)
    valid = config.find_valid(values)
    assert valid is not None
    assert valid.tolist() == [[False, False, True]]
    np.testing.assert_allclose(config.scale(values)[0], [[0.3, 0.4], [0.3, 0.4], [0.25, 0.75]])


def test_outliers_are_clipped() -> None:
    config = InputConfig(("a",), "float32")
    assert config.scale(np.array([[[1e30], [-1e30]]], np.float32)).ravel().tolist() == [2, -1]


def test_a_range_by_image_comes_from_the_image() -> None:
    config = InputConfig(("a",), "uint16", "image")
    values = np.linspace(100, 300, 10_000).astype(np.uint16).reshape(100, 100, 1)
    resolved = config.resolve(values)
    assert (resolved.low, resolved.high) == value_range(values, None)
    with pytest.raises(InputError, match="no range of its own"):
        config.scale(values)


def test_an_image_in_another_unit_is_refused_with_both_described() -> None:
    config = InputConfig(("a", "b"), "float32", "percentile", (0, 0), (4000, 4000))
    reflectance = np.random.default_rng(0).random((20, 20, 2)).astype(np.float32)
    with pytest.raises(
        InputError, match=r"x.tif: its values are from 0.* to 0\.9.*2 bands \(a, b\) of float32 from 0 to 4"
    ):
        config.require_range(reflectance, "x.tif")
    config.require_range(reflectance * 3000, "x.tif")
    with pytest.raises(InputError, match="its values are"):
        config.require_range(reflectance * 60_000, "x.tif")


def test_an_image_of_one_value_is_not_refused() -> None:
    InputConfig(("a",), "uint16").require_range(np.full((4, 4, 1), 7, np.uint16), "x.tif")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"bands": ()}, "input.bands: found 0; expected 1 to 20"),
        ({"bands": ("a", "a")}, "input.bands: found .'a', 'a'."),
        ({"high": (1.0,)}, "input.high: found .1.0."),
        ({"low": (0.0,) * 3, "high": (0.0,) * 3}, "input.high"),
        ({"std": (0.0,) * 3}, "input.std"),
        ({"nodata": float("nan")}, "input.nodata: found nan"),
    ],
)
def test_a_wrong_description_is_refused(changes: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        InputConfig(**changes)


def test_a_description_survives_toml() -> None:
    import dataclasses
    import tomllib

    config = InputConfig(("a", "b"), "int16", "percentile", (-3.5, 0), (7, 9), -9999, (0.1, 0.2), (0.3, 0.4))
    assert build_dataclass(InputConfig, tomllib.loads(to_toml(dataclasses.asdict(config))), "x") == config


def test_a_tensor_of_described_values_is_scaled_and_one_of_rgb_is_as_before() -> None:
    values = np.full((2, 5, 4), 100, np.uint16)
    tensor = to_tensor(values, config=InputConfig(("a", "b", "c", "d"), "uint16", high=(400,) * 4))
    assert tensor.shape == (1, 4, 2, 5)
    assert tensor.unique().tolist() == [0.25]
    rgb = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    assert torch.equal(to_tensor(rgb), torch.tensor(rgb).permute(2, 0, 1)[None].float() / 255)


def test_what_people_see_is_rgb_of_8_bits() -> None:
    rgb = np.zeros((2, 2, 3), np.uint8)
    assert to_display(rgb) is rgb
    values = np.full((3, 4, 6), np.nan, np.float32)
    assert to_display(values).shape == (3, 4, 3)
    assert to_display(np.arange(12, dtype=np.uint16).reshape(3, 4, 1)).max() == 255
