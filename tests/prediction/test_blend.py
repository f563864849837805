from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_networks import Local, make_image
from torch import Tensor, nn

from dilated import Predictor, Segmenter, SegmenterConfig
from dilated.data.raster.bands import InMemoryRaster
from dilated.errors import InputError
from dilated.prediction.tiling import BlendedTiler, _tile_starts
from dilated.prediction.views import TileCache, TileSource, TTAView


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True)


@cache
def gated() -> Local:
    """A small network with a layer that sees the whole image."""
    return Local(2, gate=Gate())


@cache
def efficientnet() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(["a", "b"], [(0, 0, 0), (255, 0, 0)], SegmenterConfig(backbone="test_efficientnet", features=8))


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 200))
def test_tiles_cover_a_side_and_overlap_by_half_at_least(side: int, tile: int) -> None:
    found = _tile_starts(side, tile)
    assert found[0] == 0
    assert found[-1] == max(side - tile, 0)
    assert max(found[-1] + tile, side) == max(tile, side)
    steps = [later - earlier for earlier, later in pairwise(found)]
    assert all(0 < step <= max(tile // 2, 1) for step in steps)


@pytest.mark.parametrize(
    ("side", "tile", "expected"),
    [(1, 1, [0]), (2, 1, [0, 1]), (40, 40, [0]), (41, 40, [0, 1]), (60, 40, [0, 20]), (61, 40, [0, 20, 21])],
)
def test_where_tiles_begin(side: int, tile: int, expected: list[int]) -> None:
    assert _tile_starts(side, tile) == expected


@pytest.mark.parametrize(("tile", "flips"), [(1, False), (90, True)])
def test_a_tile_is_refused_for_a_network_that_sees_the_whole_image(tile: int, flips: bool) -> None:
    predictor = Predictor(efficientnet(), device="cpu", tile=tile, flips=flips)
    for call in (predictor, predictor.logits):
        with pytest.raises(InputError, match=r"see the whole image \(backbone\.blocks\.3\.0\.se.*--blend"):
            call(make_image(91, 50))


def test_the_error_names_all_layers_that_see_the_whole_image() -> None:
    segmenter = Segmenter(["a", "b"], config=SegmenterConfig("efficientnet_b0", features=8))
    gates = [name for name, module in segmenter.named_modules() if type(module).__name__ == "SqueezeExcite"]
    assert len(gates) == 16
    with pytest.raises(InputError) as error:
        Predictor(segmenter, device="cpu", tile=64)(make_image(70, 40))
    assert f"({', '.join(gates)})" in str(error.value)


def test_no_layer_is_named_that_sees_its_own_place_only() -> None:
    with pytest.raises(InputError) as error:
        Predictor(gated(), device="cpu", tile=8)(make_image(30, 40))
    assert "(gate)" in str(error.value)


def test_no_layer_of_a_backbone_is_named_that_sees_its_own_place_only() -> None:
    with pytest.raises(InputError) as error:
        Predictor(efficientnet(), device="cpu", tile=64)(make_image(91, 50))
    assert "neck" not in str(error.value)


def test_blending_is_refused_for_a_network_that_can_be_tiled_exactly() -> None:
    with pytest.raises(InputError, match="blend"):
        Predictor(Local(2), device="cpu", tile=8, blend=True)(make_image(30, 40))


@pytest.mark.parametrize("build", [gated, efficientnet])
@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("tile", [41, 57, 1000])
def test_a_tile_as_large_as_the_image_gives_the_labels_of_the_whole(
    build: Callable[[], Local | Segmenter], blend: bool, tile: int
) -> None:
    image, segmenter = make_image(30, 41), build()
    whole = Predictor(segmenter, device="cpu")(image, logits=True)
    found = Predictor(segmenter, device="cpu", tile=tile, blend=blend)(image, logits=True)
    assert whole.logits is not None
    assert found.logits is not None
    torch.testing.assert_close(found.logits, whole.logits, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.labels, whole.labels)


def pointwise() -> Predictor:
    """Blended against the rules: each logit depends on its own pixel only, so tiles agree wherever they overlap."""
    predictor = Predictor(Local(1, kernel=1), device="cpu", blend=True)
    predictor.__dict__["tile_plan"] = None
    return predictor


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([2, 5, 12]), st.booleans())
def test_where_tiles_agree_the_blend_is_the_whole_without_a_seam(
    height: int, width: int, tile: int, flips: bool
) -> None:
    assume(max(height, width) > tile)
    image, predictor = make_image(height, width), pointwise()
    whole = predictor.logits(image).softmax(0)
    predictor.tile, predictor.flips = tile, flips
    torch.testing.assert_close(predictor.logits(image).exp(), whole)
    first, second = whole.topk(2, dim=0).values
    clear = (first - second > 1e-5).numpy()
    np.testing.assert_array_equal(predictor(image).labels[clear], whole.argmax(0).numpy()[clear])


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([2, 5, 12]))
def test_blended_probabilities_sum_to_1_everywhere(height: int, width: int, tile: int) -> None:
    predictor = Predictor(gated(), device="cpu", blend=True, tile=tile)
    predictor.__dict__["tile_plan"] = None
    assume(max(height, width) > tile)
    total = predictor.logits(make_image(height, width)).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(height, width))


@pytest.mark.parametrize("tile", [1, 2, 7, 30])
def test_weights_are_positive_everywhere_and_greatest_in_the_middle(tile: int) -> None:
    source = TileSource(InMemoryRaster(make_image(40, 40)), TTAView(40, 40), 0, TileCache())
    blend = BlendedTiler(pointwise(), source, tile)
    ramp = blend._blend_weights(slice(0, tile))
    assert (ramp > 0).all()
    assert torch.equal(ramp, ramp.flip(0))
    assert ramp.argmax() in (tile // 2, (tile - 1) // 2)
    assert torch.equal(blend._blend_weights(slice(tile // 2, tile)), ramp[tile // 2 :])


def test_labels_of_a_blend_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(gated(), device="cpu", blend=True, tile=16, flips=True, scales=(0.8, 1.0))
    image = make_image(40, 61)
    assert len(predictor.split_into_blocks(40, 61)) == 12
    small = predictor.logits(image)
    monkeypatch.setattr(Predictor, "block_size", lambda self, height, width: max(height, width))
    torch.testing.assert_close(predictor.logits(image), small, rtol=0, atol=1e-4)


def test_a_blend_depends_on_the_tile() -> None:
    """Or it would be exact, and nothing to warn of."""
    image = make_image(40, 61)
    small, large = (Predictor(gated(), device="cpu", blend=True, tile=tile).logits(image) for tile in (16, 32))
    assert (small - large).abs().max() > 1e-2


@pytest.mark.parametrize(("height", "width"), [(91, 50), (1, 91)])
def test_a_network_with_gates_is_blended(height: int, width: int) -> None:
    prediction = Predictor(efficientnet(), device="cpu", blend=True, tile=64)(make_image(height, width), logits=True)
    assert prediction.logits is not None
    assert prediction.logits.isfinite().all()
    assert prediction.labels.shape == (height, width)
