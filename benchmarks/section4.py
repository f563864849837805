"""Does simplifying the front end increase accuracy? The claim of the paper's Section 4, one change at a time.

    python benchmarks/section4.py DATA runs/section4 --recipe paper-camvid --set weights=vgg16.pth     # the real thing
    python benchmarks/section4.py DATA runs/section4 --recipe benchmarks/recipes/section4-small.toml   # a small machine

Every variant is trained by the recipe's first stage from the same seed on samples of the same size in pixels, and
measured on val; differences are against the paper's front end, with a paired 95% interval over the groups of the
images, or over blocks of one film, and over the seeds. Variants that pad inside answer for every pixel of a sample, the
others for its middle, so they learn from more labels a step; that is part of what is compared. What is finished is not
trained again; `--part 1/3` to `--part 3/3` in three processes train a third each, and a call without it measures.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from intervals import mean_iou_difference_of_seeds
from numpy.typing import NDArray

import dilated
from dilated.evaluation.evaluate import evaluate
from dilated.models.vgg import VGGFrontEnd
from dilated.training.train import train

VARIANTS = {
    "paper": {},
    "fc6 of DeepLab (large_fov)": {"fc6": "large_fov"},
    "pools with stride 1 (DeepLab)": {"pools": "dense"},
    "intermediate padding": {"frontend_padding": "same"},
    "pools with stride 1, intermediate padding": {"pools": "dense", "frontend_padding": "same"},
    "pools with stride 2, intermediate padding (FCN-32s)": {"pools": "kept", "frontend_padding": "same"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", default="paper-camvid")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--part", default="", help="K/N: train this part of the networks, and measure nothing")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    data = dilated.open_dataset(options.data)
    cells = [(number, seed) for seed in range(options.seeds) for number in range(len(VARIANTS))]
    if options.part:
        part, parts = map(int, options.part.split("/"))
        cells = cells[part - 1 :: parts]
    for number, seed in cells:
        run = options.out / f"variant-{number}-seed{seed}"
        if not (run / "stage-0.safetensors").is_file():
            changes = settings(options, list(VARIANTS.values())[number])
            recipe = dilated.load_recipe(options.recipe, [*options.set, *changes, f"seed={seed}"])
            recipe = replace(recipe, stage=recipe.stage[:1])
            train(data, recipe, run, resume=(run / "checkpoint.pt").is_file())
    if options.part:
        return
    rows: list[dict[str, Any]] = []
    paper: list[NDArray[np.int64]] = []
    for number, name in enumerate(VARIANTS):
        counts, values = [], []
        for seed in range(options.seeds):
            network = dilated.load(options.out / f"variant-{number}-seed{seed}" / "stage-0.safetensors")
            result = evaluate(dilated.Predictor(network), data.samples("val"), data.classes)
            counts.append(result.class_counts)
            values.append(result.confusion.mean_iou)
        paper = paper or counts
        change = mean_iou_difference_of_seeds(counts, paper, result.names)
        row = {
            "variant": name,
            "parameters": sum(p.numel() for p in network.parameters()),
            "mean_iou": float(np.mean(values)),
            "mean_iou_of_each_seed": values,
            "difference": [change.value, change.low, change.high],
        }
        rows.append(row)
        print(
            f"| {name} | {row['parameters']:,} | {row['mean_iou']:.4f} | {100 * change.value:+.2f} "
            f"[{100 * change.low:+.2f}, {100 * change.high:+.2f}] |",
            flush=True,
        )
    if options.json:
        facts = {"recipe": options.recipe, "set": options.set, "seeds": options.seeds, "torch": torch.__version__}
        options.json.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def settings(options: argparse.Namespace, changes: dict[str, str]) -> list[str]:
    """The overrides of a variant: its own, the first stage alone, and the grid on which its front end answers."""
    with torch.device("meta"):
        front = VGGFrontEnd(
            2, changes.get("pools", "removed"), changes.get("frontend_padding", "none"), changes.get("fc6", "7x7")
        )
    crop = dilated.load_recipe(options.recipe, options.set).augment.crop
    sides = [max(1, round((side - 2 * front.margin) / front.stride)) * front.stride + 2 * front.margin for side in crop]
    return [
        f"augment.crop={sides}",
        f"augment.margin={front.margin}",
        f"augment.stride={front.stride}",
        *(f"network.{key}={value}" for key, value in changes.items()),
    ]


if __name__ == "__main__":
    main()
