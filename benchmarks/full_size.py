"""Time and memory of training and evaluation at another size of the same images, such as CamVid's original 960x720.

    python benchmarks/full_size.py CAMVID --size 960x720 --images 12 --steps 4

The images are not there at that size, so those that are there are scaled up (images by bicubic interpolation, labels by
nearest neighbors): their content teaches nothing new, and no accuracy is printed. What is printed holds for the
original: the plan's crop and batch, seconds and peak memory of its steps, and seconds and peak memory of an evaluation.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image

from dilated import evaluate, load
from dilated.data.dataset import Dataset, open_dataset
from dilated.environment import describe_machine
from dilated.system import peak_memory
from dilated.training.autoplan.plan import make_plan
from dilated.training.run_options import RunOptions
from dilated.training.train import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", default="960x720", help="width x height")
    parser.add_argument("--images", type=int, default=12, help="of each split, evenly spaced")
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    print(f"{', '.join(describe_machine('cpu').values())}")
    with tempfile.TemporaryDirectory() as folder:
        root = scale_up(open_dataset(options.data), Path(folder) / "data", (width, height), options.images)
        context = multiprocessing.get_context("spawn")  # a process of its own, whose peak is that of one task
        for task in (train_some, evaluate_some):
            with ProcessPoolExecutor(1, context) as pool:
                print(pool.submit(task, root, Path(folder) / "run", options.steps).result(), flush=True)


def scale_up(data: Dataset, root: Path, size: tuple[int, int], images: int) -> Path:
    """Write a data set of images and labels of a size (width, height), with the same classes.

    Returns:
        The folder, in the layout that CamVid has here: `train`, `trainannot`, `val`, `valannot`.
    """
    for split in ("train", "val"):
        samples = data.samples(split)
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for sample in samples[:: max(1, len(samples) // images)][:images]:
            Image.open(sample.image).convert("RGB").resize(size, Image.Resampling.BICUBIC).save(
                root / split / f"{sample.name}.png"
            )
            Image.open(sample.label).resize(size, Image.Resampling.NEAREST).save(
                root / f"{split}annot" / f"{sample.name}.png"
            )
    if (data.root / "classes.toml").is_file():
        shutil.copy(data.root / "classes.toml", root)
    return root


def train_some(root: Path, out: Path, steps: int) -> str:
    """Plan for an hour, train so many steps at strides 16 and 8, and say what they take."""
    data = open_dataset(root)
    recipe = make_plan(data, 3600.0).recipe
    lines = [f"{data.samples('train')[0].size()} pixels: crop {recipe.augment.crop}, batch {recipe.batch}"]
    for stride in (16, 8):
        stage = replace(
            recipe.stage[0], output_stride=stride, share=0.0, epochs=0.0, iterations=steps, val_interval=float(steps)
        )
        shutil.rmtree(out, ignore_errors=True)
        began = time.monotonic()
        network = replace(recipe.network, context="none")
        train(data, replace(recipe, stage=(stage,), budget=0.0, network=network), out, options=RunOptions())
        lines.append(f"stride {stride}: {steps} steps, a validation, {time.monotonic() - began:.1f} s in all")
    return "; ".join([*lines, f"peak {peak_memory() / 2**20:.0f} MiB"])


def evaluate_some(root: Path, out: Path, _: int) -> str:
    """Evaluate the network on val at full size, boundary IoU too."""
    data, segmenter = open_dataset(root), load(out)
    began = time.monotonic()
    result = evaluate(segmenter, data)
    seconds = (time.monotonic() - began) / len(data.samples("val"))
    pixels = int(result.confusion.counts.sum())
    return f"evaluation: {seconds:.2f} s per image, {pixels} pixels counted, peak {peak_memory() / 2**20:.0f} MiB"


if __name__ == "__main__":
    main()
