"""How long training waits for its data: the share of the first epoch's time that is not spent computing.

    python benchmarks/data_loading.py CAMVID --stride 16 --budget 4m

The steps are those of a planned training: the plan's network, crop, batch and number of reading processes, nothing read
before. The first batch is counted apart: nothing can be computed before it.

    python benchmarks/data_loading.py CAMVID --device-ms 30 --workers 12 --cores 16

stands a device in for the processor: a step takes 30 ms and no processor, as on a GPU, so all cores read. By default as
many processes read as a plan would give such a machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

from dilated.data.dataset import open_dataset
from dilated.data.loader import iter_batch_keys, iter_batches
from dilated.data.torch_dataset import TrainingSamples
from dilated.environment import describe_machine
from dilated.training import stages
from dilated.training.autoplan.choices import choose_workers
from dilated.training.autoplan.plan import make_plan
from dilated.training.budget import parse_duration
from dilated.training.distributed.world import World
from dilated.training.stages import build_initial_segmenter
from dilated.training.step import TrainStep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--budget", default="1h", help="that the plan is for: the shorter, the smaller its batches")
    parser.add_argument("--device-ms", type=float, default=0.0, help="milliseconds of a step on a simulated device")
    parser.add_argument("--workers", type=int, default=0, help="reading processes; 0 for the plan's")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="that the simulated machine's plan may use")
    options = parser.parse_args()
    data = open_dataset(options.data)
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
