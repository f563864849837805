from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from dilated.evaluation.confusion import ConfusionMatrix
from dilated.evaluation.metrics import stack_image_counts
from dilated.evaluation.result import EvaluationResult, select_worst, write_csv

COUNTS = np.array([[[5, 0], [0, 5]], [[0, 0], [0, 0]], [[1, 9], [0, 0]], [[5, 0], [5, 0]]])
IMAGES = ("right", "empty", "bad", "half, of two")
ROWS = EvaluationResult(
    ("sky", "road"), IMAGES, (0, 1, 2, 3), 4, COUNTS.sum(0), stack_image_counts(COUNTS)
).image_results


def test_each_image_has_its_own_figures() -> None:
    for row, counts in zip(ROWS, COUNTS, strict=True):
        alone = ConfusionMatrix(["sky", "road"], counts)
        assert row.pixels == alone.pixels
        expected = (alone.mean_iou, alone.pixel_accuracy) if row.pixels else (None, None)
        assert (row.mean_iou, row.pixel_accuracy) == pytest.approx(expected)
    assert ROWS[1].iou == {"sky": None, "road": None}


def test_the_worst_come_first_and_the_empty_not_at_all() -> None:
    assert [row.name for row in select_worst(ROWS, 9)] == ["bad", "half, of two", "right"]
    assert [row.name for row in select_worst(ROWS, 1)] == ["bad"]


def test_a_csv_reads_back(tmp_path: Path) -> None:
    write_csv(ROWS, tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["name", "mean_iou", "pixel_accuracy", "pixels", "sky", "road"]
    assert [row["name"] for row in rows] == [row.name for row in ROWS]
    assert rows[1]["mean_iou"] == rows[1]["sky"] == ""
    assert float(rows[2]["sky"]) == ROWS[2].iou["sky"]
