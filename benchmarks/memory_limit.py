"""Labels a folder of mixed sizes with and without a limit of memory: the peak that a process takes, and the labels.

    python benchmarks/memory_limit.py --json benchmarks/results/memory-limit.json
    python benchmarks/memory_limit.py --photos photos    # where the samples are not beside the repository
    python benchmarks/memory_limit.py --megapixels 0.3 2 12 --memory 1GiB --network light      # a quick look

`dilated predict` runs in a process of its own. Its peak is the kernel's own account (VmHWM); of processes that it
starts, the sum of what they hold is added, looked at ten times a second. The labels with the limit must equal those
without it where the whole image is labelled at once (up to `--whole` megapixels) and, for all, those of `--tile`,
except at near ties (docs/numerics.md): pixels whose two greatest logits differ by less than 1e-4 of the logits'
standard deviation, which windows of other sizes round otherwise. The gap of each pixel that differs is in the report.
Images of more than 89 megapixels are rasters, which need `--tile`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from dilated import Predictor, Segmenter, SegmenterConfig, load
from dilated.data.images import list_image_files, read_image
from dilated.environment import describe_machine
from dilated.prediction.memory import MemoryLimit

Image.MAX_IMAGE_PIXELS = None
RASTER_MEGAPIXELS = 89
CHECK_TILE = 1024
NEAR_TIE = 1e-4
"""In standard deviations of the logits, as docs/numerics.md has it."""
MOST_GAPS = 20
"""Of an image, how many pixels that differ are looked at; with more, the bar is missed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", default="3GiB")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.3, 2, 12, 24, 48, 88, 100])
    parser.add_argument("--whole", type=float, default=12, help="megapixels that are labelled at once for comparison")
    parser.add_argument("--network", default="light", help="light (random weights, deep enough for tiles) or any other")
    parser.add_argument("--photos", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "samples")
    parser.add_argument("--folder", type=Path, help="where images and labels are kept; else a temporary one")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report = measure(options, options.folder or Path(temporary))
    print(json.dumps(report, indent=1))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if not report["within_limit"] or not report["labels_equal"]:
        raise SystemExit("the bar was missed")


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Label three times: within the limit, at once, and in tiles of a fixed size."""
    network = options.network
    if network == "light":
        network = str(folder / "light.safetensors")
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        config = SegmenterConfig(backbone="efficientnet_lite0", levels=3, features=32, context="basic")
        names = [f"class {i}" for i in range(19)]
        Segmenter(names, [(i, i, i) for i in range(19)], config).save(network)
    photos = [read_image(path) for path in list_image_files(options.photos)]
    images = {size: write_image(photos, size, folder / "images") for size in sorted(options.megapixels)}
    small = [path for size, path in images.items() if size < RASTER_MEGAPIXELS]
    huge = [path for size, path in images.items() if size >= RASTER_MEGAPIXELS]
    limited = ["--memory", options.memory]
    runs = {"limited": predict(network, small, folder / "limited", limited)}
    if huge:
        tiles = [*limited, "--tile", str(CHECK_TILE)]
        runs["limited, rasters"] = predict(network, huge, folder / "limited", tiles)
    moderate = [path for size, path in images.items() if size <= options.whole]
    runs["at once"] = predict(network, moderate, folder / "whole", [])
    runs["in tiles"] = predict(network, small, folder / "tiles", ["--tile", str(CHECK_TILE)])
    different = {
        f"{path.stem}, {kind}": find_gaps(network, path, folder / "limited" / f"{path.stem}.png", folder / kind)
        for kind, paths in (("whole", moderate), ("tiles", small))
        for path in paths
    }
    limit = MemoryLimit.parse(options.memory).total or 0
    peaks = [run["peak_bytes"] for name, run in runs.items() if name.startswith("limited")]
    return {
        "memory": options.memory,
        "network": options.network,
        "megapixels": sorted(options.megapixels),
        "machine": describe_machine("cpu"),
        "runs": runs,
        "peak_gib": max(peaks) / 2**30,
        "within_limit": max(peaks) <= limit,
        "gaps_of_different_labels": different,
        "labels_equal": all(gap < NEAR_TIE for gaps in different.values() for gap in gaps),
    }


def write_image(photos: Sequence[np.ndarray[Any, Any]], megapixels: float, folder: Path) -> Path:
    """Write a PNG of photographs laid side by side, 4:3."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{megapixels:g}.png"
    if not path.exists():
        width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
        height = round(megapixels * 1e6 / width)
        pixels = np.zeros((height, width, 3), np.uint8)
        side = 512
        for i, top in enumerate(range(0, height, side)):
            for j, left in enumerate(range(0, width, side)):
                photo = photos[(7 * i + j) % len(photos)][:side, :side]
                part = pixels[top : top + photo.shape[0], left : left + photo.shape[1]]
                part[:] = photo[: part.shape[0], : part.shape[1]]
        Image.fromarray(pixels).save(path, compress_level=1)
    return path


def predict(network: str, images: Sequence[Path], out: Path, options: Sequence[str]) -> dict[str, Any]:
    """Run `dilated predict` to its end, and return its time and the most memory that it and its children took."""
    command = [sys.executable, "-m", "dilated", "predict", network, *map(str, images), "--out", str(out), *options]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    watched = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        try:
            resident = int(Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
            children = sum(child.memory_info().rss for child in watched.children(recursive=True))
        except (psutil.Error, OSError, IndexError):
            break
        peak = max(peak, resident + children)
        time.sleep(0.1)
    output = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{output}")
    seconds = time.monotonic() - started
    print(f"{out.name}: {len(images)} images, {peak / 2**30:.2f} GiB, {seconds:.0f} s", file=sys.stderr, flush=True)
    return {"peak_bytes": peak, "seconds": seconds, "said": output.splitlines()[-2:]}


def find_gaps(network: str, image: Path, path: Path, folder: Path) -> list[float]:
    """Find the pixels whose labels differ from those of the file of the same name in another folder.

    Returns:
        Of each, the difference of its two greatest logits, in standard deviations of the logits around it; infinite
        where there are too many of them to look at.
    """
    with Image.open(path) as labels, Image.open(folder / path.name) as expected:
        places = np.argwhere(np.asarray(labels) != np.asarray(expected))
    if len(places) > MOST_GAPS:
        return [float("inf")] * len(places)
    predictor = Predictor(load(network), device="cpu")
    step = predictor.segmenter.alignment
    gaps = []
    for place in places:
        pixels = read_image(image)
        tops = [max(0, (int(at) - CHECK_TILE) // step * step) for at in place]  # 1024 pixels and more on each side
        window = pixels[tuple(slice(top, top + 2 * CHECK_TILE + step) for top in tops)]
        logits = torch.as_tensor(predictor(window, logits=True).logits)
        first, second = logits[:, place[0] - tops[0], place[1] - tops[1]].topk(2).values.tolist()
        gaps.append((first - second) / float(logits.std()))
    return gaps


if __name__ == "__main__":
    main()
