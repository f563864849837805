from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import make_image

from dilated.errors import InputError
from dilated.prediction.image_input import to_pixels

RGB = make_image(6, 7)
GRAY = RGB[:, :, 0]
ALPHA = np.dstack([RGB, np.full((6, 7), 9, np.uint8)])
CHW = torch.tensor(RGB).permute(2, 0, 1)


def png(mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(file, format="PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "image",
    [
        RGB,
        ALPHA,
        RGB.astype(np.float32) / 255,
        RGB.astype(np.float64) / 255,
        RGB.astype(np.uint16) * 257,
        CHW,
        torch.tensor(RGB),
        torch.tensor(ALPHA).permute(2, 0, 1),
        CHW.float() / 255,
        (CHW.float() / 255).requires_grad_(),
        (CHW.float() / 255).half(),
        Image.fromarray(RGB),
        Image.fromarray(ALPHA),
        png(),
        bytearray(png()),
        memoryview(png()),
        io.BytesIO(png()),
    ],
    ids=lambda image: f"{type(image).__name__} {getattr(image, 'shape', '')} {getattr(image, 'dtype', '')}",
)
def test_every_form_of_a_color_image_gives_the_same_pixels(image: Any) -> None:
    pixels = to_pixels(image)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, RGB)


@pytest.mark.parametrize(
    "image",
    [
        GRAY,
        GRAY[:, :, None],
        GRAY / 255,
        torch.tensor(GRAY),
        torch.tensor(GRAY)[None],
        torch.tensor(GRAY)[:, :, None],
        Image.fromarray(GRAY),
        Image.fromarray(GRAY.astype(np.uint16) * 257),
    ],
    ids=range(8),
)
def test_gray_is_repeated_over_the_channels(image: Any) -> None:
    np.testing.assert_array_equal(to_pixels(image), np.dstack([GRAY] * 3))


def test_an_open_file_and_paths_give_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    with path.open("rb") as file:
        np.testing.assert_array_equal(to_pixels(file), RGB)
    for name in (path, str(path)):
        np.testing.assert_array_equal(to_pixels(name), RGB)


def test_an_array_that_needs_no_conversion_is_not_copied() -> None:
    assert to_pixels(RGB) is RGB


def test_a_tensor_whose_ends_both_could_be_channels_has_them_first() -> None:
    image = torch.arange(3 * 5 * 3, dtype=torch.uint8).view(3, 5, 3)
    np.testing.assert_array_equal(to_pixels(image), image.permute(1, 2, 0).numpy())


def test_floats_are_rounded_to_the_nearest_of_256_levels() -> None:
    assert to_pixels(np.array([[0.0, 0.0019, 0.002, 0.998, 1.0]]))[0, :, 0].tolist() == [0, 0, 1, 254, 255]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (CHW.numpy(), r"shape \(3, 6, 7\) .* Give image\.transpose\(1, 2, 0\)"),
        (np.zeros((5, 6, 2), np.uint8), r"shape \(5, 6, 2\) .* Give \(H, W\), \(H, W, 1\), \(H, W, 3\)"),
        (np.zeros(5, np.uint8), r"shape \(5,\) is not"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\) has no pixels"),
        (torch.zeros(0, 0, 3), "has no pixels"),
        (RGB[None], r"shape \(1, 6, 7, 3\) is a batch\. Give one image; predictor\.batch"),
        (CHW[None], r"is a batch\. Give one image; predictor\.batch"),
        (torch.zeros(2, 5, 6), r"a tensor of shape \(2, 5, 6\) has neither"),
        (RGB.astype(np.float32), r"values .* to .*, not in 0\.\.1\. Give image / 255"),
        (np.full((4, 5, 3), np.nan), r"values nan to nan, not in 0\.\.1"),
        (np.full((4, 5), -0.5), r"values -0\.5 to -0\.5, not in 0\.\.1"),
        (RGB.astype(np.int64), r"an array of int64, values .* Give image\.astype\(np\.uint8\)"),
        (CHW.long(), r"an array of int64"),
        (RGB > 5, r"an array of bool\. Give image\.astype\(np\.uint8\) \* 255"),
        (RGB.astype(complex), "an array of complex128"),
        (np.array([["a"]]), "an array of <U1"),
        (np.array([[None]]), "an array of object"),
        (None, r"NoneType is not an image\. Give a path, bytes"),
        (5, "int is not an image"),
        ({"image": RGB}, "dict is not an image"),
        (io.StringIO("x"), r"the file is open as text\. Open it with open\(path, \"rb\"\)"),
        ("https://example.org/a.jpg", "is a URL. Download it"),
        (b"no image", "has 8 bytes that are no image"),
        (b"", "the file is empty"),
        (Image.new("F", (2, 2)), "mode 'F'"),
        ("no/such.png", "no/such.png: no such file"),
        (threading.Lock(), "lock is not an image"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_not_an_image_is_an_input_error_that_says_how_to_convert(image: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_pixels(image)
