"""Killed at any moment, a training goes on as if nothing had happened: every weight to the last bit."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import command, environment
from safetensors.torch import load_file


def start(folder: Path, out: Path, recipe: Path, resume: bool) -> subprocess.Popen[str]:
    options = ["--resume"] if resume else ["--recipe", recipe]
    return subprocess.Popen(
        command("train", folder, "--out", out, "--no-report", *options),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def result(out: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], list[dict[str, Any]]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for line in lines:
        for key in ("seconds", "wait", "val_seconds"):
            line.pop(key, None)
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    return load_file(out / "best.safetensors"), state["weights"], lines


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_training_killed_at_random_moments_ends_bit_equal(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    began = time.monotonic()
    process = start(folder, whole, recipe_file, resume=False)
    wait_for(whole / "checkpoint.pt", process)
    first_checkpoint = time.monotonic() - began
    finish(process)
    training = time.monotonic() - began - first_checkpoint
    best, weights, log = result(whole)

    moments = random.Random(0)
    for attempt in range(3):
        out = tmp_path / f"killed{attempt}"
        process = start(folder, out, recipe_file, resume=False)
        wait_for(out / "checkpoint.pt", process)
        time.sleep(moments.uniform(0, training))
        process.kill()
        process.communicate()
        finish(start(folder, out, recipe_file, resume=True))
        again = result(out)
        assert same(again[1], weights)
        assert same(again[0], best)
        assert again[2] == log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_and_says_how_to_go_on(
    folder: Path, recipe_file: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    recipe_file.write_text(recipe_file.read_text().replace("epochs = 3", "epochs = 3000"))
    process = start(folder, out, recipe_file, resume=False)
    wait_for(out / "checkpoint.pt", process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "--resume" in output
    assert "Traceback" not in output
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] > 0
