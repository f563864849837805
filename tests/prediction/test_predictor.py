from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import Local, make_image, vgg

from dilated import Predictor
from dilated.errors import InputError


@pytest.mark.parametrize("options", [{}, {"tile": 8}, {"flips": True}, {"scales": (0.5, 1.0)}])
def test_images_together_get_the_labels_that_each_gets_alone(options: dict[str, object]) -> None:
    predictor = Predictor(Local(3), device="cpu", **options)
    images = [make_image(20, 31, seed) for seed in range(3)]
    for logits in (False, True):
        together = predictor.batch(images, logits=logits)
        assert len(together) == 3
        for image, one in zip(images, together, strict=True):
            alone = predictor(image, logits=logits)
            np.testing.assert_array_equal(one.labels, alone.labels)
            assert (one.logits is None) == (alone.logits is None) == (not logits)
            assert one.image is image


@pytest.mark.parametrize("options", [{}, {"tile": 8}, {"flips": True}])
@pytest.mark.parametrize(("classes", "kind"), [(2, np.uint8), (256, np.uint8), (257, np.uint16), (300, np.uint16)])
def test_labels_are_of_the_smallest_type_that_holds_all_classes(
    options: dict[str, object], classes: int, kind: type
) -> None:
    segmenter = Local(1, classes=classes)
    with torch.no_grad():
        segmenter.classifier.bias[-1] += 1000  # the last class everywhere
    predictor = Predictor(segmenter, device="cpu", **options)
    for logits in (False, True):
        labels = predictor(make_image(9, 10), logits=logits).labels
        assert labels.dtype == kind
        assert (labels == classes - 1).all()


@pytest.mark.parametrize("options", [{}, {"tile": 8}, {"scales": (0.5,)}])
def test_logits_are_given_when_asked_for(options: dict[str, object]) -> None:
    predictor = Predictor(Local(3), device="cpu", **options)
    image = make_image(20, 31)
    assert predictor(image).logits is None
    prediction = predictor(image, logits=True)
    assert prediction.logits is not None
    assert prediction.logits.shape == (3, 20, 31)
    assert prediction.logits.dtype == torch.float32
    assert torch.equal(prediction.logits, predictor.logits(image))
    np.testing.assert_array_equal(prediction.labels, prediction.logits.argmax(0).numpy())


@pytest.mark.parametrize("tile", [0, -1])
def test_a_tile_without_pixels_is_refused(tile: int) -> None:
    with pytest.raises(InputError, match=f"tile: found {tile}; expected a positive number"):
        Predictor(Local(1), device="cpu", tile=tile)


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -1.0), (float("nan"),), (float("inf"),), (8.5,)])
def test_scales_that_are_none_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"scales: found .*; expected numbers above 0 and at most 8"):
        Predictor(Local(1), device="cpu", scales=scales)


@pytest.mark.parametrize("options", [{"tile": 1000}, {"flips": True}, {"scales": (0.5,)}, {"scales": (1.0, 1.0)}])
def test_the_tiles_of_the_authors_go_with_no_other_tiles_nor_views(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"network\.inference: 'authors'"):
        Predictor(vgg(inference="authors"), device="cpu", **options)


def test_the_tiles_of_the_authors_alone_are_no_error() -> None:
    assert Predictor(vgg(inference="authors"), device="cpu")(make_image(9, 10)).labels.shape == (9, 10)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="device: 'cuda' is not available on this machine"):
        Predictor(Local(1), device="cuda")


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 4), np.uint8), np.zeros((4, 5, 3), np.float32)],
    ids=["grey", "four channels", "floats"],
)
def test_arrays_of_another_form_are_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"image: found an array .* expected \(H, W, 3\) of uint8"):
        Predictor(Local(1), device="cpu")(image)


def test_a_file_an_image_and_an_array_get_the_same_labels(tmp_path: Path) -> None:
    image = make_image(20, 31)
    Image.fromarray(image).save(tmp_path / "a.png")
    predictor = Predictor(Local(3), device="cpu")
    labels = predictor(image).labels
    for other in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(image)):
        np.testing.assert_array_equal(predictor(other).labels, labels)


@pytest.mark.parametrize("tile", [None, 8])
def test_bf16_gives_float_logits_near_those_of_fp32(tile: int | None) -> None:
    image = make_image(20, 31)
    exact = Predictor(Local(3), device="cpu", tile=tile).logits(image)
    coarse = Predictor(Local(3), device="cpu", tile=tile, precision="bf16").logits(image)
    assert coarse.dtype == torch.float32
    assert 0 < (coarse - exact).abs().max() < 0.05 * exact.abs().max()
