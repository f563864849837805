from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import Local, make_image, vgg

from dilated import Predictor, load
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
@pytest.mark.parametrize(("classes", "kind"), [(2, np.uint8), (255, np.uint8), (256, np.uint16), (300, np.uint16)])
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


@pytest.mark.parametrize("tile", [0, -1, "512", 2.5])
def test_a_tile_that_is_not_a_number_of_pixels_is_refused(tile: int) -> None:
    with pytest.raises(InputError, match=f"tile: {tile!r} is not a positive number of pixels"):
        Predictor(Local(1), device="cpu", tile=tile)


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -1.0), (float("nan"),), (float("inf"),), (8.5,)])
def test_scales_that_are_none_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"scales: .* must be numbers above 0 and at most 8"):
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


def test_bf16_is_refused_where_the_processor_emulates_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", "avx2": True}, raising=False)
    with pytest.raises(InputError, match="precision: this processor only emulates bf16"):
        Predictor(Local(1), device="cpu", precision="bf16")


@pytest.mark.parametrize("precision", ["fp16", "", None])
def test_a_precision_that_is_unknown_is_refused(precision: Any) -> None:
    with pytest.raises(InputError, match=r"precision: .* is unknown\. Give auto, fp32, fast or bf16"):
        Predictor(Local(1), device="cpu", precision=precision)


def test_a_network_is_given_by_itself_or_its_path_or_its_name(network_file: Path) -> None:
    image = make_image(20, 31)
    labels = Predictor(load(network_file), device="cpu")(image).labels
    for path in (network_file, str(network_file)):
        np.testing.assert_array_equal(Predictor(path, device="cpu")(image).labels, labels)
    assert Predictor("street", device="cpu").segmenter.classes == load("street").classes


def test_a_network_that_does_not_exist_or_is_not_a_segmenter_is_an_input_error() -> None:
    with pytest.raises(InputError, match="strete"):
        Predictor("strete", device="cpu")
    with pytest.raises(InputError, match=r"Predictor: Linear is not a segmenter.*dilated\.add_context"):
        Predictor(torch.nn.Linear(2, 3), device="cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("logits", [False, True])
def test_a_batch_of_mixed_sizes_and_forms_gives_one_prediction_each_in_order(logits: bool, tmp_path: Path) -> None:
    predictor = Predictor(Local(3), device="cpu")
    arrays = [make_image(20 + i % 3, 31, seed=i) for i in range(7)]
    Image.fromarray(arrays[0]).save(tmp_path / "a.png")
    images = [tmp_path / "a.png", torch.tensor(arrays[1]).permute(2, 0, 1), *arrays[2:]]
    for form in (images, iter(images), (image for image in images)):
        for batch_size in (1, 2, 16):
            predictions = predictor.batch(form, logits=logits, batch_size=batch_size)
            assert len(predictions) == (7 if form is images or batch_size == 1 else 0)  # a generator is used up
            for array, prediction in zip(arrays, predictions, strict=False):
                np.testing.assert_array_equal(prediction.labels, predictor(array).labels)
                assert (prediction.logits is None) != logits


def test_a_batch_is_a_tensor_of_images_too() -> None:
    predictor = Predictor(Local(3), device="cpu")
    arrays = [make_image(20, 31, seed=i) for i in range(3)]
    predictions = predictor.batch(torch.tensor(np.stack(arrays)).permute(0, 3, 1, 2))
    for array, prediction in zip(arrays, predictions, strict=True):
        np.testing.assert_array_equal(prediction.labels, predictor(array).labels)


def test_no_more_images_than_the_batch_size_go_to_the_network_together(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(Local(3), device="cpu")
    sizes: list[int] = []
    label = Predictor._label
    monkeypatch.setattr(Predictor, "_label", lambda self, pixels: sizes.append(len(pixels)) or label(self, pixels))
    predictor.batch([make_image(5, 6)] * 5, batch_size=2)
    assert sizes == [2, 2, 1]


def test_several_images_or_one_in_the_wrong_place_are_an_input_error() -> None:
    predictor, image = Predictor(Local(1), device="cpu"), make_image(4, 5)
    for several in ([image], (image,), iter([image])):
        with pytest.raises(InputError, match=r"Call predictor\.batch"):
            predictor(several)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"Give one image; predictor\.batch"):
        predictor(image[None])
    for one in ("a.png", Path("a.png"), b"bytes"):
        with pytest.raises(InputError, match=r"images: .* is one image\. Call predictor\(image\)"):
            predictor.batch(one)  # type: ignore[arg-type]


def test_a_file_an_image_and_an_array_get_the_same_labels(tmp_path: Path) -> None:
    image = make_image(20, 31)
    Image.fromarray(image).save(tmp_path / "a.png")
    predictor = Predictor(Local(3), device="cpu")
    labels = predictor(image).labels
    for other in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(image)):
        np.testing.assert_array_equal(predictor(other).labels, labels)


@pytest.mark.parametrize("tile", [None, 8])
def test_bf16_gives_float_logits_near_those_of_fp32(tile: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dilated.environment.has_bf16", lambda device: True)
    image = make_image(20, 31)
    exact = Predictor(Local(3), device="cpu", tile=tile).logits(image)
    coarse = Predictor(Local(3), device="cpu", tile=tile, precision="bf16").logits(image)
    assert coarse.dtype == torch.float32
    assert 0 < (coarse - exact).abs().max() < 0.05 * exact.abs().max()
