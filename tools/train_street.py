"""Train the bundled network `street` on, for minutes on a machine with a GPU, and measure it once.

    python tools/train_street.py CAMVID --out DIR --seconds 250 --recipe benchmarks/recipes/street-next.toml

The stages share the time as they would share the steps of the recipe. While training, few images of val are looked at,
and nothing is chosen by them: the moving average at the end of the last stage is kept, `DIR/street.safetensors`, with
its figures on all of val in `DIR/street.json`. `tools/bundle.py` makes the bundled file and its card of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

import dilated
from dilated.api import TrainOptions, train
from dilated.data.dataset import DatasetDivision
from dilated.evaluation.evaluate import MetricsConfig
from dilated.files import atomic_write
from dilated.run_folder import LOG_FILE, stage_file
from dilated.training.autoplan.measure import measure_cost
from dilated.training.budget import Deadline
from dilated.training.config import load_recipe
from dilated.training.distributed.world import World

_SECONDS_TO_MEASURE = 18.0
"""Kept at the end for the figures on val."""
_SECONDS_OF_TRIAL = 8.0
"""In which the faster layout of the memory is found."""
_EVERY = 25
"""One of so many images of val is looked at while training."""


def main() -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--seconds", type=float, default=250.0, help="for all")
    parser.add_argument("--init-from", default="street")
    parser.add_argument("--device")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes of the recipe")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    data = dilated.open_dataset(options.data)
    parts = {"train": data.samples("train"), "val": data.samples("val")[::_EVERY]}
    run = Path(tempfile.mkdtemp()) / "run"
    recipe = replace(load_recipe(options.recipe, options.set), reserve=2.0)
    if options.device != "cpu" and torch.cuda.is_available():
        world = World(device_name=options.device)
        cost = measure_cost(
            recipe, data.classes, (parts["train"], parts["val"]), world, Deadline.after(_SECONDS_OF_TRIAL)
        )
        recipe = replace(recipe, channels_last=cost.channels_last)
        print(f"channels last: {cost.channels_last}; seconds of a step: {cost.step_seconds}", flush=True)
    seconds = options.seconds - _SECONDS_TO_MEASURE - (time.monotonic() - started)
    training = TrainOptions(device=options.device, report=False)
    divided = replace(data, division=DatasetDivision(parts, {}))
    train(divided, run, budget=seconds, recipe=recipe, init_from=options.init_from, options=training)
    shutil.copyfile(run / stage_file(len(recipe.stage) - 1), options.out / "street.safetensors")
    print(f"trained after {time.monotonic() - started:.0f} s", flush=True)
    predictor = dilated.Predictor(dilated.load(str(options.out / "street.safetensors")), device=options.device)
    result = dilated.evaluate(predictor, data, "val", MetricsConfig(boundary=True))
    log = [json.loads(line) for line in (run / LOG_FILE).read_text(encoding="utf-8").splitlines()]
    atomic_write(options.out / "street.json", json.dumps({"val": result.to_dict(), "log": log}) + "\n")
    print(f"{result}\nafter {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
