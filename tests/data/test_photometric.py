"""Strong photometric changes move values as light, lens and file would, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from dilated import InputError
from dilated.data.augment import AugmentConfig
from dilated.data.photometric import PhotometricChange, cast_shadow, change_light
from dilated.input_config import InputConfig

NOTHING = {
    "shadow": 0.0,
    "border": [0.0, 0.5, 0.0],
    "stops": 0.0,
    "balance": [0.0, 0.0, 0.0],
    "blur": 0.0,
    "noise": 0.0,
    "noise_seed": 0,
    "quality": 100,
}
STILL = {"scale": (1.0, 1.0), "flip": False, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


@pytest.fixture
def image() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 24, 32), dtype=torch.uint8, generator=generator)


def changed(image: Tensor, **params: object) -> Tensor:
    return PhotometricChange(1.0).transform(tv_tensors.Image(image), NOTHING | params).as_subclass(Tensor)


def test_a_stop_doubles_the_linear_light_of_every_channel() -> None:
    levels = torch.arange(0, 180, dtype=torch.uint8).expand(3, 1, -1)
    brighter = change_light(levels, 1.0, [0.0, 0.0, 0.0])
    light = (levels.double() / 255) ** 2.2
    expected = ((2 * light) ** (1 / 2.2) * 255).round().clamp(0, 255)
    assert (brighter.double() - expected).abs().max() <= 1


def test_white_balance_moves_one_channel_and_leaves_the_others(image: Tensor) -> None:
    warmer = change_light(image, 0.0, [0.1, 0.0, 0.0])
    expected = (image[0].double() * np.exp(0.1)).round().clamp(0, 255)
    assert torch.equal(warmer[0].double(), expected)
    assert torch.equal(warmer[1:], image[1:])


def test_a_shadow_darkens_one_side_alone(image: Tensor) -> None:
    shaded = cast_shadow(image, 0.5, [0.0, 0.5, 0.0])
    assert torch.equal(shaded[..., :16], image[..., :16])
    assert torch.equal(shaded[..., 16:], (image[..., 16:] * 0.5).round().to(torch.uint8))


@pytest.mark.parametrize("seed", range(5))
def test_a_shadow_brightens_nothing(image: Tensor, seed: int) -> None:
    border = torch.rand(3, generator=torch.Generator().manual_seed(seed)).tolist()
    assert (cast_shadow(image, 0.6, border) <= image).all()


def test_blur_makes_neighbors_alike_and_keeps_the_mean(image: Tensor) -> None:
    blurred = changed(image, blur=1.5).float()
    assert blurred.diff(dim=-1).abs().mean() < 0.4 * image.float().diff(dim=-1).abs().mean()
    assert abs(blurred.mean() - image.float().mean()) < 3


def test_noise_has_the_deviation_that_it_was_drawn_with() -> None:
    gray = torch.full((3, 100, 100), 127, dtype=torch.uint8)
    noisy = changed(gray, noise=0.04).float()
    assert noisy.std().item() == pytest.approx(0.04 * 255, rel=0.05)
    assert noisy.mean().item() == pytest.approx(127, abs=0.5)


def test_jpeg_of_lower_quality_is_further_from_the_image(image: Tensor) -> None:
    errors = [(changed(image, quality=q).float() - image.float()).abs().mean().item() for q in (95, 60, 30)]
    assert 0 < errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (64, 48)])
def test_images_of_any_size_keep_it_and_labels_stay(size: tuple[int, int]) -> None:
    image = tv_tensors.Image(torch.full((3, *size), 90, dtype=torch.uint8))
    label = tv_tensors.Mask(torch.arange(size[0] * size[1]).view(size).to(torch.uint8))
    for seed in range(12):
        torch.manual_seed(seed)
        result, same = PhotometricChange(2.0)(image, label)
        assert (result.shape, result.dtype) == (image.shape, torch.uint8)
        assert torch.equal(same, label)


def test_each_change_happens_to_half_of_the_samples(image: Tensor) -> None:
    torch.manual_seed(0)
    drawn = [PhotometricChange(1.0).make_params([image]) for _ in range(400)]
    for key in ("shadow", "stops", "blur", "noise"):
        assert 160 <= sum(abs(params[key]) > 0 for params in drawn) <= 240
        assert len({params[key] for params in drawn}) > 150
    assert 160 <= sum(params["quality"] < 100 for params in drawn) <= 240
    assert max(abs(params["stops"]) for params in drawn) <= 1
    assert min(params["quality"] for params in drawn) >= 30


def test_without_strength_a_sample_is_what_it_was_before(image: Tensor) -> None:
    label = torch.zeros(24, 32, dtype=torch.uint8)
    samples = []
    for options in (AugmentConfig(crop=(16, 16)), AugmentConfig(crop=(16, 16), photometric=0.0)):
        torch.manual_seed(3)
        samples.append(options.build()(image, label)[0])
    assert torch.equal(*samples)
    torch.manual_seed(3)
    strong, _ = AugmentConfig(crop=(16, 16), photometric=1.0).build()(image, label)
    assert not torch.equal(strong, samples[0])


def test_bands_other_than_8_bit_rgb_are_refused() -> None:
    config = InputConfig(("a", "b"), "uint16")
    with pytest.raises(InputError, match=r"augment\.photometric: found 1 for images"):
        AugmentConfig(photometric=1.0).build(config)


def test_crops_avoid_one_class_alone_where_others_are_near() -> None:
    label = torch.zeros(32, 128, dtype=torch.uint8)
    label[:, 112:] = 1
    image = label.expand(3, -1, -1)

    def uniform_crops(most: float) -> int:
        options = AugmentConfig(crop=(16, 16), most_of_class=most, **STILL)  # type: ignore[arg-type]
        torch.manual_seed(0)
        return sum(len(options.build()(image, label)[1].unique()) == 1 for _ in range(30))

    assert uniform_crops(1.0) > 18
    assert uniform_crops(0.9) < 10


def test_of_crops_that_are_all_too_uniform_the_least_is_taken() -> None:
    label = torch.zeros(40, 40, dtype=torch.uint8)
    label[0, 0] = 1
    options = AugmentConfig(crop=(40, 40), most_of_class=0.5, **STILL)  # type: ignore[arg-type]
    _, cropped = options.build()(label.expand(3, -1, -1), label)
    assert torch.equal(cropped, label)


@pytest.mark.parametrize(("key", "value"), [("photometric", -0.1), ("photometric", 3.0), ("most_of_class", 0.0)])
def test_values_that_make_no_sense_are_refused(key: str, value: float) -> None:
    with pytest.raises(InputError, match=key):
        AugmentConfig(**{key: value})  # type: ignore[arg-type]
