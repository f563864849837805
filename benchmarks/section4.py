"""Does simplifying the front end increase accuracy? The claim of the paper's Section 4, one change at a time.

    python benchmarks/section4.py DATA runs/section4 --recipe paper-camvid --set weights=vgg16.pth     # the real thing
    python benchmarks/section4.py DATA runs/section4 --recipe benchmarks/recipes/section4-small.toml   # a small machine

Every variant is trained by the recipe's first stage from the same seed on samples of the same size in pixels, and
measured on val; differences are against the paper's front end, with a paired 95% interval over the groups of the
images, or over blocks of one film. Variants that pad inside answer for every pixel of a sample, the others for its
middle, so they learn from more labels a step; that is part of what is compared. What is finished is not trained again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from intervals import mean_iou_difference

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
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    data = dilated.open_dataset(options.data)
    rows, first = [], None
    for number, (name, changes) in enumerate(VARIANTS.items()):
        run = options.out / f"variant-{number}"
        if not (run / "stage-0.safetensors").is_file():
            recipe = dilated.load_recipe(options.recipe, [*options.set, *settings(options, changes)])
            recipe = replace(recipe, stage=recipe.stage[:1])
            train(data, recipe, run, resume=(run / "checkpoint.pt").is_file())
        network = dilated.load(run / "stage-0.safetensors")
        result = evaluate(dilated.Predictor(network), data.samples("val"), data.classes)
        first = result if first is None else first
        bounds = result.intervals["mean_iou"][0]
        change = mean_iou_difference(result.class_counts, first.class_counts, result.names)
        parameters = sum(p.numel() for p in network.parameters())
        row = {
            "variant": name,
            "parameters": parameters,
            "mean_iou": result.confusion.mean_iou,
            "interval": [bounds.low, bounds.high],
            "difference": [change.value, change.low, change.high],
        }
        rows.append(row)
        print(
            f"| {name} | {parameters:,} | {row['mean_iou']:.4f} | {100 * change.value:+.2f} "
            f"[{100 * change.low:+.2f}, {100 * change.high:+.2f}] |",
            flush=True,
        )
    if options.json:
        facts = {"recipe": options.recipe, "set": options.set, "torch": torch.__version__, "rows": rows}
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


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
