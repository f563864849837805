"""A training whose batches are augmented on the device learns, and goes on after an interruption with the same bits."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dilated.data.dataset import open_dataset
from dilated.errors import InputError, Interrupted
from dilated.training.callbacks import Callback, StepEvent
from dilated.training.config import Recipe, load_recipe
from dilated.training.progress import TrainingProgress
from dilated.training.run_options import RunOptions
from dilated.training.train import train

BATCHED = ["augment.batched='always'", "checkpoint_every=3"]


class Lines(TrainingProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notify(self, line: str) -> None:
        self.lines.append(line)


class StopAt(Callback):
    """Asks the training to stop, as Ctrl-C does, by the signal that it catches."""

    def on_step(self, event: StepEvent) -> None:
        if event.step >= 9:
            os.kill(os.getpid(), signal.SIGINT)


def one_stage(recipe_file: Path) -> Recipe:
    recipe = load_recipe(str(recipe_file), BATCHED)
    stage = dataclasses.replace(recipe.stage[0], epochs=0, iterations=16, warmup=0)
    return dataclasses.replace(recipe, stage=(stage,), network=dataclasses.replace(recipe.network, context="none"))


def test_it_learns_and_resumes_with_the_same_bits(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    data, recipe = open_dataset(folder), one_stage(recipe_file)
    progress, whole, stopped = Lines(), tmp_path / "whole", tmp_path / "stopped"
    train(data, recipe, whole, options=RunOptions(device="cpu", progress=progress))
    assert any("whole batches on cpu; decoded once, the 6 images of train take" in line for line in progress.lines)
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert all(line["seconds"] > 0 and line["wait"] >= 0 for line in steps)  # how long steps wait for their batches
    with pytest.raises(Interrupted):
        train(data, recipe, stopped, options=RunOptions(device="cpu", callbacks=(StopAt(),)))
    train(data, recipe, stopped, resume=True, options=RunOptions(device="cpu"))
    ours, theirs = load_file(whole / "stage-0.safetensors"), load_file(stopped / "stage-0.safetensors")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_images_that_do_not_fit_are_refused_where_batches_are_asked_for(
    folder: Path, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dilated.training.batch_source.free_memory", lambda device: 1000)
    with pytest.raises(InputError, match="more than a quarter of the device's free memory"):
        train(open_dataset(folder), load_recipe(str(recipe_file), BATCHED), tmp_path / "run")
