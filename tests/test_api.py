"""The verbs of the Python API."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_run import data_folder, run_folder

import dilated
import dilated.evaluation
import dilated.report

NAMES = ("sky", "road", "tree")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    data_folder(tmp_path / "data", NAMES)
    return run_folder(tmp_path / "run", NAMES)


def test_evaluate_takes_a_path_a_segmenter_or_a_predictor(run: Path, tmp_path: Path) -> None:
    by_path = dilated.evaluate(run, tmp_path / "data", device="cpu")
    segmenter, data = dilated.load(run), dilated.open_dataset(tmp_path / "data")
    predictor = dilated.Predictor(segmenter, device="cpu")
    for network in (str(run), segmenter, predictor):
        assert dilated.evaluate(network, data, device="cpu").to_dict() == by_path.to_dict()
    assert by_path.boundary is not None
    assert str(by_path).startswith("mean IoU ")


def test_evaluate_measures_the_split_and_the_metrics_that_are_asked_for(run: Path, tmp_path: Path) -> None:
    metrics = dilated.evaluation.evaluate.MetricsConfig(calibration=True)
    result = dilated.evaluate(run, tmp_path / "data", "train", metrics, "cpu")
    assert (len(result.names), result.boundary, result.calibration is None) == (2, None, False)


def test_a_network_compared_with_itself_is_called_by_its_path(run: Path, tmp_path: Path) -> None:
    found = dilated.compare(run, dilated.load(run), tmp_path / "data", device="cpu")
    assert str(found).startswith(f"A is {run}, B is the baseline\n")
    assert found.describe() == f"{run} and the baseline label every labelled pixel the same."


def test_write_report_takes_a_folder_of_data(run: Path, tmp_path: Path) -> None:
    page = dilated.write_report(run, tmp_path / "data", tmp_path / "page.html", device="cpu")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_other_classes_are_an_input_error(run: Path, tmp_path: Path) -> None:
    data_folder(tmp_path / "other", ("sky", "road"))
    with pytest.raises(dilated.InputError, match="the classes differ"):
        dilated.evaluate(run, tmp_path / "other", device="cpu")
