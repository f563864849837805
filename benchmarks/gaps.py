"""Thin structures: how many a network misses, and into how many pieces it breaks the others, beside IoU.

    python benchmarks/gaps.py CAMVID street RUN --class Pole --json gaps.json

A pole of 2 pixels that is labelled one pixel beside its place has an IoU of a third and no gap; one that is labelled in
every other row has an IoU of a half, and is of no use. A structure is a connected region of the class in the truth.
What of it lies within --tolerance pixels of the same class in the prediction is found: a structure of which nothing is
found is missed, and one that is found in n pieces has n - 1 gaps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

import dilated
from dilated.data.dataset import Dataset
from dilated.data.polygons import label_components
from dilated.errors import InputError
from dilated.evaluation.evaluate import MetricsConfig, evaluate
from dilated.files import atomic_write

_Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class GapCounts:
    """The structures of one class."""

    structures: int = 0
    missed: int = 0
    """Of which nothing is found."""
    gaps: int = 0
    """Between the pieces in which the others are found."""

    def __add__(self, other: GapCounts) -> GapCounts:
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return GapCounts(*(a + b for a, b in pairs))


def count_gaps(prediction: _Mask, target: _Mask, tolerance: int = 2, smallest: int = 20) -> GapCounts:
    """Count the structures of a class in one image.

    Args:
        prediction, target: (H, W), where the class is.
        tolerance: pixels by which a prediction may lie beside.
        smallest: pixels of a structure that counts.

    Example:
        >>> target = np.zeros((40, 9), dtype=bool)
        >>> target[:, 4] = True
        >>> prediction = target.copy()
        >>> prediction[10:20] = False
        >>> count_gaps(prediction, target), count_gaps(target[:, ::-1] & False, target)
        (GapCounts(structures=1, missed=0, gaps=1), GapCounts(structures=1, missed=1, gaps=0))
    """
    is_found = target & _widen(prediction, tolerance)
    structures, pieces = _number_regions(target), _number_regions(is_found)
    total = GapCounts()
    for number in range(1, int(structures.max(initial=0)) + 1):
        inside = structures == number
        if inside.sum() < smallest:
            continue
        found_in = len(np.unique(pieces[inside & is_found]))
        total += GapCounts(1, int(found_in == 0), max(0, found_in - 1))
    return total


def _widen(mask: _Mask, pixels: int) -> _Mask:
    maps = torch.from_numpy(mask.astype(np.float32))[None, None]
    widened: _Mask = F.max_pool2d(maps, 2 * pixels + 1, 1, pixels)[0, 0].numpy() > 0
    return widened


def _number_regions(mask: _Mask) -> NDArray[np.int64]:
    """Number the regions of a mask from 1 on, diagonal neighbors and those across one pixel included; 0 elsewhere."""
    joined = _widen(mask, 1)
    numbers, values = label_components(joined.astype(np.int64))
    order = np.cumsum(values) * values
    numbered: NDArray[np.int64] = order[numbers] * mask
    return numbered


def measure_gaps(network: str, data: Dataset, split: str, class_name: str, tolerance: int) -> dict[str, object]:
    """Measure a class of a network on a split."""
    if class_name not in data.classes.names:
        raise InputError(f"--class {class_name}: not a class", hint=f"give one of {', '.join(data.classes.names)}")
    predictor, samples = dilated.Predictor(dilated.load(network)), data.samples(split)
    total = GapCounts()
    ours, theirs = predictor.segmenter.classes.index(class_name), data.classes.names.index(class_name)

    def add(index: int, prediction: dilated.Prediction) -> None:
        nonlocal total
        total += count_gaps(prediction.labels == ours, samples[index].read_label() == theirs, tolerance)

    result = evaluate(predictor, samples, data.classes, MetricsConfig(boundary=True), on_prediction=add).to_dict()
    return {
        "network": network,
        "mean_iou": result["mean_iou"],
        "iou": result["iou"][class_name],
        "boundary_iou": result["boundary_iou"][class_name],
        **asdict(total),
    }


def print_table(rows: Sequence[dict[str, object]]) -> None:
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        cells = (f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values())
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--class", dest="class_name", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--tolerance", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = dilated.open_dataset(options.data)
    rows = [
        measure_gaps(network, data, options.split, options.class_name, options.tolerance)
        for network in options.networks
    ]
    print_table(rows)
    if options.json:
        atomic_write(options.json, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
