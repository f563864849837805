"""The arms of a study by leave-one-film-out in minutes: images and frozen features stay in the memory of a GPU.

    python benchmarks/study_films.py CAMVID --out runs/films --json films.json --levels 4 0 --seconds 200
    python benchmarks/study_films_table.py films.json --levels 4

One process for each film that is left out. Each trains a front end on the other films for `--front-steps`, first at
stride 16, computes its features of a few augmented views of each image and of the images of the film that is left out,
and trains every arm on them with `dilated study`'s recipe of it: the same views, batches, steps and start for all arms
of a seed. Nothing is chosen on the film that is left out. `dilated study` does the same with runs that can be looked
at; it takes longer for each training.

All seeds of an arm come before the next arm, in the order in which the arms are given; the steps of all arms are cut so
that the first `--first` arms take four fifths of the seconds that are left. Dense CRFs come last, on few frames,
`--crf-every`. What is done is in --out: the same command goes on. `--json` gets the counts of all frames.
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

import torch
from frozen_arms import EVALUATION_BATCH, ArmTraining, Batches, FoldFeatures, extract, pack

from dilated.data.augment import AugmentConfig
from dilated.data.dataset import Dataset, DatasetDivision, open_dataset
from dilated.data.device_batches import DeviceBatches, DeviceImages, decode_to_device
from dilated.data.loader import iter_batch_keys
from dilated.environment import describe_machine
from dilated.errors import InputError
from dilated.files import atomic_write
from dilated.models.segmenter import Segmenter, SegmenterConfig
from dilated.training import optim, stages
from dilated.training.config import Recipe, StageConfig
from dilated.training.distributed.world import World
from dilated.training.step import TrainStep
from dilated.training.study_arms import Arm, ArmLength, find_arms, make_arm_recipe
from dilated.training.study_measure import build_arm_network
from dilated.weights.bundled import load

_MEASURED_STEPS, _LEAST_STEPS, _FIRST_SHARE = 15, 60, 0.8
_CLOSING_SECONDS, _CRF_SECONDS, _PATIENCE = 6.0, 30.0, 30.0
_CRF_RNN_STEPS = 12
_ARMS = (
    *("none", "basic", "basic-undilated", "basic-random", "large", "aspp", "psp", "unet", "basic-logits", "largefov"),
    *("large-random", "aspp-v2", "hdc", "degridding", "duc", "fcn-8s", "fcn-16s", "fcn-32s", "none-crf"),
)


def open_fold(folder: Path, number: int) -> Dataset:
    """The images of the splits train and val, of which one film is measured and the others are learned from."""
    data = open_dataset(folder)
    pairs = [
        pair for split in ("train", "val") for pair in zip(data.samples(split), data.groups(split).labels, strict=True)
    ]
    left_out = sorted({film for _, film in pairs})[number - 1]
    parts = {
        "train": [sample for sample, film in pairs if film != left_out],
        "val": [sample for sample, film in pairs if film == left_out],
    }
    return replace(data, division=DatasetDivision(parts, {}))


def front_recipe(levels: int, options: argparse.Namespace) -> Recipe:
    """The recipe of a front end: a coarse stage, then a fine one."""
    lengths = {16: max(1, options.front_steps * 4 // 5), 8: max(1, options.front_steps // 5)}
    rates = {16: 4e-3, 8: 1e-3}
    return Recipe(
        network=SegmenterConfig(backbone=options.backbone, levels=levels, features=options.features),
        augment=AugmentConfig(crop=tuple(options.crop), scale=(0.6, 1.8)),
        stage=tuple(
            StageConfig(
                "frontend",
                iterations=steps,
                output_stride=stride,
                lr=rates[stride],
                backbone_lr_factor=0.2,
                freeze=2,
                freeze_norm="always",
            )
            for stride, steps in lengths.items()
        ),
        weights="bundled" if options.backbone == SegmenterConfig().backbone else "random",
        batch=options.batch,
    )


def train_front(
    data: Dataset, images: DeviceImages, recipe: Recipe, path: Path, seconds: float
) -> tuple[Segmenter, int]:
    """Train the front end of a fold, or load what was trained before; returns the steps made too.

    Args:
        seconds: after which a stage ends at the latest.
    """
    if path.is_file():
        network = cast(Segmenter, load(path))
        return network, int(str(network.card["steps"]))
    device, total = images.images[0].device, 0
    torch.manual_seed(0)
    segmenter, _ = stages.build_initial_segmenter(data.classes, recipe, None)
    for number, stage in enumerate(recipe.stage):
        segmenter = stages.rebuild_for_stage(segmenter, stage, recipe).to(device)
        stages.set_modes(segmenter, stage, freeze_norm=True)
        step = TrainStep(segmenter, stage, recipe, World(device_name=str(device)), notify=lambda line: None)
        batches = DeviceBatches(images, recipe.augment, seed=number)
        keys = iter_batch_keys(len(images), recipe.batch, number, 0, stage.iterations)
        started, progress = time.monotonic(), 0.0
        for index, (image, label) in enumerate(batches.iterate(keys)):
            optim.set_learning_rate(step.optimizer, stage, index, progress)
            loss = step(image, label, recipe.batch, 0)
            if index % 10 == 9:
                float(loss)  # waits for the device, so that the clock is right
            elapsed = (time.monotonic() - started) / seconds
            progress, total = max((index + 1) / stage.iterations, elapsed), total + 1
            if progress >= 1:
                break
    segmenter.card = {"steps": total}
    segmenter.save(path)
    return cast(Segmenter, load(path)), total


def make_views(images: DeviceImages, recipe: Recipe, views: int) -> Batches:
    """All views of each image, in batches."""
    draws = [(index, view * len(images) + index) for view in range(views) for index in range(len(images))]
    keys = [draws[i : i + recipe.batch] for i in range(0, len(draws), recipe.batch)]
    return list(DeviceBatches(images, recipe.augment, 100).iterate(keys))


def batch_images(images: DeviceImages) -> Batches:
    """The images as they are, which have one size, in batches."""
    starts = range(0, len(images), EVALUATION_BATCH)
    ranges = [slice(start, start + EVALUATION_BATCH) for start in starts]
    return [(torch.stack(images.images[r]).float() / 255, torch.stack(images.labels[r]).long()) for r in ranges]


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
        self.data = open_fold(options.data, number)
        self.refined: list[tuple[FrontEnd, Arm, int, ArmTraining]] = []

    def run(self) -> None:
        """Train and measure what is not done yet."""
        options, samples = self.options, self.data.samples("val")
        self.record |= {
            "film": self.data.groups("val").labels[0],
            "names": [sample.name for sample in samples],
            "classes": list(self.data.classes.names),
        }
        self._note("reading the images")
        self.learned = decode_to_device(self.data.samples("train"), self.device, options.workers)
        self.images = batch_images(decode_to_device(samples, self.device, options.workers))
        self.views = make_views(self.learned, front_recipe(0, options), options.views)
        for levels in options.levels:
            front = self._make_front(levels)
            if "steps" not in self.record:
                self.record["steps"] = options.steps if options.fixed else self._cut_steps(front)
            self._note(f"{self.record['steps']} steps for each training")
            for arm in front.arms:
                for seed in range(1, options.seeds + 1):
                    if arm.parent or str(seed) in front.record["arms"].get(arm.name, {}):
                        continue
                    if time.time() > options.deadline - _CLOSING_SECONDS - _CRF_SECONDS * bool(self.refined):
                        self._note("the time is over")
                        return self._refine()
                    self._run_arm(front, arm, seed, self.record["steps"])
            front.features.clear()
        return self._refine()

    def _make_front(self, levels: int) -> FrontEnd:
        options = self.options
        self._note(f"training a front end of {levels or 'all'} levels")
        recipe = front_recipe(levels, options)
        path = options.out / f"front{self.number}-{levels}.safetensors"
        network, steps = train_front(self.data, self.learned, recipe, path, options.front_seconds)
        arms = [arm for arm in find_arms(tuple(options.arms)) if not arm.reads_images]
        record = self.record["fronts"].setdefault(str(levels), {"arms": {}, "failed": {}})
        record["front_steps"] = steps
        return FrontEnd(network.to(self.device), recipe, arms, record)

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
            entry["step_seconds"] = round(training.run(steps, steps), 6)
            training.take_average()
            started = time.perf_counter()
            entry["counts"] = pack(training.evaluate())
            entry["evaluation_seconds"] = round(time.perf_counter() - started, 3)
        except (InputError, RuntimeError, FloatingPointError) as error:
            if "CUDA error" in str(error):
                raise  # nothing more can be done in this process
            front.record["failed"][f"{arm.name} {seed}"] = f"{type(error).__name__}: {error}"[:500]
            self._note(f"{arm.name}, seed {seed}: failed: {error}")
            return
        front.record["arms"].setdefault(arm.name, {})[str(seed)] = entry
        self._note(f"{arm.name}, seed {seed}: {1000 * entry['step_seconds']:.1f} ms a step")
        self.refined += [(front, child, seed, training) for child in front.arms if child.parent == arm.name]

    def _refine(self) -> None:
        """Measure the dense CRFs, on few frames, since they take much longer than a network."""
        for is_rnn in (False, True):
            for front, arm, seed, training in self.refined:
                if time.time() > self.options.deadline:
                    return
                started, name = time.perf_counter(), f"{arm.name}rnn" if is_rnn else arm.name
                try:
                    layer = training.train_crf_rnn(self.views, _CRF_RNN_STEPS) if is_rnn else None
                    refined = pack(training.evaluate_crf(self.images, self.options.crf_every, layer))
                except RuntimeError as error:
                    front.record["failed"][f"{name} {seed}"] = f"{type(error).__name__}: {error}"[:500]
                    self._note(f"{name}, seed {seed}: failed: {error}")
                    continue
                seconds = round(time.perf_counter() - started, 3)
                table = {"counts": refined, "every": self.options.crf_every, "evaluation_seconds": seconds}
                front.record["arms"].setdefault(name, {})[str(seed)] = table
                self._note(f"{name}, seed {seed}: {seconds:.1f} s")

    def _cut_steps(self, front: FrontEnd) -> int:
        """As many steps as all films have time for; the films tell each other by files."""
        options, trained = self.options, [arm for arm in front.arms if not arm.parent]
        path = options.out / f"seconds{self.number}.json"
        if not path.is_file():
            self._training(front, trained[0], 1, 1000)  # the features
            started = time.perf_counter()
            training = self._training(front, trained[min(1, len(trained) - 1)], 1, 1000)
            built = time.perf_counter()
            step = training.run(_MEASURED_STEPS, 1000)
            training.network.eval()
            evaluated = time.perf_counter()
            training.logits(slice(0, EVALUATION_BATCH)).argmax(1).cpu()
            fixed = built - started + len(self.images) * (time.perf_counter() - evaluated)
            left = options.deadline - time.time()
            atomic_write(path, json.dumps({"left": left, "fixed": fixed, "step": step}))
        paths = [options.out / f"seconds{number}.json" for number in range(1, options.folds + 1)]
        patience = time.time() + _PATIENCE
        while not all(other.is_file() for other in paths) and time.time() < patience:
            time.sleep(0.2)
        tables = [json.loads(other.read_text()) for other in paths if other.is_file()]
        trainings = options.first * options.seeds
        possible = [(_FIRST_SHARE * t["left"] / trainings - t["fixed"]) / t["step"] for t in tables]
        return max(_LEAST_STEPS, min(options.steps, int(min(possible))))

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
    keys = ("levels", "features", "backbone", "crop", "batch", "views", "seeds", "front_steps", "first")
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
    parser.add_argument("--front-steps", type=int, default=300)
    parser.add_argument("--front-seconds", type=float, default=30, help="after which a stage of it ends at the latest")
    parser.add_argument("--steps", type=int, default=400, help="of each training, at most")
    parser.add_argument("--fixed", action="store_true", help="make so many steps, however long they take")
    parser.add_argument("--first", type=int, default=6, help="arms that four fifths of the time must be enough for")
    parser.add_argument("--arms", nargs="+", default=list(_ARMS), help="the most important first")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=3, help="as many as there are films")
    parser.add_argument("--backbone", default=SegmenterConfig().backbone)
    parser.add_argument(
        "--levels", type=int, nargs="+", default=[0], help="of the backbone, of each front end; 0 for all"
    )
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--crop", type=int, nargs=2, default=[288, 384])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=4, help="threads that decode images")
    parser.add_argument("--crf-every", type=int, default=16)
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
