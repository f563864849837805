"""Two data sets that label different classes, trained on together: joined by `[[set]]`, and thrown together.

    python benchmarks/joined_sets.py CAMVID --budget 3m --out runs/joined_sets --json joined_sets.json

CAMVID is the folder of CamVid (train/ and trainannot/, val/ and valannot/). Every second image of train goes into one
of two sets: the one labels sky, building and tree, the other road, sidewalk, car and person; what a set does not label
is its `background`. Poles, signs and fences are labelled by neither, and are the background in truth.

    joined      a classes.toml with two tables [[set]]: a set's background is "background or what the other labels"
    naive       the same images and labels in one folder, as a script would copy them together
    full        the same images with all labels

Each is trained with nothing but a budget, and evaluated on the images of val with all labels. `iou` is by class.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.environment import describe_machine

NAMES = ("background", "sky", "building", "tree", "road", "sidewalk", "car", "person")
COLORS = (
    (0, 0, 0),
    (128, 128, 128),
    (128, 0, 0),
    (128, 128, 0),
    (128, 64, 128),
    (0, 0, 192),
    (64, 0, 128),
    (64, 64, 0),
)
OF_CAMVID = np.array([1, 2, 0, 4, 5, 3, 0, 0, 6, 7, 7, 255], dtype=np.uint8)
"""The class of each of CamVid's values: 2 is a pole, 6 a sign, 7 a fence, 11 void."""
SETS = {"scenery": (1, 2, 3), "traffic": (4, 5, 6, 7)}
ARMS = ("joined", "naive", "full")
SIZE = (240, 180)


def write_classes(path: Path, ids: tuple[int, ...], sets: tuple[str, ...] = ()) -> None:
    entries = [f'[[class]]\nname = "{NAMES[i]}"\ncolor = {list(COLORS[i])}\n' for i in ids]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*entries, *(f'[[set]]\npath = "{name}"\n' for name in sets)]))


def write_pair(root: Path, split: str, name: str, image: Image.Image, label: NDArray[np.uint8]) -> None:
    for kind, content in (("images", image), ("labels", Image.fromarray(label))):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
        content.save(root / kind / split / f"{name}.png")


def make_data(camvid: Path, root: Path, images: int) -> None:
    """Write the two sets, the folder that joins them, and the same images with naive and with all labels."""
    for split in ("train", "val"):
        paths = sorted((camvid / split).iterdir())
        count = images if split == "train" else max(4, images // 4)
        for i, path in enumerate(paths[:: max(1, len(paths) // count)][:count]):
            image = Image.open(path).convert("RGB").resize(SIZE, Image.Resampling.BOX)
            values = Image.open(camvid / f"{split}annot" / path.name).resize(SIZE, Image.Resampling.NEAREST)
            truth = OF_CAMVID[np.asarray(values)]
            write_pair(root / "full", split, path.stem, image, truth)
            name, labelled = list(SETS.items())[i % 2]
            partial = np.where(np.isin(truth, (*labelled, 255)), truth, np.uint8(0))
            write_pair(root / "naive", split, path.stem, image, partial)
            places = np.full(256, 255, dtype=np.uint8)
            places[[0, *labelled]] = range(len(labelled) + 1)
            write_pair(root / "joined" / name, split, path.stem, image, places[partial])
    everything = tuple(range(len(NAMES)))
    for arm in ("full", "naive"):
        write_classes(root / arm / "classes.toml", everything)
    for name, labelled in SETS.items():
        write_classes(root / "joined" / name / "classes.toml", (0, *labelled))
    write_classes(root / "joined" / "classes.toml", everything, tuple(SETS))


def dilated(*arguments: object) -> None:
    print("$ dilated", *arguments, flush=True)
    done = subprocess.run([sys.executable, "-m", "dilated", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def run_arm(arm: str, out: Path, budget: str) -> dict[str, Any]:
    """Train on one of the folders, and evaluate on all labels."""
    dilated("train", out / "data" / arm, "--out", out / arm, "--budget", budget)
    dilated("evaluate", out / arm, out / "data" / "full", "--split", "val", "--json", out / f"{arm}.json")
    result = json.loads((out / f"{arm}.json").read_text())
    confusion = np.array(result["confusion"], dtype=np.float64)
    labelled = confusion[1:]
    return {
        "mean_iou_of_labelled_classes": round(float(np.mean([result["iou"][name] for name in NAMES[1:]])), 4),
        "iou": {name: round(result["iou"][name], 4) for name in NAMES},
        "objects_taken_for_background": round(float(labelled[:, 0].sum() / labelled.sum()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("camvid", type=Path)
    parser.add_argument("--budget", default="3m")
    parser.add_argument("--images", type=int, default=160, help="to train on; a quarter as many to validate with")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    make_data(arguments.camvid, arguments.out / "data", arguments.images)
    results: dict[str, Any] = {arm: run_arm(arm, arguments.out, arguments.budget) for arm in ARMS}
    results |= {"budget": arguments.budget, "images": arguments.images, "machine": describe_machine("cpu")}
    text = json.dumps(results, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
