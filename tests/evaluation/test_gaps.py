"""benchmarks/gaps.py counts what of thin structures is missed and broken."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from gaps import GapCounts, count_gaps


@pytest.fixture
def pole() -> np.ndarray:
    mask = np.zeros((60, 30), dtype=bool)
    mask[5:55, 10:12] = True
    return mask


def test_a_pole_labelled_beside_its_place_has_no_gap(pole: np.ndarray) -> None:
    assert count_gaps(np.roll(pole, 2, axis=1), pole) == GapCounts(1, 0, 0)


def test_a_pole_too_far_beside_its_place_is_missed(pole: np.ndarray) -> None:
    assert count_gaps(np.roll(pole, 6, axis=1), pole) == GapCounts(1, 1, 0)


def test_each_hole_of_a_prediction_is_a_gap(pole: np.ndarray) -> None:
    prediction = pole.copy()
    prediction[15:25] = prediction[35:45] = False
    assert count_gaps(prediction, pole) == GapCounts(1, 0, 2)
    assert count_gaps(prediction, pole, tolerance=5) == GapCounts(1, 0, 0)


def test_a_diagonal_is_one_structure_and_two_poles_are_two(pole: np.ndarray) -> None:
    diagonal = np.eye(40, dtype=bool)
    assert count_gaps(diagonal, diagonal) == GapCounts(1, 0, 0)
    both = pole | np.roll(pole, 10, axis=1)
    assert count_gaps(pole, both) == GapCounts(2, 1, 0)


def test_specks_do_not_count_and_no_structure_is_no_gap(pole: np.ndarray) -> None:
    speck = np.zeros_like(pole)
    speck[3:5, 3:5] = True
    assert count_gaps(pole, speck) == GapCounts(0, 0, 0)
    assert count_gaps(pole, np.zeros_like(pole)) == GapCounts()
