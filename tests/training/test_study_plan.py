"""The arms of a study by their names, and the split of its budget, by hand."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from dilated.errors import InputError
from dilated.models.segmenter import SegmenterConfig
from dilated.training.config import load_recipe
from dilated.training.study_arms import (
    DEFAULT_ARMS,
    ArmLength,
    find_arm,
    find_arms,
    make_arm_recipe,
    make_front_recipe,
)
from dilated.training.study_budget import ArmCost, Split, StudyClock, page_seconds, split_budget


@pytest.mark.parametrize(
    ("seconds", "costs", "trainings", "expected"),
    [
        # page 20, fixed 2 * (2 + 1) * 2 = 12, 4 validations 16 of 568 s: 0.75 * (580 - 12 - 16) / (2 * 0.5)
        (600.0, [ArmCost(0.25, 1.0)] * 2, 2, Split(414, 4)),
        # 4 validations of 2 arms of 10 s are 80 of 90 s: one, 0.75 * (280 - 24 - 20) / 0.5
        (300.0, [ArmCost(0.25, 10.0)] * 2, 1, Split(354, 1)),
        # an arm that trains nothing takes its evaluation and its start: page 20, fixed 3 + 7, 4 * 1: 0.75 * 166 / 0.1
        (200.0, [ArmCost(0.1, 1.0), ArmCost(0.0, 5.0)], 1, Split(1245, 4)),
    ],
)
def test_the_budget_is_split_into_equal_steps(
    seconds: float, costs: list[ArmCost], trainings: int, expected: Split
) -> None:
    assert split_budget(seconds, costs, trainings) == expected


def test_trainings_that_take_long_to_begin_leave_fewer_steps() -> None:
    # page 20, fixed 2 * 2 * (12 + 1) = 52, 4 validations 16: 0.75 * (580 - 52 - 16) / (2 * 0.5)
    assert split_budget(600.0, [ArmCost(0.25, 1.0)] * 2, 2, start_seconds=12.0) == Split(384, 4)


def test_what_is_planned_ends_within_the_budget() -> None:
    costs, trainings = [ArmCost(0.3, 4.0), ArmCost(0.7, 5.0), ArmCost(0.0, 9.0)], 6
    split = split_budget(1200.0, costs, trainings)
    spent = page_seconds(3)
    for cost in costs:
        passes = 1 + (split.validations if cost.step_seconds else 0)
        spent += trainings * (split.steps * cost.step_seconds + passes * cost.evaluation_seconds + 2)
    assert 0.7 * 1200 < spent < 1200


def test_too_little_time_is_refused_with_what_it_takes() -> None:
    # page 20, fixed 2 * 2 * (2 + 1) = 12, a validation 4, 10 steps of 4 trainings of 1 s over 0.75: 53.3
    with pytest.raises(InputError, match=r"60 s are left for 2 arms of 2 trainings.* take 89 s"):
        split_budget(60.0, [ArmCost(1.0, 1.0)] * 2, 2)
    assert split_budget(90.0, [ArmCost(1.0, 1.0)] * 2, 2).steps == 10


def test_the_clock_counts_the_seconds_of_all_processes(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    path.write_text(json.dumps({"seconds": 50.0}))
    clock = StudyClock.open(path, budget=60.0)
    assert 50 <= clock.seconds < 55
    assert clock.left == pytest.approx(10, abs=5)
    clock.save()
    assert json.loads(path.read_text())["seconds"] >= 50


def test_the_clock_is_written_down_while_nothing_ticks(tmp_path: Path) -> None:
    clock = StudyClock.open(tmp_path / "clock.json")
    with clock.running():
        end = time.monotonic() + 60
        while not clock.path.is_file() and time.monotonic() < end:
            time.sleep(0.05)
    assert 1 <= json.loads(clock.path.read_text())["seconds"] <= clock.seconds
    assert not [thread for thread in threading.enumerate() if thread.name == "study clock"]


def test_every_arm_of_the_default_makes_a_recipe_of_the_same_length() -> None:
    front = make_front_recipe(load_recipe("default"))
    assert front.network == SegmenterConfig(features=128, dropout=0.1)
    assert {stage.kind for stage in front.stage} == {"frontend"}
    for arm in find_arms(DEFAULT_ARMS):
        recipe = make_arm_recipe(front, arm, ArmLength(200, 4, 3), seed=7, levels=5)
        (stage,) = recipe.stage
        assert (stage.iterations, stage.freeze, stage.views, recipe.seed) == (200, 5, 3, 7)
        assert stage.kind == ("joint" if "context" in arm.network else "frontend")
        assert stage.output_stride == (32 if arm.name.startswith("fcn-") else 8)
        assert (recipe.augment, recipe.loss, recipe.batch) == (front.augment, front.loss, front.batch)


def test_a_crf_rnn_reads_images_so_nothing_is_kept_for_it() -> None:
    arm = find_arm("basic-crfrnn")
    recipe = make_arm_recipe(make_front_recipe(load_recipe("default")), arm, ArmLength(20, 1, 3), 1, 5)
    assert recipe.network.crf == "rnn"
    assert (recipe.stage[0].views, recipe.stage[0].cache_features, recipe.stage[0].freeze) == (0, False, 5)


def test_whole_networks_keep_no_features() -> None:
    recipe = make_arm_recipe(make_front_recipe(load_recipe("default")), find_arm("aspp"), ArmLength(20), 1, 5)
    assert (recipe.stage[0].views, recipe.stage[0].freeze, recipe.network.head) == (0, 2, "aspp")


@pytest.mark.parametrize(
    "name", ["", "large-large", "-crf", "none-random", "aspp-crf-crf", "a b:c", "basic-crf-crfrnn"]
)
def test_what_is_no_arm_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is unknown"):
        find_arm(name)


def test_a_dense_crf_comes_after_what_it_refines() -> None:
    assert [arm.name for arm in find_arms(("large-crf", "none", "large", "none"))] == ["none", "large", "large-crf"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seconds": "9"}', '{"seconds": NaN}', '{"seconds": -1}'])
def test_a_damaged_clock_is_an_error_that_names_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"clock\.json"):
        StudyClock.open(path)
