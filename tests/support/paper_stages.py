"""The paper's three stages in small: a front end of two maps per layer on drawn images of unequal sizes."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from conftest import CLASSES, draw
from torch import Tensor

from dilated import Recipe, load_recipe, open_dataset
from dilated.data.dataset import Dataset
from dilated.data.labels import save_classes
from dilated.models.base import BaseSegmenter
from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.progress import ProgressCallback
from dilated.training.budget import StageLimit
from dilated.training.config import StageConfig
from dilated.training.distributed.world import World
from dilated.training.progress import TrainingProgress
from dilated.training.run_options import RunOptions
from dilated.training.train import _Trainer

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


def write_data(folder: Path) -> Dataset:
    """Five images to train on, the last of which is not labelled anywhere, and two to validate with."""
    for split, sizes in (("train", SIZES), ("val", SIZES[:2])):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for i, size in enumerate(sizes):
            image, label = draw(i + 100 * (split == "val"), *size)
            image.save(folder / "images" / split / f"p{i}.png")
            (label if i < 4 else label.point([9] * 256)).save(folder / "labels" / split / f"p{i}.png")
    save_classes(CLASSES, folder / "classes.toml")
    return open_dataset(folder)


def write_recipe(path: Path) -> Callable[..., Recipe]:
    """Write the recipe; it is read with the overrides that the result is called with."""
    path.write_text(RECIPE, encoding="utf-8")
    return lambda *overrides: load_recipe(str(path), list(overrides))


def stages_of(plan: Recipe, chosen: slice) -> Recipe:
    return dataclasses.replace(plan, stage=plan.stage[chosen])


def observed(data: Dataset, plan: Recipe, out: Path, start: BaseSegmenter | None = None) -> Observer:
    observer = Observer()
    observer.training = _Trainer(
        data, plan, out, False, start, RunOptions(device="cpu", progress=observer), World(device_name="cpu")
    )
    observer.training.run()
    return observer


def segmenter(**settings: Any) -> VGGSegmenter:
    torch.manual_seed(3)
    network = VGGConfig(**{"width": 1 / 32, "tile": (436, 436), **settings})
    return VGGSegmenter(CLASSES.names, CLASSES.colors, network).eval()


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor], part: str = "") -> bool:
    names = [name for name in ours if name.startswith(part)]
    assert names
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in names)
