"""Labels that change in other runtimes, at five sizes and up to three images at once, and the time: a table.

    python benchmarks/export_table.py [--rows FILE] [NETWORK ...]    # street cells resnet50 dilation8_pascal_voc

Each row is appended to the file as soon as it is measured; rows that are there are not measured again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dilated import Predictor, Segmenter, SegmenterConfig, export, load, published
from dilated.deploy.price import ExportPrice
from dilated.models.base import BaseSegmenter

SIZES = ((1, 240, 320), (3, 241, 319), (1, 97, 130), (1, 333, 217), (1, 7, 300))
RUNTIMES = {"onnx": ".onnx", "openvino": ".xml"}
SAMPLES = Path(str(resources.files("dilated") / "samples"))


def _resnet50() -> BaseSegmenter:
    return Segmenter([f"class {i}" for i in range(21)], config=SegmenterConfig(backbone="resnet50", context="basic"))


NETWORKS: dict[str, Callable[[], BaseSegmenter]] = {
    "street": lambda: load("street"),
    "cells": lambda: load("cells"),
    "resnet50": _resnet50,
    "dilation8_pascal_voc": lambda: published("dilation8_pascal_voc"),
}


def crop_photo(n: int, height: int, width: int) -> NDArray[np.uint8]:
    """Crops of a sample photograph, (n, height, width, 3), each 16 pixels further."""
    path = sorted(SAMPLES.glob("*.jpg"))[0]
    photo = np.asarray(Image.open(path).convert("RGB").resize((width + 64, height + 64)))
    return np.stack([photo[16 * i : 16 * i + height, 16 * i : 16 * i + width] for i in range(n)])


def compare_at_sizes(segmenter: BaseSegmenter, path: Path) -> tuple[ExportPrice, float, float]:
    """What differs at all sizes, and the seconds of both for the first size."""
    ours, theirs = Predictor(segmenter, device="cpu"), Predictor(path, device="cpu")
    price = ExportPrice(segmenter.classes, path.suffix)
    for size in SIZES:
        images = list(crop_photo(*size))
        for a, b in zip(ours.batch(images), theirs.batch(images), strict=True):
            price.add(ours, a, b)
    image = crop_photo(*SIZES[0])[0]
    return price, _time(ours, image), _time(theirs, image)


def _time(predictor: Predictor, image: NDArray[np.uint8]) -> float:
    """Seconds of the fastest of three runs."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        predictor(image)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def measure_row(name: str, segmenter: BaseSegmenter, to: str, suffix: str) -> str:
    """The row of a network in a runtime."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, f"network{suffix}")
        export(segmenter, out, to=to, check=sorted(SAMPLES.glob("*.jpg"))[0], tolerance=1e-3)
        price, ours, theirs = compare_at_sizes(segmenter, out)
    differing = f"{price.changed_pixels:,} of {price.pixels:,}"
    cells = (name, to, differing, f"{price.near_ties:,}", f"{1000 * ours:.0f}", f"{1000 * theirs:.0f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--rows", type=Path, default=Path("export_table.md"), help="where rows are kept")
    options = parser.parse_args()
    kept = options.rows.read_text(encoding="utf-8").splitlines() if options.rows.is_file() else []
    for name in options.networks:
        todo = [(to, suffix) for to, suffix in RUNTIMES.items() if not any(f"| {name} | {to} |" in row for row in kept)]
        if not todo:
            continue
        torch.manual_seed(0)
        segmenter = NETWORKS[name]().eval()
        for to, suffix in todo:
            row = measure_row(name, segmenter, to, suffix)
            with options.rows.open("a", encoding="utf-8") as file:
                file.write(f"{row}\n")
    print("| network | runtime | labels that differ | near ties | ms, ours | ms, file |\n|---|---|---|---|---|---|")
    print(options.rows.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
