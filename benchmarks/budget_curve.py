"""What more time is worth: mean IoU on val against the budget of `dilated train`, and whether it ever falls.

    python benchmarks/budget_curve.py CAMVID --budgets 1m 4m 15m 1h --seeds 3 --out runs/curve --json curve.jsonl

Each budget and seed is a training in a process of its own, `BUDGET-seedN` in --out; called again, those that are there
are not trained again, and one that was stopped goes on with the time that it had left. Each line has the mean over
seeds with its interval over films (or what else groups the images), by film, and the difference to the budget before,
paired over films. The exit status is 1 where a difference lies below 0 with its whole interval: more time gave less.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from intervals import mean_iou_difference_of_seeds, mean_iou_interval
from zero_config import machine, measured_ours

from dilated import ConfusionMatrix
from dilated.data.dataset import Dataset, open_dataset
from dilated.run_folder import BEST_FILE, CHECKPOINT_FILE
from dilated.training.budget import parse_duration

COUNTS_FILE = "counts.npz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--budgets", nargs="+", default=["1m", "4m", "15m"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="changes to the plan, such as workers=2")
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    budgets = sorted(options.budgets, key=parse_duration)
    data = open_dataset(options.data)
    print(f"{data.root.name}, {options.seeds} seeds, {machine()}")
    before: list[np.ndarray] = []
    falls = False
    for budget in budgets:
        counts = [measure(budget, seed, data, options) for seed in range(options.seeds)]
        entry = describe(counts, before, data)
        falls = falls or entry.get("less_the_one_before", [0, 0, 0])[2] < 0
        print(f"{budget:>5}  {entry['text']}", flush=True)
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"budget": parse_duration(budget), "machine": machine(), **entry}) + "\n")
        before = counts
    return int(falls)


def measure(budget: str, seed: int, data: Dataset, options: argparse.Namespace) -> np.ndarray:
    """(images, C, C) counts on val of a training that is made or finished where it is not there."""
    run: Path = options.out / f"{budget}-seed{seed}"
    if (run / COUNTS_FILE).is_file():
        return np.load(run / COUNTS_FILE)["counts"]
    command = [sys.executable, "-m", "dilated", "train", str(options.data), "--out", str(run), "--no-report"]
    command += ["--device", options.device] if options.device else []
    if (run / CHECKPOINT_FILE).is_file():
        command += ["--resume"]
    else:
        command += ["--budget", budget, "--set", f"seed={seed}", *options.set]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert (run / BEST_FILE).is_file()
    counts = measured_ours(run, data)
    np.savez(run / COUNTS_FILE, counts=counts)
    return counts


def describe(counts: list[np.ndarray], before: list[np.ndarray], data: Dataset) -> dict[str, object]:
    """The figures of one budget, and as text.

    Args:
        counts: (images, C, C) of each seed.
        before: those of the budget before; none for the first.
    """
    names = [sample.name for sample in data.samples("val")]
    values = [mean_iou_interval(matrices, names) for matrices in counts]
    low, high = (float(np.mean([getattr(value, side) for value in values])) for side in ("low", "high"))
    mean = float(np.mean([value.value for value in values]))
    films = {
        str(film): float(np.mean([_mean_iou(matrices[np.array(indices)], data) for matrices in counts]))
        for film, indices in data.groups("val").indices.items()
    }
    text = f"mean IoU {mean:.4f} [{low:.4f}, {high:.4f}]; " + ", ".join(f"{k} {v:.4f}" for k, v in films.items())
    entry: dict[str, object] = {"mean_iou": [mean, low, high], "by_film": films}
    if before:
        less = mean_iou_difference_of_seeds(counts, before, names)
        text += f"; {less:+.4f} to the budget before"
        entry["less_the_one_before"] = [less.value, less.low, less.high]
    return entry | {"text": text}


def _mean_iou(counts: np.ndarray, data: Dataset) -> float:
    return ConfusionMatrix(data.classes.names, counts.sum(0)).mean_iou


if __name__ == "__main__":
    sys.exit(main())
