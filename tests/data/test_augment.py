import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from dilated.data.augment import AugmentConfig, _RandomScale
from dilated.errors import InputError

STILL = {"scale": (1.0, 1.0), "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


def drawn(options: AugmentConfig, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return options.build()(image, mask)


@pytest.fixture
def sample() -> tuple[Tensor, Tensor]:
    """An image whose grey is 30 times its label."""
    mask = torch.randint(0, 8, (12, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return (mask * 30).expand(3, -1, -1).contiguous(), mask


@pytest.mark.parametrize("crop", [(12, 16), (7, 9), (40, 9), (7, 40), (40, 50)])
def test_a_sample_has_the_size_of_the_crop_whatever_the_image(
    crop: tuple[int, int], sample: tuple[Tensor, Tensor]
) -> None:
    image, mask = drawn(AugmentConfig(crop=crop), *sample, seed=0)
    assert (image.shape, mask.shape) == ((3, *crop), crop)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop", (0, 8)),
        ("scale", (0.0, 1.0)),
        ("scale", (2.0, 0.5)),
        ("scale", (0.5, float("inf"))),
        ("scale", (float("nan"), 1.0)),
        ("brightness", -0.1),
        ("contrast", float("nan")),
        ("saturation", float("inf")),
    ],
)
def test_values_that_no_sample_can_have_are_refused(key: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"augment\.{key}: found"):
        AugmentConfig(**{key: value})  # type: ignore[arg-type]


def test_an_image_of_one_pixel_can_be_shrunk() -> None:
    one = torch.zeros(3, 1, 1, dtype=torch.uint8), torch.zeros(1, 1, dtype=torch.uint8)
    image, mask = drawn(AugmentConfig(crop=(4, 4), scale=(0.1, 0.1)), *one, seed=0)
    assert (image.shape, mask.shape, int((mask == 0).sum())) == ((3, 4, 4), (4, 4), 1)


def test_labels_are_never_blended_by_scaling() -> None:
    mask = torch.zeros(20, 20, dtype=torch.uint8)
    mask[:, 10:] = 200
    for seed in range(10):
        _, scaled = drawn(AugmentConfig(crop=(50, 50)), mask.expand(3, -1, -1), mask, seed)
        assert set(scaled.unique().tolist()) <= {0, 200, 255}


def test_image_and_label_are_flipped_and_cropped_together(sample: tuple[Tensor, Tensor]) -> None:
    for seed in range(10):
        image, mask = drawn(AugmentConfig(crop=(6, 8), **STILL), *sample, seed)
        assert torch.equal(image[1], mask * 30)


def test_flips_happen_to_about_half_of_the_samples_or_to_none(sample: tuple[Tensor, Tensor]) -> None:
    for flip, low, high in ((True, 10, 30), (False, 0, 0)):
        options = AugmentConfig(crop=(12, 16), flip=flip, **STILL)
        flipped = [torch.equal(drawn(options, *sample, seed)[1], sample[1].flip(-1)) for seed in range(40)]
        assert low <= sum(flipped) <= high


def test_colors_vary_and_labels_do_not(sample: tuple[Tensor, Tensor]) -> None:
    options = AugmentConfig(crop=(12, 16), scale=(1.0, 1.0), flip=False)
    image, mask = drawn(options, *sample, seed=0)
    assert torch.equal(mask, sample[1])
    assert not torch.equal(image, sample[0])


def test_scales_are_uniform_in_their_logarithm() -> None:
    torch.manual_seed(0)
    scale = _RandomScale((0.5, 2.0))
    image = tv_tensors.Image(torch.zeros(1, 1000, 1000))
    heights = torch.tensor([scale.make_params([image])["size"][0] for _ in range(500)])
    assert heights.min() >= 500
    assert heights.max() <= 2000
    assert (heights < 1000).float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert (heights < 707).float().mean().item() == pytest.approx(0.25, abs=0.08)
