"""Make a bundled network and its card from a network that was trained.

    dilated train NUCLEI --out runs/cells --budget 6m
    python tools/bundle.py cells runs/cells/best.safetensors NUCLEI

    python tools/bundle.py street bundled CAMVID        # measure the bundled one again; its weights stay, byte for byte

Measures the network on the validation split, at the images' own resolution, as it will be loaded from the
file (kernels in fp16), and writes the file and the card into the package.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import dilated
from dilated.config import to_toml
from dilated.evaluation.evaluate import MetricsConfig
from dilated.files import atomic_write
from dilated.training.config import recipe_to_table
from dilated.weights.catalog import BUNDLED_FILES

FILES = Path(str(BUNDLED_FILES))

ABOUT: dict[str, dict[str, str]] = {
    "street": {
        "title": "11 classes of street scenes",
        "what": "photographs taken from a car",
        "data": "CamVid (Brostow et al., 2009), copy of the SegNet tutorial at 480x360: 367 train, 101 val",
        "data_licence": "CC BY-NC 4.0 as stated with that copy: personal and research use",
        "command": "dilated train CAMVID --out runs/street --recipe street",
        "beware": "Val is one film, 0016E5, about seven seconds of it, and train holds 204 frames of the same film,\n"
        "the nearest a second away: the figures are about that film, and say nothing about other films. Val is known\n"
        "to be easier than CamVid's test split, which nothing was measured on. The streets are Cambridge's by day:\n"
        "expect less elsewhere, at night, or from another height. Not for decisions on which anyone's safety rests.",
    },
    "cells": {
        "title": "cell nuclei in microscope images",
        "what": "microscope images of cells, fluorescent or stained",
        "data": "2018 Data Science Bowl, stage 1 (BBBC038), with the community's corrections: 530 train, 68 val",
        "data_licence": "CC0 1.0, public domain",
        "command": "dilated train NUCLEI --out runs/cells --budget 6m",
        "beware": "It says where nuclei are, not which pixels belong to which: touching nuclei are one region. "
        "Images of other\nstains, magnifications or microscopes want training of their own. Not for diagnosis.",
    },
}

CARD = """# {name}: {title}

A segmentation network for {what}, bundled with the package `dilated`:
`dilated.load("{name}")`, or `dilated predict {name} PHOTO --out DIR`.

| | |
|---|---|
| architecture | {backbone} (ImageNet), stride {stride}, {context}, {parameters:,} parameters |
| data | {data} |
| licence of the data | {data_licence} |
| licence of the weights | Apache-2.0, like the package; mind the data's licence |
| which | the weights after step {step} of stage {stage} of the recipe below |
| val | mean IoU **{mean_iou:.4f}** ({low:.4f} to {high:.4f}), pixel accuracy {accuracy:.4f}. {over} |
| measured | {images} images, {pixels:,} labelled pixels, their own sizes, no test-time augmentation |
| made by | `{command}`{made} |
| torch | {torch} |

| class | IoU on val (95% interval) | boundary IoU |
|---|---|---|
{rows}

{beware}

## Recipe, every default written out

```toml
{recipe}```
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=ABOUT)
    parser.add_argument("network", type=Path, help="the network; `bundled` to measure the bundled one again")
    parser.add_argument("data", type=Path)
    parser.add_argument("--how", default="", help="what else is to be said of the way it was made")
    parser.add_argument("--recipe", help="the recipe of the whole way, where the last run was a part of it")
    options = parser.parse_args()
    data, draft = dilated.open_dataset(options.data), FILES / f"{options.name}.safetensors"
    if options.network == Path("bundled"):
        card: dict[str, Any] = dilated.load(options.name).card
        card = {**card, "how": options.how or card.get("how", "")}
    else:
        run = dilated.load(options.network)
        card = make_card(run.card, options.name, options.how, options.recipe)
        run.save(str(draft))
        draft.chmod(0o644)
    network = dilated.load(draft)  # what users get: kernels rounded to fp16
    result = dilated.evaluate(dilated.Predictor(network, device="cpu"), data, "val", MetricsConfig(boundary=True))
    network.card = {**card, "val": result.to_dict()}
    replace_card(draft, network.card)
    (FILES / f"{options.name}.md").write_text(render_card(options.name, network), encoding="utf-8")
    print(f"val mean IoU {result.format_metric('mean_iou', digits=4)}, {draft.stat().st_size:,} bytes")


def make_card(trained: dict[str, Any], name: str, how: str, recipe_of_all: str | None) -> dict[str, Any]:
    """Make what a network file says of itself, without figures."""
    recipe, stage = trained["recipe"], trained["stage"]
    if recipe_of_all:
        recipe = recipe_to_table(dilated.load_recipe(recipe_of_all))
        stage = len(recipe["stage"]) - 1
    return {
        **{key: ABOUT[name][key] for key in ("data", "data_licence", "command")},
        "how": how,
        "torch": torch.__version__,
        "stage": stage,
        "step": trained["step"],
        "recipe": recipe,
    }


def replace_card(path: Path, card: dict[str, Any]) -> None:
    """Replace the card in a network file; the bytes of the weights stay as they are."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    description = json.loads(header["__metadata__"]["dilated"])
    header["__metadata__"]["dilated"] = json.dumps({**description, "card": card})
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    atomic_write(path, len(text).to_bytes(8, "little") + text + content[start:])


def render_card(name: str, network: Any) -> str:
    """Render the card of a bundled network as a page."""
    card, settings = network.card, network.config
    figures, bounds = card["val"], card["val"]["iou_intervals"]
    rows = "\n".join(
        f"| {name} | {figures['iou'][name]:.4f} ({bounds[name][0]:.4f} to {bounds[name][1]:.4f}) "
        f"| {figures['boundary_iou'][name]:.4f} |"
        for name in network.classes
    )
    context = f"{settings.context} context module on {settings.context_on}"
    low, high = figures["mean_iou_interval"]
    return CARD.format(
        **{**ABOUT[name], **card, "recipe": to_toml(card["recipe"])},
        name=name,
        made=f": {card['how']}" if card.get("how") else "",
        backbone=settings.backbone,
        stride=settings.output_stride,
        context=context if settings.context != "none" else "no context module",
        parameters=sum(p.numel() for p in network.parameters()),
        mean_iou=figures["mean_iou"],
        low=low,
        over=figures["interval_over"]["text"],
        high=high,
        accuracy=figures["pixel_accuracy"],
        images=figures["images"],
        pixels=figures["pixels"],
        rows=rows,
    )


if __name__ == "__main__":
    main()
