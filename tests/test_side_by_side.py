"""benchmarks/side_by_side.py does all that it can in its time, and says what it could not."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from side_by_side import Failure, run_side_by_side

pytestmark = pytest.mark.slow  # processes that import torch


def test_work_that_fails_is_told_of_and_the_other_work_is_done() -> None:
    assert dict(run_side_by_side(math.sqrt, [4.0, -1.0, 9.0], jobs=2)) == {
        4.0: 2.0,
        -1.0: Failure("ValueError: math domain error"),
        9.0: 3.0,
    }


def test_a_process_that_is_gone_is_told_of_and_another_takes_its_place() -> None:
    outcomes = dict(run_side_by_side(os._exit, [3, 4], jobs=1))
    assert outcomes == {3: Failure("its process ended with 3"), 4: Failure("its process ended with 4")}


def test_what_is_not_done_in_time_is_left() -> None:
    assert list(run_side_by_side(time.sleep, [600.0, 600.0], jobs=1, seconds=0.1)) == []
