"""Does the context module help? One frozen backbone, one front end, the same steps for everyone, paired intervals.

    python benchmarks/context_table.py RUN/stage-1.safetensors CAMVID --json benchmarks/results/context.json

The protocol of the paper's Section 5 with a control added. A front end that was trained to its end is frozen up to its
backbone's feature maps, which are computed once for some augmented views of the training images. Then each arm starts
from the same front-end weights and trains what comes after the backbone for the same steps on the same batches:

    front end        its own layers alone: what more training is worth
    basic, ...       the same layers and a context module, which differs by one thing from arm to arm

Differences are of mean IoU on the whole validation split at full resolution, against the first arm, with a paired 95%
interval over the groups of the images, or over blocks of one film, and over the seeds of both. "at the start" is mean
IoU before the first step. The counts of each image lie beside the JSON, with `.npz` for its ending.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from intervals import mean_iou_difference_of_seeds, mean_iou_interval
from torch import Tensor

import dilated
from dilated.data.augment import AugmentConfig
from dilated.data.loader import iter_batch_keys
from dilated.data.torch_dataset import TrainingSamples
from dilated.environment import describe_machine
from dilated.evaluation.confusion import ConfusionMatrix
from dilated.models.sampling import PIXEL_GRID, upsample
from dilated.training.config import Recipe, StageConfig
from dilated.training.losses import LossConfig, combined_loss
from dilated.training.optim import build_optimizer, set_learning_rate
from dilated.training.stages import autocast, resolve_precision


def computing(recipe: Recipe, device: torch.device) -> torch.autocast:
    """A context in which a device computes as the recipe says."""
    return autocast(resolve_precision(recipe, device), device)


@dataclass(frozen=True)
class Arm:
    """One way to spend the steps."""

    name: str
    network: dict[str, Any] = field(default_factory=dict)
    """Changes to the front end's `SegmenterConfig`."""


ARMS = (
    Arm("front end"),
    Arm("basic on features, identity", {"context": "basic", "context_on": "features", "sigma": 0.001}),
    Arm("basic on features, random", {"context": "basic", "context_on": "features", "init": "random"}),
    Arm(
        "basic on features, identity, no dilation",
        {"context": "basic", "context_on": "features", "sigma": 0.001, "dilations": (1,) * 7},
    ),
    Arm("basic on logits, identity", {"context": "basic", "context_on": "logits", "sigma": 0.001}),
    Arm("basic on logits, random", {"context": "basic", "context_on": "logits", "init": "random"}),
    Arm("large on logits, identity", {"context": "large", "context_on": "logits", "sigma": 0.001}),
)

Cached = tuple[list[Tensor], Tensor]  # the backbone's maps that are read later, and the label


class Head:
    """A segmenter from its backbone's maps on."""

    def __init__(self, segmenter: dilated.Segmenter) -> None:
        self.segmenter = segmenter
        self.device = next(segmenter.parameters()).device
        self.kept = [*segmenter.fused_levels, *segmenter.fine_levels]

    def keep(self, maps: list[Tensor]) -> list[Tensor]:
        return [maps[i].to(torch.bfloat16) for i in self.kept]

    def __call__(self, kept: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Maps that were kept, (N, ., h, w) each -> logits (N, C, H, W)."""
        maps: list[Any] = [None] * len(self.segmenter.backbone_grids)
        for i, values in zip(self.kept, kept, strict=True):
            maps[i] = values if torch.is_autocast_enabled(self.device.type) else values.float()
        maps[-1] = kept[len(self.segmenter.fused_levels) - 1]
        logits, places = self.segmenter.decode(self.segmenter.forward_neck(maps), self.segmenter.feature_grids)
        return upsample(logits.float(), places, PIXEL_GRID, size)


def cache(head: Head, samples: TrainingSamples, keys: list[tuple[int, int]], recipe: Recipe) -> list[Cached]:
    """The backbone's maps of each sample, computed once."""
    kept = []
    for key in keys:
        image, label = samples[key]
        with torch.inference_mode(), computing(recipe, head.device):
            maps = head.segmenter.extract_backbone_features(image[None].to(head.device))
        kept.append(([m.clone() for m in head.keep(maps)], label.to(head.device, torch.uint8)))
    return kept


def train(segmenter: dilated.Segmenter, views: list[Cached], steps: int, batch: int, seed: int, recipe: Recipe) -> None:
    """Train what comes after the backbone."""
    stage = StageConfig("joint", epochs=1, lr=1e-3, warmup=20)
    segmenter.train()
    segmenter.backbone.requires_grad_(False).eval()
    descent, head = build_optimizer(segmenter, stage), Head(segmenter)
    for step, keys in enumerate(iter_batch_keys(len(views), batch, seed, 0, steps)):
        set_learning_rate(descent, stage, step, step / steps)
        chosen = [views[i] for i, _ in keys]
        maps = [torch.cat([view[0][level] for view in chosen]) for level in range(len(head.kept))]
        label = torch.stack([view[1] for view in chosen]).long()
        with computing(recipe, head.device):
            logits = head(maps, (label.shape[-2], label.shape[-1]))
        loss = combined_loss(logits, label, recipe.loss)
        descent.zero_grad(set_to_none=True)
        loss.backward()
        descent.step()


@torch.inference_mode()
def measure(segmenter: dilated.Segmenter, views: list[Cached], recipe: Recipe) -> np.ndarray:
    """(images, C, C) counts on whole images."""
    segmenter.eval()
    head, counts = Head(segmenter), []
    for maps, label in views:
        with computing(recipe, head.device):
            logits = head(maps, (label.shape[-2], label.shape[-1]))
        confusion = ConfusionMatrix(segmenter.classes)
        confusion.update(logits[0].argmax(0).cpu().numpy(), label.cpu().numpy())
        counts.append(confusion.counts)
    return np.stack(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("front_end", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--views", type=int, default=3, help="augmented views of each training image")
    parser.add_argument("--epochs", type=int, default=1, help="passes over all the views")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--arms", nargs="*", help="names of the arms beside the first; all if not given")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    device = torch.device(options.device)
    front = dilated.load(options.front_end).to(device)
    data = dilated.open_dataset(options.data)
    recipe = Recipe(stage=(StageConfig("frontend", 1),), loss=LossConfig(jaccard=0.3))
    augment = AugmentConfig(scale=(0.6, 1.8), brightness=0.4, contrast=0.4, saturation=0.4)
    pairs = data.samples("train")
    began = time.perf_counter()
    keys = [(i % len(pairs), i) for i in range(options.views * len(pairs))]
    train_views = cache(Head(front), TrainingSamples(pairs, augment, seed=7777), keys, recipe)
    val = data.samples("val")
    val_views = cache(Head(front), TrainingSamples(val, None), [(i, i) for i in range(len(val))], recipe)
    arms = [a for i, a in enumerate(ARMS) if i == 0 or options.arms is None or a.name in options.arms]
    steps = options.epochs * len(train_views) // options.batch
    print(f"{len(train_views)} views, {steps} steps of {options.batch}; cached in {time.perf_counter() - began:.0f} s")

    names = [sample.name for sample in val]
    facts = {
        "front_end": options.front_end.name,
        "steps": steps,
        "batch": options.batch,
        "machine": describe_machine(str(device)),
    }
    counts: dict[str, list[np.ndarray]] = {arm.name: [] for arm in arms}
    starts: dict[str, list[float]] = {arm.name: [] for arm in arms}
    parameters: dict[str, int] = {}
    for seed in range(options.seeds):
        for arm in arms:
            torch.manual_seed(seed)
            segmenter = front.rebuild(**arm.network).to(device)
            starts[arm.name].append(mean_iou_interval(measure(segmenter, val_views, recipe), names).value)
            began = time.perf_counter()
            train(segmenter, train_views, steps, options.batch, seed, recipe)
            counts[arm.name].append(measure(segmenter, val_views, recipe))
            parameters[arm.name] = (
                0 if segmenter.context is None else sum(p.numel() for p in segmenter.context.parameters())
            )
            print(f"{arm.name}, seed {seed}: {time.perf_counter() - began:.1f} s", flush=True)
            if options.json:
                rows = summarize([a for a in arms if counts[a.name]], counts, starts, parameters, names)
                options.json.parent.mkdir(parents=True, exist_ok=True)
                options.json.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")
                np.savez_compressed(
                    options.json.with_suffix(".npz"), **{name: np.stack(c) for name, c in counts.items() if c}
                )
    print("\n".join(to_markdown(summarize(arms, counts, starts, parameters, names))))


def summarize(
    arms: list[Arm],
    counts: dict[str, list[np.ndarray]],
    starts: dict[str, list[float]],
    parameters: dict[str, int],
    names: list[str],
) -> list[dict[str, Any]]:
    """A row for each arm: means over the seeds so far, and the difference from the first arm."""
    rows, control = [], counts[arms[0].name]
    for arm in arms:
        gain = mean_iou_difference_of_seeds(counts[arm.name], control, names)
        ends = [mean_iou_interval(c, names).value for c in counts[arm.name]]
        row = {
            "arm": arm.name,
            "seeds": len(ends),
            "parameters": parameters[arm.name],
            "at_start": float(np.mean(starts[arm.name])),
            "mean_iou": float(np.mean(ends)),
            "mean_iou_of_each_seed": ends,
            "difference": [gain.value, gain.low, gain.high],
        }
        rows.append(row)
    return rows


def to_markdown(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as docs/context.md has them."""
    lines = ["| arm | extra parameters | start | end | difference, points |", "|---|---|---|---|---|"]
    for number, row in enumerate(rows):
        value, low, high = (100 * x for x in row["difference"])
        difference = f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" if number else ""
        lines.append(
            f"| {row['arm']} | {row['parameters']:,} | {row['at_start']:.4f} | {row['mean_iou']:.4f} | {difference} |"
        )
    return lines


if __name__ == "__main__":
    main()
