"""A folder of images labelled, files in and files out, against the bare network on images already in memory.

    python benchmarks/folder.py PICTURES --json folder.json
    python benchmarks/folder.py PICTURES --count 250 --rounds 3 --other /tmp/before/src

Both ways take turns on the same images, with the network `street` on the CPU; round by round the order is swapped.
What is compared is the bare network's time (forward and argmax) as a share of the time from files to palette PNGs: 1
means that reading and writing cost nothing. Medians over the rounds are given, and the same share in seconds of all
cores, to which other work on the machine matters less.

With --other, files to palette PNGs by this version against another one, in processes that take turns: images per
second, starting and loading not counted, and the greatest memory of each process. The bar is 1.3 times as many.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from dilated import Predictor, load
from dilated.data.images import list_image_files, read_image
from dilated.environment import describe_machine
from dilated.models.base import BaseSegmenter
from dilated.prediction.pipeline import predict_sources
from dilated.prediction.sources import Source
from dilated.prediction.writers import make_writers

_BAR = 1.3


@dataclass(frozen=True)
class Took:
    """Seconds on the clock, and seconds of all cores."""

    wall: float
    cpu: float


def bare(segmenter: BaseSegmenter, images: list[Tensor]) -> Took:
    """The time for the labels of images (1, 3, H, W) in memory."""
    began = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        for image in images:
            segmenter(image).argmax(1)
    return Took(time.perf_counter() - began[0], time.process_time() - began[1])


def folder(predictor: Predictor, sources: list[Source]) -> Took:
    """The time from image files to label files."""
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter(), time.process_time()
        outcome = predict_sources(predictor, sources, make_writers([], Path(out)))
        took = Took(time.perf_counter() - began[0], time.process_time() - began[1])
    assert outcome.images == len(sources), outcome.failures
    return took


def compare_versions(given: argparse.Namespace) -> dict[str, object]:
    """Label the images by both versions in turns, each time in a fresh process."""
    sources = {"other": given.other, "this": Path(__file__).resolve().parents[1] / "src"}
    command = [sys.executable, __file__, str(given.images), f"--count={given.count}", "--files-only"]
    runs: dict[str, list[dict[str, float]]] = {version: [] for version in sources}
    for number in range(given.rounds):
        for version in list(sources)[:: 1 if number % 2 else -1]:
            environment = os.environ | {"PYTHONPATH": str(sources[version])}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=7200)
            runs[version].append(json.loads(done.stdout.splitlines()[-1]))
    figures: dict[str, object] = {"images": given.count, "machine": describe_machine("cpu"), "runs": runs}
    for key in ("wall", "cpu"):
        ratios = [a[key] / b[key] for a, b in zip(runs["other"], runs["this"], strict=True)]
        figures[f"ratio_{key}"] = ratio = statistics.median(ratios)
        print(f"{key}: {ratio:.2f} times the images per second")
    outcome = "met" if float(str(figures["ratio_wall"])) >= _BAR else "not met"
    print(f"a folder of images, decoding to PNG, against the other version: bar {_BAR}: {outcome}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("--count", type=int, default=8, help="how many of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where the figures are written")
    parser.add_argument("--other", type=Path, help="the folder `src` of another version to compare with")
    parser.add_argument("--files-only", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.other:
        comparison = compare_versions(given)
        if given.json:
            given.json.write_text(json.dumps(comparison, indent=2) + "\n", encoding="utf-8")
        return

    existing = list_image_files(given.images)
    paths = (existing * -(-given.count // len(existing)))[: given.count]
    segmenter = load("street").eval()
    predictor = Predictor(segmenter, device="cpu")
    sources = [Source(path, Path(f"{number}-{path.stem}")) for number, path in enumerate(paths)]
    if given.files_only:
        folder(predictor, sources[:2])
        figures = asdict(folder(predictor, sources))
        print(json.dumps(figures | {"memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
        return
    images = [torch.tensor(read_image(path)).permute(2, 0, 1)[None].float() / 255 for path in paths]
    bare(segmenter, images[:1])
    folder(predictor, sources[:1])

    bare_runs: list[Took] = []
    files: list[Took] = []
    for number in range(given.rounds):
        if number % 2:
            files.append(folder(predictor, sources))
        bare_runs.append(bare(segmenter, images))
        if not number % 2:
            files.append(folder(predictor, sources))
    walls = [statistics.median(took.wall for took in way) for way in (bare_runs, files)]
    cpus = [statistics.median(took.cpu for took in way) for way in (bare_runs, files)]
    figures = {
        "ratio": walls[0] / walls[1],
        "ratio_of_cpu_seconds": cpus[0] / cpus[1],
        "bare_images_per_second": len(paths) / walls[0],
        "folder_images_per_second": len(paths) / walls[1],
        "rounds": [
            {"bare": asdict(bare_run), "folder": asdict(other)}
            for bare_run, other in zip(bare_runs, files, strict=True)
        ],
        "images": len(paths),
        "size": list(images[0].shape[2:]),
        "machine": describe_machine("cpu"),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(figures, indent=2))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
