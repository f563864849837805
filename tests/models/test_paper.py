"""The authors' inference against one written here from its description, pixel by pixel and in double precision."""

from typing import Any

import numpy as np
import pytest
import torch
from by_definition import (
    NEAR,
    black_box,
    build,
    check_zoom,
    close,
    corners,
    deconvolved,
    make_image,
    rebuilt,
    released_tile_probabilities,
    run,
    softmax,
    stitched,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dilated.models.context import ContextModule
from dilated.models.paper import bilinear_kernel
from dilated.paper import VGGConfig, VGGSegmenter
from dilated.tensors import reflect_pad


@pytest.fixture(scope="module")
def authors() -> VGGSegmenter:
    return build(context="basic", dilations=NEAR, inference="authors")


@pytest.fixture(scope="module")
def plain() -> VGGSegmenter:
    return build(tile=(900, 900))


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 90), st.integers(1, 200), st.integers(0, 9))
@example(1, 1, 0)
@example(1, 200, 0)
@example(64, 64, 0)
@example(65, 128, 0)
def test_the_authors_inference_is_the_one_described(authors: VGGSegmenter, height: int, width: int, seed: int) -> None:
    check_zoom(authors, make_image(height, width, seed))


@settings(deadline=None, max_examples=10)
@given(
    st.sampled_from(["none", "basic"]),
    st.integers(1, 700),
    st.integers(1, 700),
    st.integers(1, 80),
    st.integers(1, 80),
)
@example("basic", 700, 521, 66, 66)
@example("none", 528, 528, 66, 66)
def test_the_authors_mirror_tiles_and_zoom_are_those_described_for_larger_images(
    context: str, height: int, width: int, rows: int, columns: int
) -> None:
    tile = (372 + 8 * max(rows, height // 40), 372 + 8 * max(columns, width // 40))
    segmenter = corners(context=context, dilations=NEAR, inference="authors", tile=tile)
    check_zoom(segmenter, make_image(height, width))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 9), (30, 100), (64, 64), (65, 130)])
def test_deconvolved_logits_are_cropped_to_any_image(height: int, width: int) -> None:
    segmenter = build(context="basic", dilations=NEAR, inference="authors", upsampling="deconvolution")
    image, logits = make_image(height, width), black_box(segmenter)
    expected = stitched(image, (436, 436), lambda tile: softmax(deconvolved(logits(tile))))
    assert expected.shape[1:] != (height, width) or height % 64 == width % 64 == 0
    close(run(segmenter, image), expected[:, :height, :width])


@pytest.mark.parametrize("size", [57, 58, 63, 64])
def test_an_image_as_large_as_its_tile_repeats_the_last_logit(authors: VGGSegmenter, size: int) -> None:
    image, logits = make_image(size, size), black_box(authors)
    on_grid = stitched(image, (436, 436), lambda tile: softmax(logits(tile)))
    assert on_grid.shape == (2, 8, 8)
    found = run(authors, image)
    assert found.shape == (2, size, size)
    close(found[:, 56:, 56:], np.broadcast_to(on_grid[:, 7:, 7:], (2, size - 56, size - 56)), 1e-6)
    check_zoom(authors, image)


@pytest.mark.parametrize("width", [65, 66, 68])
def test_one_tile_whose_logits_are_rounded_up_is_as_the_authors(width: int) -> None:
    segmenter = build(context="basic", dilations=NEAR, inference="authors", tile=(436, 440))
    image, logits = make_image(30, width), black_box(segmenter)
    on_grid = stitched(image, (436, 440), lambda tile: softmax(logits(tile)))
    assert on_grid.shape == (2, 8, 9)
    close(run(segmenter, image)[:, 0, 64], on_grid[:, 0, 8], 1e-6)
    check_zoom(segmenter, image)


@pytest.mark.parametrize("axis", [-1, -2])
def test_tiles_beside_one_whose_logits_are_rounded_up_are_not_shifted(plain: VGGSegmenter, axis: int) -> None:
    image = make_image(200, 40) if axis == -2 else make_image(40, 200)
    tiled = rebuilt(plain, inference="authors", tile=(440, 436) if axis == -2 else (436, 440))
    one = rebuilt(plain, inference="authors", tile=(572, 436) if axis == -2 else (436, 572))
    found, expected = (np.moveaxis(run(s, image), axis, -1)[..., :193] for s in (tiled, one))
    close(found, expected, 1e-6)  # after the last logit of the one tile there is none to interpolate to
    assert abs(found[..., 64:] - expected[..., 60:-4]).max() > 0.01


@pytest.mark.parametrize("upsampling", ["interpolation", "deconvolution"])
def test_far_from_a_seam_the_context_module_sees_what_it_would_in_one_tile(upsampling: str) -> None:
    one = build(context="basic", dilations=(1,), upsampling=upsampling, inference="authors", tile=(436, 572))
    tiled = rebuilt(one, tile=(436, 440))
    image = make_image(40, 200)
    expected, found = run(one, image), run(tiled, image)
    for seam in (64, 128):
        close(found[..., seam + 16 : seam + 41], expected[..., seam + 16 : seam + 41], 1e-6)
        assert abs(found[..., seam - 1] - expected[..., seam - 1]).max() > 1e-3


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 100), st.integers(1, 100), st.integers(396, 520), st.integers(396, 520))
@example(1, 1, 396, 396)
@example(49, 25, 403, 404)
def test_the_front_end_tile_by_tile_is_the_front_end_in_one_piece(
    plain: VGGSegmenter, height: int, width: int, high: int, wide: int
) -> None:
    image = make_image(height, width)
    rows, columns = -(-height // 8), -(-width // 8)
    with torch.no_grad():
        whole = reflect_pad(plain.preprocess(image), 186, 186 + 8 * rows - height, 186, 186 + 8 * columns - width)
        expected = plain.frontend(whole)
        assert expected.shape[-2:] == (rows, columns)
        close(rebuilt(plain, tile=(high, wide)).logits(image), expected)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 99), st.integers(0, 99))
def test_any_tile_gives_the_same_logits(height: int, width: int, high: int, wide: int) -> None:
    segmenter = corners(tile=(380 + height // 8 + high, 380 + width // 8 + wide))
    image = make_image(height, width)
    rows, columns = -(-height // 8), -(-width // 8)
    whole = reflect_pad(segmenter.preprocess(image), 186, 186 + 8 * rows - height, 186, 186 + 8 * columns - width)
    assert segmenter.logits(image).equal(segmenter.frontend(whole))


@pytest.mark.parametrize("pools", ["dense", "kept"])
@pytest.mark.parametrize("fc6", ["7x7", "large_fov"])
def test_the_variants_of_the_front_end_can_be_tiled_too(pools: str, fc6: str) -> None:
    one = build(pools=pools, fc6=fc6, tile=(900, 900))
    image = make_image(50, 70)
    with torch.no_grad():
        expected = one.logits(image)
        assert expected.shape[-2:] == {8: (7, 9), 32: (2, 3)}[one.output_stride]
        close(rebuilt(one, tile=(436, 440)).logits(image), expected)


@pytest.mark.parametrize("pools", ["removed", "dense", "kept"])
def test_a_front_end_that_pads_sees_the_image_alone(pools: str) -> None:
    segmenter = build(pools=pools, frontend_padding="same")
    r = segmenter.output_stride
    image = make_image(3 * r, 4 * r)
    with torch.no_grad():
        assert segmenter.logits(image).equal(segmenter.frontend(segmenter.preprocess(image)))
        assert segmenter.logits(make_image(3 * r - 1, 3 * r + 1)).shape[-2:] == (3, 4)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (64, 40), (56, 64)])
def test_one_tile_without_context_is_the_authors(plain: VGGSegmenter, height: int, width: int) -> None:
    image = make_image(height, width)
    theirs = rebuilt(plain, inference="authors", tile=(436, 436))
    grid = run(theirs, image)[:, ::8, ::8]
    close(run(plain, image)[:, ::8, ::8], grid, 1e-6)
    with torch.no_grad():
        close(plain.logits(image).softmax(1)[0].numpy(), grid, 1e-6)


@pytest.mark.parametrize("padding", ["same", "once"])
def test_the_context_module_runs_once_so_there_is_no_seam(padding: str) -> None:
    one = build(context="basic", padding=padding, tile=(900, 900))
    image = make_image(90, 150)
    with torch.no_grad():
        expected, logits = one(image), one.logits(image)
        for tile in ((436, 444), (412, 900), (457, 460)):
            close(rebuilt(one, tile=tile).logits(image), logits)
        tiled = rebuilt(one, tile=(436, 444))
        close(tiled(image), expected, 1e-5)
        authors = rebuilt(tiled, inference="authors")(image)
    assert (authors - expected).abs().max() > 0.01


@pytest.mark.parametrize("inference", ["whole", "authors"])
@pytest.mark.parametrize("context", ["none", "basic"])
def test_learning_reads_the_logits_of_an_image_that_is_mirrored_already(inference: str, context: str) -> None:
    segmenter = build(inference=inference, context=context, dilations=NEAR, tile=(500, 436))
    image = make_image(40, 48, count=2)
    with torch.no_grad():
        found = segmenter.training_logits(reflect_pad(image, 186, 186, 186, 186))
        assert found.shape == (2, 2, 5, 6)
        close(found, segmenter.logits(image))


@pytest.mark.parametrize("upsampling", ["interpolation", "deconvolution"])
@pytest.mark.parametrize("inference", ["whole", "authors"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (7, 9)])
def test_every_pixel_of_any_image_is_labelled(inference: str, upsampling: str, height: int, width: int) -> None:
    segmenter = build(3, context="basic", inference=inference, upsampling=upsampling, tile=(436, 500)).float()
    with torch.no_grad():
        out = segmenter(make_image(height, width, count=2).float())
    assert out.shape == (2, 3, height, width)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert (out.softmax(1).sum(1) - 1).abs().max() < 1e-5


def test_zoomed_maps_are_logarithms_of_probabilities_even_of_impossible_classes(plain: VGGSegmenter) -> None:
    segmenter = rebuilt(plain)
    with torch.no_grad():
        out = segmenter(make_image(30, 30)).exp()
        assert (out.sum(1) - 1).abs().max() < 1e-6
        final = segmenter.frontend.convolutions()["final"]
        assert final.bias is not None
        final.bias.copy_(torch.tensor([1e4, -1e4]))
        assert segmenter(make_image(30, 30)).isfinite().all()


def test_images_of_a_batch_do_not_meet(authors: VGGSegmenter) -> None:
    images = make_image(50, 70, count=3)
    with torch.no_grad():
        for segmenter in (authors, rebuilt(authors, inference="whole")):
            together = segmenter(images)
            for i in range(3):
                close(together[i : i + 1], segmenter(images[i : i + 1]), 1e-5)


def test_an_image_that_fills_its_tile_is_deployed(authors: VGGSegmenter) -> None:
    image = make_image(64, 64)
    with torch.no_grad():
        on_grid = released_tile_probabilities(authors, reflect_pad(authors.preprocess(image), 186, 186, 186, 186))
        assert on_grid.shape == (1, 2, 8, 8)
        close(run(authors, image)[:, ::8, ::8], on_grid[0].numpy(), 1e-6)


@pytest.mark.parametrize("context", ["basic", "large"])
def test_both_borders_keep_66_logits_and_differ_at_the_border_alone(context: str) -> None:
    torch.manual_seed(0)
    kind: Any = context
    same = ContextModule(2, kind, padding="same", init="random").double()
    once = ContextModule(2, kind, padding="once").double()
    once.load_state_dict(same.state_dict())
    for side in (66, 70):
        x = torch.rand(1, 2, side, side, dtype=torch.float64)
        with torch.no_grad():
            for layer in (*same.convolutions(), *once.convolutions()):
                assert layer.bias is not None
                layer.bias.fill_(0.1)
            a, b = same(x), once(x)
        assert a.shape == b.shape == (1, 2, side, side)
        inside = slice(33, side - 33)
        assert (a - b)[..., :33, :].abs().max() > 1e-3
        if side > 66:
            close(a[..., inside, inside], b[..., inside, inside])


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_the_bilinear_kernel_is_that_of_caffe(factor: int) -> None:
    size = 2 * factor
    half = -(-size // 2)
    center = (2 * half - 1 - half % 2) / (2 * half)
    expected = [[(1 - abs(x / half - center)) * (1 - abs(y / half - center)) for x in range(size)] for y in range(size)]
    assert bilinear_kernel(factor).tolist() == [[expected]]


def test_the_deconvolution_is_the_sum_described() -> None:
    segmenter = build(upsampling="deconvolution")
    blob = segmenter.preprocess(make_image(436, 428))
    with torch.no_grad():
        logits = segmenter.frontend(blob)[0].numpy()
        expected = deconvolved(logits)
        assert expected.shape == (2, 64, 56)
        close(released_tile_probabilities(segmenter, blob)[0].numpy(), softmax(expected))
    ones = deconvolved(np.ones((1, 3, 3)))
    assert (ones[:, 4:-4, 4:-4] == 1).all()
    assert ones[0, 0, 12] == 0.5625


def test_whole_deconvolution_is_that_of_the_logits() -> None:
    segmenter = build(upsampling="deconvolution", context="basic", dilations=NEAR)
    image = make_image(50, 70)
    with torch.no_grad():
        expected = deconvolved(segmenter.logits(image)[0].numpy())
        close(segmenter(image)[0].numpy(), expected[:, :50, :70])
    assert (segmenter.grid.stride, segmenter.grid.start) == (8, 3.5)


def test_the_layers_read_blue_green_and_red_less_their_mean(plain: VGGSegmenter) -> None:
    image = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64).view(1, 3, 1, 1)
    blob = plain.preprocess(image)
    assert blob.flatten().tolist() == [255 - 102.5, 127.5 - 111.25, 0 - 116.75]
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (plain.mean, plain.std))
    close(((image - mean) / std).flip(1), blob)


@pytest.mark.parametrize("context", ["basic", "large"])
@pytest.mark.parametrize("padding", ["same", "once"])
def test_a_context_module_that_is_put_in_keeps_what_is_not_negative(context: str, padding: str) -> None:
    plain = build(tile=(900, 900)).float()
    other = plain.rebuild(context=context, padding=padding, init="identity", sigma=0.0)
    assert not other.training
    image = make_image(90, 110).float()
    with torch.no_grad():
        logits, found = plain.logits(image), other.logits(image)
    close(found, logits.relu(), 1e-6)
    positive = logits.amax(1) > 0
    assert 0.5 < positive.double().mean() < 1
    assert len(logits.argmax(1).unique()) == 2
    assert found.argmax(1)[positive].equal(logits.argmax(1)[positive])
    assert other.frontend_logits(image).equal(plain.frontend_logits(image))


def test_a_rebuilt_network_keeps_its_precision_and_mode(plain: VGGSegmenter) -> None:
    for segmenter in (plain, build().float(), build().train()):
        other = segmenter.rebuild(context="basic")
        assert {p.dtype for p in other.parameters()} == {p.dtype for p in segmenter.parameters()}
        assert other.training == segmenter.training


def test_parts_are_found_by_what_they_are() -> None:
    segmenter = build(context="basic")
    names = [name for name, _ in segmenter.named_parameters()]
    kept = [name for name in names if not segmenter.is_backbone_parameter(name)]
    front = [name for name in names if name.startswith("frontend.") and ".final." not in name]
    assert kept == [name for name in names if name not in front]
    assert len(front) == 30
    assert [len(segmenter.first_level_modules(n)) for n in range(6)] == [0, 2, 4, 7, 10, 13]
    assert segmenter.first_level_modules(1)[1] is segmenter.frontend.get_submodule("conv1_2")
    assert (segmenter.output_stride, build(pools="kept").output_stride) == (8, 32)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        ({"context": "huge"}, "huge"),
        ({"context": "basic", "padding": "valid"}, "valid"),
        ({"context": "basic", "padding": "mirror"}, "mirror"),
        ({"context": "basic", "init": "zero"}, "zero"),
        ({"context": "basic", "dilations": (1, 0)}, "dilations"),
        ({"upsampling": "nearest"}, "nearest"),
        ({"inference": "tiles"}, "tiles"),
        ({"pools": "some"}, "pools: 'some'"),
        ({"frontend_padding": "valid"}, "padding: 'valid'"),
        ({"fc6": "3x3"}, "fc6: '3x3'"),
        ({"width": 0.0}, "width"),
        ({"tile": (379, 900)}, r"tile: \[379, 900\].*at least 380"),
        ({"tile": (900, 372)}, r"tile: \[900, 372\].*at least 380"),
        ({"tile": (411, 900), "pools": "dense"}, "at least 412"),
        ({"tile": (403, 900), "pools": "kept"}, "at least 404"),
        ({"upsampling": "deconvolution", "pools": "kept"}, "deconvolution"),
    ],
    ids=str,
)
def test_an_option_that_does_not_exist_is_refused_by_name(network: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        VGGSegmenter(["a", "b"], [(0, 0, 0), (1, 1, 1)], VGGConfig(**{"width": 1 / 64, **network}))


def test_the_smallest_tile_answers_for_8_pixels(plain: VGGSegmenter) -> None:
    image = make_image(9, 17)
    with torch.no_grad():
        small = rebuilt(plain, tile=(380, 387))
        close(small.logits(image), plain.logits(image))
        assert rebuilt(small, inference="authors")(image).shape == (1, 2, 9, 17)


def test_a_class_needs_a_color() -> None:
    with pytest.raises(ValueError, match="2 classes and 1 color"):
        VGGSegmenter(["a", "b"], [(0, 0, 0)], VGGConfig(width=1 / 64))
