"""Training samples of the paper's network against a version that looks up each pixel by itself."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dilated.data.augment import ReflectCropConfig, _reflect_crop
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.data.torch_dataset import TrainingSamples
from dilated.errors import InputError

Array = NDArray[np.uint8]
Place = tuple[int, int, bool]
"""Where a sample was cut, top and left in the image's own pixels (both may be negative), and whether flipped."""


def bounced(position: int, size: int) -> int:
    """The pixel that is seen at a position, perhaps outside, of a row between two mirrors."""
    while not 0 <= position < size:
        position = 0 if size == 1 else -position if position < 0 else 2 * (size - 1) - position
    return position


def coordinates(height: int, width: int) -> tuple[Array, Array]:
    """An image whose first two channels are the row and the column, and a label that is neither."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    label = np.random.default_rng([height, width]).integers(0, 5, (height, width), dtype=np.uint8)
    return np.stack([rows, columns, rows ^ columns]), label


def expected(options: ReflectCropConfig, image: Array, label: Array, place: Place) -> tuple[Array, Array]:
    """The sample at a place, pixel by pixel."""
    (top, left, flipped), (height, width) = place, options.crop
    tall, wide = label.shape
    rows = range(top, top + height)
    columns = range(left + width - 1, left - 1, -1) if flipped else range(left, left + width)
    make_image = image[:, [[bounced(y, tall)] for y in rows], [bounced(x, wide) for x in columns]]
    answered = [r[options.margin : len(r) - options.margin : options.stride] for r in (rows, columns)]
    grid = [[label[y, x] if 0 <= y < tall and 0 <= x < wide else 255 for x in answered[1]] for y in answered[0]]
    return make_image, np.array(grid, dtype=np.uint8)


def places(options: ReflectCropConfig, height: int, width: int) -> list[Place]:
    """Wherever a sample may be cut: anywhere in the image extended by the margin, or else at its first pixel."""
    tops, lefts = (
        range(-options.margin, max(side + options.margin - crop, -options.margin) + 1)
        for side, crop in zip((height, width), options.crop, strict=True)
    )
    return list(itertools.product(tops, lefts, (False, True) if options.flip else (False,)))


def cut(options: ReflectCropConfig, image: Array, label: Array, seed: int) -> tuple[Array, Array]:
    torch.manual_seed(seed)
    cut_image, cut_label = _reflect_crop(options, 255, torch.tensor(image), torch.tensor(label))
    return cut_image.numpy(), cut_label.numpy()


def places_of(options: ReflectCropConfig, height: int, width: int, seed: int) -> list[Place]:
    """The places whose samples are, to the last pixel and label, the one that was cut."""
    image, label = coordinates(height, width)
    found = cut(options, image, label, seed)
    same = []
    for place in places(options, height, width):
        row, column = bounced(place[0], height), bounced(place[1] + (options.crop[1] - 1) * place[2], width)
        if (found[0][0, 0, 0], found[0][1, 0, 0]) == (row, column):  # quick, most are told by their first pixel
            wanted = expected(options, image, label, place)
            if all(np.array_equal(f, w) and f.dtype == w.dtype for f, w in zip(found, wanted, strict=True)):
                same.append(place)
    return same


@pytest.mark.parametrize(
    ("size", "crop"),
    [
        ((1, 1), (380, 380)),  # one pixel, mirrored everywhere
        ((1, 20), (380, 388)),
        ((9, 7), (380, 380)),  # the margin bounces dozens of times
        ((40, 56), (412, 428)),  # the whole image and its margins, exactly
        ((40, 56), (396, 404)),
        ((40, 56), (500, 388)),  # too low, and wider than the sample
        ((100, 187), (500, 500)),
        ((187, 188), (380, 380)),
        ((130, 131), (500, 500)),  # larger than what is answered
    ],
)
def test_samples_are_those_of_the_version_pixel_by_pixel(size: tuple[int, int], crop: tuple[int, int]) -> None:
    for seed in range(2):
        assert places_of(ReflectCropConfig(crop), *size, seed)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(0, 20),
    st.integers(1, 8),
    st.booleans(),
    st.integers(0, 99),
)
def test_samples_of_any_size_margin_and_stride_are_too(
    size: tuple[int, int], logits: tuple[int, int], margin: int, stride: int, flip: bool, seed: int
) -> None:
    crop = (logits[0] * stride + 2 * margin, logits[1] * stride + 2 * margin)
    options = ReflectCropConfig(crop, flip, margin=margin, stride=stride)
    assert places_of(options, *size, seed)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_the_label_at_i_j_is_that_of_the_pixel_at_top_plus_8i_and_left_plus_8j(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    image, label = coordinates(height, width)
    sample, grid = cut(ReflectCropConfig((372 + 8 * rows, 372 + 8 * columns), flip=False), image, label, seed)
    top, left = sample[:2, 186, 186].astype(int)  # the sample says by itself which pixel is where
    pixels = [[(top + 8 * i, left + 8 * j) for j in range(columns)] for i in range(rows)]
    wanted = [[label[y, x] if y < height and x < width else 255 for y, x in row] for row in pixels]
    assert grid.tolist() == wanted


@pytest.mark.parametrize("margin", [0, 3])
def test_every_place_is_cut_with_both_flips(margin: int) -> None:
    options = ReflectCropConfig((2 * margin + 6, 2 * margin + 4), margin=margin, stride=2)
    found = [places_of(options, 8, 7, seed) for seed in range(200)]
    assert all(len(place) == 1 for place in found)
    assert {place[0] for place in found} == set(places(options, 8, 7))


def test_every_other_sample_is_flipped_with_its_label() -> None:
    image, label = np.zeros((3, 8, 16), np.uint8), np.zeros((8, 16), np.uint8)
    image[:, 0, 0], image[:, 0, 8], label[0, 0], label[0, 8] = 200, 100, 2, 1
    label[0, 7] = label[0, 15] = 3  # where the grid stands in a flipped image
    seen = []
    for seed in range(60):
        cut_image, cut_label = cut(ReflectCropConfig((380, 388)), image, label, seed)
        flipped = cut_image[0, 186, 186] == 0
        assert cut_label.tolist() == ([[3, 3]] if flipped else [[2, 1]])
        assert cut_image[0, 186, 186 + 15 if flipped else 186] == 200
        seen.append(flipped)
    assert 15 < sum(seen) < 45


def test_without_flip_nothing_is_flipped() -> None:
    options = ReflectCropConfig((380, 380), flip=False)
    assert all(not place[2] for seed in range(20) for place in places_of(options, 8, 8, seed))
    assert places_of(options, 8, 8, 0) == [(-186, -186, False)]


def test_an_image_that_is_smaller_is_extended_below_and_on_the_right() -> None:
    image, label = coordinates(11, 20)
    for seed in range(5):
        cut_image, cut_label = cut(ReflectCropConfig((404, 412), flip=False), image, label, seed)
        assert cut_image[:2, 186, 186].tolist() == [0, 0]
        assert np.array_equal(cut_label[:2, :3], label[::8, ::8])
        assert (cut_label[2:] == 255).all()
        assert (cut_label[:, 3:] == 255).all()


def test_what_is_ignored_in_the_image_stays_so() -> None:
    label = np.full((24, 24), 255, np.uint8)
    label[8, 16] = 4
    _, grid = cut(ReflectCropConfig((396, 396), flip=False), np.zeros((3, 24, 24), np.uint8), label, 0)
    assert grid.tolist() == [[255, 255, 255], [255, 255, 4], [255, 255, 255]]


def test_a_sample_is_plain_bytes_in_memory_of_its_own() -> None:
    image, label = (torch.tensor(a) for a in coordinates(30, 40))
    before = image.clone(), label.clone()
    for options in (
        ReflectCropConfig((380, 380)),
        ReflectCropConfig((380, 380), scale=(0.5, 2.0)),
        ReflectCropConfig((8, 8), margin=0),
    ):
        for part in _reflect_crop(options, 255, image, label):
            assert (type(part), part.dtype, part.is_contiguous()) == (Tensor, torch.uint8, True)
            part.zero_()
    assert torch.equal(image, before[0])
    assert torch.equal(label, before[1])


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 2000), st.integers(0, 200), st.integers(1, 32))
def test_a_crop_that_does_not_fit_is_an_error_that_names_one_that_does(side: int, margin: int, stride: int) -> None:
    assume(side <= 2 * margin or (side - 2 * margin) % stride)
    for crop in ((side, 2 * margin + stride), (2 * margin + stride, side)):
        with pytest.raises(InputError, match=re.escape(f"augment.crop: found {list(crop)}; expected")) as error:
            ReflectCropConfig(crop, margin=margin, stride=stride)
        near = int(re.findall(r"such as (\d+)$", str(error.value))[0])
        ReflectCropConfig((near, near), margin=margin, stride=stride)  # or it raises
        assert abs(near - side) <= max(stride, 2 * margin + stride - side)


@pytest.mark.parametrize(("margin", "stride"), [(186, 0), (186, -8), (-1, 8)])
def test_a_margin_or_stride_that_cannot_be_is_an_error(margin: int, stride: int) -> None:
    with pytest.raises(InputError, match=r"augment\.(margin|stride): found"):
        ReflectCropConfig((380, 380) if margin > 0 else (6, 6), margin=margin, stride=stride)


def test_the_nearest_fitting_crop_is_the_one_named() -> None:
    for side, near in ((500 + 3, 500), (500 - 3, 500), (372, 380), (100, 380), (1, 380)):
        with pytest.raises(InputError, match=f"a multiple of 8, such as {near}$"):
            ReflectCropConfig((side, 500))


def test_scaled_labels_have_the_values_that_there_were_and_fit_the_image() -> None:
    image, label = np.zeros((3, 48, 64), np.uint8), np.full((48, 64), 3, np.uint8)
    image[:, :, 32:], label[:, 32:] = 240, 7
    sizes = set()
    for seed in range(30):
        options = ReflectCropConfig((468, 468), scale=(0.5, 2.0))
        sample, grid = cut(options, image, label, seed)
        assert sample.shape == (3, 468, 468)
        assert set(np.unique(grid)) <= {3, 7, 255}
        seen = sample[0, 186:-186:8, 186:-186:8]
        assert set(grid[seen == 0]) <= {3, 255}  # the edge between is blurred, all else is as it was
        assert set(grid[seen == 240]) <= {7, 255}
        sizes.add(int((grid != 255).sum()))
    assert len(sizes) > 5
    assert 12 * 12 in sizes  # larger than the sample, which is then labelled everywhere


@pytest.fixture
def pairs(tmp_path: Path) -> list[Sample]:
    made = []
    classes = Classes(tuple("abcde"), tuple((i, i, i) for i in range(5)))
    for i, size in enumerate([(40, 56), (1, 1), (200, 17)]):
        image, label = coordinates(*size)
        made.append(Sample(tmp_path / f"{i}.png", tmp_path / f"{i}_label.png", classes=classes))
        Image.fromarray(image.transpose(1, 2, 0)).save(made[-1].image)
        Image.fromarray(label).save(made[-1].label)
    return made


def test_a_sample_depends_on_the_seed_and_its_number_alone(pairs: list[Sample]) -> None:
    options = ReflectCropConfig((388, 388))
    keys = [(index, draw) for index in range(3) for draw in range(8)]
    torch.manual_seed(1)
    once = {key: TrainingSamples(pairs, options, seed=5)[key] for key in keys}
    torch.manual_seed(2)
    again = {key: TrainingSamples(pairs, options, seed=5, cache=True)[key] for key in reversed(keys)}
    other = {key: TrainingSamples(pairs, options, seed=6)[key] for key in keys}

    def same(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
        return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])

    assert all(same(once[key], again[key]) for key in keys)
    assert not all(same(once[key], other[key]) for key in keys)
    assert not all(same(once[(0, 0)], once[(0, draw)]) for draw in range(1, 8))
    image, label = once[(0, 0)]
    assert (image.shape, image.dtype, label.shape, label.dtype) == ((3, 388, 388), torch.float32, (2, 2), torch.int64)
    assert torch.equal(image * 255, (image * 255).round())
