"""How many leaks between train and val `dilated check` finds, of 400 that are planted, and how many it imagines.

    python benchmarks/planted_leaks.py NUCLEI --half report
    python benchmarks/planted_leaks.py CRACKS --images 118 --leaks 70 --half all

Each leak is an image in train and something made of it in val, of one of seven kinds; all other images are divided at
random. An image of val counts as found where a finding shows it beside its source, and as a false alarm where a finding
about two splits shows it and nothing was planted. The limits of the search were chosen on `--half tune`, so figures
are those of `--half report`: the halves have no image in common.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.check.check import check
from dilated.environment import describe_machine

Pixels = NDArray[np.uint8]
_ACROSS = ("same image in two splits", "similar image in two splits", "overlapping image in two splits")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a folder with images below it; labels are not needed")
    parser.add_argument("--leaks", type=int, default=200, help="how many, of images of the half")
    parser.add_argument("--half", choices=("tune", "report", "all"), default="report")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", action="store_true", help="name the leaks that are missed and the false alarms")
    options = parser.parse_args()
    paths = sorted(
        path for path in options.data.rglob("*") if path.suffix in (".png", ".jpg") and _is_image_folder(path.parent)
    )
    if not paths:
        parser.error(f"{options.data}: no PNG or JPEG images below it; folders that are links are not followed")
    order = np.random.default_rng(0).permutation(len(paths))
    tuned = order < len(paths) // 2 + 1  # the first half by name
    chosen = {"tune": order[tuned], "report": order[~tuned], "all": order}[options.half]
    with tempfile.TemporaryDirectory() as folder:
        planted = plant(Path(folder), [paths[i] for i in chosen], options.leaks, options.seed)
        start = time.perf_counter()
        report = check(folder)
        seconds = time.perf_counter() - start
    shown: dict[str, set[str]] = {}
    for finding in report.findings:
        if finding.kind in _ACROSS:
            names = [sample.name for sample in finding.samples]
            shown.setdefault(names[0], set()).update(names[1:])
    is_found = {leak: source in shown.get(leak, ()) for leak, (source, _) in planted.items()}
    false_alarms = sorted(shown.keys() - planted.keys())
    wrong = sorted(leak for leak in planted if leak in shown and not is_found[leak])
    totals = Counter(kind for _, kind in planted.values())
    hits = Counter(planted[leak][1] for leak, hit in is_found.items() if hit)
    others = sum(statistics.images for statistics in report.splits.values()) - len(planted)
    result = {
        "images": len(chosen),
        "half": options.half,
        "seed": options.seed,
        "leaks": len(planted),
        "recall": round(sum(is_found.values()) / len(planted), 4),
        "recall_by_kind": {kind: f"{hits[kind]}/{total}" for kind, total in totals.items()},
        "false_alarms": len(false_alarms) + len(wrong),
        "false_alarm_rate": round((len(false_alarms) + len(wrong)) / others, 4),
        "seconds": round(seconds, 1),
        "machine": describe_machine("cpu"),
    }
    print(json.dumps(result, indent=2))
    if options.show:
        print("missed", [(leak, *planted[leak]) for leak, hit in is_found.items() if not hit])
        print("false", [(name, sorted(shown[name])) for name in [*false_alarms, *wrong]])
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def plant(root: Path, paths: list[Path], leaks: int, seed: int) -> dict[str, tuple[str, str]]:
    """Write a data set of two splits, and name each planted image of val with its source and its kind."""
    rng = np.random.default_rng(seed)
    kinds = list(KINDS.items())
    planted = {}
    (root / "classes.toml").write_text('[[class]]\nname = "all"\ncolor = [9, 9, 9]\n')
    names = rng.permutation(4 * len(paths)).tolist()  # that say nothing
    for number, path in enumerate(paths):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        source = f"{names.pop():08x}"
        if number >= leaks:
            _save(root, "val" if rng.random() < 0.3 else "train", source, pixels)
            continue
        kind, make = kinds[number % len(kinds)]
        kept, leaked = make(pixels, rng)
        leak = f"{names.pop():08x}"
        _save(root, "train", source, kept)
        _save(root, "val", leak, leaked)
        planted[leak] = source, kind
    return planted


def _copy(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    return pixels, pixels


def _crop(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """A crop of half the area, of any shape between 1:1.4 and 1.4:1 of the image's, anywhere."""
    height, width = pixels.shape[:2]
    part = rng.uniform(0.6, 0.84)
    h, w = round(height * part), round(width * 0.5 / part)
    y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    return pixels, pixels[y : y + h, x : x + w]


def _mirror(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    return pixels, pixels[:, ::-1] if rng.random() < 0.7 else pixels[::-1]


def _rescale(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    height, width = pixels.shape[:2]
    factor = rng.choice([0.5, 0.66, 0.75, 1.5, 2.0])
    size = round(width * factor), round(height * factor)
    return pixels, np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _jpeg(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=30)
    return pixels, np.asarray(Image.open(stream).convert("RGB"))


def _frame(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Two frames of a camera that moves by up to 6% of the width, with other light and noise."""
    height, width = pixels.shape[:2]
    most = max(2, round(0.06 * width))
    y, x = rng.integers(0, most + 1, 2)
    moved = pixels[y : height - most + y, x : width - most + x] * rng.uniform(0.9, 1.1)
    noisy = moved + rng.normal(0, 2, moved.shape)
    return pixels[: height - most, : width - most], noisy.clip(0, 255).astype(np.uint8)


def _raster(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Two crops of a raster that have 30 to 70% of their area in common."""
    height, width = pixels.shape[:2]
    h, w = round(height * rng.uniform(0.7, 0.85)), round(width * rng.uniform(0.65, 0.8))
    return pixels[:h, :w], pixels[height - h :, width - w :]


KINDS: dict[str, Callable[[Pixels, np.random.Generator], tuple[Pixels, Pixels]]] = {
    "copy": _copy,
    "crop of half the area": _crop,
    "mirror image": _mirror,
    "rescaled": _rescale,
    "JPEG 30": _jpeg,
    "neighboring frame": _frame,
    "overlapping crops": _raster,
}


def _save(root: Path, split: str, name: str, pixels: Pixels) -> None:
    for folder, array in (("images", pixels), ("labels", np.zeros(pixels.shape[:2], np.uint8))):
        path = root / folder / split / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(array)).save(path)


def _is_image_folder(folder: Path) -> bool:
    return not {"labels", "masks", "trainannot", "valannot"} & set(folder.parts)


if __name__ == "__main__":
    main()
