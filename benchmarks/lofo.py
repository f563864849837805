"""Leave one film out: whether a change of the plan helps on films that nobody trained on, one change at a time.

    python benchmarks/lofo.py CAMVID --out runs/lofo --budget 10m --seeds 3 --json runs/lofo.json \\
        --change strong augment.photometric=1.0 --change ohem loss.ohem=0.3

Each arm (the plan, then each change), film and seed is a cell: a training on the other films of the split `train`,
measured on all frames of the one left out. The split `val` is never read. A cell is kept in --out, and a call that was
killed goes on with the training where it was; so run it unattended, and again with more seeds or changes.

`--budget` lets `dilated train` plan and train in that time, on an idle machine. `--steps N` needs no idle machine: the
plan's own rules for time for N coarse steps of 8 samples, with the stages' shares turned into steps at the costs that
steps usually have; the same numbers on any machine, whatever else it does.

Nothing is chosen on the film that is left out: a training validates on a few frames that its own films give up, and the
network at the end of the last stage is measured. A change is `better` where the 95% interval of the paired difference,
over films and over the trainings of both sides, is above 0; three films give it two degrees of freedom, so little
passes. By film the interval is over blocks of its frames, and says nothing about other films.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dilated import Predictor, load
from dilated.api import TrainOptions, train
from dilated.config import build_dataclass
from dilated.data.dataset import Dataset, DatasetDivision, open_dataset
from dilated.environment import describe_machine
from dilated.errors import InputError
from dilated.evaluation.compare import MIN_RUNS
from dilated.evaluation.evaluate import MetricsConfig, evaluate
from dilated.evaluation.intervals import Interval, MetricIntervals, compute_differences
from dilated.evaluation.metrics import compute_metrics
from dilated.files import atomic_path, atomic_write
from dilated.run_folder import CHECKPOINT_FILE, stage_file
from dilated.training.autoplan.choices import (
    candidate_batch_sizes,
    choose_batch_size,
    choose_ema_decay,
    choose_from_data,
    fill_class_priors,
    plan_stages,
)
from dilated.training.autoplan.measure import Cost, summarize_dataset
from dilated.training.budget import COST_PER_HALVING, parse_duration
from dilated.training.config import Recipe
from dilated.training.recipe_files import apply_override

PLAN = "plan"
_INNER_VALIDATION = 16
"""One of so many frames of the films that are trained on is given up for a training's own validations."""
_NOMINAL_BATCH = 8


@dataclass(frozen=True)
class Cell:
    """One training: an arm, the film that it never sees, a seed."""

    arm: str
    film: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.film}-seed{self.seed}"


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


def plan_for_steps(data: Dataset, steps: int, overrides: Sequence[str]) -> Recipe:
    """The plan for time for so many coarse steps of 8 samples, in steps instead of seconds."""
    summary = summarize_dataset(data.samples("train"), data.classes)
    table, _ = choose_from_data(summary, cuda=False)
    batch, _ = choose_batch_size(candidate_batch_sizes(summary, False, 1), steps * _NOMINAL_BATCH)
    coarse = batch / _NOMINAL_BATCH  # seconds of a step, where one of 8 samples takes one
    cost = Cost({16: coarse, 8: coarse * COST_PER_HALVING}, {16: 0.0, 8: 0.0}, 0.0, 0, 0, 1)
    stages, _ = plan_stages(summary, cost, float(steps), batch, 0, pretrained=True)
    total = sum(stage["share"] for stage in stages)
    for stage in stages:
        seconds = steps * stage.pop("share") / total
        stage["iterations"] = max(1, round(seconds / cost.step_seconds[stage["output_stride"]]))
        stage["val_interval"] = float(stage["iterations"])
    if stages[-1]["kind"] == "frontend":
        table["network"]["context"] = "none"
    ema, _ = choose_ema_decay(stages[-1]["iterations"])
    table |= {"batch": batch, "stage": stages, "ema": ema, "cache": True, "workers": 0}
    changed = [text for text in overrides if text.replace(" ", "").startswith("batch=")]
    for text in changed:  # as many samples in steps of another size
        apply_override(table, text, Recipe)
        for stage in stages:
            stage["iterations"] = max(1, round(stage["iterations"] * batch / table["batch"]))
            stage["val_interval"] = float(stage["iterations"])
        batch = table["batch"]
        table["ema"], _ = choose_ema_decay(stages[-1]["iterations"])
    for text in overrides:
        apply_override(table, text, Recipe)
    return fill_class_priors(build_dataclass(Recipe, table, "plan"), summary)


def run_cell(cell: Cell, data: Dataset, overrides: Sequence[str], options: argparse.Namespace) -> NDArray[np.int64]:
    """Train and measure, or read what was measured before: (P, 5 C) counts of the film's frames."""
    path = options.out / f"{cell.name}.npz"
    settings = json.dumps([list(overrides), options.steps, options.budget, options.every])
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
    recipe = None if is_begun or options.budget else plan_for_steps(divided, options.steps, seeded)
    training = TrainOptions(overrides=() if is_begun or recipe else seeded, report=False)
    budget = None if is_begun else options.budget
    finished = train(divided, run, budget=budget, recipe=recipe, resume=is_begun, options=training)
    last = run / stage_file(len(finished.recipe.stage) - 1)
    samples = data.samples("train")
    result = evaluate(
        Predictor(load(str(last))), [samples[i] for i in left_out], data.classes, MetricsConfig(boundary=True)
    )
    if result.classes != data.classes.names:
        raise InputError(f"{last}: the classes are in another order than the data's")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, counts=result.image_counts, settings=settings)
    if not options.keep:
        shutil.rmtree(run)
    return result.image_counts


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
            "verdict": verdict(difference, len(pooled)),
        }
    return entry


def print_arm(entry: dict[str, Any]) -> None:
    """Print the figures of one arm: a line, a line of films, a line of classes."""
    seeds = ", ".join(f"{value:.4f}" for value in entry["by_seed"])
    print(f"{entry['arm']}: mean IoU {entry['mean_iou']:.4f} ({seeds}), boundary {entry['mean_boundary_iou']:.4f}")
    if "verdict" not in entry:
        return
    print(f"  less the plan {Interval(**entry['less_the_plan']):+.4f}: {entry['verdict']}; {entry['over']}")
    films = (f"{film} {Interval(**values):+.4f}" for film, values in entry["film_less_the_plan"].items())
    print(f"  by film, over blocks: {'; '.join(films)}")
    print("  by class: " + ", ".join(f"{name} {value:+.3f}" for name, value in entry["class_less_the_plan"].items()))


def read_changes(options: argparse.Namespace) -> dict[str, list[str]]:
    """The overrides of each arm by its name, the plan's first."""
    arms = {PLAN: list(options.set)}
    for name, *overrides in options.change:
        if not overrides or name in arms or "/" in name:
            raise InputError(f"--change {name}: give a new name, then KEY=VALUE of the recipe")
        arms[name] = [*options.set, *overrides]
    return arms


def iter_cells(arms: Sequence[str], films: Sequence[str], seeds: int) -> Iterator[Cell]:
    """Yield the cells so that whatever is done has all arms of a film and a seed."""
    for seed, film, arm in product(range(seeds), films, arms):
        yield Cell(arm, film, seed)


def report(
    options: argparse.Namespace, data: Dataset, arms: dict[str, list[str]], done: dict[Cell, NDArray[np.int64]]
) -> None:
    """Print and write the verdicts on the seeds of which all films and arms are done."""
    films = list(dict.fromkeys(cell.film for cell in done))
    seeds = [s for s in range(options.seeds) if all(Cell(a, f, s) in done for a in arms for f in films)]
    if not seeds:
        return
    counts = {arm: {film: np.stack([done[Cell(arm, film, s)] for s in seeds]) for film in films} for arm in arms}
    entries = [describe_arm(arm, by_film, counts[PLAN], data, options.every) for arm, by_film in counts.items()]
    for entry in entries:
        print_arm(entry)
    if options.json:
        about = {"data": data.root.name, "steps": options.steps, "budget": options.budget, "every": options.every}
        about |= {"machine": ", ".join(describe_machine("cpu").values()), "seeds": seeds, "films": films}
        table = [{**entry, "set": arms[entry["arm"]]} for entry in entries]
        atomic_write(options.json, json.dumps({**about, "arms": table}, indent=1) + "\n")


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
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for as many as there are cores")
    parser.add_argument("--keep", action="store_true", help="keep the runs of the trainings, networks and all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.budget:
        parse_duration(options.budget)
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    data, arms = open_dataset(options.data), read_changes(options)
    films = options.films or list(data.groups("train").indices)
    done: dict[Cell, NDArray[np.int64]] = {}
    for cell in iter_cells(list(arms), films, options.seeds):
        done[cell] = run_cell(cell, data, arms[cell.arm], options)
        if cell == Cell(list(arms)[-1], films[-1], cell.seed):
            report(options, data, arms, done)


if __name__ == "__main__":
    main()
