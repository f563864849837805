"""The front end's logits of whole images on disk: what is kept, what is computed anew, what is learnt from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CLASSES, draw
from PIL import Image
from torch import Tensor

from dilated.data.sample import Sample
from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.training import features
from dilated.training.features import FeatureSamples

SIZES = ((40, 56), (24, 61), (33, 24), (17, 18))


@pytest.fixture
def pairs(tmp_path: Path) -> list[Sample]:
    made = []
    for i, size in enumerate(SIZES):
        made.append(Sample(tmp_path / f"{i}.png", tmp_path / f"{i}_label.png", classes=CLASSES))
        for image, path in zip(draw(i, *size), (made[-1].image, made[-1].label), strict=True):
            image.save(path)
    return made


def segmenter(**settings: Any) -> VGGSegmenter:
    """A narrow network; padded inside it reads a hundredth of the pixels."""
    torch.manual_seed(3)
    network = VGGConfig(**{"width": 1 / 32, "frontend_padding": "same", **settings})
    return VGGSegmenter(CLASSES.names, CLASSES.colors, network).eval()


@torch.no_grad()
def logits(network: VGGSegmenter, sample: Sample) -> Tensor:
    image = torch.tensor(np.asarray(Image.open(sample.image))).permute(2, 0, 1)[None] / 255
    return network.frontend_logits(image)[0]


def computed(network: VGGSegmenter, pairs: list[Sample], folder: Path) -> list[bool]:
    """Compute features; which of the files were written."""
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npy")}
    assert features.cache_features(network, pairs, folder) == folder
    now = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npy")}
    assert sorted(now) == [f"{i}.npy" for i in range(len(pairs))]
    for i, sample in enumerate(pairs):
        assert np.array_equal(np.load(folder / f"{i}.npy"), logits(network, sample).numpy())
    return [before.get(name) != now[name] for name in sorted(now)]


def test_features_are_computed_once(pairs: list[Sample], tmp_path: Path) -> None:
    network, folder, steps = segmenter(), tmp_path / "deep" / "features", []
    assert computed(network, pairs, folder) == [True] * 4
    assert computed(network, pairs, folder) == [False] * 4
    (folder / "0.npy").unlink()
    assert computed(network, pairs, folder) == [True, False, False, False]
    features.cache_features(network, pairs, folder, on_progress=lambda *step: steps.append(step))
    assert steps == [(i, 4) for i in range(1, 5)]  # images that were there count as well
    assert computed(network.rebuild(context="basic"), pairs, folder) == [False] * 4  # the front end is the same


def test_features_are_computed_anew_for_other_weights_another_mean_or_other_images(
    pairs: list[Sample], tmp_path: Path
) -> None:
    folder = tmp_path / "features"
    assert computed(segmenter(), pairs, folder) == [True] * 4
    network = segmenter(mean=(1.0, 2.0, 3.0))
    assert computed(network, pairs, folder) == [True] * 4
    with torch.no_grad():
        network.frontend.get_parameter("final.bias")[0] += 1e-3
    assert computed(network, pairs, folder) == [True] * 4
    assert computed(network, pairs[:2], folder) == [True] * 2
    assert computed(network, [pairs[1], pairs[0]], folder) == [True] * 2


def test_features_are_computed_anew_for_a_front_end_of_another_build(pairs: list[Sample], tmp_path: Path) -> None:
    assert computed(segmenter(), pairs, tmp_path / "features") == [True] * 4
    assert computed(segmenter(pools="dense"), pairs, tmp_path / "features") == [True] * 4


def test_features_whose_key_was_cut_short_are_computed_anew(pairs: list[Sample], tmp_path: Path) -> None:
    network, folder = segmenter(), tmp_path / "features"
    computed(network, pairs, folder)
    (folder / "key.json").write_text("")
    assert computed(network, pairs, folder) == [True] * 4


def test_the_network_is_not_changed_by_it(pairs: list[Sample], tmp_path: Path) -> None:
    network = segmenter()
    before, random = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    features.cache_features(network, pairs, tmp_path / "features")
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)  # or a resumed training would draw other dropout masks


def test_images_of_unequal_sizes_share_a_canvas(pairs: list[Sample], tmp_path: Path) -> None:
    features.cache_features(segmenter(), pairs, tmp_path)
    samples = FeatureSamples(tmp_path, pairs, stride=8, flip=False)
    assert len(samples) == 4
    for index, (height, width) in enumerate(SIZES):
        maps, label = samples[(index, 5)]
        assert (maps.shape, maps.dtype) == ((3, 5, 8), torch.float32)  # of 40 and 61 pixels
        assert (label.shape, label.dtype) == ((5, 8), torch.int64)
        h, w = -(-height // 8), -(-width // 8)
        pixels = pairs[index].read_label()[::8, ::8]
        assert torch.equal(label[:h, :w], torch.tensor(pixels).long())
        assert (label[h:] == 255).all()
        assert (label[:, w:] == 255).all()
        assert torch.equal(maps[:, :h, :w], torch.tensor(np.load(tmp_path / f"{index}.npy")))
        assert not maps[:, h:].any()
        assert not maps[:, :, w:].any()


def test_logits_and_labels_are_flipped_together_by_the_draw_alone(pairs: list[Sample], tmp_path: Path) -> None:
    features.cache_features(segmenter(), pairs, tmp_path)
    plain = FeatureSamples(tmp_path, pairs, stride=8, flip=False)
    flipping = FeatureSamples(tmp_path, pairs, stride=8, flip=True, seed=1)
    flips = []
    for number in range(60):
        maps, label = plain[(2, number)]
        seen = flipping[(2, number)]
        flips.append(not torch.equal(seen[0], maps))
        if flips[-1]:  # 24 pixels are 3 logits; what the canvas adds stays on the right
            maps = torch.cat([maps[..., :3].flip(-1), maps[..., 3:]], -1)
            label = torch.cat([label[..., :3].flip(-1), label[..., 3:]], -1)
        assert torch.equal(seen[0], maps)
        assert torch.equal(seen[1], label)
        assert torch.equal(flipping[(2, number)][0], seen[0])
    assert 15 < sum(flips) < 45
    other = FeatureSamples(tmp_path, pairs, stride=8, flip=True, seed=2)
    assert any(not torch.equal(other[(2, n)][0], flipping[(2, n)][0]) for n in range(60))


def test_features_are_computed_anew_where_an_image_was_changed_in_place(pairs: list[Sample], tmp_path: Path) -> None:
    network = segmenter()
    computed(network, pairs, tmp_path / "features")
    draw(50, *SIZES[2])[0].save(pairs[2].image)
    assert computed(network, pairs, tmp_path / "features")[2]
