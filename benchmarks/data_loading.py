"""How long training waits for its data, as a share of the step time.

    python benchmarks/data_loading.py CAMVID --stride 16 --budget 4m

The steps are those of a planned training: the plan's network, crop, batch and number of reading processes, nothing read
before. The first batch is counted apart: nothing can be computed before it.

    python benchmarks/data_loading.py CAMVID --device-ms 30 --workers 12 --cores 16

stands a device in for the processor: a step takes 30 ms and no processor, as on a GPU, so all cores read. By default as
many processes read as a plan would give such a machine.

    python benchmarks/data_loading.py CAMVID --train 200 --device cuda --json plan.json

trains so many steps by the plan on a device, twice: with whole batches augmented there, and with reading processes. The
figures are from the log of each training, the checkpoints and the moving average included; those steps are left out in
which processes start and memory is allocated, the first 20.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from dilated.data.augment import AugmentConfig
from dilated.data.dataset import Dataset, open_dataset
from dilated.data.loader import iter_batch_keys, iter_batches
from dilated.data.torch_dataset import TrainingSamples
from dilated.environment import describe_machine
from dilated.training import stages
from dilated.training.autoplan.choices import choose_workers
from dilated.training.autoplan.plan import make_plan
from dilated.training.budget import parse_duration
from dilated.training.config import Recipe
from dilated.training.distributed.world import World
from dilated.training.progress import LineProgress
from dilated.training.run_options import RunOptions
from dilated.training.stages import build_initial_segmenter
from dilated.training.step import TrainStep
from dilated.training.train import train

_FIRST_STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--budget", default="1h", help="that the plan is for: the shorter, the smaller its batches")
    parser.add_argument("--device-ms", type=float, default=0.0, help="milliseconds of a step on a simulated device")
    parser.add_argument("--workers", type=int, default=0, help="reading processes; 0 for the plan's")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="that the simulated machine's plan may use")
    parser.add_argument("--train", type=int, default=0, help="steps of real trainings, in place of the above")
    parser.add_argument("--device", default="cpu", help="of the real trainings")
    parser.add_argument("--set", nargs="*", default=[], help="changes to the plan of the real trainings")
    parser.add_argument("--json", type=Path, help="where the figures of the real trainings are written")
    options = parser.parse_args()
    data = open_dataset(options.data)
    if options.train:
        measure_trainings(data, options)
    else:
        measure_loading(data, options)


def measure_trainings(data: Dataset, options: argparse.Namespace) -> None:
    """Train by the plan on a device with batches augmented there and by processes, and print how long each waits."""
    plan = make_plan(data, parse_duration(options.budget), options.set, world=World(device_name=options.device))
    print(plan, flush=True)
    stage = replace(plan.recipe.stage[0], share=0.0, epochs=0.0, iterations=options.train, val_interval=options.train)
    recipe = replace(plan.recipe, stage=(stage,), budget=0.0)
    assert isinstance(recipe.augment, AugmentConfig)
    cores, results = os.cpu_count() or 2, {}
    variants = {"on the device": ("always", 1), f"by {max(1, cores - 2)} processes": ("never", max(1, cores - 2))}
    for name, (batched, workers) in variants.items():
        augment = replace(recipe.augment, batched=batched)
        results[name] = measure_training(data, replace(recipe, augment=augment, workers=workers), options.device)
        print(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in results[name].items()), flush=True)
        if options.json is not None:
            settings = {"batch": recipe.batch, "channels_last": recipe.channels_last, "plan": str(plan).splitlines()}
            machine = describe_machine(options.device)
            options.json.write_text(json.dumps({"machine": machine, **settings, "results": results}, indent=1))


def measure_training(data: Dataset, recipe: Recipe, device: str) -> dict[str, float]:
    """Train, and return the figures of its log: seconds of a step, of the waiting before it, and their share."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        began = time.monotonic()
        train(data, recipe, out, options=RunOptions(device=device, progress=LineProgress()))
        total = time.monotonic() - began
        entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps = [entry for entry in entries if "seconds" in entry and entry["step"] > _FIRST_STEPS]
    steps = steps or [entry for entry in entries if "seconds" in entry]
    seconds, wait = (statistics.fmean(entry[key] for entry in steps) for key in ("seconds", "wait"))
    last = next(entry for entry in reversed(entries) if "val_seconds" in entry)
    return {
        "ms_per_step": round(1000 * seconds, 2),
        "ms_waiting": round(1000 * wait, 2),
        "waiting_share": round(wait / (wait + seconds), 4),
        "steps_per_second": round(1 / (seconds + wait), 2),
        "validation_seconds": last["val_seconds"],
        "val_mean_iou": round(last["val_mean_iou"], 4),
        "total_seconds": round(total, 1),
    }


def measure_loading(data: Dataset, options: argparse.Namespace) -> None:
    """Print how long the steps of the first epoch wait for their batches."""
    recipe = make_plan(data, parse_duration(options.budget)).recipe
    stage = replace(recipe.stage[0], output_stride=options.stride)
    recipe = replace(recipe, stage=(stage,))  # budget and share stay, and are not looked at
    segmenter, _ = build_initial_segmenter(data.classes, recipe, None)
    stages.set_modes(segmenter, stage, stages.should_freeze_norm(stage, recipe))
    step = TrainStep(segmenter, stage, recipe, World())
    samples = TrainingSamples(data.samples("train"), recipe.augment, cache=recipe.cache)
    number = -(-len(samples) // recipe.batch)
    workers = options.workers or recipe.workers
    if options.device_ms and not options.workers:
        started = time.perf_counter()
        for index in range(recipe.batch):
            samples[index, index]
        reading = (time.perf_counter() - started) * 1000 / options.device_ms
        workers = choose_workers(reading, options.cores, is_device=True)
    waits, works = [], []
    before = time.perf_counter()
    for image, label in iter_batches(samples, iter_batch_keys(len(samples), recipe.batch, 0, 0, number), workers):
        ready = time.perf_counter()
        if options.device_ms:
            time.sleep(options.device_ms / 1000)
        else:
            float(step(image, label, len(image), 0))
        waits.append(ready - before)
        before = time.perf_counter()
        works.append(before - ready)
    print(f"{data.root.name}, {', '.join(describe_machine('cpu').values())}, load {os.getloadavg()[0]:.1f}")
    print(f"{number} steps of {recipe.batch} at stride {options.stride}, {workers} reading")
    print(f"first batch after {waits[0]:.2f} s")
    print(f"step: median {statistics.median(works):.3f} s; wait: median {statistics.median(waits[1:]):.4f} s")
    print(f"waiting: {sum(waits[1:]) / sum(works[1:]):.2%} of the step time over the first epoch")


if __name__ == "__main__":
    main()
