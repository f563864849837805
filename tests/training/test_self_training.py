"""Training on images without labels: who labels them, what counts, what is refused, and that a resume is exact."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import draw
from PIL import Image
from safetensors.torch import load_file

from dilated.data.augment import ReflectCropConfig
from dilated.data.dataset import open_dataset
from dilated.data.unlabelled import find_unlabelled, name_in_recipe, require_not_measured
from dilated.errors import InputError, Interrupted
from dilated.training.autoplan.unlabelled import try_unlabelled
from dilated.training.callbacks import Callback, StepEvent
from dilated.training.config import Recipe, load_recipe
from dilated.training.distributed.world import World
from dilated.training.progress import TrainingProgress
from dilated.training.run_options import RunOptions
from dilated.training.self_training import SelfTraining, label_confidently, mix_classes
from dilated.training.step import TrainStep
from dilated.training.train import train


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames" / "film"
    folder.mkdir(parents=True)
    for number in range(4):
        draw(500 + number)[0].save(folder / f"f{number}.png")
    return folder.parent


def one_stage(recipe_file: Path, frames: Path, *changes: str) -> Recipe:
    settings = [
        f"unlabelled={json.dumps(str(frames))}",
        "unlabelled_threshold=0.1",
        "workers=0",
        "checkpoint_every=50",
        *changes,
    ]
    recipe = load_recipe(str(recipe_file), settings)
    stage = dataclasses.replace(recipe.stage[0], epochs=0, iterations=11, warmup=0)
    return dataclasses.replace(recipe, stage=(stage,), network=dataclasses.replace(recipe.network, context="none"))


class StopAt10(Callback):
    def on_step(self, event: StepEvent) -> None:
        if event.step >= 10:
            os.kill(os.getpid(), signal.SIGINT)


class Lines(TrainingProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notify(self, line: str) -> None:
        self.lines.append(line)


def test_images_without_labels_join_the_batches_and_a_resume_is_exact(
    folder: Path, recipe_file: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    make_step = TrainStep.__call__

    def note_size(step: TrainStep, image: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(image))
        return make_step(step, image, *rest)

    monkeypatch.setattr(TrainStep, "__call__", note_size)
    data, recipe, progress = open_dataset(folder), one_stage(recipe_file, frames), Lines()
    train(data, recipe, tmp_path / "whole", options=RunOptions(device="cpu", progress=progress))
    assert "self-training: 4 images without labels, none of another split than train" in progress.lines
    with pytest.raises(Interrupted):
        train(data, recipe, tmp_path / "stopped", options=RunOptions(device="cpu", callbacks=(StopAt10(),)))
    train(data, recipe, tmp_path / "stopped", resume=True, options=RunOptions(device="cpu"))
    whole, stopped = (load_file(tmp_path / name / "stage-0.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)
    assert sizes[:11] == [2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3]  # from 0.3 of the stage on, one of them for two labelled


def test_an_image_of_val_is_refused_by_name_whatever_its_file(folder: Path, frames: Path) -> None:
    Image.open(folder / "images" / "val" / "p1.png").save(frames / "other.bmp")
    with pytest.raises(InputError, match=r"other\.bmp is .*val.*p1\.png, an image of the split 'val'"):
        require_not_measured(find_unlabelled(frames), open_dataset(folder))


def test_an_image_that_looks_like_one_of_val_is_refused(folder: Path, frames: Path) -> None:
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 14, 3)).astype(np.uint8)).resize((56, 40))
    large.save(folder / "images" / "val" / "p1.png")
    large.save(frames / "again.jpg", quality=80)
    with pytest.raises(InputError, match=r"again\.jpg looks like .*p1\.png, an image of the split 'val'"):
        require_not_measured(find_unlabelled(frames), open_dataset(folder))


def test_images_of_train_and_others_are_accepted(folder: Path, frames: Path) -> None:
    Image.open(folder / "images" / "train" / "p1.png").save(frames / "labelled.png")
    require_not_measured(find_unlabelled(frames), open_dataset(folder))


@pytest.mark.parametrize(("name", "message"), [("nowhere", "no such folder"), ("", "found no image")])
def test_a_folder_without_images_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_unlabelled(tmp_path / name)


def test_a_recipe_without_a_teacher_is_refused(recipe_file: Path, frames: Path) -> None:
    with pytest.raises(InputError, match="with ema = 0 and no teacher"):
        one_stage(recipe_file, frames, "ema=0")


def test_a_recipe_with_reflected_crops_is_refused(recipe_file: Path, frames: Path) -> None:
    recipe = one_stage(recipe_file, frames)
    with pytest.raises(InputError, match=r"unlabelled=.* with augment\.kind = 'reflect'"):
        dataclasses.replace(recipe, augment=ReflectCropConfig())


@pytest.mark.parametrize("name", ["Straße", "\U0001f600", 'a "quoted" \\ name'])
def test_a_folder_of_any_name_gets_into_the_recipe(recipe_file: Path, tmp_path: Path, name: str) -> None:
    recipe = load_recipe(str(recipe_file), [name_in_recipe(tmp_path / name)])
    assert recipe.unlabelled == str(tmp_path.resolve() / name)


def test_labels_stay_where_a_step_asks_whether_pixels_may_be_of_several_classes(
    recipe_file: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "dilated.training.self_training"
    monkeypatch.setattr(f"{module}.SelfTraining._teach", lambda self, step, images: images)
    monkeypatch.setattr(
        f"{module}.label_confidently", lambda images, *rest: torch.zeros(len(images), *images.shape[2:])
    )
    monkeypatch.setattr(f"{module}.mix_classes", lambda images, labels, *rest: (images, labels))
    recipe, segmenter = one_stage(recipe_file, frames), SimpleNamespace(classes=("a", "b"))
    state: Any = SimpleNamespace(stage_index=1, step=0, segmenter=segmenter)
    training = SelfTraining(find_unlabelled(frames), recipe.stage[0], recipe, state)
    step: Any = SimpleNamespace(teacher=None, device=torch.device("meta"))
    limit: Any = SimpleNamespace(progress=lambda number: 1.0, total_steps=1)
    size = recipe.augment.crop
    batch = torch.zeros(2, 3, *size), torch.full((2, *size), -3)  # of the first class, or the second
    image, label = next(training.extend_all(iter([batch]), step, limit))
    assert (image.device.type, label.device.type) == ("meta", "cpu")
    assert len(image) == len(label) == 3
    assert int(label.min()) == -3


def test_each_class_has_a_threshold_by_its_own_confidence() -> None:
    """Class 0 is sure at 0.9 on average, class 1 at 0.45: the thresholds are 0.8 and half of it."""
    first = torch.tensor([0.95, 0.85, 0.2, 0.3, 0.25])
    second = torch.tensor([0.03, 0.1, 0.5, 0.35, 0.5])
    probabilities = torch.stack([first, second, 1 - first - second])[None, :, None]  # (1, 3, 1, 5)
    probabilities[0, 2, 0, 3], probabilities[0, 2, 0, 4] = 0.1, 0.2
    labels = label_confidently(probabilities.log(), torch.ones(1, 1, 5, dtype=torch.bool), 0.8, 255)
    assert labels.flatten().tolist() == [0, 0, 1, 255, 1]


def test_what_lies_beyond_the_image_gets_no_label() -> None:
    sure = torch.tensor([0.99, 0.01]).log()[None, :, None, None].expand(1, 2, 1, 3)
    valid = torch.tensor([[[True, False, True]]])
    assert label_confidently(sure, valid, 0.9, 255).flatten().tolist() == [0, 255, 0]


def test_half_of_the_classes_are_pasted_with_their_pixels() -> None:
    labels = torch.stack([torch.tensor([[0, 0, 1, 255]]), torch.tensor([[2, 3, 3, 2]])])
    images = torch.stack([torch.full((3, 1, 4), 0.0), torch.full((3, 1, 4), 1.0)])
    mixed, mixed_labels = mix_classes(images, labels, np.random.default_rng(0), 255)
    from_second = mixed[0, 0] == 1
    assert torch.equal(mixed_labels[0], torch.where(from_second, labels[1], labels[0]))
    assert int(from_second.sum()) == 2  # one of its two classes
    assert 255 not in mixed_labels[1][mixed[1, 0] == 0].tolist()  # what has no label is not pasted


def test_a_plan_measures_whether_they_help_and_says_by_how_much(
    folder: Path, recipe_file: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dilated.training.autoplan.unlabelled.MIN_SAMPLES", 8)
    recipe = one_stage(recipe_file, frames)
    helps, choice = try_unlabelled(recipe, open_dataset(folder), 12, World(device_name="cpu"))
    assert choice.value == (str(frames) if helps else "not used")
    assert choice.reason.startswith("mean IoU on images held out of train: with them 0.")
    assert "after 6 steps of 2; without 0." in choice.reason


def test_without_time_to_try_they_are_used_as_asked(folder: Path, recipe_file: Path, frames: Path) -> None:
    helps, choice = try_unlabelled(one_stage(recipe_file, frames), open_dataset(folder), 100, World(device_name="cpu"))
    assert helps
    assert "as asked; there is no time to try: 100 samples, 160 would" in choice.reason
