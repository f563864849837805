from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from dilated.data.augment import AugmentConfig
from dilated.data.labels import Classes
from dilated.data.loader import iter_batch_keys
from dilated.data.sample import Sample
from dilated.data.torch_dataset import TrainingSamples
from dilated.errors import InputError

CLASSES = Classes(tuple("abcde"), tuple((i, i, i) for i in range(5)), ignore=(9,))
AUGMENT = AugmentConfig(crop=(16, 20))


@pytest.fixture
def pairs(tmp_path: Path) -> list[Sample]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(5):
        pair = Sample(tmp_path / f"{i}.png", tmp_path / f"{i}_label.png", classes=CLASSES)
        label = rng.choice(np.array([0, 1, 2, 3, 4, 9], dtype=np.uint8), (18 + i, 24))
        Image.fromarray(np.repeat(label[:, :, None] * 20, 3, axis=2)).save(pair.image)
        Image.fromarray(label).save(pair.label)
        made.append(pair)
    return made


def equal(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_a_label_of_another_size_than_its_image_is_an_error(pairs: list[Sample]) -> None:
    with pytest.raises(InputError, match=r"1_label\.png: found a label of 24x19; expected 24x18"):
        TrainingSamples([replace(pairs[0], label=pairs[1].label)], None)[(0, 0)]


def test_without_augmentation_a_sample_is_the_whole_image(pairs: list[Sample]) -> None:
    image, label = TrainingSamples(pairs, None)[(1, 0)]
    assert (image.shape, image.dtype, label.shape, label.dtype) == (
        (3, 19, 24),
        torch.float32,
        (19, 24),
        torch.int64,
    )
    stored = torch.tensor(np.asarray(Image.open(pairs[1].label))).long()
    assert torch.equal(label, torch.where(stored == 9, 255, stored))
    assert torch.equal(image[0], stored * 20 / 255)


def test_samples_are_plain_tensors_of_the_crop(pairs: list[Sample]) -> None:
    image, label = TrainingSamples(pairs, AUGMENT)[(0, 3)]
    assert type(image) is Tensor
    assert type(label) is Tensor
    assert (image.shape, image.dtype, label.shape, label.dtype) == (
        (3, 16, 20),
        torch.float32,
        (16, 20),
        torch.int64,
    )
    assert image.min() >= 0
    assert image.max() <= 1


def test_a_draw_depends_on_seed_and_number_alone(pairs: list[Sample]) -> None:
    samples = TrainingSamples(pairs, AUGMENT, seed=3)
    torch.manual_seed(0)
    first = samples[(2, 7)]
    for draw in range(5):
        samples[(0, draw)]
    torch.manual_seed(99)
    assert equal(samples[(2, 7)], first)
    assert equal(TrainingSamples(pairs[2:3], AUGMENT, seed=3)[(0, 7)], first)
    assert not equal(samples[(2, 8)], first)
    assert not equal(TrainingSamples(pairs, AUGMENT, seed=4)[(2, 7)], first)


def test_draws_leave_the_global_generator_alone(pairs: list[Sample]) -> None:
    samples = TrainingSamples(pairs, AUGMENT)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    samples[(0, 0)]
    assert torch.equal(torch.rand(1), expected)


def test_the_number_of_workers_changes_no_sample(pairs: list[Sample]) -> None:
    samples = TrainingSamples(pairs, AUGMENT, seed=1)
    order = list(iter_batch_keys(len(samples), batch_size=3, seed=1, start=2, stop=6))
    runs = [list(DataLoader(samples, batch_sampler=order, num_workers=workers)) for workers in (0, 1, 2)]
    assert len(runs[0]) == 4
    for run in runs[1:]:
        assert all(equal(a, b) for a, b in zip(run, runs[0], strict=True))


def test_the_cache_changes_no_sample_and_reads_once(pairs: list[Sample]) -> None:
    plain, cached = (TrainingSamples(pairs, AUGMENT, cache=cache) for cache in (False, True))
    keys = [(0, 0), (1, 1), (0, 2), (0, 0)]
    expected = [plain[key] for key in keys]
    assert all(equal(cached[key], sample) for key, sample in zip(keys, expected, strict=True))
    for pair in pairs[:2]:
        pair.image.unlink()
    assert equal(cached[(0, 0)], expected[0])


def test_image_and_label_stay_together_and_what_is_beyond_is_ignored(pairs: list[Sample]) -> None:
    augment = AugmentConfig(crop=(30, 30), scale=(1.0, 1.0), brightness=0, contrast=0, saturation=0)
    samples = TrainingSamples(pairs, augment)
    for draw in range(12):
        image, label = samples[(0, draw)]
        gray = (image[0] * 255).round().long()
        known = label != 255
        assert torch.equal(gray[known], label[known] * 20)
        assert set(gray[~known].tolist()) == {9 * 20, 127}
        assert (gray != 127).sum() == 18 * 24  # the whole image, with a frame
