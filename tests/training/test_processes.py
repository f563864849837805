"""Several processes train as one does: real processes, joined over gloo as `torchrun` joins them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from itertools import chain
from pathlib import Path

import pytest
import torch
from conftest import command, environment
from safetensors.torch import load_file

from dilated.training.distributed.world import World

# Gradients are sums over processes, in another order than over samples; Adam's first steps magnify what that changes.
SGD = ["stage.0.optimizer=sgd", "stage.1.optimizer=sgd", "batch=4", "workers=0"]


def start(processes: int, *arguments: object) -> list[subprocess.Popen[str]]:
    """`dilated train` in so many processes, each with what `torchrun` would tell it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = []
    for rank in range(processes):
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
        begun.append(
            subprocess.Popen(
                command("train", *arguments),
                env={**environment(), "MASTER_ADDR": "127.0.0.1", **{k: str(v) for k, v in told.items()}},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return begun


def finish(processes: list[subprocess.Popen[str]]) -> list[str]:
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outputs)
    return outputs


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "checkpoint.pt", weights_only=True)["weights"]


def far(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[k].double() - theirs[k].double()).abs().max()) for k in ours)


def validations(out: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "val_mean_iou" in line]


@pytest.mark.parametrize("processes", [2, 3])
def test_so_many_processes_learn_what_one_learns(
    folder: Path, recipe_file: Path, tmp_path: Path, processes: int
) -> None:
    options = ["--recipe", recipe_file, "--no-report", "--set", *SGD]
    finish(start(1, folder, "--out", tmp_path / "one", *options))
    outputs = finish(start(processes, folder, "--out", tmp_path / "many", *options))
    assert far(weights(tmp_path / "one"), weights(tmp_path / "many")) < 1e-5
    assert [v["val_mean_iou"] for v in validations(tmp_path / "many")] == pytest.approx(
        [v["val_mean_iou"] for v in validations(tmp_path / "one")], abs=5e-3
    )
    assert "best val mean IoU" in outputs[0]
    assert outputs[1:] == [""] * (processes - 1)  # one process speaks


@pytest.mark.parametrize("dead", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_of_two_processes_goes_on_with_one(folder: Path, recipe_file: Path, tmp_path: Path, dead: bool) -> None:
    options = ["--recipe", recipe_file, "--no-report", "--set", *SGD, *["stage.1.epochs=3"] * dead]
    finish(start(1, folder, "--out", tmp_path / "one", *options))
    out = tmp_path / "two"
    two = start(2, folder, "--out", out, *options)
    wait_for(out / "stage-0.safetensors", two)
    if dead:
        two[1].kill()
    else:
        for process in two:
            process.send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=120)[0] for process in two]
    assert [process.returncode for process in two] == ([1, -signal.SIGKILL] if dead else [130, 130]), outputs
    assert "--resume" in outputs[0]
    assert "Traceback" not in outputs[0]
    finish(start(1, folder, "--out", out, "--resume", "--no-report"))
    assert far(weights(tmp_path / "one"), weights(out)) < 1e-5


def test_a_dead_process_ends_the_others_with_a_word(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("epochs = 3", "epochs = 3000"))
    out = tmp_path / "run"
    two = start(2, folder, "--out", out, "--recipe", recipe_file, "--no-report", "--set", "workers=0")
    wait_for(out / "checkpoint.pt", two)
    time.sleep(1)
    two[1].kill()
    text = two[0].communicate(timeout=120)[0]
    two[1].communicate()
    assert two[0].returncode == 1, text
    assert "process 0 of 2: another process has ended" in text
    assert "--resume" in text
    assert "Traceback" not in text
    assert torch.load(out / "checkpoint.pt", weights_only=True)["weights"]


def test_the_network_file_of_two_processes_is_whole(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    finish(start(2, folder, "--out", out, "--recipe", recipe_file, "--no-report", "--set", "workers=0"))
    assert load_file(out / "best.safetensors")
    assert sorted(p.name for p in out.iterdir()) == [
        "best.safetensors", "checkpoint.pt", "data.json", "log.jsonl", "recipe.toml",
        "stage-0.safetensors", "stage-1.safetensors", "stage-2.safetensors",
    ]  # fmt: skip


def test_more_processes_than_samples_in_a_batch_are_refused(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    three = start(3, folder, "--out", tmp_path / "run", "--recipe", recipe_file)
    texts = [process.communicate(timeout=120)[0] for process in three]
    assert all("found a batch of 2 for 3 processes" in text for text in texts)


def test_parts_and_shares_of_the_processes_are_all_once() -> None:
    items = list(range(11))
    for size in (1, 2, 3, 5, 11):
        parts = [World(rank, size).chunk(items) for rank in range(size)]
        assert [*chain.from_iterable(parts)] == items
        shards = [World(rank, size).shard(items) for rank in range(size)]
        assert sorted(chain.from_iterable(shards)) == items
        assert max(map(len, shards)) - min(map(len, shards)) <= 1


def wait_for(path: Path, processes: list[subprocess.Popen[str]]) -> None:
    began = time.monotonic()
    while not path.exists():
        assert time.monotonic() - began < 120
        assert all(process.poll() is None for process in processes), processes[0].communicate()[0]
        time.sleep(0.01)
