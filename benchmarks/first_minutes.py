"""What a plan's choices are worth in the first minutes: the plan, and the plan with one choice changed.

    python benchmarks/first_minutes.py DATA --budget 2m --out runs/first --json benchmarks/results/first_minutes.json

Each arm is `dilated train DATA --budget B --set CHANGE`, in a process of its own, one after another; an arm that is in
`--out` already is not trained again. All are measured on val; the differences are paired over its images. One seed.
"""

from __future__ import annotations

import json

from intervals import mean_iou_difference, mean_iou_interval
from zero_config import arguments, machine, measured_ours, train_ours

from dilated.data.dataset import open_dataset

ARMS = {
    "the plan": [],
    "batch 8": ["batch=8"],
    "normalised by the batch": ["stage.0.freeze_norm=never"],
    "backbone four times as fast": ["stage.0.backbone_lr_factor=0.4"],
    "Jaccard 0.5 for Dice 1": ["loss.dice=0.0", "loss.jaccard=0.5"],
}


def main() -> None:
    options = arguments(__doc__, "2m").parse_args()
    data = open_dataset(options.data)
    print(f"{data.root.name}, {options.budget}, {machine()}")
    names = [sample.name for sample in data.samples("val")]
    first, table = None, {}
    for arm, changes in ARMS.items():
        run = options.out / arm.replace(" ", "-")
        if not (run / "best.safetensors").is_file():
            train_ours(options, run, changes, quiet=True)
        counts = measured_ours(run, data)
        first = counts if first is None else first
        value, less = mean_iou_interval(counts, names), mean_iou_difference(counts, first, names)
        steps = json.loads((run / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"]
        table[arm] = {"set": changes, "steps": steps, "mean_iou": value.value, "low": value.low, "high": value.high}
        table[arm]["less_the_plan"] = [less.value, less.low, less.high]
        print(f"{arm:<26} {steps:>5} steps  {value.value:.4f} [{value.low:.4f}, {value.high:.4f}]  {less.value:+.4f}")
    if options.json:
        about = {"data": data.root.name, "budget": options.budget, "machine": machine(), "arms": table}
        options.json.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
