"""How much of each picture is of each class: one table for the run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from dilated.errors import InputError
from dilated.predict.prediction import Prediction
from dilated.predict.sinks.base import KINDS, Sink, whole
from dilated.predict.sources import Picture


class Shares(Sink):
    """`shares.csv`: a row a picture, by name; its name, then the share of each class, which add up to 1."""

    def __init__(self, out: Path, kinds: Sequence[str] = KINDS) -> None:
        super().__init__(out, kinds)
        self.rows: dict[str, list[str]] = {}
        self.lock = Lock()

    def path(self, picture: Picture) -> Path:
        return self.out / "shares.csv"

    def claim(self, picture: Picture) -> str:
        return f"the row {picture.key} of {self.path(picture)}"

    def begin(self, classes: Sequence[str], colors: Sequence[Any], keep: bool = False) -> None:
        self.header = ["picture", *classes]
        file = self.out / "shares.csv"
        if not keep or not file.exists():
            return
        with file.open(newline="", encoding="utf-8") as lines:
            header, *rows = [*csv.reader(lines)] or [[]]
        if header != self.header or any(len(row) != len(header) for row in rows):
            raise InputError(
                f"{file}: found a table that is not of this network's classes; expected the columns "
                f"{', '.join(self.header)}. Leave out --skip-existing, or choose another --out."
            )
        self.rows = {key: shares for key, *shares in rows}

    def has(self, picture: Picture) -> bool:
        return picture.key in self.rows

    def write(self, picture: Picture, prediction: Prediction) -> None:
        counts = np.bincount(prediction.labels.ravel(), minlength=len(prediction.classes))
        shares = [repr(share) for share in (counts / prediction.labels.size).tolist()]
        with self.lock:
            self.rows[picture.key] = shares

    def close(self) -> Path | None:
        if not self.rows:
            return None
        path = self.out / "shares.csv"
        with whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.header)
            writer.writerows([key, *shares] for key, shares in sorted(self.rows.items()))
        return path
