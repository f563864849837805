"""`dilated demo`: from installing to a labelled photograph."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dilated.predict.prediction import Prediction
from dilated.predict.predictor import Predictor
from dilated.weights.bundled import load


def run(out: Path = Path("demo"), network: str = "street") -> None:
    """Label the sample photographs with a bundled network and say which part of each is what.

    Args:
        out: where the pictures are written: STEM.png (label ids) and STEM.overlay.jpg.
        network: a bundled network.
    """
    began = time.perf_counter()
    console = Console()
    predictor = Predictor(load(network))
    out.mkdir(parents=True, exist_ok=True)
    for sample in sorted((resources.files("dilated") / "samples").iterdir(), key=lambda p: p.name):
        path = Path(str(sample))
        if path.suffix not in (".jpg", ".png"):
            continue
        prediction = predictor(path)
        prediction.save(out / f"{path.stem}.png")
        prediction.overlay().save(out / f"{path.stem}.overlay.jpg", quality=92)
        console.print(summary(path.name, prediction))
    console.print(f"{time.perf_counter() - began:.1f} s; the pictures are in {out}/", highlight=False)


def summary(title: str, prediction: Prediction) -> Table:
    """What is in the picture, how much of it, and where."""
    height, width = prediction.labels.shape
    table = Table(title=f"{title}, {width}x{height}", title_justify="left")
    table.add_column("class")
    table.add_column("share", justify="right")
    table.add_column("where")
    for name, share in prediction.shares().items():
        mask = prediction.labels == list(prediction.classes).index(name)
        table.add_row(name, f"{share:.1%}", where(mask))
    return table


def where(mask: np.ndarray) -> str:
    """In words, the ninth of the picture in which the mask's middle lies.

    Example:
        >>> where(np.array([[True, False, False], [False, False, False], [False, False, False]]))
        'top left'
    """
    rows, columns = np.nonzero(mask)
    down = ("top", "", "bottom")[int(3 * np.median(rows) / mask.shape[0])]
    across = ("left", "", "right")[int(3 * np.median(columns) / mask.shape[1])]
    return f"{down} {across}".strip() or "middle"
