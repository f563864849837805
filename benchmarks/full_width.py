"""All stages of a recipe of the paper at full width, a few steps of each: the seconds and the memory of a step.

    python benchmarks/full_width.py CAMVID --json stages.json                         # paper-camvid at 640x480
    python benchmarks/full_width.py CAMVID --json stages.json --set network.width=0.0625   # elsewhere

Images of 480x360 are resized by 4/3, as for the paper's Table 5. The weights are random unless `--set weights=FILE`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dilated.data.dataset import DatasetDivision, open_dataset
from dilated.environment import describe_machine
from dilated.files import atomic_write
from dilated.training.budget import StageLimit
from dilated.training.config import Recipe, StageConfig, load_recipe
from dilated.training.distributed.world import World
from dilated.training.progress import TrainingProgress
from dilated.training.run_options import RunOptions
from dilated.training.train import train


class StepTimes(TrainingProgress):
    """Writes the seconds of each step, and the most memory that a stage took, after every step."""

    def __init__(self, path: Path, recipe: Recipe, device: torch.device) -> None:
        self.path, self.device, self.stages = path, device, list[dict[str, Any]]()
        machine = ", ".join(describe_machine(str(device)).values())
        self.record = {"machine": machine, "network": str(recipe.network), "stages": self.stages}
        self.last = 0.0

    def on_stage_start(self, index: int, stage: StageConfig, step: int, limit: StageLimit) -> None:
        self.stages.append({"kind": stage.kind, "batch": stage.batch, "crop": list(stage.crop), "step_seconds": []})
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.last = time.perf_counter()

    def on_step_end(self, step: int, progress: float) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self.stages[-1]["peak_bytes"] = torch.cuda.max_memory_allocated(self.device)
        seconds, self.last = time.perf_counter() - self.last, time.perf_counter()
        self.stages[-1]["step_seconds"].append(round(seconds, 3))
        print(f"{self.stages[-1]['kind']}, step {step}: {seconds:.2f} s", flush=True)
        atomic_write(self.path, json.dumps(self.record, indent=1) + "\n")

    def on_validation_end(self, mean_iou: float, improved: bool) -> None:
        self.stages[-1]["validation_seconds"] = round(time.perf_counter() - self.last, 2)
        self.stages[-1]["mean_iou"] = mean_iou
        atomic_write(self.path, json.dumps(self.record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--recipe", default="paper-camvid")
    parser.add_argument("--steps", type=int, default=3, help="of each stage")
    parser.add_argument("--images", type=int, default=1, help="that are validated after each stage")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device")
    options = parser.parse_args()
    data = open_dataset(options.data)
    parts = {"train": data.samples("train")[:16], "val": data.samples("val")[: options.images]}
    count = len(load_recipe(options.recipe).stage)
    lengths = [f"stage.{i}.{key}={options.steps}" for i in range(count) for key in ("iterations", "val_interval")]
    overrides = ["weights=random", "augment.scale=[1.3333333,1.3333333]", "workers=2", *lengths, *options.set]
    recipe = load_recipe(options.recipe, overrides)
    device = World(device_name=options.device).device
    times = StepTimes(options.json, recipe, device)
    with tempfile.TemporaryDirectory() as folder:
        run = RunOptions(device=options.device, progress=times)
        train(replace(data, division=DatasetDivision(parts, {})), recipe, Path(folder) / "run", options=run)


if __name__ == "__main__":
    main()
