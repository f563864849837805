"""Several networks on the same images: each one's mean IoU, and its difference from the first with a 95% interval.

    python benchmarks/compare.py CAMVID CONTROL.safetensors OTHER.safetensors ... --json benchmarks/results/joint.json

The interval is over groups of images or blocks of one film, paired.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from intervals import mean_iou_difference

import dilated
from dilated.evaluation.evaluate import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--split", default="val")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    data = dilated.open_dataset(options.data)
    pairs = data.samples(options.split)
    rows, reference = [], None
    for name in options.networks:
        result = evaluate(dilated.Predictor(dilated.load(name)), pairs, data.classes)
        reference = reference or result
        interval = result.intervals["mean_iou"][0]
        gain = mean_iou_difference(result.class_counts, reference.class_counts, result.names)
        rows.append(
            {
                "network": name,
                "mean_iou": interval.value,
                "interval": [interval.low, interval.high],
                "difference": [gain.value, gain.low, gain.high],
                "iou": result.confusion.iou,
                "pixel_accuracy": result.confusion.pixel_accuracy,
            }
        )
        print(
            f"{name:<50} {interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]   "
            f"{100 * gain.value:+.2f} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}] points",
            flush=True,
        )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"split": options.split, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
