"""Training for each fold, and figures over all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dilated.api import TrainOptions
from dilated.cli.main import main
from dilated.cross_validation import pool_results, train_folds
from dilated.data.groups import Groups
from dilated.errors import InputError
from dilated.evaluation.evaluate import EvaluationAccumulator, MetricsConfig
from dilated.evaluation.result import EvaluationResult


def make_result(name: str, target: list[int], group: str) -> EvaluationResult:
    accumulator = EvaluationAccumulator(["sky", "road"], 1, MetricsConfig(boundary=True))
    accumulator.add(0, np.array([[0, 1, 1]]), np.array([target]))
    return accumulator.result([name], [0], Groups((group,), (7,), "given"))


def test_pooled_results_are_those_of_all_images_with_their_groups() -> None:
    parts = [make_result("a", [0, 1, 0], "f"), make_result("b", [0, 0, 255], "g")]
    pooled = pool_results(parts)
    assert pooled.names == ("a", "b")
    assert np.array_equal(pooled.confusion.counts, parts[0].confusion.counts + parts[1].confusion.counts)
    assert (pooled.groups.labels, pooled.groups.positions) == (("f", "g"), (7, 7))
    assert pooled.boundary is not None


def test_each_image_is_measured_once_and_a_second_call_goes_on(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    recipe_file.write_text(
        recipe_file.read_text().replace("epochs = 3", "epochs = 1").replace("epochs = 2", "epochs = 1")
    )
    words = ["train", str(folder), "--out", str(tmp_path / "runs"), "--folds", "2", "--group-by", "image"]
    words += ["--recipe", str(recipe_file), "--no-report", "--device", "cpu"]
    main(words)
    table = json.loads((tmp_path / "runs" / "folds.json").read_text())
    assert table["images"] == 8
    assert len({row["name"] for row in table["per_image"]}) == 6  # p0 and p1 are in both splits
    assert [fold["groups"]["groups"] for fold in table["folds"]] == [4, 4]
    main(words)
    again = json.loads((tmp_path / "runs" / "folds.json").read_text())
    assert again["confusion"] == table["confusion"]


def test_folds_that_divide_nothing_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folds: 1"):
        train_folds(folder, tmp_path / "runs", 1)
    with pytest.raises(InputError, match="beside a fold"):
        train_folds(folder, tmp_path / "runs", 2, options=TrainOptions(fold="1/2"))
