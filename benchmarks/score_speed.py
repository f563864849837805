"""How fast `dilated score` is beside reading the same label images: PNGs of 2048x1024, by default 60 pairs.

    python benchmarks/score_speed.py --pairs 60 --workers 2 [--ignored]

Labels are areas with wavy borders, of 19 classes; predictions are the truth moved by some pixels. With --ignored some
of the truth has no label, as the car's hood and small spots in Cityscapes. "reading" decodes
both files of each pair with the same threads and does nothing else.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from dilated.data.labels import IGNORE, read_stored_values
from dilated.evaluation.evaluate import MetricsConfig
from dilated.evaluation.score import ScoreOptions, score
from dilated.prediction.prefetch import map_ordered

_HEIGHT, _WIDTH, _CLASSES = 1024, 2048, 19


def write_pairs(root: Path, pairs: int, has_ignored: bool) -> None:
    """Write truth/ and masks/ with as many label images each."""
    y, x = np.mgrid[: _HEIGHT + 8, : _WIDTH + 8]
    for folder in ("truth", "masks"):
        (root / folder).mkdir()
    for i in range(pairs):
        waves = np.sin(x / (60 + i % 40)) + np.cos(y / 71) + 1.5 * np.sin((x + y) / 53 + i)
        labels = ((waves + 3.5) / 7 * _CLASSES).clip(0, _CLASSES - 1).astype(np.uint8)
        truth = labels[:-8, :-8].copy()
        if has_ignored:
            truth[-120:] = IGNORE
            spots = np.sin(x / (31 + i % 7)) * np.cos(y / 29) > 0.93
            truth[spots[:-8, :-8]] = IGNORE
        Image.fromarray(truth).save(root / "truth" / f"image{chr(97 + i % 26)}{i}.png")
        Image.fromarray(labels[4:-4, 6:-2]).save(root / "masks" / f"image{chr(97 + i % 26)}{i}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ignored", action="store_true", help="truths with pixels that have no label")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_pairs(root, options.pairs, options.ignored)
        files = sorted(root.rglob("*.png"))
        reading = None
        for name in ("reading", "score --no-boundary", "score"):
            began, cpu = time.perf_counter(), time.process_time()
            if name == "reading":
                for _ in map_ordered(read_stored_values, files, options.workers, 2 * options.workers):
                    pass
            else:
                metrics = MetricsConfig(boundary=name == "score")
                settings = ScoreOptions(classes=str(_CLASSES), metrics=metrics)
                score(root / "masks", root / "truth", options=settings)
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
            reading = reading or cpu
            seconds = wall / options.pairs
            print(
                f"{name:<20} {1000 * seconds:7.1f} ms a pair, {1000 * cpu / options.pairs:7.1f} ms of CPU, "
                f"{cpu / reading:.2f} times reading; 10,000 pairs {seconds * 10_000 / 60:.1f} min"
            )


if __name__ == "__main__":
    main()
