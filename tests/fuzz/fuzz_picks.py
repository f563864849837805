"""What the changes of `fuzz_data.py` need in common: files of a set at random, and the values of an image."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
from fuzz_sets import Set
from PIL import Image


def pick(random: Random, paths: tuple[Path, ...] | list[Path]) -> Path | None:
    """One of the files that are still there."""
    there = [p for p in paths if p.is_file()]
    return random.choice(there) if there else None


def of(data: Set, kind: str) -> tuple[Path, ...] | list[Path]:
    return data.files() if kind == "any" else getattr(data, kind)


def flat(path: Path) -> tuple[np.ndarray, Image.Image] | None:
    """The values of an image, if it can be read and has one page."""
    try:
        with Image.open(path) as image:
            image.load()
            if getattr(image, "n_frames", 1) > 1:
                return None
            return np.asarray(image), image.copy()
    except Exception:
        return None
