"""A frozen backbone's features of augmented views on disk: what is kept, what is learned from them, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CLASSES, draw

from dilated import InputError, Segmenter, SegmenterConfig, load, load_recipe, open_dataset
from dilated.data.augment import AugmentConfig
from dilated.data.sample import Sample
from dilated.data.torch_dataset import TrainingSamples
from dilated.training.feature_views import PackedViews, ViewSamples, cache_views
from dilated.training.run_options import RunOptions
from dilated.training.train import train

AUGMENT = AugmentConfig(crop=(32, 48))
VIEWS = ["stage.0.cache_features=true", "stage.0.views=2", "stage.0.freeze=5", "workers=0", "batch=2"]
SHORT = """
weights = "random"
precision = "fp32"
[network]
backbone = "test_efficientnet"
features = 8
[augment]
crop = [32, 48]
[[stage]]
kind = "frontend"
iterations = 6
lr = 1e-2
val_interval = 6
"""


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    made = []
    for i, size in enumerate(((40, 56), (24, 61))):
        made.append(Sample(tmp_path / f"{i}.png", tmp_path / f"{i}_label.png", classes=CLASSES))
        for image, path in zip(draw(i, *size), (made[-1].image, made[-1].label), strict=True):
            image.save(path)
    return made


def segmenter(**settings: Any) -> Segmenter:
    torch.manual_seed(3)
    return Segmenter(CLASSES.names, config=SegmenterConfig("test_efficientnet", features=8, **settings)).eval()


@pytest.mark.parametrize(
    "settings",
    [{}, {"detail": 4}, {"head": "aspp"}, {"head": "unet"}, {"head": "fcn-8s", "output_stride": 32}],
    ids=["none", "detail", "aspp", "unet", "fcn-8s"],
)
def test_logits_of_kept_features_are_those_of_the_views(
    samples: list[Sample], settings: dict[str, Any], tmp_path: Path
) -> None:
    network = segmenter(**settings)
    cache_views(network, samples, AUGMENT, 2, tmp_path / "kept")
    kept, augmented = ViewSamples(tmp_path / "kept", network, 2, 2), TrainingSamples(samples, AUGMENT)
    views = {(i, v): augmented[i, v * 2 + i] for i in range(2) for v in range(2)}
    seen = set()
    for draw_number in range(12):
        packed, label = kept[draw_number % 2, draw_number]
        matches = [key for key, view in views.items() if key[0] == draw_number % 2 and torch.equal(view[1], label)]
        assert matches
        with torch.no_grad():
            logits = PackedViews((32, 48)).logits(network, packed[None])
            expected = [network(views[key][0][None]) for key in matches]
        assert any(torch.allclose(logits, other, atol=1e-5) for other in expected)
        seen |= set(matches)
    assert len(seen) == 4  # all views are drawn


def test_features_are_computed_once_and_anew_when_the_data_changes(samples: list[Sample], tmp_path: Path) -> None:
    network = segmenter()
    folder = cache_views(network, samples, AUGMENT, 2, tmp_path / "kept")
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    assert sorted(times) == ["0-0.npz", "0-1.npz", "1-0.npz", "1-1.npz"]
    assert cache_views(segmenter(head="aspp"), samples, AUGMENT, 2, tmp_path / "kept") == folder  # one backbone
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")} == times
    before = (folder / "0-0.npz").read_bytes()
    draw(7, 40, 56)[0].save(samples[0].image)
    cache_views(network, samples, AUGMENT, 2, tmp_path / "kept")
    assert (folder / "0-0.npz").read_bytes() != before
    assert cache_views(segmenter(output_stride=16), samples, AUGMENT, 1, tmp_path / "kept") != folder


def test_labels_that_mean_something_else_are_kept_anew(samples: list[Sample], tmp_path: Path) -> None:
    network = segmenter()
    cache_views(network, samples, AUGMENT, 1, tmp_path / "kept")
    swapped = replace(CLASSES, values=tuple(reversed(CLASSES.values)))
    changed = [replace(sample, classes=swapped) for sample in samples]
    cache_views(network, changed, AUGMENT, 1, tmp_path / "kept")
    _, label = ViewSamples(tmp_path / "kept", network, 2, 1)[0, 0]
    assert torch.equal(label, TrainingSamples(changed, AUGMENT)[0, 0][1])


def test_a_training_on_kept_features_leaves_the_backbone_and_is_the_same_twice(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text(SHORT)
    shared, states = tmp_path / "shared", []
    for name in ("one", "two"):
        recipe = load_recipe(str(path), [*VIEWS, "ema=0.0"])
        train(open_dataset(folder), recipe, tmp_path / name, options=RunOptions(device="cpu", features=shared))
        states.append(load(tmp_path / name / "stage-0.safetensors").state_dict())
        assert not (tmp_path / name / "features").exists()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    torch.manual_seed(0)
    fresh = load_recipe(str(path)).network.build(CLASSES.names).state_dict()
    moved = {key for key in fresh if not torch.allclose(fresh[key], states[0][key], rtol=2e-3, atol=1e-4)}
    assert moved
    assert not any(key.startswith("backbone.") for key in moved)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stage.0.freeze=4"], r"stage\.views: found freeze=4 with a backbone of 5 levels.*Set stage\.freeze = 5"),
        (["aux_loss_weight=0.4"], r"found stage\.views with .* aux_loss_weight=0\.4"),
        (["network.crf=rnn"], r"found stage\.views with .*network\.crf='rnn'"),
        (["stage.0.cache_features=false"], r"views.*Give 0, or set cache_features"),
    ],
)
def test_features_that_would_change_are_not_kept(
    overrides: list[str], message: str, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "short.toml"
    path.write_text(SHORT)
    with pytest.raises(InputError, match=message):
        train(open_dataset(folder), load_recipe(str(path), [*VIEWS, *overrides]), tmp_path / "run")
