"""The arms of a study by leave-one-film-out in minutes: frozen features stay in the memory of a GPU.

    python benchmarks/study_films.py CAMVID --out runs/films --seconds 230 --json runs/films.json
    python benchmarks/study_films.py CAMVID --out runs/narrow --levels 0 4 --json films.json
    python benchmarks/study_films_table.py films.json --levels 4

One process for each film that is left out. Each trains front ends on the other films for `--front-seconds`, computes
its features of a few augmented views of each image and of the whole images of the film that is left out, and trains
every arm on them with `dilated study`'s recipe of it: the same views, batches, steps and start for all arms of a seed.
Nothing is chosen on the film that is left out. Without `--steps`, the seconds that are left are divided by what a step
of each arm takes. `dilated study` does the same with runs that can be looked at; it takes longer for each training.

A dense CRF is measured on one of `--crf-every` frames, and compared with its parent on these. What is done is in --out:
the same command goes on. `--json` gets the counts of all frames, from which the last line prints the verdicts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from frozen_arms import EVALUATION_BATCH, ArmTraining, Batches, FoldFeatures, extract, pack

from dilated.data.augment import AugmentConfig
from dilated.data.dataset import Dataset, DatasetDivision
from dilated.data.loader import iter_batches
from dilated.data.sample import Sample
from dilated.data.splitting import open_divided
from dilated.data.torch_dataset import TrainingSamples
from dilated.environment import describe_machine
from dilated.errors import InputError
from dilated.files import atomic_write
from dilated.models.segmenter import Segmenter, SegmenterConfig
from dilated.run_folder import CHECKPOINT_FILE, stage_file
from dilated.training.config import Recipe, StageConfig
from dilated.training.distributed.world import World
from dilated.training.run_options import RunOptions
from dilated.training.study_arms import DEFAULT_ARMS, Arm, ArmLength, find_arms, make_arm_recipe
from dilated.training.study_measure import build_arm_network
from dilated.training.train import train
from dilated.weights.bundled import load

_INNER_VALIDATION = 32
"""One of so many training images is given up for the front end's own validation, of which nothing is used."""
_MEASURED_STEPS, _SLACK = 12, 0.85
_CLOSING_SECONDS = 6.0
_CUT_ARMS = ("none", "basic", "basic-random", "basic-undilated", "basic-logits", "large", "large-random", "none-crf")


def train_front(data: Dataset, options: argparse.Namespace, levels: int, folder: Path) -> tuple[Segmenter, Recipe]:
    """Train the front end of a film, or load what was trained before."""
    samples = data.samples("train")
    inner = set(range(_INNER_VALIDATION // 2, len(samples), _INNER_VALIDATION))
    parts = {
        "train": [sample for i, sample in enumerate(samples) if i not in inner],
        "val": [samples[i] for i in sorted(inner)],
    }
    stage = StageConfig(
        "frontend",
        share=1.0,
        output_stride=8,
        lr=3e-3,
        backbone_lr_factor=0.2,
        freeze=min(2, levels or 2),
        val_interval=1e9,
    )
    recipe = Recipe(
        network=SegmenterConfig(backbone=options.backbone, levels=levels, features=options.features),
        augment=AugmentConfig(crop=tuple(options.crop), scale=(0.6, 1.8)),
        stage=(stage,),
        weights="bundled" if options.backbone == SegmenterConfig().backbone else "random",
        batch=options.batch,
        budget=float(options.front_seconds),
        workers=options.workers,
        cache=True,
        checkpoint_every=10**6,
    )
    if not (folder / stage_file(0)).is_file():
        is_begun = (folder / CHECKPOINT_FILE).is_file()
        divided = replace(data, division=DatasetDivision(parts, {}))
        train(divided, recipe, folder, is_begun, options=RunOptions(device=options.device))
    return cast(Segmenter, load(folder / stage_file(0))), recipe


def read_views(samples: list[Sample], recipe: Recipe, options: argparse.Namespace) -> Batches:
    """All views of each image, in batches."""
    draws = [(index, view * len(samples) + index) for view in range(options.views) for index in range(len(samples))]
    keys = [draws[i : i + recipe.batch] for i in range(0, len(draws), recipe.batch)]
    return list(iter_batches(TrainingSamples(samples, recipe.augment, 0, True), keys, options.workers))


def read_images(samples: list[Sample]) -> Batches:
    """The images as they are, which have one size, in batches."""
    batches = []
    for start in range(0, len(samples), EVALUATION_BATCH):
        pairs = [sample.read() for sample in samples[start : start + EVALUATION_BATCH]]
        images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).float() / 255
        batches.append((images, torch.from_numpy(np.stack([label for _, label in pairs]))))
    return batches


@dataclass
class FrontEnd:
    """A front end of a fold, and the arms behind it."""

    network: Segmenter
    recipe: Recipe
    arms: list[Arm]
    record: dict[str, Any]
    """What is done: `arms`, of each the seeds, and `failed`."""
    features: dict[int, FoldFeatures] = field(default_factory=dict)
    """By output stride."""


class FoldTrainings:
    """All trainings with one film left out, and the file of what is done."""

    def __init__(self, options: argparse.Namespace, number: int) -> None:
        self.options, self.number = options, number
        self.path = options.out / f"film{number}.json"
        self.record: dict[str, Any] = {"fronts": {}}
        if self.path.is_file():
            self.record = json.loads(self.path.read_text())
        self.device = World(device_name=options.device).device
        self.data = open_divided(options.data, None, None, None, f"{number}/{options.folds}")
        self.fronts: list[FrontEnd] = []

    def run(self) -> None:
        """Train and measure what is not done yet."""
        options, samples = self.options, self.data.samples("val")
        self.record |= {
            "film": self.data.groups("val").labels[0],
            "names": [sample.name for sample in samples],
            "classes": list(self.data.classes.names),
        }
        for levels in options.levels:
            self._note(f"training a front end of {levels or 'all'} levels")
            network, recipe = train_front(self.data, options, levels, options.out / f"front{self.number}-{levels}")
            names = options.arms if levels == options.levels[0] else options.cut_arms
            arms = [arm for arm in find_arms(tuple(names)) if not arm.reads_images]
            record = self.record["fronts"].setdefault(str(levels), {"arms": {}, "failed": {}})
            record["front_steps"] = network.card.get("step")
            self.fronts.append(FrontEnd(network.to(self.device), recipe, arms, record))
        self._note("reading views and images")
        self.views = read_views(self.data.samples("train"), self.fronts[0].recipe, options)
        self.images = read_images(samples)
        steps = options.steps or self._divide_seconds()
        self.record["steps"] = steps
        self._note(f"{steps} steps for each training")
        for seed in range(1, options.seeds + 1):
            for front in self.fronts:
                for arm in front.arms:
                    if arm.parent or str(seed) in front.record["arms"].get(arm.name, {}):
                        continue
                    if time.time() > options.deadline - _CLOSING_SECONDS:
                        self._note("the time is over")
                        return
                    self._run_arm(front, arm, seed, steps)

    def _training(self, front: FrontEnd, arm: Arm, seed: int, steps: int) -> ArmTraining:
        length = ArmLength(steps, views=self.options.views)
        recipe = make_arm_recipe(front.recipe, arm, length, seed, front.network.backbone_levels)
        torch.manual_seed(seed)
        network = cast(Segmenter, build_arm_network(self.data.classes, recipe, front.network)).to(self.device)
        stride = network.output_stride
        if stride not in front.features:
            started = time.perf_counter()
            parts = (extract(network, batches, self.device) for batches in (self.views, self.images))
            front.features[stride] = FoldFeatures(*parts)
            self._note(f"features of stride {stride}: {time.perf_counter() - started:.1f} s")
        return ArmTraining(network, recipe, front.features[stride])

    def _run_arm(self, front: FrontEnd, arm: Arm, seed: int, steps: int) -> None:
        entry: dict[str, Any] = {}
        try:
            training = self._training(front, arm, seed, steps)
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
                before = torch.cuda.memory_allocated(self.device)
            entry["step_seconds"] = round(training.run(steps, steps), 6)
            if self.device.type == "cuda":
                entry["train_bytes"] = torch.cuda.max_memory_allocated(self.device) - before
            training.take_average()
            started = time.perf_counter()
            entry["counts"] = pack(training.evaluate())
            entry["evaluation_seconds"] = round(time.perf_counter() - started, 3)
            for child in (other for other in front.arms if other.parent == arm.name):
                started = time.perf_counter()
                refined = pack(training.evaluate_crf(self.images, self.options.crf_every))
                seconds = round(time.perf_counter() - started, 3)
                table = {"counts": refined, "every": self.options.crf_every, "evaluation_seconds": seconds}
                front.record["arms"].setdefault(child.name, {})[str(seed)] = table
        except (InputError, RuntimeError, FloatingPointError) as error:
            if "CUDA error" in str(error):
                raise  # nothing more can be done in this process
            front.record["failed"][f"{arm.name} {seed}"] = f"{type(error).__name__}: {error}"[:500]
            self._note(f"{arm.name}, seed {seed}: failed: {error}")
            return
        front.record["arms"].setdefault(arm.name, {})[str(seed)] = entry
        self._note(f"{arm.name}, seed {seed}: {1000 * entry['step_seconds']:.1f} ms a step")

    def _divide_seconds(self) -> int:
        """As many steps as all films have time for; the films tell each other by files."""
        path = self.options.out / f"seconds{self.number}.json"
        if not path.is_file():
            fixed = steps = 0.0
            for front in self.fronts:
                for arm in front.arms:
                    if not arm.parent:
                        costs = self._measure_arm(front, arm)
                        fixed, steps = fixed + costs[0], steps + costs[1]
            left = self.options.deadline - time.time() - _CLOSING_SECONDS
            atomic_write(path, json.dumps({"left": left, "fixed": fixed, "steps": steps}))
        paths = [self.options.out / f"seconds{number}.json" for number in range(1, self.options.folds + 1)]
        patience = time.time() + 30
        while not all(other.is_file() for other in paths) and time.time() < patience:
            time.sleep(0.2)
        tables = [json.loads(other.read_text()) for other in paths if other.is_file()]
        seeds = self.options.seeds
        return max(20, min(int((_SLACK * t["left"] / seeds - t["fixed"]) / t["steps"]) for t in tables))

    def _measure_arm(self, front: FrontEnd, arm: Arm) -> tuple[float, float]:
        """The seconds of a training without its steps, and those of a step."""
        frames = len(self.images) * EVALUATION_BATCH
        try:
            self._training(front, arm, 1, 1000)  # whose features are computed once
            started = time.perf_counter()
            training = self._training(front, arm, 1, 1000)
            fixed = time.perf_counter() - started
            step = training.run(_MEASURED_STEPS, 1000)
            training.network.eval()
            started = time.perf_counter()
            training.logits(slice(0, EVALUATION_BATCH)).argmax(1).cpu()
            fixed += len(self.images) * (time.perf_counter() - started)
            if any(other.parent == arm.name for other in front.arms):
                started = time.perf_counter()
                training.evaluate_crf(self.images, frames // 2)
                fixed += frames / self.options.crf_every * (time.perf_counter() - started) / 2
        except (InputError, FloatingPointError) as error:
            self._note(f"{arm.name}: {error}")
            return 0.0, 0.0
        return fixed, step

    def close(self) -> None:
        self._note("done")

    def _note(self, text: str) -> None:
        print(f"[{self.options.deadline - time.time():5.0f} s left] film {self.number}: {text}", flush=True)
        atomic_write(self.path, json.dumps(self.record))


def merge(options: argparse.Namespace) -> None:
    """Write what all films have done by now into one file."""
    films = {}
    for number in range(1, options.folds + 1):
        path = options.out / f"film{number}.json"
        if path.is_file():
            films[str(number)] = json.loads(path.read_text())
    keys = ("levels", "features", "backbone", "crop", "batch", "views", "seeds", "front_seconds")
    settings = {key: getattr(options, key) for key in keys}
    device = World(device_name=options.device).device
    machine = ", ".join(describe_machine(str(device)).values())
    atomic_write(options.json, json.dumps({"settings": settings, "machine": machine, "films": films}))


def drive(options: argparse.Namespace) -> None:
    """Run a process for each film, start one that died once again, and merge what they write."""
    options.out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, *sys.argv[1:], "--deadline", str(options.deadline)]
    processes = {n: subprocess.Popen([*command, "--film", str(n)]) for n in range(1, options.folds + 1)}
    tries = dict.fromkeys(processes, 1)
    while processes:
        time.sleep(2)
        for number, process in list(processes.items()):
            if process.poll() is None:
                if time.time() > options.deadline + _CLOSING_SECONDS:
                    process.kill()
                continue
            del processes[number]
            if process.returncode and tries[number] < 3 and time.time() < options.deadline - 20:
                tries[number] += 1
                processes[number] = subprocess.Popen([*command, "--film", str(number)])
        merge(options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=1e9, help="for everything")
    parser.add_argument("--front-seconds", type=float, default=40)
    parser.add_argument("--steps", type=int, default=0, help="of each training; what there is time for by default")
    parser.add_argument("--arms", nargs="+", default=[*DEFAULT_ARMS, "none-crf"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=3, help="as many as there are films")
    parser.add_argument("--backbone", default=SegmenterConfig().backbone)
    parser.add_argument(
        "--levels", type=int, nargs="+", default=[0], help="of the backbone, of each front end; 0 for all"
    )
    parser.add_argument("--cut-arms", nargs="+", default=list(_CUT_ARMS), help="behind the second front end")
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--crop", type=int, nargs=2, default=[288, 384])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--crf-every", type=int, default=8)
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--film", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.deadline = options.deadline or time.time() + options.seconds
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.film:
        trainings = FoldTrainings(options, options.film)
        trainings.run()
        trainings.close()
    else:
        drive(options)


if __name__ == "__main__":
    main()
