"""Train `street` in minutes on a machine with a GPU: teachers, then students of all of them, then the students' mean.

    python tools/train_street.py CAMVID --out DIR --seconds 260 --recipe src/dilated/training/recipes/street.toml

Each of --members processes trains a teacher by the recipe without its last stage, with a seed of its own. Then
--students of them go on from the first teacher's weights by the last stage, which learns from the labels and from the
probabilities of all teachers. As the students begin as one network, the mean of their weights is a network too, and
mostly a better one than each (Wortsman et al., ICML 2022). What is kept is fixed before val is read: the mean of the
students, `street.safetensors`, and the first student beside it; figures of all are in `street.json`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import dilated
from dilated.api import TrainOptions, train
from dilated.evaluation.evaluate import MetricsConfig
from dilated.files import atomic_write
from dilated.models.base import BaseSegmenter
from dilated.run_folder import LOG_FILE, stage_file
from dilated.training.config import Recipe, load_recipe

_TEACHERS_SHARE = 0.45
"""Of the time of all."""
_SECONDS_TO_MEASURE = 25.0
"""Kept at the end for the figures of the networks."""
_MOST_WAITED = 30.0
"""Seconds that a student waits for teachers that are late; it learns from those that there are."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="where the networks and figures go")
    parser.add_argument("--work", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--recipe", required=True, help="whose last stage is that of the students")
    parser.add_argument("--seconds", type=float, default=260.0)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--workers", type=int, default=5, help="reading processes of a teacher")
    parser.add_argument("--device")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes of the recipe")
    parser.add_argument("--member", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.member >= 0:
        train_member(options)
        return
    started = time.time()
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    members = [start_member(options, number, started) for number in range(options.members)]
    for number, member in enumerate(members):
        try:
            member.wait(max(1.0, started + options.seconds + 30 - time.time()))
        except subprocess.TimeoutExpired:
            member.kill()
        if member.returncode:
            last_lines = (options.work / f"member{number}.txt").read_text(errors="replace").splitlines()[-3:]
            print(f"member {number}: ended with {member.returncode}: {' | '.join(last_lines)[-600:]}", flush=True)
    average_students(options)
    for path in sorted(options.work.glob("*.json")):
        figures = json.loads(path.read_text(encoding="utf-8"))
        means = f"mean IoU {figures['mean_iou']:.4f}, boundary {figures['mean_boundary_iou']:.4f}"
        print(f"{path.stem}: {means}, {figures['iou']}")


def start_member(options: argparse.Namespace, number: int, started: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, *sys.argv, "--member", str(number), "--started", str(started)]
    with (options.work / f"member{number}.txt").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def train_member(options: argparse.Namespace) -> None:
    """Train a teacher, and perhaps a student; each is measured at the end."""
    torch.set_num_threads(1)
    number, work = options.member, options.work
    end = options.started + options.seconds - _SECONDS_TO_MEASURE
    seconds = (end - options.started) * _TEACHERS_SHARE - (time.time() - options.started)
    recipe = load_recipe(options.recipe, [*options.set, f"seed={number}", f"workers={options.workers}"])
    train_part(options, replace(recipe, stage=recipe.stage[:-1]), f"teacher{number}", seconds)
    names = [f"teacher{i}.safetensors" for i in range(options.members)]
    if number < options.students:
        waited = time.time() + _MOST_WAITED
        while time.time() < waited and not all((work / name).is_file() for name in names):
            time.sleep(0.2)
        teachers = [str(work / name) for name in names if (work / name).is_file()]
        workers = options.workers * options.members // options.students
        student = replace(recipe, stage=recipe.stage[-1:], teacher=",".join(teachers), workers=workers)
        train_part(options, student, f"student{number}", end - time.time(), dilated.load(teachers[0]))
        measure(options, work / f"student{number}.safetensors")
    measure(options, work / f"teacher{number}.safetensors")


def train_part(
    options: argparse.Namespace, recipe: Recipe, name: str, seconds: float, begin: BaseSegmenter | None = None
) -> None:
    """Train and keep the network at the end of the last stage as NAME.safetensors, with the steps made in its card."""
    run = options.work / f"run-{name}"
    training = TrainOptions(device=options.device, report=False)
    train(options.data, run, budget=max(1.0, seconds), recipe=recipe, init_from=begin, options=training)
    lines = [json.loads(line) for line in (run / LOG_FILE).read_text(encoding="utf-8").splitlines()]
    print(f"{name}: {max(line.get('step', 0) for line in lines)} steps of {recipe.batch}", flush=True)
    partial = options.work / f"{name}.partial"
    shutil.copyfile(run / stage_file(len(recipe.stage) - 1), partial)
    partial.rename(options.work / f"{name}.safetensors")


def measure(options: argparse.Namespace, path: Path) -> None:
    """Write a network's figures on val beside it."""
    predictor = dilated.Predictor(dilated.load(str(path)), device=options.device)
    result = dilated.evaluate(predictor, options.data, "val", MetricsConfig(boundary=True))
    atomic_write(path.with_suffix(".json"), json.dumps(result.to_dict()) + "\n")


def average_students(options: argparse.Namespace) -> None:
    """Write the mean of the students, and the first of them; all figures in one file."""
    paths = [path for i in range(options.students) if (path := options.work / f"student{i}.safetensors").is_file()]
    if paths:
        networks = [dilated.load(str(path)) for path in paths]
        states = [network.state_dict() for network in networks]
        mean: dict[str, Any] = {
            name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
            for name, value in states[0].items()
        }
        networks[0].load_state_dict(mean)
        networks[0].save(options.work / "street.safetensors")
        shutil.copyfile(options.work / "street.safetensors", options.out / "street.safetensors")
        shutil.copyfile(paths[0], options.out / "student.safetensors")
        measure(options, options.work / "street.safetensors")
    figures = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(options.work.glob("*.json"))}
    figures["logs"] = {path.stem: path.read_text(errors="replace")[-3000:] for path in options.work.glob("member*.txt")}
    atomic_write(options.out / "street.json", json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
