"""Training steps per second of the plan on a data set: this version against another, with both loss curves.

    git worktree add /tmp/before ff9e19d && python benchmarks/training_speed.py CAMVID --other /tmp/before/src

Two processes, one per version, train the plan's own network, with its own crops, batch, optimizer and moving average.
They take turns by blocks of steps, so that other load on the machine meets both; images are read and augmented in the
same process, so that the processor time is that of the whole step. For each output stride of the plan's stages: the
median over the blocks of the seconds per step, the processor seconds per step, their ratios, and the largest difference
of the losses of the same step. The bar is 1.25 times the steps per second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

_BAR = 1.25
_VERSIONS = ("other", "this")


def train_blocks(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train by the package that is imported; yield the losses and the times of each block of steps."""
    from dilated.data.dataset import open_dataset
    from dilated.data.loader import iter_batch_keys, iter_batches
    from dilated.data.torch_dataset import TrainingSamples
    from dilated.training import optim, stages
    from dilated.training.distributed.world import World
    from dilated.training.step import TrainStep

    recipe, stride = _read_recipe(options.recipe), options.stride
    stage = next(stage for stage in recipe.stage if stage.output_stride == stride)
    recipe = replace(recipe, stage=(stage,))
    data = open_dataset(options.data)
    torch.manual_seed(recipe.seed)
    segmenter, _ = stages.build_initial_segmenter(data.classes, recipe, None)
    average = optim.WeightEMA(segmenter, recipe.ema)
    stages.set_modes(segmenter, stage, stages.should_freeze_norm(stage, recipe))
    step = TrainStep(segmenter, stage, recipe, World(device_name="cpu"))
    samples = TrainingSamples(data.samples("train")[: options.images], recipe.augment, recipe.seed, cache=recipe.cache)
    for index in range(len(samples)):
        samples[index, index]  # decoded once, as in every epoch but the first
    total = options.steps * (options.blocks + 1)
    batches = iter_batches(samples, iter_batch_keys(len(samples), recipe.batch, recipe.seed, 0, total), workers=0)
    number = 0
    for _ in range(options.blocks + 1):
        losses = []
        began, used = time.perf_counter(), time.process_time()
        for _ in range(options.steps):
            image, label = next(batches)
            optim.set_learning_rate(step.optimizer, stage, number, number / total)
            losses.append(step(image, label, recipe.batch, 0))
            average.update(segmenter)
            number += 1
        wall, processor = time.perf_counter() - began, time.process_time() - used
        yield {
            "wall": wall / options.steps,
            "processor": processor / options.steps,
            "losses": torch.stack(losses).tolist(),
        }


def _read_recipe(path: Path) -> Any:
    """The plan's recipe; settings that this version does not know yet must have the value that does nothing."""
    from dilated.config import build_dataclass
    from dilated.training.config import Recipe

    table = json.loads(path.read_text())
    known = {field.name for field in fields(Recipe)}
    return build_dataclass(Recipe, _drop_unknown({key: table[key] for key in table if key in known}), str(path))


def _drop_unknown(table: dict[str, Any]) -> dict[str, Any]:
    from dilated.data.augment import AugmentConfig
    from dilated.models.segmenter import SegmenterConfig
    from dilated.training.config import StageConfig
    from dilated.training.losses import LossConfig

    def keep(part: dict[str, Any], cls: type) -> dict[str, Any]:
        known = {field.name for field in fields(cls)} | {"kind"}
        return {key: value for key, value in part.items() if key in known and value is not None}

    parts = {"network": SegmenterConfig, "augment": AugmentConfig, "loss": LossConfig}
    table = table | {name: keep(table[name], cls) for name, cls in parts.items()}
    return table | {"stage": [keep(stage, StageConfig) for stage in table["stage"]]}


def serve(options: argparse.Namespace) -> None:
    """Make one block of steps for each line of standard input, and write what it took."""
    torch.set_num_threads(options.threads)
    sys.stdout, out = sys.stderr, sys.stdout
    blocks = train_blocks(options)
    for _ in sys.stdin:
        print(json.dumps(next(blocks)), file=out, flush=True)


def compare(options: argparse.Namespace, stride: int) -> dict[str, Any]:
    """Let both versions train in turns at one output stride."""
    sources = {"other": options.other, "this": Path(__file__).resolve().parents[1] / "src"}
    command = [
        sys.executable,
        __file__,
        str(options.data),
        "--serve",
        f"--stride={stride}",
        f"--recipe={options.recipe}",
    ]
    command += [f"--{key}={getattr(options, key)}" for key in ("steps", "blocks", "threads", "images")]
    workers = {
        version: subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": str(options.threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for version, source in sources.items()
    }
    blocks: dict[str, list[dict[str, Any]]] = {version: [] for version in workers}
    try:
        for number in range(options.blocks + 1):  # the first is not timed: memory, caches, kernels
            for version in _VERSIONS[:: 1 if number % 2 else -1]:
                blocks[version].append(_ask(workers[version]))
    finally:
        for worker in workers.values():
            assert worker.stdin is not None
            worker.stdin.close()
            worker.wait(timeout=60)
    result: dict[str, Any] = {"stride": stride}
    for key in ("wall", "processor"):
        seconds = {version: statistics.median(block[key] for block in blocks[version][1:]) for version in workers}
        ratios = [a[key] / b[key] for a, b in zip(blocks["other"][1:], blocks["this"][1:], strict=True)]
        result[key] = seconds | {"ratio": statistics.median(ratios)}
    result["losses"] = {version: [loss for block in blocks[version] for loss in block["losses"]] for version in workers}
    pairs = list(zip(result["losses"]["other"], result["losses"]["this"], strict=True))
    result["difference"] = [abs(a - b) / abs(a) for a, b in pairs]
    return result


def _ask(worker: subprocess.Popen[str]) -> dict[str, Any]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise SystemExit("a version ended; its message is above")
    return json.loads(line)


def make_recipe(options: argparse.Namespace) -> Path:
    """Write the recipe that this version plans for the data, unless one is given."""
    from dilated.data.dataset import open_dataset
    from dilated.training.autoplan.plan import make_plan
    from dilated.training.budget import parse_duration
    from dilated.training.config import recipe_to_table

    path: Path = options.recipe or Path(f"training-speed-{options.budget}.json")
    if not path.exists():
        recipe = make_plan(open_dataset(options.data), parse_duration(options.budget)).recipe
        path.write_text(json.dumps(recipe_to_table(recipe), indent=1) + "\n")
    return path


def report(results: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'stride':>6}{'other s':>10}{'this s':>9}{'ratio':>7}{'cpu other':>11}{'cpu this':>10}{'ratio':>7}", end="")
    print(f"{'loss':>18}{'difference: first':>20}{'median':>9}{'last':>9}")
    for row in results:
        wall, processor, difference = row["wall"], row["processor"], row["difference"]
        ends = f"{row['losses']['this'][0]:.4f} to {row['losses']['this'][-1]:.4f}"
        print(f"{row['stride']:>6}{wall['other']:>10.3f}{wall['this']:>9.3f}{wall['ratio']:>7.2f}", end="")
        print(f"{processor['other']:>11.3f}{processor['this']:>10.3f}{processor['ratio']:>7.2f}{ends:>18}", end="")
        print(f"{difference[0]:>20.1e}{statistics.median(difference):>9.1e}{difference[-1]:>9.1e}")
    for row in results:
        outcome = "met" if row["wall"]["ratio"] >= _BAR else "not met"
        print(f"stride {row['stride']}: {row['wall']['ratio']:.2f} times the steps per second, bar {_BAR}: {outcome}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--other", type=Path, help="the folder `src` of the version to compare with")
    parser.add_argument("--budget", default="1h", help="that the plan is for")
    parser.add_argument("--recipe", type=Path, help="the plan's recipe as JSON; made once where it is missing")
    parser.add_argument("--strides", type=int, nargs="*", default=[16, 8])
    parser.add_argument("--steps", type=int, default=4, help="of a block")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--images", type=int, default=100, help="to draw from")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--stride", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options)
        return
    if options.other is None:
        parser.error("--other: give the folder `src` of the version to compare with")
    from dilated.environment import describe_machine

    options.recipe = make_recipe(options)
    print(", ".join(describe_machine("cpu").values()), f"{options.threads} threads, load {os.getloadavg()[0]:.1f}")
    results = [compare(options, stride) for stride in options.strides]
    report(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
