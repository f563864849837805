"""A network shared out over processes learns what it learns whole, and its files do not tell."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_processes import SGD, far, finish, start, validations, wait_for, weights
from torch import nn

from dilated import InputError, load_recipe
from dilated.train.shard import units

# Clipping, a classifier of deep supervision, frozen levels and decoupled rates, all at once.
MORE = [*SGD, "deep=0.4", "stage.0.clip=0.5", "stage.2.clip=0.5", "stage.2.freeze=2", "stage.0.layer_decay=0.8"]


def tensors(value: object) -> list[torch.Tensor]:
    """All in a checkpoint, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [tensor for one in value for tensor in tensors(one)]
    return [value] if isinstance(value, torch.Tensor) else []


def test_two_processes_learn_the_same_shared_out_and_not(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    options = ["--recipe", recipe_file, "--no-report", "--set", *MORE, "stage.0.accumulate=2", "stage.2.accumulate=2"]
    both = start(2, folder, "--out", tmp_path / "ddp", *options)
    finish(both)
    finish(start(2, folder, "--out", tmp_path / "shard", *options, "shard=true"))
    ddp, shard = (torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("ddp", "shard"))
    assert far(ddp["weights"], shard["weights"]) < 1e-5
    assert far(ddp["average"], shard["average"]) < 1e-5
    for name in ("stage-0", "stage-1", "stage-2", "best"):
        files = [load_file(tmp_path / run / f"{name}.safetensors") for run in ("ddp", "shard")]
        assert far(*files) < 1e-2  # halves, whose last digit may differ
    assert [v["val_mean_iou"] for v in validations(tmp_path / "shard")] == pytest.approx(
        [v["val_mean_iou"] for v in validations(tmp_path / "ddp")], abs=5e-3
    )
