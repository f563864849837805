import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.tensors import _reflect_indices, reflect_pad, to_tensor

borders = st.tuples(*[st.integers(0, 60)] * 4)
DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]


def image(height: int, width: int, channels: int = 2) -> torch.Tensor:
    """No value occurs twice."""
    return torch.arange(channels * height * width).view(channels, height, width)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 30), st.integers(2, 30), borders)
def test_it_is_numpy_reflection(height: int, width: int, border: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = border
    x = image(height, width)
    expected = np.pad(x.numpy(), ((0, 0), (top, bottom), (left, right)), mode="reflect")
    found = reflect_pad(x, top, bottom, left, right)
    assert found.shape == (2, top + height + bottom, left + width + right)
    assert np.array_equal(found.numpy(), expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 30), borders)
def test_it_is_opencv_reflect_101(height: int, width: int, border: tuple[int, int, int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    x = image(height, width, 1).int()
    expected = cv2.copyMakeBorder(x[0].numpy(), *border, cv2.BORDER_REFLECT_101)
    assert np.array_equal(reflect_pad(x, *border)[0].numpy(), expected)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 2), (7, 5), (1, 2), (186, 187)])
def test_a_small_image_bounces_as_often_as_it_takes(height: int, width: int) -> None:
    cv2 = pytest.importorskip("cv2")
    x = image(height, width, 1).int()
    expected = cv2.copyMakeBorder(x[0].numpy(), 186, 900, 1, 555, cv2.BORDER_REFLECT_101)
    assert np.array_equal(reflect_pad(x, 186, 900, 1, 555)[0].numpy(), expected)


def test_one_row_or_column_repeats_itself() -> None:
    assert reflect_pad(torch.tensor([[7]]), 3, 2, 1, 400).eq(7).all()
    assert reflect_pad(torch.tensor([[1, 2]]), 2, 1, 1, 1).tolist() == [[2, 1, 2, 1]] * 4


def test_the_outermost_pixel_is_not_repeated() -> None:
    assert _reflect_indices(4, 5, 6).tolist() == [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 50), st.integers(0, 200), st.integers(0, 200))
def test_neighbours_stay_neighbours_and_the_inside_stays_put(size: int, before: int, after: int) -> None:
    index = _reflect_indices(size, before, after)
    assert index.dtype == torch.int64
    assert index[before : before + size].tolist() == list(range(size))
    assert len(index) == before + size + after
    assert bool((index >= 0).all() & (index < size).all())
    assert bool((index.diff().abs() == (0 if size == 1 else 1)).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_type_of_number_is_kept_as_it_is(dtype: torch.dtype) -> None:
    x = (image(3, 4) % 2).to(dtype)
    found = reflect_pad(x, 1, 5, 4, 0)
    assert found.dtype == dtype
    assert found[0, 1:4, 4:].equal(x[0])
    assert found[1, :, 3].equal(found[1, :, 5])


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (5, 2, 3, 4)])
def test_only_the_last_two_axes_grow(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    assert reflect_pad(x, 1, 2, 3, 4).shape == (*shape[:-2], 6, 11)
    assert reflect_pad(x, 0, 0, 0, 0).equal(x)


def test_each_side_has_its_own_border() -> None:
    x = image(3, 3, 1)
    assert reflect_pad(x, 1, 0, 0, 0)[0, 0].equal(x[0, 1])
    assert reflect_pad(x, 0, 1, 0, 0)[0, -1].equal(x[0, 1])
    assert reflect_pad(x, 0, 0, 1, 0)[0, :, 0].equal(x[0, :, 1])
    assert reflect_pad(x, 0, 0, 0, 2)[0, :, -1].equal(x[0, :, 0])


def test_a_gradient_goes_to_the_pixel_that_was_mirrored() -> None:
    x = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    reflect_pad(x, 0, 0, 2, 1).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 3.0, 2.0]]


def test_pixels_become_rgb_of_0_to_1_with_channels_first() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    images = to_tensor(pixels)
    assert images.dtype == torch.float32
    assert images.shape == (2, 3, 4, 5)
    assert float(images[1, 2, 3, 4]) == np.float32(pixels[1, 3, 4, 2]) / np.float32(255)
    assert images[:1].equal(to_tensor(pixels[0]))


def test_a_tensor_of_pixels_is_a_copy_even_of_what_cannot_be_written_to() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels.flags.writeable = False
    to_tensor(pixels).add_(1)
    assert not pixels.any()
