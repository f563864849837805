"""Labels that change in other runtimes, at five sizes and up to three images at once, and the time: a table.

python benchmarks/export_table.py [NETWORK ...]        # street cells resnet50 dilation8_pascal_voc
"""

from __future__ import annotations

import sys
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
from dilated.models.base import BaseSegmenter

SIZES = ((1, 240, 320), (3, 241, 319), (1, 97, 130), (1, 333, 217), (1, 7, 300))
SAMPLES = Path(str(resources.files("dilated") / "samples"))
NEAR_TIE = 1e-3


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


def compare_at_sizes(segmenter: BaseSegmenter, path: Path) -> tuple[int, int, int, float, float]:
    """Pixels, pixels that differ, near ties among these, and the seconds of both for the first size."""
    ours, theirs = Predictor(segmenter, device="cpu"), Predictor(path, device="cpu")
    pixels = differing = near = 0
    for size in SIZES:
        images = list(crop_photo(*size))
        for image, a, b in zip(images, ours.batch(images), theirs.batch(images), strict=True):
            differs = a.labels != b.labels
            pixels, differing = pixels + differs.size, differing + int(differs.sum())
            if differs.any():
                logits = ours(image, logits=True).logits
                assert logits is not None
                greatest = logits.topk(2, dim=0).values.numpy()
                near += int(((greatest[0] - greatest[1])[differs] <= NEAR_TIE * float(logits.std())).sum())
    image = crop_photo(*SIZES[0])[0]
    seconds = []
    for predictor in (ours, theirs):
        began = time.perf_counter()
        predictor(image)
        seconds.append(time.perf_counter() - began)
    return pixels, differing, near, seconds[0], seconds[1]


def main(names: list[str]) -> None:
    print("| network | runtime | labels that differ | near ties | ms, ours | ms, file |\n|---|---|---|---|---|---|")
    for name in names or NETWORKS:
        torch.manual_seed(0)
        segmenter = NETWORKS[name]().eval()
        for to, suffix in (("onnx", ".onnx"), ("openvino", ".xml")):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder, f"network{suffix}")
                export(segmenter, out, to=to, check=sorted(SAMPLES.glob("*.jpg"))[0], tolerance=1e-3)
                pixels, differing, near, ours, theirs = compare_at_sizes(segmenter, out)
            cells = (name, to, f"{differing} of {pixels:,}", str(near), f"{1000 * ours:.0f}", f"{1000 * theirs:.0f}")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
