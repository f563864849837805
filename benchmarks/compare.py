"""Several networks on the same images: each one's mean IoU, and its difference from the first with a 95% interval.

    python benchmarks/compare.py CAMVID CONTROL.safetensors OTHER.safetensors ... --json benchmarks/results/joint.json
    python benchmarks/compare.py CAMVID A-seed0,A-seed1,A-seed2 B-seed0,B-seed1,B-seed2

The interval is over groups of images or blocks of one film, paired, and over the trainings where a comma joins several.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from intervals import mean_iou_difference_of_seeds
from numpy.typing import NDArray

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
    rows: list[dict[str, Any]] = []
    reference: list[NDArray[np.int64]] = []
    for names in options.networks:
        results = [evaluate(dilated.Predictor(dilated.load(name)), pairs, data.classes) for name in names.split(",")]
        counts = [result.class_counts for result in results]
        reference = reference or counts
        interval = results[0].intervals["mean_iou"][0]
        gain = mean_iou_difference_of_seeds(counts, reference, results[0].names)
        value = float(np.mean([result.confusion.mean_iou for result in results]))
        rows.append(
            {
                "network": names,
                "mean_iou": value,
                "interval_of_the_first": [interval.low, interval.high],
                "difference": [gain.value, gain.low, gain.high],
                "iou": {
                    name: float(np.mean([result.confusion.iou[name] for result in results]))
                    for name in results[0].confusion.iou
                },
                "pixel_accuracy": float(np.mean([result.confusion.pixel_accuracy for result in results])),
            }
        )
        print(
            f"{names:<50} {value:.4f} [{interval.low:.4f}, {interval.high:.4f}]   "
            f"{100 * gain.value:+.2f} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}] points",
            flush=True,
        )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"split": options.split, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
