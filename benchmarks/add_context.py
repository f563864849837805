"""Does a context module help somebody else's trained network? One ordinary peer, frozen, and two modules on its logits.

    python benchmarks/add_context.py CAMVID --out runs/add_context --json benchmarks/results/add_context.json

The peer is an FPN of segmentation_models.pytorch on an ImageNet backbone, trained by a plain loop that knows nothing of
this package but its reader of images. Then `add_context` puts a module on its class logits, and `dilated.training`
trains the module alone, the peer frozen:

    peer             as its own training left it
    step 0           with the fresh module, which must change nothing
    dilated          with the module after its training
    undilated        the control: the same module, data and steps, all dilations 1

Differences are of mean IoU on the whole validation split at full resolution, with a paired 95% interval over the groups
of the images, or over blocks of one film. Every network is measured as its file in half precision holds it, so that all
share the peer's weights to the last bit. Interrupted, the same command goes on; another `--steps` or `--epochs` needs
another `--out`.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from intervals import mean_iou_difference, mean_iou_interval
from safetensors.torch import load_file
from torch import nn

import dilated
from dilated.data.augment import AugmentConfig
from dilated.data.dataset import Dataset
from dilated.data.labels import IGNORE
from dilated.data.loader import iter_batch_keys
from dilated.data.torch_dataset import TrainingSamples
from dilated.environment import describe_machine
from dilated.evaluation.evaluate import evaluate
from dilated.models.adapter import AdaptedSegmenter, AdapterConfig, add_context
from dilated.models.base import BaseSegmenter
from dilated.models.context import DILATIONS
from dilated.prediction.predictor import Predictor
from dilated.training.config import load_recipe
from dilated.training.train import train

BACKBONE = "tf_efficientnet_lite0"
FACTORY = "segmentation_models_pytorch:FPN"
SIDES = 32
"""The FPN takes images whose sides are multiples of this."""
ARMS = {"dilated": DILATIONS, "undilated": (1,) * len(DILATIONS)}


def options_of(classes: int) -> dict[str, Any]:
    """The peer's settings; narrower than the library's own, for a processor's sake."""
    return {
        "encoder_name": f"tu-{BACKBONE}",
        "encoder_weights": None,
        "decoder_pyramid_channels": 128,
        "decoder_segmentation_channels": 64,
        "classes": classes,
    }


def peer(data: Dataset, out: Path, steps: int, batch: int, crop: tuple[int, int]) -> BaseSegmenter:
    """The trained peer, from its file if that is there."""
    import segmentation_models_pytorch as smp

    file = out / "peer.safetensors"
    if not file.is_file():
        torch.manual_seed(0)
        options = options_of(len(data.classes))
        network = smp.FPN(**options)
        network.encoder.model.load_state_dict(
            load_file(resources.files("dilated.weights") / f"files/{BACKBONE}.safetensors")
        )
        train_peer(network, data, out / "peer.pt", steps, batch, crop)
        settings = AdapterConfig(FACTORY, options, size_divisor=SIDES)
        AdaptedSegmenter(data.classes.names, config=settings, model=network).save(file)
    return dilated.load(file)


def train_peer(network: nn.Module, data: Dataset, state: Path, steps: int, batch: int, crop: tuple[int, int]) -> None:
    """A training loop as most projects have one: AdamW, a polynomial rate, random scale, crop and mirroring."""
    samples = TrainingSamples(data.samples("train"), AugmentConfig(crop, scale=(0.6, 1.6)), seed=0, cache=True)
    backbone = list(network.get_submodule("encoder").parameters())
    rest = [p for name, p in network.named_parameters() if not name.startswith("encoder.")]
    descent = torch.optim.AdamW([{"params": backbone, "lr": 4e-4}, {"params": rest, "lr": 2e-3}], weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.PolynomialLR(descent, total_iters=steps, power=0.9)
    done = 0
    if state.is_file():
        kept = torch.load(state, weights_only=True)
        network.load_state_dict(kept["network"])
        descent.load_state_dict(kept["descent"])
        schedule.load_state_dict(kept["schedule"])
        done = kept["done"]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (AdapterConfig.mean, AdapterConfig.std))
    network.train()
    began = time.perf_counter()
    for step, keys in enumerate(iter_batch_keys(len(samples), batch, 0, done, steps), start=done + 1):
        drawn = [samples[key] for key in keys]
        image, label = (torch.stack(entry) for entry in zip(*drawn, strict=True))
        loss = F.cross_entropy(network((image - mean) / std), label, ignore_index=IGNORE)
        descent.zero_grad(set_to_none=True)
        loss.backward()
        descent.step()
        schedule.step()
        if step % 20 == 0 or step == steps:
            seconds = (time.perf_counter() - began) / (step - done)
            print(f"peer: step {step} of {steps}, loss {float(loss.detach()):.3f}, {seconds:.2f} s a step", flush=True)
            kept = {"network": network, "descent": descent, "schedule": schedule}
            torch.save(
                {key: entry.state_dict() for key, entry in kept.items()} | {"done": step}, state.with_suffix(".part")
            )
            state.with_suffix(".part").replace(state)


def with_module(peer: BaseSegmenter, dilations: tuple[int, ...]) -> BaseSegmenter:
    """The peer, by way of `add_context` as a user would call it."""
    assert isinstance(peer, AdaptedSegmenter)
    config = AdapterConfig(FACTORY, options_of(len(peer.classes)), size_divisor=SIDES)
    return add_context(peer.model, peer.classes, dilations=dilations, config=config)


def module_trained(peer: BaseSegmenter, name: str, data: Dataset, out: Path, overrides: list[str]) -> BaseSegmenter:
    """The peer with a module after its training; the peer's own weights stay as they are."""
    file, run = out / name / "stage-0.safetensors", out / name
    if not file.is_file():
        start = with_module(peer, ARMS[name])
        recipe = load_recipe("context", overrides, start.config)
        train(data, recipe, run, resume=(run / "checkpoint.pt").is_file(), init_from=start)
    return dilated.load(file)


def measure(segmenter: BaseSegmenter, data: Dataset) -> np.ndarray:
    """(images, 3 C) counts on whole images."""
    return evaluate(Predictor(segmenter, device="cpu"), data.samples("val"), data.classes).class_counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/add_context"), help="where a rerun finds what is done")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--steps", type=int, default=450, help="of the peer's training")
    parser.add_argument("--batch", type=int, default=4, help="of the peer's training")
    parser.add_argument("--epochs", type=int, default=3, help="of the module's training")
    parser.add_argument("--crop", type=int, nargs=2, default=(256, 320))
    options = parser.parse_args()

    data = dilated.open_dataset(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    began, crop = time.perf_counter(), tuple(options.crop)
    ordinary = peer(data, options.out, options.steps, options.batch, crop)
    counts = {"peer": measure(ordinary, data)}
    rows: list[dict[str, Any]] = []
    images = [sample.name for sample in data.samples("val")]

    def report(name: str, segmenter: BaseSegmenter) -> None:
        against = ("peer", "dilated") if name == "undilated" else ("peer",)
        gains = {other: mean_iou_difference(counts[name], counts[other], images) for other in against if other != name}
        interval = mean_iou_interval(counts[name], images)
        row = {
            "network": name,
            "dilations": segmenter.config.dilations if segmenter.context is not None else None,
            "parameters": sum(p.numel() for p in segmenter.parameters()),
            "mean_iou": interval.value,
            "interval": [interval.low, interval.high],
            "difference": {other: [gain.value, gain.low, gain.high] for other, gain in gains.items()},
            "counts_as_peer": bool((counts[name] == counts["peer"]).all()),
        }
        rows.append(row)
        print(f"{name:<10} {row['mean_iou']:.4f}  " + "  ".join(f"less {k}: {v}" for k, v in gains.items()), flush=True)
        if options.json:
            facts = {
                "peer": {"factory": FACTORY, **options_of(len(data.classes)), "steps": options.steps},
                "batch": options.batch,
                "crop": list(crop),
                "epochs": options.epochs,
                "images": {split: len(data.samples(split)) for split in ("train", "val")},
                "machine": describe_machine("cpu"),
                "seconds": round(time.perf_counter() - began),
                "rows": rows,
            }
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    report("peer", ordinary)
    fresh = with_module(ordinary, DILATIONS).eval()
    counts["step 0"] = measure(fresh, data)
    report("step 0", fresh)
    overrides = [
        f"stage.0.epochs={options.epochs}",
        f"stage.0.val_interval={options.epochs}",
        f"augment.crop={list(crop)}",
        "workers=0",
        "cache=true",
        "checkpoint_every=25",
    ]
    for name in ARMS:
        segmenter = module_trained(ordinary, name, data, options.out, overrides)
        counts[name] = measure(segmenter, data)
        report(name, segmenter)


if __name__ == "__main__":
    main()
