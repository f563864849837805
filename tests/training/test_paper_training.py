"""The paper's three stages in small: a front end of two maps a layer on drawn images of unequal sizes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CLASSES, draw
from PIL import Image
from torch import Tensor

from dilated import (
    InputError,
    Predictor,
    Recipe,
    Segmenter,
    SegmenterConfig,
    StageConfig,
    load,
    load_recipe,
    open_dataset,
)
from dilated.data.augment import ReflectCropConfig, _reflect_crop
from dilated.data.dataset import Dataset
from dilated.data.labels import save_classes
from dilated.errors import Interrupted
from dilated.evaluation.evaluate import evaluate
from dilated.models.base import BaseSegmenter
from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.progress import ProgressCallback
from dilated.run_folder import CHECKPOINT_FILE
from dilated.training import checkpoint
from dilated.training.budget import StageLimit
from dilated.training.progress import TrainingProgress
from dilated.training.train import RunOptions, _Trainer, train

RECIPE = """
weights = "random"
batch = 2
workers = 0
checkpoint_every = 2
ema = 0.9
precision = "fp32"

[network]
kind = "vgg"
width = 0.03125
context = "basic"
tile = [436, 436]

[augment]
kind = "reflect"
crop = [388, 396]

[[stage]]
kind = "frontend"
iterations = 5
val_interval = 5
optimizer = "sgd"
lr = 1e-3
bias_lr_factor = 2.0
schedule = "constant"
warmup = 0

[[stage]]
kind = "context"
cache_features = true
iterations = 5
val_interval = 5
batch = 4
lr = 1e-3

[[stage]]
kind = "joint"
iterations = 3
val_interval = 3
batch = 1
crop = [412, 428]
optimizer = "sgd"
lr = 1e-5
momentum = 0.99
"""
SIZES = ((40, 56), (24, 61), (40, 56), (33, 24), (17, 18))
PADDED = ["network.frontend_padding=same", "augment.margin=0", "augment.crop=[40,56]", "stage.2.crop=[40,56]"]
"""A front end that pads itself reads a hundredth of the pixels; for what does not depend on the margin."""


class KilledError(Exception):
    """As if the process had ended there."""


@dataclass
class Deadly(TrainingProgress):
    """Does something, by default ending, in a stage: after a step or after an image whose features were computed."""

    at: int
    step_of_death: int = 0
    image_of_death: int = 0
    number: int = -1
    began: int = -1
    steps: int = 0
    seen: int = 0

    def on_stage_start(self, number: int, stage: StageConfig, step: int, limit: StageLimit) -> None:
        self.number, self.steps, self.began = number, step, step

    def on_step_end(self, step: int, progress: float) -> None:
        self.steps += 1
        if (self.number, self.steps) == (self.at, self.step_of_death):
            self.die()

    @contextmanager
    def track(self, number: int, what: str = "validation") -> Iterator[ProgressCallback]:
        yield self.image

    def image(self, done: int, total: int) -> None:
        self.seen += self.number == self.at
        if self.seen == self.image_of_death > 0:
            self.die()

    def die(self) -> None:
        raise KilledError


class Asked(Deadly):
    """Is asked to stop, with Ctrl-C."""

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@dataclass
class Observer(TrainingProgress):
    """Keeps the weights with which each stage begins."""

    training: _Trainer | None = None
    weights: list[dict[str, Tensor]] = field(default_factory=list)

    def on_stage_start(self, number: int, stage: StageConfig, step: int, limit: StageLimit) -> None:
        assert self.training is not None
        self.weights.append({name: value.clone() for name, value in self.training.state.segmenter.state_dict().items()})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("paper")


@pytest.fixture(scope="module")
def data(place: Path) -> Dataset:
    """Five images to train on, the last of which is not labelled anywhere, and two to validate with."""
    for split, sizes in (("train", SIZES), ("val", SIZES[:2])):
        for kind in ("images", "labels"):
            (place / "data" / kind / split).mkdir(parents=True)
        for i, size in enumerate(sizes):
            image, label = draw(i + 100 * (split == "val"), *size)
            image.save(place / "data" / "images" / split / f"p{i}.png")
            (label if i < 4 else label.point([9] * 256)).save(place / "data" / "labels" / split / f"p{i}.png")
    save_classes(CLASSES, place / "data" / "classes.toml")
    return open_dataset(place / "data")


@pytest.fixture(scope="module")
def recipe(place: Path) -> Callable[..., Recipe]:
    path = place / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return lambda *overrides: load_recipe(str(path), list(overrides))


@pytest.fixture(scope="module")
def whole(data: Dataset, recipe: Callable[..., Recipe], place: Path) -> tuple[Path, Observer]:
    """A training of all three stages, never interrupted."""
    return place / "whole", observed(data, recipe(), place / "whole")


def observed(data: Dataset, plan: Recipe, out: Path, start: BaseSegmenter | None = None) -> Observer:
    observer = Observer()
    observer.training = _Trainer(data, plan, out, False, start, RunOptions(device="cpu", progress=observer))
    observer.training.run()
    return observer


def segmenter(**settings: Any) -> VGGSegmenter:
    torch.manual_seed(3)
    network = VGGConfig(**{"width": 1 / 32, "tile": (436, 436), **settings})
    return VGGSegmenter(CLASSES.names, CLASSES.colors, network).eval()


def log(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor], part: str = "") -> bool:
    names = [name for name in ours if name.startswith(part)]
    assert names
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in names)


def test_all_three_stages_run_and_leave_their_networks(whole: tuple[Path, Observer]) -> None:
    out, _ = whole
    files = {"recipe.toml", "log.jsonl", "checkpoint.pt", "best.safetensors", "features"}
    assert {p.name for p in out.iterdir()} == files | {f"stage-{i}.safetensors" for i in range(3)}
    networks = [load(out / f"stage-{i}.safetensors") for i in range(3)]
    assert [n.config.context for n in networks] == ["none", "basic", "basic"]
    assert all(isinstance(n, VGGSegmenter) for n in (*networks, load(out)))
    assert [n.card["stage"] for n in networks] == [0, 1, 2]
    assert [line["step"] for line in log(out) if "val_mean_iou" in line] == [5, 10, 13]
    assert all(np.isfinite(line["loss"]) for line in log(out) if "loss" in line)


@torch.no_grad()
def test_cached_features_are_what_the_first_stages_network_answers_to_whole_images(
    whole: tuple[Path, Observer], data: Dataset
) -> None:
    out, observer = whole
    network = segmenter(context="basic")
    network.load_state_dict(observer.weights[1])
    files = sorted((out / "features").glob("*.npy"))
    assert [p.name for p in files] == [f"{i}.npy" for i in range(5)]
    for path, pair, (height, width) in zip(files, data.samples("train"), SIZES, strict=True):
        found, image = np.load(path), torch.tensor(np.asarray(Image.open(pair.image))).permute(2, 0, 1)[None] / 255
        assert (found.dtype, found.shape) == (np.float32, (3, -(-height // 8), -(-width // 8)))
        assert np.array_equal(found, network.frontend_logits(image)[0])
    for name, value in load(out / "stage-0.safetensors").state_dict().items():  # kernels in 16 bits
        whole_bits = observer.weights[1][name]
        assert torch.equal(value, whole_bits.half().float() if value.ndim > 1 else whole_bits)


def test_the_context_stage_moves_the_context_module_and_no_bit_of_the_front_end(whole: tuple[Path, Observer]) -> None:
    out, observer = whole
    start, context, joint = observer.weights
    assert not torch.equal(start["frontend.conv1_1.weight"], context["frontend.conv1_1.weight"])
    assert same(context, joint, "frontend.")
    assert not any(torch.equal(context[name], joint[name]) for name in context if name.startswith("context."))
    end = checkpoint.load_checkpoint(out / CHECKPOINT_FILE)["weights"]
    assert not torch.equal(joint["frontend.final.weight"], end["frontend.final.weight"])
    assert not torch.equal(joint["context.final.weight"], end["context.final.weight"])


def test_killed_in_every_stage_and_while_features_are_computed_it_ends_bit_equal(
    whole: tuple[Path, Observer], data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    written: dict[str, int] = {}
    # Where it dies, where it went on from, and how many images' features there are then.
    deaths = [
        (Deadly(0, step_of_death=3), 0, 0),
        (Deadly(1, image_of_death=3), 0, 3),
        (Deadly(1, step_of_death=4), 0, 5),
        (Deadly(2, step_of_death=1), 0, 5),
    ]
    for deadly, began, cached in deaths:
        with pytest.raises(KilledError):
            train(
                data,
                recipe(),
                out,
                resume=deadly is not deaths[0][0],
                options=RunOptions(device="cpu", progress=deadly),
            )
        assert deadly.began == began
        found = {p.name: p.stat().st_mtime_ns for p in out.glob("features/*.npy")}
        assert len(found) == cached
        assert found.items() >= written.items()  # none is computed twice
        written = found
        torch.manual_seed(99)  # as another process would have it
    train(data, recipe(), out, resume=True)
    for name in ("best.safetensors", "stage-0.safetensors", "stage-1.safetensors", "stage-2.safetensors"):
        assert (out / name).read_bytes() == (whole[0] / name).read_bytes()
    ours, theirs = (checkpoint.load_checkpoint(run / CHECKPOINT_FILE) for run in (out, whole[0]))
    assert same(ours["weights"], theirs["weights"])
    assert same(ours["ema"], theirs["ema"])
    assert log(out) == log(whole[0])


@torch.no_grad()
def test_a_logit_is_learnt_for_the_pixel_that_it_answers_for(data: Dataset) -> None:
    """The whole of an image as a sample gives the logits, and the labels, of the whole image."""
    pair, network = data.samples("train")[0], segmenter(context="basic", dilations=(1, 2))
    image = torch.tensor(np.asarray(Image.open(pair.image))).permute(2, 0, 1)
    label = torch.tensor(pair.read_label())
    sample, grid = _reflect_crop(ReflectCropConfig((412, 428), flip=False), image, label)
    learnt = network.training_logits(sample[None] / 255)
    assert grid.shape == learnt.shape[-2:] == (5, 7)
    assert torch.allclose(learnt, network.logits(image[None] / 255), atol=1e-4)
    assert torch.equal(grid, label[::8, ::8])


def stages_of(plan: Recipe, chosen: slice) -> Recipe:
    return dataclasses.replace(plan, stage=plan.stage[chosen])


def test_a_batch_in_parts_learns_the_same(data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    ends = []
    for parts in (1, 2, 4):
        settings = [*PADDED, "network.dropout=0.0", "ema=0.0", "stage.0.batch=5", f"stage.0.accumulate={parts}"]
        plan, out = stages_of(recipe(*settings), slice(1)), tmp_path / f"parts{parts}"
        begun = observed(data, plan, out).weights[0]
        ends.append(checkpoint.load_checkpoint(out / CHECKPOINT_FILE)["weights"])
        moved = [(ends[0][name] - value).abs().max() for name, value in begun.items()]
        assert max(moved) > 1e-2  # so that 1e-5 means something
    for other in ends[1:]:
        assert all(torch.allclose(other[name], value, rtol=0, atol=1e-5) for name, value in ends[0].items())


def test_it_learns_drawn_images(folder: Path, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    for kind in ("images", "labels"):  # sixty steps are for learning by heart
        for path in (folder / kind / "val").iterdir():
            path.write_bytes((folder / kind / "train" / path.name).read_bytes())
    settings = "network.dropout=0.0 ema=0.0 augment.flip=false stage.0.iterations=60 stage.0.val_interval=60 batch=6"
    plan = recipe(*PADDED, *settings.split(), "stage.0.optimizer=adamw", "stage.0.lr=3e-3", "stage.0.weight_decay=0.0")
    drawn = open_dataset(folder)
    torch.manual_seed(0)
    start = evaluate(Predictor(segmenter(frontend_padding="same")), drawn.samples("val"), drawn.classes)
    best = train(drawn, stages_of(plan, slice(1)), tmp_path / "run")
    assert start.confusion.mean_iou < 0.3  # one class everywhere
    assert best > start.confusion.mean_iou + 0.15


def test_a_network_file_holds_all_of_it(data: Dataset, tmp_path: Path) -> None:
    network = segmenter(
        context="large", dilations=(1, 2, 1), padding="once", mean=(1.5, 2.5, 3.5), upsampling="deconvolution"
    )
    network.card = {"licence": "MIT"}
    network.save(str(tmp_path / "n.safetensors"), half=False)
    again = load(tmp_path / "n.safetensors")
    assert isinstance(again, VGGSegmenter)
    assert (again.config, again.classes, again.colors) == (network.config, network.classes, network.colors)
    assert (again.mean, again.std, again.card) == (network.mean, network.std, network.card)
    assert same(again.state_dict(), network.state_dict())
    pairs = data.samples("val")
    ours, theirs = (Predictor(n)(pairs[1].image, logits=True) for n in (network, again))
    assert ours.labels.shape == (24, 61)
    assert torch.equal(ours.logits, theirs.logits)
    found = [evaluate(Predictor(n), pairs, data.classes).to_dict() for n in (network, again)]
    assert found[0] == found[1]
    assert found[0]["images"] == 2


def test_a_frozen_front_end_of_other_classes_is_no_start(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    other = VGGSegmenter(["field", "disc", "star"], CLASSES.colors, VGGConfig(width=1 / 32))
    with pytest.raises(InputError, match=r"--init-from: its classes are \('field', 'disc', 'star'\), the data's"):
        train(data, stages_of(recipe(), slice(1, None)), tmp_path / "run", init_from=other)


@pytest.mark.parametrize("cached", ["true", "false"])
def test_the_context_stage_alone_goes_on_from_a_front_end_that_stays_as_it_is(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path, cached: str
) -> None:
    front, plan = (
        segmenter(frontend_padding="same"),
        recipe(*PADDED, "weights=init-from", f"stage.1.cache_features={cached}"),
    )
    for begun in observed(data, stages_of(plan, slice(1, None)), tmp_path / "run", front).weights:
        assert same({k: v for k, v in begun.items() if k.startswith("frontend.")}, front.state_dict())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["weights=init-from"], r"Give it as --init-from NETWORK"),
        (
            ["network.pools=kept", "network.tile=[900,900]"],
            r"margin=186, stride=8 is not .* augment\.margin = \d+ and augment\.stride = 32, .* network\.pools",
        ),
        (
            ["network.frontend_padding=same"],
            r"margin=186, stride=8 is not .* augment\.margin = 0 and augment\.stride = 8",
        ),
        (["network.tile=[300,900]"], r"network\.tile: \[300, 900\].*sides of at least 380"),
    ],
)
def test_a_recipe_that_does_not_fit_its_network_is_refused(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(data, recipe(*overrides), tmp_path / "run")


def test_a_context_module_that_cannot_be_is_refused_before_anything_is_trained(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="dilations"):
        train(data, recipe(*PADDED, "network.dilations=[0]"), tmp_path / "run")


def test_the_joint_stage_alone_goes_on_from_a_front_end_and_its_context_module(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    learnt = segmenter(frontend_padding="same", context="basic")
    plan = recipe(*PADDED, "weights=init-from")
    begun = observed(data, stages_of(plan, slice(2, None)), tmp_path / "run", learnt).weights[0]
    assert same(begun, learnt.state_dict())


def test_a_network_of_another_kind_is_no_start(data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    other = Segmenter(CLASSES.names, CLASSES.colors, SegmenterConfig(backbone="test_efficientnet", features=8))
    with pytest.raises(InputError, match="init-from"):
        train(data, recipe(*PADDED), tmp_path / "run", init_from=other)


def test_asked_to_stop_while_features_are_computed_it_stops(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    plan, out = recipe(*PADDED), tmp_path / "run"
    with pytest.raises(Interrupted):
        train(data, plan, out, options=RunOptions(device="cpu", progress=Asked(1, image_of_death=2)))
    assert len(list((out / "features").glob("*.npy"))) == 2
