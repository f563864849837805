"""How many of the first 100 regions that `dilated audit` shows are faults that were planted in the labels.

    python benchmarks/planted_faults.py NUCLEI --out runs/faults-nuclei
    python benchmarks/planted_faults.py CAMVID --out runs/faults-camvid

In 5% of the objects (connected regions of a class, of 60 pixels to 5% of the image) the label is made wrong: the object
is dropped, given another class, moved by its own size, or copied to where none is. A region counts as right where it
overlaps a pixel that was changed, so faults that the data had before count as wrong: the precision is a lower bound.
The networks are trained on the faulty labels, each on other groups than those that it judges, for a number of steps: a
busy machine gives the same figures, later. Called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import dilated
from dilated.api import TrainOptions
from dilated.auditing import AuditOptions, audit
from dilated.data.dataset import Dataset, open_dataset
from dilated.data.labels import IGNORE, save_classes
from dilated.data.polygons import label_components
from dilated.environment import describe_machine
from dilated.files import atomic_write

Labels = NDArray[np.uint8]
SMALLEST, LARGEST = 60, 0.05  # pixels, fraction of the image
PLANTED_FILE = "planted.json"
RECIPE = Path(__file__).parent / "recipes" / "faults.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the faulty data and of the networks")
    parser.add_argument("--steps", type=int, default=90, help="of each network")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--network", help="a network that has not seen the data, instead of training any")
    parser.add_argument("--fraction", type=float, default=0.05, help="of the objects that are made wrong")
    parser.add_argument("--images", type=int, default=0, help="so many images, evenly spread; all if not given")
    parser.add_argument("--first", type=int, default=100, help="regions that are counted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    faulty = options.out / "data"
    if not (faulty / PLANTED_FILE).is_file():
        plant(open_dataset(options.data), options.split, faulty, options.fraction, options.images, options.seed)
    planted = json.loads((faulty / PLANTED_FILE).read_text())
    training = TrainOptions(report=False, overrides=(f"stage.0.iterations={options.steps}",))
    settings = AuditOptions(options.folds, recipe=RECIPE, network=options.network, training=training)
    result = audit(faulty, options.out / "audit", options=settings)
    hits = []
    for region in result.regions[: options.first]:
        name = region.image.stem
        changed = np.asarray(Image.open(faulty / "changed" / f"{name}.png")) > 0
        left, top, width, height = region.suspect.bbox
        hits.append(bool((changed[top : top + height, left : left + width] & region.suspect.read_mask()).any()))
    kinds = Counter(region.suspect.kind for region in result.regions[: options.first])
    right = Counter(region.suspect.kind for region, hit in zip(result.regions, hits, strict=False) if hit)
    figures = {
        "images": len(planted["images"]),
        "objects": planted["objects"],
        "planted": sum(planted["kinds"].values()),
        "planted_by_kind": planted["kinds"],
        "precision": round(float(np.mean(hits)), 3),
        "first": len(hits),
        "precision_of_first_10_25_50": [round(float(np.mean(hits[:n])), 3) for n in (10, 25, 50)],
        "right_by_kind": {kind: f"{right[kind]}/{count}" for kind, count in kinds.items()},
        "network_mean_iou": round(result.mean_iou, 4),
        "steps": options.steps,
        "network": options.network,
        "version": dilated.__version__,
        "machine": describe_machine("cpu"),
    }
    print(json.dumps(figures, indent=2))
    print("not planted:", [i + 1 for i, hit in enumerate(hits) if not hit])
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def plant(data: Dataset, split: str, out: Path, fraction: float, images: int, seed: int) -> None:
    """Write a copy of a split whose labels have faults, and what was changed."""
    rng = np.random.default_rng(seed)
    samples = data.samples(split)
    if images:
        samples = [samples[i] for i in np.linspace(0, len(samples) - 1, images).round().astype(int)]
    for folder in ("images/train", "labels/train", "changed"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    # ids are the values of the labels, and 255 is ignored
    save_classes(dilated.Classes(data.classes.names, data.classes.colors, ignore=(IGNORE,)), out / "classes.toml")
    kinds: Counter[str] = Counter()
    objects = 0
    for sample in samples:
        image, label = sample.read()
        faulty, count, planted_kinds = make_faults(label, len(data.classes), fraction, rng)
        kinds.update(planted_kinds)
        objects += count
        Image.fromarray(image).save(out / f"images/train/{sample.name}.png")
        Image.fromarray(faulty).save(out / f"labels/train/{sample.name}.png")
        Image.fromarray((faulty != label).astype(np.uint8) * 255).save(out / f"changed/{sample.name}.png")
    record: dict[str, Any] = {"images": [s.name for s in samples], "objects": objects, "kinds": kinds, "seed": seed}
    atomic_write(out / PLANTED_FILE, json.dumps(record, indent=1) + "\n")  # last: it says that all is there


def make_faults(
    label: Labels, num_classes: int, fraction: float, rng: np.random.Generator
) -> tuple[Labels, int, list[str]]:
    """Make some objects of a label wrong: the new label, the number of objects, the kinds of the faults."""
    component, values = label_components(label)
    sizes = np.bincount(component.ravel())
    is_object = (sizes >= SMALLEST) & (sizes <= LARGEST * label.size) & (values != IGNORE)
    if num_classes == 2:
        is_object &= values == 1
    objects = np.flatnonzero(is_object)
    faulty, kinds = label.copy(), []
    for number in objects[rng.random(len(objects)) < fraction].tolist():
        mask = component == number
        around = neighbor_class(label, mask)
        kind = str(rng.choice(["dropped", "moved", "extra"] if num_classes == 2 else ["dropped", "swapped", "extra"]))
        if around is None:
            continue
        if kind == "dropped":
            faulty[mask] = around
        elif kind == "swapped":
            faulty[mask] = rng.choice([i for i in range(num_classes) if i != values[number] and i != around])
        else:
            target = place_elsewhere(mask, label, int(values[number]), kind == "moved", rng)
            if target is None:
                continue
            if kind == "moved":
                faulty[mask] = around
            faulty[target & (label != IGNORE)] = values[number]
        kinds.append(kind)
    return faulty, len(objects), kinds


def neighbor_class(label: Labels, mask: NDArray[np.bool_]) -> int | None:
    """The most frequent class of the pixels that touch a mask; None where all are ignored."""
    near = np.zeros_like(mask)
    near[1:] |= mask[:-1]
    near[:-1] |= mask[1:]
    near[:, 1:] |= mask[:, :-1]
    near[:, :-1] |= mask[:, 1:]
    values = label[near & ~mask]
    values = values[values != IGNORE]
    return int(np.bincount(values).argmax()) if len(values) else None


def place_elsewhere(
    mask: NDArray[np.bool_], label: Labels, value: int, is_near: bool, rng: np.random.Generator
) -> NDArray[np.bool_] | None:
    """A mask moved: by about its own size, or to anywhere that its class is not; None where no place was found."""
    rows, columns = np.nonzero(mask)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    for _ in range(30):
        if is_near:
            down, right = rng.choice([-1, 1], 2) * rng.uniform(0.5, 1.2, 2) * (height, width)
        else:
            down = rng.uniform(-rows.min(), label.shape[0] - rows.max() - 1)
            right = rng.uniform(-columns.min(), label.shape[1] - columns.max() - 1)
        y, x = rows + round(down), columns + round(right)
        if y.min() < 0 or x.min() < 0 or y.max() >= label.shape[0] or x.max() >= label.shape[1]:
            continue
        if (label[y, x] == value).mean() > (0.3 if is_near else 0.05):
            continue
        target = np.zeros_like(mask)
        target[y, x] = True
        return target
    return None


if __name__ == "__main__":
    main()
