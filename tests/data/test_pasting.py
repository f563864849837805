"""Rare classes of another sample are pasted, image and label together, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from dilated import open_dataset
from dilated.data.augment import AugmentConfig
from dilated.data.pasting import paste_rare
from dilated.data.torch_dataset import TrainingSamples

STILL = {"scale": (1.0, 1.0), "flip": False, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


def sample(label: Tensor) -> tuple[Tensor, Tensor]:
    """An image that is 30 times its label."""
    return (label * 30).expand(3, -1, -1).contiguous(), label


def test_rare_classes_alone_are_pasted_and_never_ignored_pixels() -> None:
    other = torch.ones(10, 20, dtype=torch.uint8)
    other[0, :5], other[5] = 3, 2  # 2.5% and 10%
    other[9] = 255
    image, label = paste_rare(*sample(torch.zeros(10, 20, dtype=torch.uint8)), *sample(other))
    expected = torch.zeros(10, 20, dtype=torch.uint8)
    expected[0, :5] = 3
    assert torch.equal(label, expected)
    assert torch.equal(image[1], expected * 30)


def test_a_sample_without_rare_classes_or_labels_gives_nothing() -> None:
    image, label = sample(torch.zeros(4, 4, dtype=torch.uint8))
    for value in (1, 255):
        same = paste_rare(image, label, *sample(torch.full((4, 4), value, dtype=torch.uint8)))
        assert same[0] is image
        assert same[1] is label


def test_the_same_draw_is_the_same_sample_and_labels_follow_images(folder: Path) -> None:
    samples = open_dataset(folder).samples("train")
    plain = TrainingSamples(samples, AugmentConfig(crop=(40, 56), **STILL))  # type: ignore[arg-type]
    pasting = TrainingSamples(samples, AugmentConfig(crop=(40, 56), paste_rare=1.0, **STILL))  # type: ignore[arg-type]
    originals = {index: plain[index, 0] for index in range(len(samples))}
    changed = 0
    for draw in range(8):
        index = draw % len(samples)
        image, label = pasting[index, draw]
        again = pasting[index, draw]
        assert torch.equal(image, again[0])
        assert torch.equal(label, again[1])
        different = (label != originals[index][1]) | (image != originals[index][0]).any(0)
        changed += bool(different.any())
        sources = [
            (image == other).all(0) & (label == other_label)
            for other, other_label in (originals[i] for i in range(len(samples)))
        ]
        assert torch.stack(sources).any(0).all()  # every pixel is one of some sample, label and all
    assert changed > 0


def test_without_pasting_a_sample_is_what_it_was_before(folder: Path) -> None:
    samples = open_dataset(folder).samples("train")
    plain, never = (TrainingSamples(samples, AugmentConfig(crop=(16, 16), paste_rare=p)) for p in (0.0, 1e-9))
    for draw in range(4):
        assert torch.equal(plain[0, draw][0], never[0, draw][0])
