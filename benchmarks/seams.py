"""What seams cost: the authors' inference, where a tile's border is one to the context module, against the whole.

    python benchmarks/seams.py runs/paper/stage-2.safetensors CAMVID --tile 628 500 --json benchmarks/results/seams.json

For each side of tiles: mean IoU of both inferences on val, the share of pixels whose label differs, the greatest
difference of a probability, and the seconds of both, interleaved image by image.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import dilated
from dilated.data.images import read_image
from dilated.environment import describe_machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("data", type=Path)
    parser.add_argument("--tile", type=int, nargs="+", default=[628, 500, 436])
    parser.add_argument("--images", type=int, default=0, help="the first so many; 0 for all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    data = dilated.open_dataset(options.data)
    pairs = data.samples("val")[: options.images or None]
    network = dilated.load(options.network)
    rows = []
    for side in options.tile:
        ways = {
            way: dilated.Predictor(network.rebuild(inference=way, tile=(side, side))) for way in ("authors", "whole")
        }
        counts = {way: dilated.ConfusionMatrix(network.classes) for way in ways}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        changed = pixels = 0
        worst = 0.0
        for pair in pairs:
            image = read_image(pair.image)
            target = pair.read_label(image.shape[:2])
            probabilities = {}
            for way, predictor in ways.items():
                began = time.perf_counter()
                probabilities[way] = predictor.logits(image).softmax(0)
                seconds[way].append(time.perf_counter() - began)
                counts[way].update(probabilities[way].argmax(0).cpu().numpy(), target)
            tiled, other = probabilities["authors"], probabilities["whole"]
            changed += int((tiled.argmax(0) != other.argmax(0)).sum())
            pixels += target.size
            worst = max(worst, float((tiled - other).abs().max()))
        row = {
            "tile": side,
            "answers_for": side - 2 * 186,
            "mean_iou": {way: count.mean_iou for way, count in counts.items()},
            "changed_share": changed / pixels,
            "greatest_difference": worst,
            "median_seconds": {way: statistics.median(times) for way, times in seconds.items()},
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    if options.json:
        facts = {
            "network": Path(options.network).name,
            "images": len(pairs),
            "machine": describe_machine("cpu"),
            "rows": rows,
        }
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
