"""`dilated demo`: from installing to a labelled photograph."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path

import numpy as np
from rich.table import Table

from dilated.cli import arguments
from dilated.cli.console import make_table, write_line, write_table
from dilated.files import atomic_path
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor
from dilated.weights.bundled import load


def run(out: arguments.RequiredPath = Path("demo"), network: arguments.Name = "street") -> None:
    """Label the sample photographs with a bundled network, and list the classes in each.

    Args:
        out: the folder for the images: STEM.png (label ids) and STEM.overlay.jpg.
        network: a bundled network.
    """
    start = time.perf_counter()
    predictor = Predictor(load(network))
    out.mkdir(parents=True, exist_ok=True)
    for entry in sorted((resources.files("dilated") / "samples").iterdir(), key=lambda p: p.name):
        path = Path(str(entry))
        if path.suffix not in (".jpg", ".png"):
            continue
        prediction = predictor(path)
        prediction.save(out / f"{path.stem}.png")
        with atomic_path(out / f"{path.stem}.overlay.jpg") as temporary:
            prediction.overlay().save(temporary, format="JPEG", quality=92)
        write_table(_class_table(path.name, prediction))
    write_line(f"{time.perf_counter() - start:.1f} s; the images are in {out}/")


def _class_table(title: str, prediction: Prediction) -> Table:
    """The classes in the image, with their fraction of the pixels and their position."""
    height, width = prediction.labels.shape
    rows = []
    for name, fraction in prediction.class_fractions().items():
        mask = prediction.labels == list(prediction.classes).index(name)
        rows.append((name, f"{fraction:.1%}", _describe_position(mask)))
    return make_table(("class", "fraction", "where"), rows, title=f"{title}, {width}x{height}", left=(0, 2))


def _describe_position(mask: np.ndarray) -> str:
    """In words, the ninth of the image in which the mask's middle lies.

    Example:
        >>> _describe_position(np.array([[True, False, False], [False, False, False], [False, False, False]]))
        'top left'
    """
    rows, columns = np.nonzero(mask)
    down = ("top", "", "bottom")[int(3 * np.median(rows) / mask.shape[0])]
    across = ("left", "", "right")[int(3 * np.median(columns) / mask.shape[1])]
    return f"{down} {across}".strip() or "middle"
