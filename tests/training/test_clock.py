from __future__ import annotations

import pytest

from dilated import InputError, load_recipe
from dilated.training import budget
from dilated.training.budget import (
    Clock,
    Deadline,
    StepLimit,
    TimeLimit,
    allocate_stage_seconds,
    parse_duration,
    with_budget,
)
from dilated.training.config import StageConfig


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the clock sees, to be set."""
    times = [100.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: times[0])
    return times


def test_a_stage_of_steps_is_done_when_they_are() -> None:
    assert [StepLimit(4).progress(step) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]


def test_a_stage_of_seconds_is_done_when_they_are_whatever_its_steps_cost(now: list[float]) -> None:
    running = Clock(previous_seconds=7.0, started=100.0)
    limit = TimeLimit(running, seconds=10.0, started=7.0)
    assert limit.progress(0) == 0
    now[0] = 105.0
    assert limit.progress(1) == limit.progress(1000) == 0.5
    now[0] = 112.0
    assert limit.progress(1001) == 1


def test_a_stage_without_time_makes_one_step(now: list[float]) -> None:
    limit = TimeLimit(Clock(started=100.0), seconds=0.0, started=0.0)
    assert (limit.progress(0), limit.progress(1)) == (0, 1)


def test_time_before_an_interruption_counts(now: list[float]) -> None:
    assert Clock(previous_seconds=50.0, started=100.0).seconds == 50
    now[0] = 103.0
    assert Clock(previous_seconds=50.0, started=100.0).seconds == 53


def test_the_stages_share_what_is_left_before_the_last_validation() -> None:
    stages = tuple(StageConfig("frontend", share=share) for share in (2, 1, 1))
    assert [allocate_stage_seconds(stages, i, remaining=100, validation_seconds=20) for i in range(3)] == [40, 40, 80]
    assert allocate_stage_seconds(stages, 2, remaining=10, validation_seconds=20) == 0


def test_validations_take_a_twentieth_of_a_stage_at_most() -> None:
    def points(seconds: float, validation: float, is_last: bool) -> list[float]:
        return TimeLimit(Clock(), seconds, 0.0, validation, is_last).validation_points()

    assert points(1000, 1, False) == [i / 10 for i in range(1, 11)]
    assert points(200, 11, False) == []
    assert points(200, 11, True) == [1]


def test_a_deadline_passes_when_its_time_is_over(now: list[float]) -> None:
    deadline = Deadline.after(5.0)
    assert not deadline.expired
    now[0] = 105.0
    assert deadline.expired
    assert not Deadline().expired


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "0s", "1h 30m", "5m!", "1.h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"[Gg]ive a time such as 90s"):
        parse_duration(text)


def test_a_recipe_of_passes_becomes_one_of_shares() -> None:
    recipe = load_recipe("street")
    timed = with_budget(recipe, 600, images=367)
    assert timed.budget == 600
    assert sum(stage.share for stage in timed.stage) == pytest.approx(1)
    assert all(stage.epochs == stage.iterations == 0 for stage in timed.stage)
    coarse, fine = (load_recipe("street", [f"stage.0.output_stride={stride}"]) for stride in (16, 8))
    fractions = [with_budget(one, 600, images=100).stage[0].share for one in (coarse, fine)]
    assert fractions[0] < fractions[1]


def test_passes_and_steps_are_weighed_alike() -> None:
    passes = load_recipe("quick", ["stage.0.epochs=3", "batch=5"])
    steps = load_recipe("quick", ["stage.0.epochs=0.0", "stage.0.iterations=60", "batch=5"])
    assert with_budget(passes, 60, images=100).stage == with_budget(steps, 60, images=100).stage


def test_another_budget_for_a_recipe_that_has_one_keeps_its_shares() -> None:
    timed = with_budget(load_recipe("street"), 600, images=367)
    assert with_budget(timed, 60, images=1).stage == timed.stage
