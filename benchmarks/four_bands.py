"""Four bands of 12 bits from files to labels, beside the same network on three of them.

    python benchmarks/four_bands.py NUCLEI --budget 2m --out runs/four_bands --json benchmarks/results/four_bands.json

NUCLEI is the folder of cell nuclei (train/ and val/ with images/ and labels/). Of it a data set is made as a microscope
with a marker channel gives it: GeoTIFFs of four bands of uint16, of which 12 bits are used, with a strip without data
(0) along the left border. Half of the nuclei, drawn at random, are marked: they are bright in the band `marker` and
look like the others in red, green and blue. Classes are background, nucleus and marked nucleus.

Two data sets hold the same files; the second one's classes.toml says [input] bands = ["red", "green", "blue"]. On each
runs, with nothing else said,

    dilated check, dilated train --budget, dilated evaluate, dilated predict --tile 128

and then `dilated predict --tile 128 --save tif` on a mosaic of validation images. The labels of `predict` are counted
once more against the truth, and must give the confusion matrix of `evaluate` but for what rounding changes (0.1%).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dilated.data.polygons import label_components
from dilated.environment import describe_machine

BANDS = ("red", "green", "blue", "marker")
IMAGES = {"train": 120, "val": 25}
SIDE = 160  # pixels of an image, cut out of the middle at most
STRIP = 12  # pixels without data
CLASSES = """
[[class]]
name = "background"
color = [0, 0, 0]

[[class]]
name = "nucleus"
color = [0, 90, 200]

[[class]]
name = "marked"
color = [230, 60, 60]
"""
ARMS = {"four bands": "", "three bands": '\n[input]\nbands = ["red", "green", "blue"]\n'}


def make_scene(image: Path, label: Path, seed: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """An image of the microscope, (H, W, 4) uint16, and its label."""
    random = np.random.default_rng(seed)
    full = np.asarray(Image.open(image).convert("RGB")).astype(np.float64)
    top, left = (max(0, (side - SIDE) // 2) for side in full.shape[:2])
    rgb = full[top : top + SIDE, left : left + SIDE]
    nuclei = np.asarray(Image.open(label))[top : top + SIDE, left : left + SIDE] > 0
    regions, values = label_components(nuclei.astype(np.uint8))
    is_marked = (values > 0) & (random.random(len(values)) < 0.5)
    target = nuclei.astype(np.uint8) + is_marked[regions]
    glow = Image.fromarray((255 * is_marked[regions]).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    bands = np.dstack([rgb * 14 + 60, 300 + 9 * np.asarray(glow, dtype=np.float64)])
    bands += random.normal(0, 40, bands.shape)
    scene = bands.clip(1, 4095).astype(np.uint16)
    scene[:, :STRIP] = 0
    return scene, target.astype(np.uint8)


def write_scene(path: Path, scene: NDArray[np.uint16]) -> None:
    height, width, count = scene.shape
    profile: dict[str, Any] = {
        "driver": "GTiff", "height": height, "width": width, "count": count, "dtype": "uint16", "nodata": 0,
        "crs": "EPSG:32632", "transform": rasterio.Affine(0.25, 0, 500_000, 0, -0.25, 5_000_000),
        "tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(scene.transpose(2, 0, 1))
        for i, name in enumerate(BANDS, 1):
            file.set_band_description(i, name)


def make_data(nuclei: Path, root: Path) -> None:
    """Write the two data sets, and a mosaic of validation images with its truth."""
    tiles = []
    for split, count in IMAGES.items():
        for kind in ("images", "labels"):
            for arm in ARMS:
                (root / arm / kind / split).mkdir(parents=True)
        images = sorted((nuclei / split / "images").iterdir())
        for seed, image in enumerate(images[:: max(1, len(images) // count)][:count]):
            scene, target = make_scene(image, nuclei / split / "labels" / f"{image.stem}.png", seed)
            if split == "val" and target.shape == (SIDE, SIDE) and len(tiles) < 16:
                tiles.append((scene, target))
            for arm in ARMS:
                write_scene(root / arm / "images" / split / f"{image.stem}.tif", scene)
                Image.fromarray(target).save(root / arm / "labels" / split / f"{image.stem}.png")
    for arm, table in ARMS.items():
        (root / arm / "classes.toml").write_text(CLASSES + table)
    side = int(len(tiles) ** 0.5)
    rows = [[tiles[side * i + j] for j in range(side)] for i in range(side)]
    scene, target = (np.concatenate([np.concatenate([t[k] for t in row], 1) for row in rows]) for k in (0, 1))
    write_scene(root / "mosaic.tif", scene)
    Image.fromarray(target.astype(np.uint8)).save(root / "mosaic.png")


def dilated(*arguments: object) -> str:
    """Run the command line; what it prints."""
    command = [sys.executable, "-m", "dilated", *map(str, arguments)]
    print("$ dilated", *arguments, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def count(labels: NDArray[Any], target: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The confusion matrix of pixels with data: (true, predicted)."""
    valid = labels < 3
    return np.bincount(3 * target[valid].astype(int) + labels[valid], minlength=9).reshape(3, 3)


def run_arm(arm: str, out: Path, budget: str) -> dict[str, Any]:
    data, run = out / "data" / arm, out / arm
    page = dilated("check", data)
    print(next(line for line in page.splitlines() if line.startswith("Images hold")))
    dilated("train", data, "--out", run, "--budget", budget)
    dilated("evaluate", run, data, "--split", "val", "--json", out / f"{arm}.json")
    dilated("predict", run, data / "images" / "val", "--out", out / f"{arm} labels", "--tile", 128, "--save", "ids")
    dilated("predict", run, out / "data/mosaic.tif", "--out", out / f"{arm} labels", "--tile", 128, "--save", "tif")
    result = json.loads((out / f"{arm}.json").read_text())
    expected = np.array(result["confusion"])
    counts = np.zeros((3, 3), np.int64)
    for label in sorted((data / "labels" / "val").iterdir()):
        labels = np.asarray(Image.open(out / f"{arm} labels" / label.name))
        counts += count(labels, np.asarray(Image.open(label)))
    difference = float(np.abs(counts - expected).sum() / 2 / expected.sum())
    assert difference < 1e-3, f"{arm}: predict and evaluate differ in {difference:.2%} of the pixels"
    with rasterio.open(out / f"{arm} labels" / "mosaic.tif") as file:
        labels, crs = file.read(1), str(file.crs)
    mosaic = count(labels, np.asarray(Image.open(out / "data/mosaic.png")))
    return {
        "mean_iou": result["mean_iou"],
        "iou": result["iou"],
        "predict_differs": difference,
        "mosaic_mean_iou": float(np.mean(np.diag(mosaic) / (mosaic.sum(0) + mosaic.sum(1) - np.diag(mosaic)))),
        "mosaic_crs": crs,
        "mosaic_without_data": float((labels == 255).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nuclei", type=Path)
    parser.add_argument("--budget", default="2m")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    make_data(arguments.nuclei, arguments.out / "data")
    results: dict[str, Any] = {arm: run_arm(arm, arguments.out, arguments.budget) for arm in ARMS}
    results |= {"budget": arguments.budget, "machine": describe_machine("cpu")}
    text = json.dumps(results, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
