from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_networks import Local, make_image, resnet
from torch import Tensor, nn

from dilated import Predictor
from dilated.data.raster.bands import InMemoryRaster
from dilated.models.sampling import PIXEL_GRID, Grid, upsample
from dilated.prediction.views import TTAView, _resample_weights, _scale_size

sides = st.sampled_from([1, 2, 3]) | st.integers(1, 60)
scales = st.sampled_from([0.25, 0.5, 0.75, 1.0, 1.25, 2.0, 8.0]) | st.floats(0.05, 4)


def whole(view: TTAView, held: InMemoryRaster) -> Tensor:
    return view.read(held, 0, 0, view.scaled_height, view.scaled_width)


@pytest.mark.parametrize(
    ("side", "scale", "expected"), [(7, 1.0, 7), (7, 0.5, 4), (100, 0.75, 75), (1, 0.01, 1), (3, 0.1, 1), (5, 8.0, 40)]
)
def test_sides_of_scaled_images(side: int, scale: float, expected: int) -> None:
    assert _scale_size(side, scale) == expected


def test_scale_1_is_the_image() -> None:
    image = make_image(20, 31)
    expected = torch.tensor(image).permute(2, 0, 1)[None].float() / 255
    assert torch.equal(whole(TTAView(20, 31), InMemoryRaster(image)), expected)
    assert torch.equal(whole(TTAView(20, 31, flip=True), InMemoryRaster(image)), expected.flip(-1))
    assert torch.equal(TTAView(20, 31).read(InMemoryRaster(image), 3, 5, 7, 11), expected[..., 3:10, 5:16])


@settings(deadline=None, max_examples=100)
@given(sides, sides, scales, st.booleans(), st.data())
def test_a_window_of_a_view_is_that_window_of_the_whole_view(
    height: int, width: int, scale: float, flip: bool, data: st.DataObject
) -> None:
    view, held = TTAView(height, width, scale, flip), InMemoryRaster(make_image(height, width))
    top, left = data.draw(st.integers(0, view.scaled_height - 1)), data.draw(st.integers(0, view.scaled_width - 1))
    rows, across = (
        data.draw(st.integers(1, view.scaled_height - top)),
        data.draw(st.integers(1, view.scaled_width - left)),
    )
    found = view.read(held, top, left, rows, across)
    assert found.shape == (1, 3, rows, across)
    expected = whole(view, held)[..., top : top + rows, left : left + across]
    torch.testing.assert_close(found, expected, rtol=0, atol=0 if scale == 1 else 1e-6)


class Watched(InMemoryRaster):
    """An image that notes how much of it is read, and lets nothing outside be read."""

    most = 0

    def read(self, top: int, left: int, height: int, width: int):  # type: ignore[no-untyped-def]
        assert top >= 0
        assert left >= 0
        assert top + height <= self.height
        assert left + width <= self.width
        self.most = max(self.most, height * width)
        return super().read(top, left, height, width)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_a_window_reads_only_the_pixels_that_it_needs(scale: float) -> None:
    held = Watched(make_image(400, 500))
    TTAView(400, 500, scale, flip=True).read(held, 50, 60, 10, 10)
    assert held.most <= (10 / scale + 2 * max(1, 1 / scale) + 3) ** 2


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 200), scales, st.data())
def test_resample_weights_sum_to_1_and_lie_in_the_image(source: int, scale: float, data: st.DataObject) -> None:
    target = _scale_size(source, scale)
    start = data.draw(st.integers(0, target - 1))
    size = data.draw(st.integers(1, target - start))
    found = _resample_weights(start, size, source, target)
    assert found.weights.shape[0] == size
    assert found.first_sample >= 0
    assert found.first_sample + found.weights.shape[1] <= source
    assert (found.weights >= 0).all()
    torch.testing.assert_close(found.weights.sum(1), torch.ones(size), rtol=0, atol=1e-6)


def test_resample_weights_of_the_same_size_are_the_samples_themselves() -> None:
    found = _resample_weights(2, 3, 9, 9)
    assert torch.equal(found.weights[:, 2 - found.first_sample : 5 - found.first_sample], torch.eye(3))
    assert found.weights.sum() == 3


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 60), st.integers(2, 60), scales)
def test_a_scaled_image_is_that_of_torch(height: int, width: int, scale: float) -> None:
    """Not where one is a single pixel wide: torch then repeats the first row's weights for all rows."""
    view, image = TTAView(height, width, scale), make_image(height, width)
    assume(view.scaled_height > 1 and view.scaled_width > 1)
    expected = F.interpolate(
        torch.tensor(image).permute(2, 0, 1)[None].float() / 255,
        (view.scaled_height, view.scaled_width),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    torch.testing.assert_close(whole(view, InMemoryRaster(image)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.0, 1.3])
@pytest.mark.parametrize("flip", [False, True])
def test_pixels_are_found_where_they_lie_in_the_view(scale: float, flip: bool) -> None:
    """A slope of one grey level a pixel is read off the view at the places of the image's pixels."""
    held = InMemoryRaster(np.tile(np.arange(120, dtype=np.uint8)[None, :, None], (90, 1, 3)))
    view = TTAView(90, 120, scale, flip)
    grid, reverse = view.column_grid(20, 50)
    assert reverse == flip
    line = upsample(whole(view, held) * 255, PIXEL_GRID, (view.row_grid(10), grid), (5, 30))[0, 0]
    line = line.flip(-1) if reverse else line
    torch.testing.assert_close(line, torch.arange(20.0, 50.0).expand(5, -1), rtol=0, atol=0.05)


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 300), scales, st.data())
def test_the_image_and_its_view_begin_and_end_at_the_same_places(side: int, scale: float, data: st.DataObject) -> None:
    view = TTAView(side, side, scale)
    grid = view.row_grid(0)
    assert grid.start - grid.stride / 2 == pytest.approx(-0.5)
    assert grid.start + grid.stride * (side - 0.5) == pytest.approx(view.scaled_height - 0.5)
    first = data.draw(st.integers(0, side - 1))
    assert view.row_grid(first).start == pytest.approx(grid.start + grid.stride * first)
    assert view.column_grid(first, side)[0] == view.row_grid(first)


@cache
def symmetric() -> Local:
    """A network to which right and left are the same."""
    segmenter = Local(1)
    with torch.no_grad():
        weight = segmenter.around.weight
        weight.copy_((weight + weight.flip(-1)) / 2)
    return segmenter


@settings(deadline=None, max_examples=20)
@given(sides, sides, st.none() | st.integers(1, 30))
def test_a_network_that_knows_no_sides_gives_the_same_labels_with_flips(
    height: int, width: int, tile: int | None
) -> None:
    image = make_image(height, width)
    plain = Predictor(symmetric(), device="cpu")(image).labels
    np.testing.assert_array_equal(Predictor(symmetric(), device="cpu", flips=True, tile=tile)(image).labels, plain)


def test_a_network_that_knows_sides_does_not() -> None:
    image = make_image(40, 50)
    plain, flips = (Predictor(Local(3), device="cpu", flips=flips)(image).labels for flips in (False, True))
    assert (plain != flips).any()


@pytest.mark.parametrize("tile", [None, 12])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 20), (31, 44)])
@pytest.mark.parametrize("used", [(1.0,), (0.5,), (1.0, 0.5, 1.6)])
@torch.no_grad()
def test_logits_are_the_logarithms_of_the_mean_of_the_views_probabilities(
    height: int, width: int, tile: int | None, used: tuple[float, ...]
) -> None:
    image = make_image(height, width)
    pixels = torch.tensor(image).permute(2, 0, 1)[None].float() / 255
    segmenter = Local(3, context=(1, 2))
    found = []
    for scale in used:
        size = _scale_size(height, scale), _scale_size(width, scale)
        seen = F.interpolate(pixels, size, mode="bilinear", antialias=True) if scale != 1 else pixels
        rows, columns = (Grid(b / a, (b / a - 1) / 2) for a, b in zip((height, width), size, strict=True))
        for flip in (False, True):
            maps = segmenter.logits(seen.flip(-1) if flip else seen)
            across = Grid(columns.stride, size[1] - 1 - columns.start - columns.stride * (width - 1))
            logits = segmenter.upsample(maps, segmenter.grid, (rows, across if flip else columns), (height, width))
            found.append((logits.flip(-1) if flip else logits)[0].softmax(0))
    expected = torch.stack(found).mean(0)
    predictor = Predictor(segmenter, device="cpu", flips=True, scales=used, tile=tile)
    prediction = predictor(image, logits=True)
    assert prediction.logits is not None
    torch.testing.assert_close(prediction.logits.exp(), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(prediction.labels, prediction.logits.argmax(0).numpy())
    np.testing.assert_array_equal(predictor(image).labels, prediction.labels)


def test_a_single_view_gives_plain_logits() -> None:
    image = make_image(20, 30)
    found = Predictor(Local(3), device="cpu", scales=(0.5,)).logits(image)
    assert (found.exp().sum(0) - 1).abs().max() > 0.1


@cache
def seen_in_many_ways(kind: str) -> Predictor:
    segmenter = Local(4, context=(1, 2)) if kind == "local" else resnet(levels=3, context="basic", detail=8)
    return Predictor(segmenter, device="cpu", flips=True, scales=(0.7, 1.0, 1.4))


@pytest.mark.parametrize(("kind", "longest"), [("local", 60), ("resnet", 140)])
@settings(deadline=None, max_examples=6, derandomize=True)
@given(st.data())
def test_a_tile_changes_no_label_of_several_views(kind: str, longest: int, data: st.DataObject) -> None:
    predictor = seen_in_many_ways(kind)
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, longest))
    image = make_image(height, width)
    predictor.tile = None
    without = predictor.logits(image)
    predictor.tile = data.draw(st.integers(1 if kind == "local" else 24, 50))
    with pytest.MonkeyPatch.context() as patch:
        if data.draw(st.booleans()):
            patch.setattr("dilated.prediction.predictor.MAX_BLOCK_BYTES", 0)
        tiled = predictor.logits(image)
    torch.testing.assert_close(tiled, without, rtol=0, atol=1e-4)
    assert torch.equal(tiled.argmax(0), without.argmax(0))


@pytest.mark.parametrize("scale", [0.01, 0.5, 3.0, 8.0])
def test_an_image_of_one_pixel_is_one_pixel_at_least_in_every_view(scale: float) -> None:
    held = InMemoryRaster(make_image(1, 1))
    view = TTAView(1, 1, scale)
    torch.testing.assert_close(
        whole(view, held),
        TTAView(1, 1).read(held, 0, 0, 1, 1).expand(-1, -1, view.scaled_height, view.scaled_width),
        rtol=0,
        atol=1e-6,
    )
    labels = Predictor(Local(3), device="cpu", scales=(scale, 1.0), flips=True)(held.pixels).labels
    assert labels.shape == (1, 1)


def test_views_are_every_scale_with_and_without_flip() -> None:
    predictor = Predictor(Local(1), device="cpu", flips=True, scales=(0.5, 1.0))
    assert [(view.scale, view.flip) for view in predictor.tta_views(4, 5)] == [
        (0.5, False),
        (0.5, True),
        (1.0, False),
        (1.0, True),
    ]
    assert not predictor.is_single_pass


def test_a_network_is_evaluated() -> None:
    segmenter = Local(1)
    segmenter.around = nn.Sequential(segmenter.around, nn.Dropout(0.9)).train()
    assert Predictor(segmenter.train(), device="cpu", flips=True)(make_image(9, 9)) is not None
    assert not segmenter.around[1].training
