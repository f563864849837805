"""The class fractions of each image: one table per run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from dilated.errors import InputError
from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage, SourceKind
from dilated.prediction.writers.base import PredictionWriter, output_file


class ClassFractionWriter(PredictionWriter):
    """`class_fractions.csv`: a row per image, sorted by name: the name, then the fraction of each class."""

    def __init__(self, out: Path, kinds: Sequence[SourceKind] = tuple(SourceKind)) -> None:
        super().__init__(out, kinds)
        self.header: list[str] = []
        self.rows: dict[str, list[str]] = {}
        self.lock = Lock()

    def path(self, image: InputImage) -> Path:
        return self.out / "class_fractions.csv"

    def output_key(self, image: InputImage) -> str:
        return f"the row {image.key} of {self.path(image)}"

    def open(self, classes: Sequence[str], colors: Sequence[Any], append: bool = False) -> None:
        self.header = ["image", *classes]
        file = self.out / "class_fractions.csv"
        if not append or not file.exists():
            return
        with file.open(newline="", encoding="utf-8") as lines:
            header, *rows = [*csv.reader(lines)] or [[]]
        if header != self.header or any(len(row) != len(header) for row in rows):
            raise InputError(
                f"{file}: the columns are not this network's {', '.join(self.header)}",
                hint="leave out --skip-existing, or choose another --out",
            )
        self.rows = {key: fractions for key, *fractions in rows}

    def has(self, image: InputImage) -> bool:
        return image.key in self.rows

    def write(self, image: InputImage, prediction: Prediction) -> None:
        fractions = prediction.class_fractions()
        with self.lock:
            self.rows[image.key] = [repr(fractions.get(name, 0.0)) for name in prediction.classes]

    def close(self) -> Path | None:
        if not self.rows:
            return None
        path = self.out / "class_fractions.csv"
        with output_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.header)
            writer.writerows([key, *fractions] for key, fractions in sorted(self.rows.items()))
        return path
