from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import Local, make_image, resnet, vgg

from dilated import Predictor, load
from dilated.data.raster.bands import InMemoryRaster
from dilated.models.base import BaseSegmenter
from dilated.prediction import tiling
from dilated.prediction.views import Block, TileCache, TileKey, TileSource

RESNETS = {
    "features": {"levels": 3, "context": "basic"},
    "logits": {"levels": 3, "context": "basic", "context_on": "logits", "padding": "once"},
    "large": {"levels": 3, "context": "large", "context_on": "logits", "dilations": (1, 2)},
    "detail": {"levels": 3, "context": "basic", "detail": 8},
    "deep detail": {"levels": 3, "context": "basic", "detail": 8, "detail_reads": "features", "detail_layers": 2},
    "four levels": {"levels": 4, "detail": 8},
    "fine detail": {"levels": 3, "context": "basic", "detail": 8, "detail_reads": "features", "detail_fine": 6},
}
COARSE = {"levels": 4, "output_stride": 16, "context": "basic", "detail": 8}
VGGS = {
    "none": {},
    "basic": {"context": "basic"},
    "once": {"context": "basic", "padding": "once"},
    "large": {"context": "large", "dilations": (1, 1, 2)},
    "deconvolution": {"context": "basic", "upsampling": "deconvolution"},
    "kept": {"pools": "kept"},
    "dense": {"pools": "dense", "fc6": "large_fov"},
    "own border": {"frontend_padding": "same"},
}


@cache
def predictor_of(kind: str, name: str = "") -> Predictor:
    """One for each network, so that its reach is measured once; tests set the tile."""
    if kind == "street":
        segmenter: BaseSegmenter = load("street")
    elif kind == "vgg":
        segmenter = vgg(width=1 / 16) if name == "wider" else vgg(**VGGS[name])
    else:
        segmenter = resnet(**(COARSE if name == "stride 16" else RESNETS[name]))
    return Predictor(segmenter, device="cpu")


def changed(
    predictor: Predictor, height: int, width: int, tile: int, many: bool = False, seed: int = 0, tie: float = 0.0
) -> int:
    """How many labels a tile changes; also holds the logits against each other.

    Args:
        many: label one tile at a time, however few values it has.
        tie: labels whose two best logits differ by less are not counted.
    """
    image = make_image(height, width, seed)
    predictor.tile = None
    whole = predictor(image, logits=True)
    predictor.tile = tile
    with pytest.MonkeyPatch.context() as patch:
        if many:
            patch.setattr("dilated.prediction.predictor.MAX_BLOCK_BYTES", 0)
        tiled = predictor.logits(image)
    assert whole.logits is not None
    assert whole.logits.isfinite().all()
    torch.testing.assert_close(tiled, whole.logits, rtol=0, atol=1e-4)
    best = whole.logits.topk(2, 0).values
    clear = (best[0] - best[1] >= tie).numpy()
    return int(((tiled.argmax(0).numpy() != whole.labels) & clear).sum())


sides = st.sampled_from([1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65]) | st.integers(1, 90)


@cache
def local(stride: int, context: tuple[int, ...]) -> Predictor:
    return Predictor(Local(stride, context=context), device="cpu")


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from([1, 2, 3, 5, 8]),
    st.sampled_from([(), (1,), (2, 3)]),
    sides,
    sides,
    st.integers(1, 40),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_a_tile_changes_no_label_whose_two_greatest_logits_differ_by_1e_5(
    stride: int, context: tuple[int, ...], height: int, width: int, tile: int, many: bool, seed: int
) -> None:
    """The promise of the documentation.

    Logits of a tile cannot be equal to the last bit: torch sums a convolution in another order for an input of another
    shape, with oneDNN and without, so that a single 3x3 convolution of a crop differs by 6e-7.
    """
    assert changed(local(stride, context), height, width, tile, many, seed, tie=1e-5) == 0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 70), (70, 1), (33, 65)])
@pytest.mark.parametrize("many", [False, True])
def test_labels_of_tiles_are_those_of_the_whole_image_also_without_logits(
    height: int, width: int, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:
        monkeypatch.setattr("dilated.prediction.predictor.MAX_BLOCK_BYTES", 0)
    image = make_image(height, width)
    segmenter = Local(3, context=(1, 2))
    whole = Predictor(segmenter, device="cpu")(image).labels
    assert height * width < 100 or len(np.unique(whole)) == 3
    for tile in (1, 2, 9, 64, 1000):
        labels = Predictor(segmenter, device="cpu", tile=tile)(image).labels
        assert labels.dtype == whole.dtype
        np.testing.assert_array_equal(labels, whole)


@pytest.mark.parametrize("name", RESNETS)
@settings(deadline=None, max_examples=3, derandomize=True)
@given(st.data())
def test_a_tile_changes_no_label_of_a_resnet(name: str, data: st.DataObject) -> None:
    long, short = data.draw(st.integers(120, 300)), data.draw(sides)
    height, width = data.draw(st.permutations([long, short]))
    tile = data.draw(st.integers(16, 64))
    assert changed(predictor_of("resnet", name), height, width, tile, data.draw(st.booleans())) == 0


def test_a_tile_changes_no_label_of_a_resnet_at_stride_16() -> None:
    for height, width, tile, many in ((400, 20, 64, True), (33, 331, 90, False)):
        assert changed(predictor_of("resnet", "stride 16"), height, width, tile, many) == 0


@pytest.mark.parametrize("name", VGGS)
@settings(deadline=None, max_examples=1, derandomize=True)
@given(st.data())
def test_a_tile_changes_no_label_of_the_network_of_the_paper(name: str, data: st.DataObject) -> None:
    long, short = data.draw(st.integers(290, 420)), data.draw(sides)
    height, width = data.draw(st.permutations([long, short]))
    tile = data.draw(st.integers(64, 160))
    predictor = predictor_of("vgg", name)
    assert changed(predictor, height, width, tile, data.draw(st.booleans())) == 0


@pytest.mark.parametrize(("name", "height", "width"), [("wider", 257, 9), ("wider", 9, 257), ("kept", 300, 20)])
def test_a_thin_last_tile_sees_as_much_of_the_mirrored_border_as_the_whole_image(
    name: str, height: int, width: int
) -> None:
    tile = 96 if name == "kept" else 64
    assert changed(predictor_of("vgg", name), height, width, tile) == 0


@pytest.mark.parametrize(
    ("height", "width", "tile", "many"), [(40, 700, 128, False), (611, 33, 200, True), (1, 530, 60, True)]
)
def test_a_tile_changes_no_label_of_the_bundled_network(height: int, width: int, tile: int, many: bool) -> None:
    assert changed(predictor_of("street"), height, width, tile, many) == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("kind", "name", "longest", "tie"),
    [("street", "", 900, 0.0), ("vgg", "once", 600, 0.0), ("resnet", "four levels", 500, 3e-5)],
)
def test_200_random_pairs_of_size_and_tile_change_no_label(kind: str, name: str, longest: int, tie: float) -> None:
    """Sums of windows of different sizes are rounded differently; random weights magnify that to 1e-5 of a logit."""
    random = np.random.default_rng(0)
    total = 0
    for seed in range(200):
        shape = random.permutation([random.integers(1, longest), random.integers(1, 100)])
        tile = int(random.integers(longest // 8, longest // 2))
        predictor = predictor_of(kind, name)
        total += changed(predictor, int(shape[0]), int(shape[1]), tile, bool(seed % 2), seed, tie)
    assert total == 0


def test_a_margin_that_is_too_small_changes_logits() -> None:
    predictor = Predictor(resnet(levels=3), device="cpu")
    assert predictor.tile_plan is not None
    assert changed(predictor, 150, 40, 32) == 0
    predictor.__dict__["tile_plan"] = dataclasses.replace(predictor.tile_plan, margin=8)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        changed(predictor, 150, 40, 32)


def test_the_margin_of_a_small_network_is_as_small_as_can_be() -> None:
    predictor = Predictor(Local(5), device="cpu")
    assert predictor.tile_plan is not None
    assert predictor.tile_plan.margin == 5
    predictor.__dict__["tile_plan"] = dataclasses.replace(predictor.tile_plan, margin=0)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        changed(predictor, 40, 40, 10)


def test_a_halo_that_is_too_small_changes_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(Local(2, context=(4, 4)), device="cpu")
    assert changed(predictor, 80, 20, 8, many=True) == 0
    monkeypatch.setattr(Local, "halo", 6)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        changed(predictor, 80, 20, 8, many=True)


@settings(deadline=None, max_examples=50)
@given(sides, sides, st.integers(1, 40))
def test_blocks_cover_the_image_and_none_overlap(height: int, width: int, tile: int) -> None:
    predictor = local(3, ())
    predictor.tile = tile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dilated.prediction.predictor.MAX_BLOCK_BYTES", 0)
        found = predictor.split_into_blocks(height, width)
    count = np.zeros((height, width), dtype=int)
    for block in found:
        assert block.height > 0
        assert block.width > 0
        assert block.bottom <= height
        assert block.right <= width
        count[block.top : block.bottom, block.left : block.right] += 1
    assert (count == 1).all()
    assert found == sorted(found, key=lambda block: (block.top, block.left))
    assert max(height, width) <= -(-tile // 3) * 3 or len(found) > 1


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """It labels 12 x 12 pixels at a time, of which each looks at some of the neighbouring tiles."""
    monkeypatch.setattr("dilated.prediction.predictor.MAX_BLOCK_BYTES", 0)
    return Predictor(Local(3, context=(2, 2)), tile=12, device="cpu")


def test_blocks_come_in_their_order_with_labels_of_their_size(tiled: Predictor) -> None:
    image = make_image(40, 61)
    found = list(tiled.label_blocks(InMemoryRaster(image)))
    assert [block for block, _ in found] == tiled.split_into_blocks(40, 61)
    assert all(labels.shape == (block.height, block.width) for block, labels in found)


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.6, 1.5)])
def test_skipping_blocks_changes_no_label_of_the_others(
    tiled: Predictor, flips: bool, scales: tuple[float, ...]
) -> None:
    tiled.flips, tiled.scales = flips, scales
    image = make_image(40, 61)
    every = dict(tiled.label_blocks(InMemoryRaster(image)))
    some = dict(tiled.label_blocks(InMemoryRaster(image), skip=lambda block: (block.top + block.left) % 24 == 0))
    assert 0 < len(some) < len(every)
    for block, labels in some.items():
        np.testing.assert_array_equal(labels, every[block])


def test_skipping_all_blocks_gives_nothing(tiled: Predictor) -> None:
    assert not list(tiled.label_blocks(InMemoryRaster(make_image(40, 61)), skip=lambda block: True))


def test_skipped_blocks_whose_tiles_nobody_reads_are_not_computed(
    tiled: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, int]] = []
    maps = tiling.ExactTiler._compute_tile

    def counted(self: tiling.ExactTiler, i: int, j: int) -> list[torch.Tensor]:
        read.append((i, j))
        return maps(self, i, j)

    monkeypatch.setattr(tiling.ExactTiler, "_compute_tile", counted)
    list(tiled.label_blocks(InMemoryRaster(make_image(12, 300)), skip=lambda block: block.left != 120))
    assert len(read) == len(set(read))
    assert {8, 12} <= {j for _, j in read} <= set(range(7, 14))


@pytest.mark.parametrize("flips", [False, True])
def test_a_cache_folder_changes_no_label_and_is_removed(tiled: Predictor, flips: bool, tmp_path: Path) -> None:
    tiled.flips = flips
    image = make_image(40, 61)
    cache_folder = tmp_path / "deep" / "maps"
    seen = set()
    for (block, labels), (_, held) in zip(
        tiled.label_blocks(InMemoryRaster(image), cache_folder=cache_folder),
        tiled.label_blocks(InMemoryRaster(image)),
        strict=True,
    ):
        seen.add(len(list(cache_folder.iterdir())))
        np.testing.assert_array_equal(labels, held, err_msg=str(block))
    assert max(seen) > 0
    assert not cache_folder.exists()


def test_a_cache_folder_is_removed_when_the_labelling_stops_early(tiled: Predictor, tmp_path: Path) -> None:
    cache_folder = tmp_path / "maps"
    found = tiled.label_blocks(InMemoryRaster(make_image(40, 61)), cache_folder=cache_folder)
    next(found)
    assert cache_folder.exists()
    found.close()
    assert not cache_folder.exists()


@pytest.mark.parametrize("flips", [False, True])
def test_no_tile_is_held_that_no_later_block_reads(
    tiled: Predictor, flips: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiled.flips = flips
    kept: list[set[TileKey]] = []
    keep = TileCache.retain

    def watched(self: TileCache, is_needed: object) -> None:
        keep(self, is_needed)  # type: ignore[arg-type]
        kept.append(set(self._in_memory))

    monkeypatch.setattr(TileCache, "retain", watched)
    image = InMemoryRaster(make_image(12, 600))
    found = [block for block, _ in tiled.label_blocks(image)]
    assert len(kept) == len(found) == 50
    views = tiled.tta_views(12, 600)
    tilers = [tiled.make_tiler(TileSource(image, view, i, TileCache())) for i, view in enumerate(views)]
    for i, keys in enumerate(kept):
        later = {key for tiler in tilers for block in found[i + 1 :] for key in tiler.keys(block)}
        assert keys <= later
    assert kept[-1] == set()
    assert max(map(len, kept)) <= 6 * len(views)  # and not 50


def test_a_block_knows_its_ends() -> None:
    assert (Block(3, 5, 7, 11).bottom, Block(3, 5, 7, 11).right) == (10, 16)
