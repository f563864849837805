"""Make the bundled network `street` and its card from a run.

    dilated train CAMVID --out runs/street --recipe street
    python benchmarks/bundle_street.py runs/street/stage-3.safetensors CAMVID

Measures a network of the run on the validation split in fp32, at the pictures' own resolution, as it will be loaded
from the file (kernels in fp16), and writes the file and the card into the package.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

import dilated
from dilated.evaluate.bootstrap import interval
from dilated.evaluate.evaluate import evaluate
from dilated.tables import to_toml
from dilated.weights import sources

FILES = Path(str(sources.FILES))

CARD = """# street: 11 classes of street scenes

A segmentation network for photographs taken from a car, bundled with the package `dilated`:
`dilated.load("street")`, or `dilated predict street PHOTO --out DIR`.

| | |
|---|---|
| architecture | {backbone} (ImageNet), stride {stride}, {context} context module on {on}, {parameters:,} parameters |
| data | {data} |
| licence of the data | {data_licence} |
| licence of the weights | Apache-2.0, like the package; mind the data's licence |
| which | the weights after step {step} of stage {stage} of the recipe below |
| val | mean IoU **{mean_iou:.4f}** (95% over pictures: {low:.4f} to {high:.4f}), pixel accuracy {accuracy:.4f} |
| measured | {images} pictures, {pixels:,} labelled pixels, 480x360, fp32, no test-time augmentation |
| made by | `{command}` |
| torch | {torch} |

| class | IoU on val |
|---|---|
{rows}

Val is known to be easier than CamVid's test split, which nothing was measured on. The streets are Cambridge's by day:
expect less elsewhere, at night, or from another height. Not for decisions on which anyone's safety rests.

## Recipe, every default written out

```toml
{recipe}```
"""


def main() -> None:
    run, data = dilated.load(sys.argv[1]), dilated.open_dataset(sys.argv[2])
    trained: dict[str, Any] = run.card
    draft = FILES / "street.safetensors"
    run.save(str(draft))
    street = dilated.load(draft)  # what users get: kernels rounded to fp16
    result = evaluate(dilated.Predictor(street, device="cpu"), data.pairs("val"), data.classes)
    bounds = interval(result.per_picture)
    facts: dict[str, Any] = {
        "data": "CamVid (Brostow et al., 2009), copy of the SegNet tutorial at 480x360: 367 train, 101 val",
        "data_licence": "CC BY-NC 4.0 as stated with that copy: personal and research use",
        "command": "dilated train CAMVID --out runs/street --recipe street",
        "torch": torch.__version__,
        "stage": trained["stage"],
        "step": trained["step"],
        "recipe": trained["recipe"],
        "val": result.to_dict(),
    }
    street.card = facts
    street.save(str(draft))
    draft.chmod(0o644)
    network = street.network
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in result.confusion.iou.items())
    card = CARD.format(
        **{**facts, "recipe": to_toml(facts["recipe"])},
        backbone=network.backbone,
        stride=network.output_stride,
        context=network.context,
        on=network.context_on,
        parameters=sum(p.numel() for p in street.parameters()),
        mean_iou=bounds.value,
        low=bounds.low,
        high=bounds.high,
        accuracy=result.confusion.pixel_accuracy,
        images=len(result.names),
        pixels=result.confusion.pixels,
        rows=rows,
    )
    (FILES / "street.md").write_text(card, encoding="utf-8")
    print(f"val mean IoU {bounds.value:.4f} [{bounds.low:.4f}, {bounds.high:.4f}], {draft.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
