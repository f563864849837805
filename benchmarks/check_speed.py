"""How fast `dilated check` reads a data set of many small files, and how long that is for 100,000.

    python benchmarks/check_speed.py
    python benchmarks/check_speed.py --images 500 --suffix .png       # a quick look

Images are smooth noise, each with a label of three classes, so that no two are alike; they are made in a temporary
folder first. The search for images that are alike is timed on its own too, on 100,000 fingerprints: of random
images, and of a film, in which each looks like those before and after it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dilated.data.check.check import check
from dilated.data.check.image_hash import ImageHash, find_near_duplicates
from dilated.data.labels import Classes, save_classes
from dilated.environment import describe_machine

CLASSES = Classes(("low", "middle", "high"), ((40, 90, 40), (220, 60, 60), (60, 60, 220)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--suffix", choices=(".jpg", ".png"), default=".jpg")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--prints", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.images, options.side, options.suffix)
        start = time.perf_counter()
        report = check(folder, workers=options.workers, progress=show, compare_progress=show)
        seconds = time.perf_counter() - start
    result = {
        "images": options.images,
        "side": options.side,
        "suffix": options.suffix,
        "pictures_per_second": round(options.images / seconds, 1),
        "files_per_second": round(2 * options.images / seconds, 1),
        "minutes_for_100000_pictures": round(seconds / options.images * 100_000 / 60, 1),
        "findings": len(report.findings),
        "alike_seconds_random": search(options.prints, step=64),
        "alike_seconds_film": search(options.prints, step=2),
        "prints": options.prints,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "peak_memory_of_a_worker_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        "workers": options.workers,
        "load_before": round(os.getloadavg()[2], 2),
        "machine": describe_machine("cpu"),
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def show(done: int, total: int) -> None:
    """Say how far it is, 20 times."""
    if total and (done == total or done % max(1, total // 20) == 0):
        print(f"{done} of {total}", file=sys.stderr, flush=True)


def make(root: Path, images: int, side: int, suffix: str) -> None:
    """A data set of plain folders, a tenth of it val."""
    random = np.random.default_rng(0)
    for kind in ("images", "labels"):
        for split in ("train", "val"):
            (root / kind / split).mkdir(parents=True)
    save_classes(CLASSES, root / "classes.toml")
    for i in range(images):
        split = "val" if i % 10 == 9 else "train"
        coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        image = coarse.resize((side, side), Image.Resampling.BICUBIC)
        image.save(root / "images" / split / f"p{i}{suffix}")
        label = np.digitize(np.asarray(image.convert("L")), (90, 160)).astype(np.uint8)
        label[label == 1] = 0  # a band between two others would look like a smoothed edge
        label[: side // 8, : side // 8] = 1
        Image.fromarray(label).save(root / "labels" / split / f"p{i}.png")


def search(prints: int, step: int) -> float:
    """Seconds to find what is alike; from one print to the next `step_seconds` bits are drawn anew."""
    random = np.random.default_rng(0)
    bits: Any = random.integers(0, 2, 64)
    thumb = random.integers(0, 256, 1024)
    made = []
    for i in range(prints):
        places = random.choice(64, step, replace=False)
        bits[places] = random.integers(0, 2, step)
        thumb[random.integers(0, 1024, 16 * step)] = random.integers(0, 256)
        word = int.from_bytes(np.packbits(bits).tobytes(), "big")
        made.append(ImageHash(str(i).encode(), word, thumb.astype(np.uint8).tobytes()))
    start = time.perf_counter()
    find_near_duplicates(made)
    return round(time.perf_counter() - start, 2)


if __name__ == "__main__":
    main()
