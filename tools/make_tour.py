"""Make the images of docs/tour.md, with the bundled networks, from the samples and examples/nuclei.

python tools/make_tour.py            # into docs/images; about a minute on two cores
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

import dilated

ROOT = Path(__file__).resolve().parents[1]
GAP = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="where the images go")
    out = parser.parse_args().out
    _side_by_side(show_street()).save(out / "tour_street.jpg", quality=88)
    _side_by_side(show_cells()).save(out / "tour_cells.jpg", quality=88)


def show_street() -> list[Image.Image]:
    """A photograph, its labels, and how sure the network is: from black, even odds of classes, to white."""
    path = Path(str(resources.files("dilated") / "samples" / "street_camvid.jpg"))
    prediction = dilated.Predictor("street", device="cpu")(path, logits=True)
    confidence = Image.fromarray((prediction.confidence * 255).round().astype(np.uint8)).convert("RGB")
    return [Image.open(path).convert("RGB"), prediction.overlay(legend=False), confidence]


def show_cells() -> list[Image.Image]:
    """A microscope image, a person's labels, the network's, and where they differ."""
    data = dilated.open_dataset(ROOT / "examples" / "nuclei")
    sample = data.samples("val")[0]
    image, truth = sample.read()
    prediction = dilated.Predictor("cells", device="cpu")(image)
    colors = np.array([(20, 20, 30), (120, 200, 255)], dtype=np.uint8)
    wrong = np.where((prediction.labels != truth)[..., None], np.array([255, 60, 60]), colors[truth] // 2)
    return [
        Image.fromarray(image),
        Image.fromarray(colors[truth]),
        Image.fromarray(colors[prediction.labels]),
        Image.fromarray(wrong.astype(np.uint8)),
    ]


def _side_by_side(images: Sequence[Image.Image], height: int = 240) -> Image.Image:
    scaled = [image.resize((round(image.width * height / image.height), height)) for image in images]
    canvas = Image.new("RGB", (sum(image.width for image in scaled) + GAP * (len(scaled) - 1), height), "white")
    left = 0
    for image in scaled:
        canvas.paste(image, (left, 0))
        left += image.width + GAP
    return canvas


if __name__ == "__main__":
    main()
