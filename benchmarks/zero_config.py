"""Zero-configuration training beside segmentation_models.pytorch: the same weights, data, machine, time budget.

    python benchmarks/zero_config.py DATA --budget 8m --seeds 3 --out runs/zero --json runs/zero.jsonl

Each arm and seed is a cell that is kept in --out, `fpn-seed2.npz`: called again, the missing ones are trained.

Arms, one after another, each in a process of its own:
    dilated        `dilated train DATA --budget B`, nothing else said: planning and validation are inside the budget
    trial          the same with `--trial`, which tries two ways to treat the backbone inside the budget
    fpn, deeplabv3plus, unet       of segmentation_models.pytorch
    fpn-careful, ...               the same with our batch, frozen normalization and a slow encoder
    torchvision, segformer         torchvision's recipe, and transformers' SegFormer head on the same encoder

`benchmarks/peers.py` says what each is given; the one validation of a peer is not counted. All arms are measured by
the same code at the images' own resolution; 95% intervals are over groups of images, or blocks of one film, those of
differences paired.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from intervals import mean_iou_difference_of_seeds, mean_iou_interval
from peers import LOOPS, Peer, train_peer

from dilated import ConfusionMatrix, Predictor, load
from dilated.data.dataset import Dataset, open_dataset
from dilated.environment import describe_machine
from dilated.files import atomic_path
from dilated.training.budget import parse_duration

OURS = {"dilated": [], "trial": ["--trial"]}
ARMS = (*OURS, *LOOPS)


def measured(label_of: object, data: Dataset) -> np.ndarray:
    """(images, C, C) counts on val."""
    counts = []
    for pair in data.samples("val"):
        image = pair.read_image()
        confusion = ConfusionMatrix(data.classes.names)
        confusion.update(label_of(image), pair.read_label(image.shape[:2]))  # type: ignore[operator]
        counts.append(confusion.counts)
    return np.stack(counts)


def train_ours(
    options: argparse.Namespace,
    run: Path,
    changes: Sequence[str] = (),
    quiet: bool = False,
    words: Sequence[str] = (),
) -> None:
    """`dilated train` with the benchmark's data and budget, in a process of its own."""
    command = [sys.executable, "-m", "dilated", "train", str(options.data), "--out", str(run), "--no-report"]
    command += ["--budget", options.budget, *words, *(["--set", *changes] if changes else [])]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL if quiet else None)


def measured_ours(run: Path, data: Dataset) -> np.ndarray:
    """As `measured`, of a run's best network."""
    network = load(run)
    predictor = Predictor(network)
    order = np.array([data.classes.names.index(name) for name in network.classes])
    return measured(lambda image: order[predictor(image).labels], data)


def cell_name(arm: str, seed: int) -> str:
    """The name of a training: that of one arm with one seed."""
    return f"{arm}-seed{seed}"


def run_arm(arm: str, seed: int, options: argparse.Namespace, seconds: float) -> None:
    data = open_dataset(options.data)
    began = time.monotonic()
    name = cell_name(arm, seed)
    if arm in OURS:
        shutil.rmtree(options.out / name, ignore_errors=True)  # of a call that was killed: the time would not be right
        train_ours(options, options.out / name, [f"seed={seed}"], words=OURS[arm])
        took = time.monotonic() - began
        counts = measured_ours(options.out / name, data)
    else:
        network = train_peer(arm, data, seconds, seed)
        took = time.monotonic() - began
        counts = measured(Peer(network), data)
    options.out.mkdir(parents=True, exist_ok=True)
    with atomic_path(options.out / f"{name}.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, counts=counts, took=took)


def arguments(doc: str, budget: str) -> argparse.ArgumentParser:
    """What every comparison of trainings is told.

    Args:
        budget: the default.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", default=budget)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    return parser


def machine() -> str:
    return ", ".join(describe_machine("cpu").values())


def main() -> None:
    parser = arguments(__doc__, "8m")
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=ARMS,
        default=["dilated", "deeplabv3plus", "fpn"],
        help="those to compare, ours first",
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each arm")
    parser.add_argument("--arm", choices=ARMS, help="train one arm alone, without the table")
    parser.add_argument("--seed", type=int, default=0, help="of that arm")
    options = parser.parse_args()
    seconds = parse_duration(options.budget)
    if options.arm:
        return run_arm(options.arm, options.seed, options, seconds)
    for seed in range(options.seeds):  # so that a part of it has all arms
        for arm in options.arms:
            if not (options.out / f"{cell_name(arm, seed)}.npz").exists():
                command = [sys.executable, __file__, str(options.data), "--budget", options.budget]
                words = ["--out", str(options.out), "--arm", arm, "--seed", str(seed)]
                subprocess.run([*command, *words], check=True)
    print_table(options, seconds)
    return None


def print_table(options: argparse.Namespace, seconds: float) -> None:
    """Print each arm's mean IoU by seed with its interval, and the paired difference of the means over seeds."""
    data = open_dataset(options.data)
    names = [sample.name for sample in data.samples("val")]
    print(f"{data.root.name}, {options.budget}, {options.seeds} seeds, {machine()}")
    ours: list[np.ndarray] = []
    for arm in options.arms:
        cells = [np.load(options.out / f"{cell_name(arm, seed)}.npz") for seed in range(options.seeds)]
        counts = [cell["counts"] for cell in cells]
        ours = ours or counts
        values = [mean_iou_interval(one_seed, names) for one_seed in counts]
        mean, times = float(np.mean([value.value for value in values])), [float(cell["took"]) for cell in cells]
        by_seed = ", ".join(f"{value.value:.4f} [{value.low:.4f}, {value.high:.4f}]" for value in values)
        line = f"{arm:<14} mean IoU {mean:.4f} over {len(cells)} seeds ({by_seed}), {np.mean(times):.0f} s"
        entry = {"data": data.root.name, "budget": seconds, "arm": arm, "machine": machine(), "images": len(names)}
        entry |= {"mean_iou": mean, "by_seed": [[v.value, v.low, v.high] for v in values], "seconds": times}
        entry["iou"] = ConfusionMatrix(data.classes.names, np.sum([c.sum(0) for c in counts], axis=0)).iou
        if arm != options.arms[0]:
            less = mean_iou_difference_of_seeds(ours, counts, names)
            line += f"; {options.arms[0]} less it {less:+.4f}"
            entry |= {"ours_less": [less.value, less.low, less.high]}
        print(line)
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
