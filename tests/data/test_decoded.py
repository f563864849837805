"""Reading processes share decoded images: each file is decoded once, whoever needs it first."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dilated.data.augment import AugmentConfig
from dilated.data.decoded import SharedImages
from dilated.data.labels import Classes
from dilated.data.loader import iter_batch_keys, iter_batches
from dilated.data.sample import Sample
from dilated.data.torch_dataset import TrainingSamples

CLASSES = Classes(tuple("abc"), tuple((i, i, i) for i in range(3)), ignore=(9,))


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    random, made = np.random.default_rng(0), []
    for number in range(4):
        sample = Sample(tmp_path / f"{number}.png", tmp_path / f"{number}_label.png", classes=CLASSES)
        Image.fromarray(random.integers(0, 256, (20 + number, 24, 3)).astype(np.uint8)).save(sample.image)
        Image.fromarray(random.choice(np.array([0, 1, 2, 9], np.uint8), (20 + number, 24))).save(sample.label)
        made.append(sample)
    return made


@pytest.mark.skipif(torch.multiprocessing.get_start_method() != "fork", reason="only forked processes share memory")
def test_what_one_process_has_decoded_another_reads_from_memory(samples: list[Sample]) -> None:
    cached = TrainingSamples(samples, AugmentConfig(crop=(16, 16)), seed=1, cache=True)
    first = list(iter_batches(cached, iter_batch_keys(4, 2, 0, 0, 2), workers=2))  # both halves, in two processes
    for sample in samples:
        sample.image.unlink()
    again = list(iter_batches(cached, iter_batch_keys(4, 2, 0, 0, 2), workers=1))  # one process, without the files
    for (image, label), (other_image, other_label) in zip(first, again, strict=True):
        assert torch.equal(image, other_image)
        assert torch.equal(label, other_label)


def test_images_from_memory_are_those_of_the_files(samples: list[Sample]) -> None:
    plain, cached = TrainingSamples(samples, None), TrainingSamples(samples, None, cache=True)
    for _ in range(2):  # read, then from memory
        for index in range(4):
            for ours, theirs in zip(cached[index, 0], plain[index, 0], strict=True):
                assert torch.equal(ours, theirs)
    assert cached.shared is not None
    assert cached.shared.get(3) is not None


def test_an_image_of_another_size_than_was_said_is_not_kept() -> None:
    images = SharedImages([(4, 5)])
    images.put(0, np.ones((5, 4, 3), np.uint8), np.ones((5, 4), np.uint8))
    assert images.get(0) is None


def test_a_process_that_is_not_forked_begins_with_an_empty_memory_of_its_own() -> None:
    images = SharedImages([(4, 5)])
    images.put(0, np.ones((4, 5, 3), np.uint8), np.ones((4, 5), np.uint8))
    copy = pickle.loads(pickle.dumps(images))
    assert copy.sizes == [(4, 5)]
    assert copy.get(0) is None
