"""Leave one film out: whether a change of the plan helps on films that nobody trained on, one change at a time.

    python benchmarks/lofo.py CAMVID --out runs/lofo --budget 10m --seeds 3 --json runs/lofo.json \\
        --change strong augment.photometric=1.0 --change ohem loss.ohem=0.3

Each arm (the plan, then each change), film and seed is a cell: a training on the other films of the split `train`,
measured on all frames of the one left out. The split `val` is never read. A cell is kept in --out, and a call that was
killed goes on with the training where it was; so run it unattended, and again with more seeds or changes.

`--budget` lets `dilated train` plan and train in that time, on an idle machine. `--steps N` needs no idle machine: the
plan's own rules for time for N coarse steps of 8 samples, with the stages' shares turned into steps at the costs that
steps usually have; the same numbers on any machine, whatever else it does. Ten minutes on two cores are some 500 such
steps. `--shorten` makes all stages shorter, for a first look.

On a machine that is lent for minutes, cells run side by side, each with its share of the cores, until the time is up:

    python benchmarks/lofo.py CAMVID --out cells --steps 500 --shorten 0.75 --jobs 16 --device cuda --seconds 250 \\
        --changes benchmarks/lofo.toml --set batch=8 --every 2 --json lofo.json

The arms are begun in their order, for one seed after the other, and each is compared on the seeds that it has.

Nothing is chosen on the film that is left out: a training validates on a few frames that its own films give up, and the
network at the end of the last stage is measured. A change is `better` where the 95% interval of the paired difference,
over films and over the trainings of both sides, is above 0; three films give it two degrees of freedom, so little
passes. By film the interval is over blocks of its frames, and says nothing about other films.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from plan_for_steps import plan_for_steps
from side_by_side import Failure, run_side_by_side

from dilated import Predictor, load
from dilated.api import TrainOptions, train
from dilated.data.dataset import Dataset, DatasetDivision, open_dataset
from dilated.data.images import read_image
from dilated.data.labels import read_values
from dilated.environment import describe_machine
from dilated.errors import InputError
from dilated.evaluation.compare import MIN_RUNS
from dilated.evaluation.evaluate import MetricsConfig, evaluate
from dilated.evaluation.intervals import Interval, MetricIntervals, compute_differences
from dilated.evaluation.metrics import compute_metrics
from dilated.evaluation.variance import student_quantile
from dilated.files import atomic_path, atomic_write
from dilated.run_folder import CHECKPOINT_FILE, stage_file
from dilated.training.budget import parse_duration

PLAN = "plan"
_SECONDS_BETWEEN_REPORTS = 20.0
_INNER_VALIDATION = 16
"""One of so many frames of the films that are trained on is given up for a training's own validations."""


@dataclass(frozen=True)
class Cell:
    """One training: an arm, the film that it never sees, a seed."""

    arm: str
    film: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.film}-seed{self.seed}"


_read_image, _read_values = cache(read_image), cache(read_values)
"""A process that trains many times decodes each file once."""


@cache
def open_cached(folder: Path) -> Dataset:
    """Open a data set whose images and labels are kept in memory once they are read."""
    data = open_dataset(folder)
    parts = {
        "train": [
            replace(
                sample,
                image_reader=_read_image if sample.image_reader is read_image else sample.image_reader,
                label_reader=_read_values if sample.label_reader is read_values else sample.label_reader,
            )
            for sample in data.samples("train")
        ]
    }
    return replace(data, division=DatasetDivision(parts, {}))


def leave_out(data: Dataset, film: str, every: int = 1) -> tuple[Dataset, list[int]]:
    """Divide the split `train` by film.

    Args:
        every: measure one of so many frames of the film.

    Returns:
        A data set without the film, in `train` and `val`, and the indices in the folder's `train` of the film's frames.
    """
    samples, groups = data.samples("train"), data.groups("train")
    if film not in groups.indices:
        raise InputError(f"film {film!r}: not in the split train", hint=f"give some of {', '.join(groups.indices)}")
    left_out = list(groups.indices[film])[::every]
    others = [i for i, label in enumerate(groups.labels) if label != film]
    inner = set(others[_INNER_VALIDATION // 2 :: _INNER_VALIDATION])
    parts = {
        "train": [samples[i] for i in others if i not in inner],
        "val": [samples[i] for i in others if i in inner],
    }
    return replace(data, division=DatasetDivision(parts, {})), left_out


def run_cell(cell: Cell, data: Dataset, overrides: Sequence[str], options: argparse.Namespace) -> NDArray[np.int64]:
    """Train and measure, or read what was measured before: (P, 5 C) counts of the film's frames."""
    path = options.out / f"{cell.name}.npz"
    settings = json.dumps([list(overrides), options.steps, options.shorten, options.budget, options.every])
    if path.is_file():
        kept = np.load(path)
        if str(kept["settings"]) != settings:
            raise InputError(f"{path}: trained with other settings, {kept['settings']}", hint="give another --out")
        counts: NDArray[np.int64] = kept["counts"]
        return counts
    divided, left_out = leave_out(data, cell.film, options.every)
    run, seeded = options.out / cell.name, [*overrides, f"seed={cell.seed}"]
    is_begun = (run / CHECKPOINT_FILE).is_file()
    if not is_begun:
        shutil.rmtree(run, ignore_errors=True)  # killed before there was anything to resume
    recipe = None if is_begun or options.budget else plan_for_steps(divided, options.steps, seeded, options.shorten)
    training = TrainOptions(overrides=() if is_begun or recipe else seeded, report=False, device=options.device)
    budget = None if is_begun else options.budget
    finished = train(divided, run, budget=budget, recipe=recipe, resume=is_begun, options=training)
    last = run / stage_file(len(finished.recipe.stage) - 1)
    samples = data.samples("train")
    predictor = Predictor(load(str(last)), device=options.device)
    result = evaluate(predictor, [samples[i] for i in left_out], data.classes, MetricsConfig(boundary=True))
    if result.classes != data.classes.names:
        raise InputError(f"{last}: the classes are in another order than the data's")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, counts=result.image_counts, settings=settings)
    if not options.keep:
        shutil.rmtree(run)
    return result.image_counts


def measure_cell(work: tuple[Cell, list[str]], options: argparse.Namespace) -> NDArray[np.int64]:
    """`run_cell` in a process of its own."""
    torch.set_num_threads(options.threads or max(1, (os.cpu_count() or 1) // options.jobs))
    cell, overrides = work
    return run_cell(cell, open_cached(options.data), overrides, options)


def iter_results(
    cells: Sequence[Cell], data: Dataset, arms: dict[str, list[str]], options: argparse.Namespace
) -> Iterator[tuple[Cell, NDArray[np.int64] | Failure]]:
    """Yield each cell as soon as it is measured: one after the other, or in --jobs processes until --seconds are up."""
    if options.jobs == 1:
        for cell in cells:
            yield cell, run_cell(cell, data, arms[cell.arm], options)
        return
    work = [(cell, arms[cell.arm]) for cell in cells]
    for (cell, _), result in run_side_by_side(
        partial(measure_cell, options=options), work, options.jobs, options.seconds
    ):
        yield cell, result


def compare_arms(
    candidate: NDArray[np.int64], baseline: NDArray[np.int64], data: Dataset, left_out: Sequence[int]
) -> MetricIntervals:
    """Compare (S, P, K) counts of S seeds each, on the frames of one film or of all."""
    groups = data.groups("train").select(list(left_out))
    return compute_differences(list(candidate), list(baseline), len(data.classes), groups)


def verdict(difference: Interval, seeds: int) -> str:
    """Say what an interval over films and seeds says of a change."""
    if not difference.is_known or not difference.excludes_zero:
        return "not shown"
    better = "better" if difference.low > 0 else "worse"
    return better if seeds >= MIN_RUNS else f"{better} on these trainings; not shown before {MIN_RUNS} seeds"


def describe_arm(
    arm: str, counts: dict[str, NDArray[np.int64]], baseline: dict[str, NDArray[np.int64]], data: Dataset, every: int
) -> dict[str, Any]:
    """The figures of an arm, and of its paired differences from the plan.

    Args:
        counts: of the arm, (S, P, 5 C) by film.
        baseline: of the plan, likewise.
    """
    number = len(data.classes)
    frames = {film: leave_out(data, film, every)[1] for film in counts}
    pooled, pooled_baseline = (np.concatenate(list(side.values()), axis=1) for side in (counts, baseline))
    metrics = compute_metrics(pooled.sum(1), number)  # (S, ...)
    entry: dict[str, Any] = {
        "arm": arm,
        "mean_iou": float(metrics["mean_iou"].mean()),
        "mean_boundary_iou": float(metrics["mean_boundary_iou"].mean()),
        "iou": dict(zip(data.classes.names, metrics["iou"].mean(0).round(4).tolist(), strict=True)),
        "by_seed": metrics["mean_iou"][:, 0].round(4).tolist(),
        "by_film": {
            film: float(compute_metrics(rows.sum(1), number)["mean_iou"].mean()) for film, rows in counts.items()
        },
    }
    if arm != PLAN:
        all_frames = [index for film in counts for index in frames[film]]
        over_films = compare_arms(pooled, pooled_baseline, data, all_frames)
        difference = over_films.metrics["mean_iou"][0]
        by_class = [interval.value for interval in over_films.metrics["iou"]]
        entry |= {
            "less_the_plan": vars(difference),
            "boundary_less_the_plan": vars(over_films.metrics["mean_boundary_iou"][0]),
            "class_less_the_plan": dict(zip(data.classes.names, np.round(by_class, 4).tolist(), strict=True)),
            "film_less_the_plan": {
                film: vars(compare_arms(rows, baseline[film], data, frames[film]).metrics["mean_iou"][0])
                for film, rows in counts.items()
            },
            "over": over_films.units.describe(),
            "cells_less_the_plan": compare_cells(counts, baseline, number),
            "verdict": verdict(difference, len(pooled)),
        }
    return entry


def compare_cells(
    counts: dict[str, NDArray[np.int64]], baseline: dict[str, NDArray[np.int64]], classes: int
) -> dict[str, Any]:
    """The paired differences of the cells, one for each film and seed, with Student's 95% interval of their mean.

    The cells of a film are no independent films: this says whether other trainings would show the same on these films.
    """
    sides = (
        {film: compute_metrics(rows.sum(1), classes) for film, rows in side.items()} for side in (counts, baseline)
    )
    ours, theirs = sides
    differences = np.concatenate([(ours[film]["mean_iou"] - theirs[film]["mean_iou"]).ravel() for film in ours])
    mean, number = float(differences.mean()), len(differences)
    half = math.inf
    if number > 1:
        half = float(student_quantile(np.array(number - 1.0)) * differences.std(ddof=1) / math.sqrt(number))
    return {"value": mean, "low": mean - half, "high": mean + half, "cells": differences.round(4).tolist()}


def print_arm(entry: dict[str, Any]) -> None:
    """Print the figures of one arm: a line, a line of films, a line of classes."""
    seeds = ", ".join(f"{value:.4f}" for value in entry["by_seed"])
    print(f"{entry['arm']}: mean IoU {entry['mean_iou']:.4f} ({seeds}), boundary {entry['mean_boundary_iou']:.4f}")
    if "verdict" not in entry:
        return
    print(f"  less the plan {Interval(**entry['less_the_plan']):+.4f}: {entry['verdict']}; {entry['over']}")
    films = (f"{film} {Interval(**values):+.4f}" for film, values in entry["film_less_the_plan"].items())
    cells = entry["cells_less_the_plan"]
    print(f"  over {len(cells['cells'])} cells {cells['value']:+.4f} [{cells['low']:+.4f}, {cells['high']:+.4f}]")
    print(f"  boundary IoU {Interval(**entry['boundary_less_the_plan']):+.4f}")
    print(f"  by film, over blocks: {'; '.join(films)}")
    print("  by class: " + ", ".join(f"{name} {value:+.3f}" for name, value in entry["class_less_the_plan"].items()))


def read_changes(options: argparse.Namespace) -> dict[str, list[str]]:
    """The overrides of each arm by its name, the plan's first."""
    arms = {PLAN: list(options.set)}
    tables = [tomllib.loads(path.read_text(encoding="utf-8")) for path in options.changes]
    for name, *overrides in [*([name, *keys] for table in tables for name, keys in table.items()), *options.change]:
        if not overrides or name in arms or "/" in name:
            raise InputError(f"--change {name}: give a new name, then KEY=VALUE of the recipe")
        arms[name] = [*options.set, *overrides]
    return arms


def iter_cells(arms: Sequence[str], films: Sequence[str], seeds: int) -> Iterator[Cell]:
    """Yield the cells so that whatever is done are whole arms, the first ones first, of one seed after the other."""
    for seed, arm, film in product(range(seeds), arms, films):
        yield Cell(arm, film, seed)


def report(
    options: argparse.Namespace, data: Dataset, arms: dict[str, list[str]], done: dict[Cell, NDArray[np.int64]]
) -> list[dict[str, Any]]:
    """Write the verdict on each arm, on the seeds of which it and the plan have every film."""
    films = options.films or list(data.groups("train").indices)
    seeds = {arm: [s for s in range(options.seeds) if all(Cell(arm, f, s) in done for f in films)] for arm in arms}
    entries = []
    for arm in arms:
        shared = [seed for seed in seeds[arm] if seed in seeds[PLAN]]
        if shared:
            ours, plan = (
                {film: np.stack([done[Cell(side, film, seed)] for seed in shared]) for film in films}
                for side in (arm, PLAN)
            )
            entry = describe_arm(arm, ours, plan, data, options.every)
            entries.append({**entry, "seeds": shared, "set": arms[arm]})
    if options.json and done:
        about = {"data": data.root.name, "steps": options.steps, "shorten": options.shorten, "budget": options.budget}
        about |= {"every": options.every, "machine": ", ".join(describe_machine(options.device or "cpu").values())}
        cells = {
            cell.name: float(compute_metrics(counts.sum(0), len(data.classes))["mean_iou"].item())
            for cell, counts in sorted(done.items(), key=lambda item: item[0].name)
        }
        table = {**about, "films": films, "arms": entries, "mean_iou_of_cells": cells}
        atomic_write(options.json, json.dumps(table, indent=1) + "\n")
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="where the cells are kept")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, default=0, help="time for so many coarse steps of 8 samples")
    length.add_argument("--budget", help="such as 10m, for each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--films", nargs="+", help="the films to leave out in turn; all by default")
    parser.add_argument("--every", type=int, default=1, help="measure one of so many frames")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="for all arms, the plan's too")
    parser.add_argument("--change", nargs="+", action="append", default=[], metavar="NAME KEY=VALUE")
    parser.add_argument("--changes", type=Path, nargs="+", default=[], help="TOML files of NAME = ['KEY=VALUE', ...]")
    parser.add_argument("--shorten", type=float, default=1.0, help="with --steps: the part of each stage that is made")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for a job's share of the cores")
    parser.add_argument("--jobs", type=int, default=1, help="cells that are trained side by side; with --steps")
    parser.add_argument("--device", help="such as cuda; by default CUDA where there is one")
    parser.add_argument("--seconds", type=float, help="with --jobs: when to stop and report what is done")
    parser.add_argument("--keep", action="store_true", help="keep the runs of the trainings, networks and all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.budget:
        parse_duration(options.budget)
        if options.jobs > 1:
            raise InputError("--jobs: cells with a --budget share no machine", hint="give --steps instead")
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    data, arms = open_dataset(options.data), read_changes(options)
    films = options.films or list(data.groups("train").indices)
    done: dict[Cell, NDArray[np.int64]] = {}
    started = written = time.monotonic()
    for cell, result in iter_results(list(iter_cells(list(arms), films, options.seeds)), data, arms, options):
        if isinstance(result, Failure):
            print(f"{cell.name}: not done: {result.reason}", flush=True)
            continue
        done[cell] = result
        value = compute_metrics(result.sum(0), len(data.classes))["mean_iou"].item()
        print(f"{cell.name}: {value:.4f} after {time.monotonic() - started:.0f} s", flush=True)
        if time.monotonic() - written > _SECONDS_BETWEEN_REPORTS:
            report(options, data, arms, done)
            written = time.monotonic()
    for entry in report(options, data, arms, done):
        print_arm(entry)


if __name__ == "__main__":
    main()
