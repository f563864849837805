"""What an export costs: labels that change, time and memory, measured in the file's own runtime on real images.

price = measure_price(Predictor(segmenter), Predictor(read_exported(path)), images)
print(price)
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from dilated.errors import InputError
from dilated.evaluation.compare import Comparison
from dilated.files import plural
from dilated.models.exported import ExportedSegmenter
from dilated.prediction.image_input import to_pixels
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor
from dilated.progress import ProgressCallback, track

_ROUNDS = 3
_MOST_SECONDS = 20.0
"""Once the runs together took so long, an image is timed once and not thrice."""
NEAR_TIE = 1e-3
"""Of the spread (standard deviation) of an image's logits: two greatest logits that are closer are a near tie."""


@dataclass
class ExportPrice:
    """How an exported file differs from the network, on the images that it was run on."""

    classes: tuple[str, ...]
    runtime: str
    """What ran the file."""
    images: int = 0
    pixels: int = 0
    changed: dict[str, int] = field(default_factory=dict)
    """Pixels whose label differs, by the network's own label; classes without any are left out."""
    near_ties: int = 0
    """How many of them are near ties of the network: see `NEAR_TIE`."""
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"network": [], "exported": []})
    """Of each image, from its pixels to its labels, in turns; without the first run of each size."""
    largest: Path = Path()
    """The image of most pixels."""
    memory: dict[str, int] = field(default_factory=dict)
    """Bytes that opening each and labelling the largest image took at most, in a process of its own."""
    comparison: Comparison | None = None
    """The figures of both where there are true labels; the file is the candidate."""

    @property
    def changed_pixels(self) -> int:
        """Pixels whose label differs."""
        return sum(self.changed.values())

    @property
    def changed_share(self) -> float:
        """The share of the pixels whose label differs."""
        return self.changed_pixels / max(self.pixels, 1)

    def add(self, network: Predictor, ours: Prediction, theirs: Prediction) -> None:
        """Count the labels of an image that differ.

        Args:
            network: whose logits tell near ties.
            ours: what it predicts.
            theirs: what the file gives for the same image.
        """
        differs = ours.labels != theirs.labels
        self.images += 1
        self.pixels += differs.size
        if not differs.any():
            return
        ids, counts = np.unique(ours.labels[differs], return_counts=True)
        for i, count in zip(ids.tolist(), counts.tolist(), strict=True):
            name = self.classes[i] if i < len(self.classes) else "no data"
            self.changed[name] = self.changed.get(name, 0) + count
        logits = network(ours.image, logits=True).logits
        assert logits is not None
        greatest = logits[:, torch.from_numpy(differs)].topk(min(2, len(logits)), dim=0).values
        self.near_ties += int((greatest[0] - greatest[-1] <= NEAR_TIE * float(logits.std())).sum())

    def describe(self) -> list[str]:
        """Lines for people to read."""
        lines = [
            f"{self.changed_pixels:,} of {self.pixels:,} labels differ ({self.changed_share:.2e}) on "
            f"{plural(self.images, 'image')} in {self.runtime}; {self.near_ties:,} of them are near ties",
        ]
        lines += [f"  {name}: {count:,}" for name, count in self.changed.items()]
        for name, seconds in self.seconds.items():
            p50, p99 = (1000 * percentile(seconds, fraction) for fraction in (0.5, 0.99))
            memory = f", {self.memory[name] / 2**20:.0f} MiB" if name in self.memory else ""
            lines.append(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms{memory}")
        if self.comparison is not None:
            interval = self.comparison.differences["mean_iou"][0]
            shown = f", 95% {interval.low:+.5f} to {interval.high:+.5f}" if math.isfinite(interval.low) else ""
            first, second = self.comparison.mean_values("mean_iou")
            lines.append(f"mean IoU {first:.4f}, of the network {second:.4f}: {first - second:+.5f}{shown}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.describe())


def measure_price(
    network: Predictor, exported: Predictor, images: Sequence[Path], progress: ProgressCallback | None = None
) -> ExportPrice:
    """Label images by a network and by the file that was exported from it.

    Args:
        images: image files that both read.
        progress: called after each image.

    Raises:
        InputError: no image, or one that cannot be read.
    """
    if not images:
        raise InputError("price: no images", hint="give images, or a folder that holds some")
    runtime = exported.segmenter.runtime.name if isinstance(exported.segmenter, ExportedSegmenter) else "dilated"
    price = ExportPrice(network.segmenter.classes, runtime)
    most = 0
    timed = 0.0
    for path in track(images, len(images), progress):
        pixels = to_pixels(path, network.segmenter.input)
        if pixels.size > most:
            most, price.largest = pixels.size, path
        price.add(network, network(pixels), exported(pixels))
        for i in range(_ROUNDS):
            if i and timed > _MOST_SECONDS:
                break
            for name, predictor in (("network", network), ("exported", exported)):
                began = time.perf_counter()
                predictor(pixels)
                price.seconds[name].append(time.perf_counter() - began)
                timed += price.seconds[name][-1]
    return price


def percentile(seconds: Sequence[float], fraction: float) -> float:
    """The value that so many of some stay within.

    Example:
        >>> percentile([4.0, 1.0, 2.0, 3.0], 0.5)
        2.0
    """
    return sorted(seconds)[max(0, math.ceil(fraction * len(seconds)) - 1)]
