"""A network shared out over processes learns what it learns whole, and its files do not tell.

Two processes, joined over gloo, make all the trainings one after another; the tests compare what they left.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import conftest
import pytest
import torch
from conftest import CLASSES, RECIPE, draw, environment
from safetensors.torch import load_file
from torch import nn

from dilated import InputError, load_recipe, open_dataset
from dilated.data.labels import save_classes
from dilated.errors import Interrupted
from dilated.training.distributed.fsdp import _iter_shard_units
from dilated.training.distributed.world import World, join_process_group
from dilated.training.progress import TrainingProgress
from dilated.training.run_options import RunOptions
from dilated.training.train import train

pytestmark = pytest.mark.timeout(600)  # seconds for each of two processes, minutes where others share the machine

SGD = ["batch=4", "workers=0", "stage.0.optimizer=sgd", "stage.1.optimizer=sgd"]
# Clipping, parts, deep supervision, a rate a level and frozen levels; after the first stage, nothing but the number of
# processes decides what is learnt.
MUCH = [
    *SGD,
    "aux_loss_weight=0.4",
    "stage.0.clip=0.5",
    "stage.0.accumulate=2",
    "stage.0.layer_decay=0.8",
    "stage.2.freeze=2",
]
ADAM = ["batch=4", "workers=0", "aux_loss_weight=0.4", "ema=0"]
PAPER = """
weights = "random"
batch = 4
workers = 0
precision = "fp32"

[network]
kind = "vgg"
width = 0.03125
context = "basic"
frontend_padding = "same"

[augment]
kind = "reflect"
crop = [40, 56]
margin = 0

[[stage]]
kind = "frontend"
iterations = 2
optimizer = "sgd"
lr = 1e-3

[[stage]]
kind = "context"
cache_features = true
iterations = 3
optimizer = "sgd"
lr = 1e-3
"""


class Stops(TrainingProgress):
    """Asks the training to stop after so many steps, as a person does."""

    def __init__(self, after: int) -> None:
        self.left = after

    def on_step_end(self, step: int, progress: float) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def run(root: Path, name: str, options: list[str], world: World, resume: bool = False, stop: int = 0) -> None:
    kind = next((kind for kind in ("paper", "adam") if name.startswith(kind)), "tiny")
    recipe = load_recipe(str(root / f"{kind}.toml"), options)
    progress = Stops(stop) if stop else None
    try:
        train(
            open_dataset(root / "data"), recipe, root / name, resume, options=RunOptions(progress=progress), world=world
        )
        assert not stop
    except Interrupted:
        assert stop


def work(root: Path) -> None:
    """What each of the two processes does."""
    shard = "fsdp=true"
    with join_process_group() as world:
        run(root, "ddp", MUCH, world)
        run(root, "shard", [*MUCH, shard], world)
        run(root, "stopped", [*MUCH, shard], world, stop=6)
        if world.is_rank_zero:
            shutil.copytree(root / "stopped", root / "on-one")
        world.barrier()
        run(root, "stopped", [*MUCH, shard], world, resume=True)
        run(root, "one-on-two", [*SGD, shard], world, resume=True)
        run(root, "adam", [*ADAM, shard], world)
        run(root, "adam-stopped", [*ADAM, shard], world, stop=2)
        run(root, "adam-stopped", [*ADAM, shard], world, resume=True)
        run(root, "paper-ddp", [], world)
        run(root, "paper-shard", [shard], world)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of runs."""
    root = tmp_path_factory.mktemp("shard")
    for split, number in (("train", 6), ("val", 3)):  # which two processes cannot share evenly
        for kind in ("images", "labels"):
            (root / "data" / kind / split).mkdir(parents=True)
        for i in range(number):
            for kind, image in zip(("images", "labels"), draw(i + 100 * (split == "val")), strict=True):
                image.save(root / "data" / kind / split / f"p{i}.png")
    save_classes(CLASSES, root / "data" / "classes.toml")
    (root / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    (root / "adam.toml").write_text(RECIPE[: RECIPE.index('[[stage]]\nkind = "context"')], encoding="utf-8")
    (root / "paper.toml").write_text(PAPER, encoding="utf-8")
    run(root, "one", [*SGD, "fsdp=true"], World(), stop=6)
    shutil.copytree(root / "one", root / "one-on-two")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = [str(Path(conftest.__file__).parent), os.environ.get("PYTHONPATH", "")]
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "error", __file__, str(root)],
            env=environment()
            | told
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": os.pathsep.join(folders)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=560)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(outputs)
    run(root, "one", [*SGD, "fsdp=true"], World(), resume=True)
    run(root, "on-one", [*MUCH, "fsdp=false"], World(), resume=True)
    return root


def values(out: Path) -> dict[str, torch.Tensor]:
    """All tensors of a run's checkpoint that its training decides, by name."""
    checkpoint = torch.load(out / "checkpoint.pt", weights_only=True)
    return {
        f"{part} {name}": tensor for part in ("weights", "ema") for name, tensor in (checkpoint[part] or {}).items()
    }


def far(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[k].double() - theirs[k].double()).abs().max()) for k in ours)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("shard", "ddp"), ("paper-shard", "paper-ddp"), ("on-one", "shard"), ("one-on-two", "one")],
)
def test_sharing_out_changes_nothing_that_is_learnt(root: Path, ours: str, theirs: str) -> None:
    assert far(values(root / ours), values(root / theirs)) < 1e-5
    ours_file, theirs_file = (load_file(root / run / "stage-1.safetensors") for run in (ours, theirs))
    assert {k: v.shape for k, v in ours_file.items()} == {k: v.shape for k, v in theirs_file.items()}
    assert far(ours_file, theirs_file) < 2e-3  # kept as halves


@pytest.mark.parametrize(("whole", "stopped"), [("shard", "stopped"), ("adam", "adam-stopped")])
def test_a_stopped_run_on_as_many_processes_ends_bit_equal(root: Path, whole: str, stopped: str) -> None:
    ours, theirs = values(root / whole), values(root / stopped)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_checkpoint_holds_whole_and_plain_tensors(root: Path) -> None:
    def tensors(value: object) -> list[torch.Tensor]:
        if isinstance(value, dict | list):
            inner = value.values() if isinstance(value, dict) else value
            return [tensor for one in inner for tensor in tensors(one)]
        return [value] if isinstance(value, torch.Tensor) else []

    two = torch.load(root / "on-one" / "checkpoint.pt", weights_only=True)
    assert two["stage_index"] == 3
    for run in ("ddp", "shard", "adam"):
        found = tensors(torch.load(root / run / "checkpoint.pt", weights_only=True))
        assert found
        assert {type(one) for one in found} == {torch.Tensor}
    shapes = [[one.shape for one in values(root / run).values()] for run in ("ddp", "shard")]
    assert shapes[0] == shapes[1]


def test_compiling_what_is_shared_out_is_refused() -> None:
    with pytest.raises(InputError, match="fsdp = true and compile = true"):
        load_recipe("quick", ["fsdp=true", "compile=true"])


def test_every_weight_is_in_one_unit_at_most_and_units_are_large() -> None:
    def block(width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.Linear(width, width))

    network = nn.Sequential(block(4), nn.ModuleList([block(8), block(16)]), nn.MultiheadAttention(16, 2))
    found = list(_iter_shard_units(network, min_weights=500))
    assert found == [network[1][0][0], network[1][1][0], network[2]]  # convolutions, and a layer as a whole
    assert not list(_iter_shard_units(nn.Identity(), min_weights=0))


if __name__ == "__main__":
    work(Path(sys.argv[1]))
