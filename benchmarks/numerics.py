"""Checks the promises of docs/numerics.md: labels and logits across threads, batches, tiles, processes and kernels.

    python benchmarks/numerics.py --json benchmarks/results/numerics.json
    python benchmarks/numerics.py --networks resnet18 --images 2          # a quick look

Each row compares two ways to label the same images: how many labels differ, how far apart the two greatest logits of
those pixels are at most, and by how much logits differ at most, each relative to the logits' standard deviation. A row
that breaks its promise ends the script with status 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dilated import Predictor, Segmenter, SegmenterConfig, load
from dilated.data.images import list_image_files, read_image
from dilated.environment import describe_machine, has_bf16
from dilated.models.base import BaseSegmenter

EXACT, ROUNDING = 0.0, 1e-4
"""The greatest gap, in standard deviations, of the two greatest logits of a pixel whose label may change."""
SIDE = 320


@dataclass(frozen=True)
class Row:
    network: str
    between: str
    pixels: int
    different_labels: int
    widest_gap: float
    logit_difference: float
    allowed_gap: float | None
    """None: measured, and nothing is promised."""

    @property
    def is_kept(self) -> bool:
        return self.allowed_gap is None or (self.different_labels == 0 or self.widest_gap <= self.allowed_gap)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet18", "street"])
    parser.add_argument("--photos", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "samples")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--digest", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    paths = list_image_files(options.photos)[: options.images]
    images = [read_image(path)[:SIDE, :SIDE].copy() for path in paths]
    if options.digest:
        print(digest(make_network(options.networks[0]), images))
        return
    rows = [row for name in options.networks for row in compare(name, images, options)]
    for row in rows:
        print(f"{'kept' if row.is_kept else 'BROKEN'}  {json.dumps(asdict(row))}")
    if options.json:
        report = {"machine": describe_machine("cpu"), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if not all(row.is_kept for row in rows):
        raise SystemExit("a promise was broken")


def make_network(name: str) -> BaseSegmenter:
    """Load a network; `resnet18` is one of random weights, which magnify rounding."""
    if name != "resnet18":
        return load(name)
    torch.manual_seed(0)
    config = SegmenterConfig(backbone="resnet18", features=32, levels=3, context="basic", dilations=(1, 2, 4))
    return Segmenter([f"class {i}" for i in range(8)], [(i, i, i) for i in range(8)], config)


def compare(name: str, images: Sequence[np.ndarray[Any, Any]], options: argparse.Namespace) -> list[Row]:
    """Label in every way, and compare each with one."""
    network = make_network(name)

    def label(threads: int = 1, batch: int = 1, **settings: Any) -> list[Tensor]:
        torch.set_num_threads(threads)
        predictor = Predictor(network, device="cpu", **settings)
        predictions = predictor.batch(images, logits=True, batch_size=batch)
        return [torch.as_tensor(prediction.logits) for prediction in predictions]

    expected = label()
    ways: dict[str, tuple[Callable[[], list[Tensor]], float | None]] = {
        "two calls": (label, EXACT),
        "1 and 2 threads": (lambda: label(threads=2), ROUNDING),
        "batches of 1 and 4": (lambda: label(batch=4), ROUNDING),
        "whole images and tiles of 128": (lambda: label(tile=128), ROUNDING),
        "the accelerated copy and fp32": (lambda: label(precision="fp32"), ROUNDING),
        "auto and fast (Winograd for 7x7)": (lambda: label(precision="fast"), None),
    }
    if has_bf16(torch.device("cpu")):
        ways["auto and bf16"] = (lambda: label(precision="bf16"), None)
    rows = [describe(name, between, expected, way(), allowed) for between, (way, allowed) in ways.items()]
    torch.set_num_threads(1)
    command = [sys.executable, __file__, "--networks", name, "--photos", options.photos, "--images", len(images)]
    digests = {
        subprocess.run([*map(str, command), "--digest"], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    changed = len(digests) - 1
    pixels = sum(image[..., 0].size for image in images)
    return [*rows, Row(name, "two processes", pixels, changed * pixels, float(changed), float(changed), EXACT)]


def digest(network: BaseSegmenter, images: Sequence[np.ndarray[Any, Any]]) -> str:
    """Hash the labels and logits, computed by one thread."""
    torch.set_num_threads(1)
    predictor = Predictor(network, device="cpu")
    hasher = hashlib.sha256()
    for image in images:
        prediction = predictor(image, logits=True)
        hasher.update(prediction.labels.tobytes() + torch.as_tensor(prediction.logits).numpy().tobytes())
    return hasher.hexdigest()


def describe(network: str, between: str, expected: list[Tensor], logits: list[Tensor], allowed: float | None) -> Row:
    """Count what differs."""
    different, gap, difference = 0, 0.0, 0.0
    for ours, theirs in zip(expected, logits, strict=True):
        spread = float(ours.std())
        greatest = torch.topk(ours, 2, dim=0).values
        changed = ours.argmax(0) != theirs.argmax(0)
        different += int(changed.sum())
        if changed.any():
            gap = max(gap, float((greatest[0] - greatest[1])[changed].max()) / spread)
        difference = max(difference, float((ours - theirs).abs().max()) / spread)
    pixels = sum(values[0].numel() for values in expected)
    return Row(network, between, pixels, different, gap, difference, allowed)


if __name__ == "__main__":
    main()
