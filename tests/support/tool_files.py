"""Images and texts as the tools' tests lay them out, and labels as a loader's workers read them."""

from __future__ import annotations

import pickle
from pathlib import Path

from PIL import Image

from dilated.data.dataset import Dataset
from dilated.data.sample import Sample


def image(path: Path, width: int = 6, height: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (9, 9, 9)).save(path)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def labels(data: Dataset, split: str = "train") -> list[list[list[int]]]:
    pairs: list[Sample] = pickle.loads(pickle.dumps(data.samples(split)))  # as a loader's workers get them
    return [pair.read_label(pair.size()).tolist() for pair in pairs]
