"""Whole batches augmented at once are the samples that resize, crop and flip make one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from dilated.data.augment import AugmentConfig
from dilated.data.batch_augment import BatchAugmentation, Draw
from dilated.data.device_batches import DeviceBatches, decode_to_device, decoded_size
from dilated.data.labels import Classes
from dilated.data.loader import iter_batch_keys
from dilated.data.sample import Sample
from dilated.data.torch_dataset import TrainingSamples
from dilated.errors import InputError

PLAIN = AugmentConfig(crop=(32, 48), brightness=0, contrast=0, saturation=0, vertical_flip=True)
CLASSES = Classes(tuple("abc"), tuple((i, i, i) for i in range(3)), ignore=(9,))
CPU = torch.device("cpu")


def noise(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), generator=random, dtype=torch.uint8)
    return image, torch.randint(0, 5, (height, width), generator=random, dtype=torch.uint8)


def by_torch(image: Tensor, label: Tensor, draw: Draw, crop: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The sample of a draw by torch's own resize, with a border wide enough for every shift."""
    border = 200
    size = draw.rows.resized, draw.columns.resized
    resized = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)
    resized = F.pad(resized, (border,) * 4, value=127)[0]
    target = F.pad(F.interpolate(label[None, None].float(), size), (border,) * 4, value=255)[0, 0]
    top, left = border + draw.rows.shift, border + draw.columns.shift
    window = slice(top, top + crop[0]), slice(left, left + crop[1])
    axes = [axis for axis, flipped in ((-2, draw.rows.flip), (-1, draw.columns.flip)) if flipped]
    return resized[:, window[0], window[1]].flip(axes) / 255, target[window].long().flip(axes)


@pytest.mark.parametrize("crop", [(32, 48), (64, 64)])
def test_a_batch_holds_what_torch_resizes_crops_and_flips(crop: tuple[int, int]) -> None:
    augmentation = BatchAugmentation(replace(PLAIN, crop=crop))
    image, label = noise(40, 56)
    draws = [augmentation.draw(0, number, (40, 56)) for number in range(12)]
    assert {draw.rows.resized < 40 for draw in draws} == {True, False}  # smaller and larger ones
    images, labels = augmentation(image.expand(12, -1, -1, -1), label.expand(12, -1, -1), draws)
    for draw, our_image, our_label in zip(draws, images, labels, strict=True):
        expected_image, expected_label = by_torch(image, label, draw, crop)
        assert (our_image - expected_image).abs().max() < 1e-5
        assert torch.equal(our_label, expected_label)


def test_a_smaller_image_of_a_batch_does_not_see_what_it_was_filled_up_with() -> None:
    augmentation = BatchAugmentation(PLAIN)
    image, label = noise(20, 30)
    draws = [augmentation.draw(0, number, (20, 30)) for number in range(6)]
    alone = augmentation(image.expand(6, -1, -1, -1), label.expand(6, -1, -1), draws)
    filled = augmentation(
        F.pad(image, (0, 9, 0, 7), value=255).expand(6, -1, -1, -1), F.pad(label, (0, 9, 0, 7)).expand(6, -1, -1), draws
    )
    assert (alone[0] - filled[0]).abs().max() < 1e-5
    assert torch.equal(alone[1], filled[1])


def test_colors_change_as_torchvision_changes_them_in_the_drawn_order() -> None:
    config = AugmentConfig(crop=(40, 56), scale=(1.0, 1.0), flip=False)
    augmentation = BatchAugmentation(config)
    image, label = noise(40, 56)
    draws = [augmentation.draw(0, number, (40, 56)) for number in range(6)]
    images, _ = augmentation(image.expand(6, -1, -1, -1), label.expand(6, -1, -1), draws)
    changes = V.adjust_brightness, V.adjust_contrast, V.adjust_saturation
    for draw, ours in zip(draws, images, strict=True):
        expected = image.float() / 255
        for kind in draw.order:
            expected = changes[kind](expected, draw.factors[kind])
        assert (ours - expected).abs().max() < 1e-3


def test_draws_are_distributed_as_those_of_single_samples(tmp_path: Path) -> None:
    """Compared by what a crop shows of a ramp: where it begins, how large it is, whether it is mirrored."""
    ramp = np.arange(60, dtype=np.uint8).repeat(3).reshape(1, 60, 3).repeat(48, axis=0) * 4
    sample = save(tmp_path, "ramp", ramp, np.zeros((48, 60), np.uint8))
    single = TrainingSamples([sample], replace(PLAIN, vertical_flip=False))
    batches = DeviceBatches(decode_to_device([sample], CPU, 1), replace(PLAIN, vertical_flip=False), 0)
    ours = torch.cat([image for image, _ in batches.iterate(iter_batch_keys(1, 100, 0, 0, 2))])
    theirs = torch.stack([single[0, number][0] for number in range(200)])
    for quantity in (lambda x: x[:, 0, 16, 24], lambda x: x[:, 0, 16, 30] - x[:, 0, 16, 18]):
        a, b = quantity(ours).sort().values, quantity(theirs).sort().values
        assert (a - b).abs().mean() < 0.04  # of values from 0 to 0.94: the distance between the two distributions


def save(folder: Path, name: str, image: np.ndarray, label: np.ndarray) -> Sample:
    Image.fromarray(image).save(folder / f"{name}.png")
    Image.fromarray(label).save(folder / f"{name}_label.png")
    return Sample(folder / f"{name}.png", folder / f"{name}_label.png", classes=CLASSES)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    random = np.random.default_rng(0)
    return [
        save(
            tmp_path,
            str(i),
            random.integers(0, 256, (40 + i, 56, 3)).astype(np.uint8),
            np.full((40 + i, 56), i % 3, "u1"),
        )
        for i in range(4)
    ]


def test_a_batch_is_the_same_whatever_was_drawn_before(samples: list[Sample]) -> None:
    batches = DeviceBatches(decode_to_device(samples, CPU, 2), AugmentConfig(crop=(32, 48)), seed=3)
    whole = list(batches.iterate(iter_batch_keys(4, 2, 3, 0, 5)))
    resumed = list(batches.iterate(iter_batch_keys(4, 2, 3, 3, 5)))
    for (image, label), (other_image, other_label) in zip(whole[3:], resumed, strict=True):
        assert torch.equal(image, other_image)
        assert torch.equal(label, other_label)
    assert not torch.equal(whole[3][0], whole[4][0])


def test_crops_of_a_barely_labelled_image_show_its_labels(tmp_path: Path) -> None:
    label = np.full((200, 240), 9, np.uint8)
    label[150:153, 30:33] = 1
    sample = save(tmp_path, "sparse", np.zeros((200, 240, 3), np.uint8), label)
    batches = DeviceBatches(decode_to_device([sample], CPU, 1), PLAIN, 0)
    shown = [(target == 1).any() for _, target in batches.iterate(iter_batch_keys(1, 1, 0, 0, 40))]
    assert sum(map(bool, shown)) >= 34  # of 40; 2 would show one by chance


def test_a_damaged_image_is_named_and_nothing_else_is_read(samples: list[Sample]) -> None:
    samples[1].image.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.png"):
        decode_to_device(samples, CPU, 1)


def test_the_size_of_decoded_images_is_known_from_their_headers(samples: list[Sample]) -> None:
    assert decoded_size(samples) == decode_to_device(samples, CPU, 1).num_bytes


def test_settings_that_batches_do_not_know_are_refused_when_asked_for() -> None:
    with pytest.raises(InputError, match=r"augment.batched: found 'always' with augment.paste_rare = 0.5"):
        AugmentConfig(batched="always", paste_rare=0.5)
