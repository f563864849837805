"""What a study says of counts made by hand: its questions, its verdicts, and what it says is not shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dilated.data.groups import Groups
from dilated.evaluation.evaluate import EvaluationAccumulator
from dilated.evaluation.result import EvaluationResult
from dilated.evaluation.study import ArmResult, StudyResult, StudySettings

SETTINGS = StudySettings("my-data", "trained first", True, 400, 3, 1, 1200.0, 1100.0)
FILM = Groups(("film",) * 8, tuple(range(8)), "given")
EACH = Groups(tuple("abcdefgh"), (None,) * 8, "given")


def measure(wrong: list[int], groups: Groups = EACH) -> EvaluationResult:
    """Eight images of 40 pixels of two classes, of which so many pixels are wrong."""
    accumulator = EvaluationAccumulator(["sky", "road"], len(wrong))
    for i, count in enumerate(wrong):
        target = np.repeat([[0, 1]], 20, axis=1)
        labels = target.copy()
        labels[0, :count] = 1
        accumulator.add(i, labels, target)
    return accumulator.result([f"p{i}" for i in range(len(wrong))], range(len(wrong)), groups)


def make_study(groups: Groups = EACH, seeds: int = 3, **wrong: list[int]) -> StudyResult:
    arms = tuple(
        ArmResult(name.replace("_", "-"), name, tuple(measure(row, groups) for _ in range(seeds)))
        for name, row in wrong.items()
    )
    return StudyResult(SETTINGS, arms)


WORSE, BETTER, MIXED = [8, 9, 8, 9, 8, 9, 8, 9], [4, 5, 4, 5, 4, 5, 4, 5], [4, 13, 4, 13, 4, 13, 4, 14]


def test_the_questions_are_the_papers_where_the_arms_answer_them() -> None:
    result = make_study(
        none=WORSE, basic=BETTER, basic_random=WORSE, basic_undilated=MIXED, aspp=MIXED, basic_crf=BETTER
    )
    assert [answer.question for answer in result.answers] == [
        "Does the context module add to the front end (basic)?",
        "Is it dilation, not depth, that adds (basic)?",
        "Does the start from the identity matter (basic)?",
        "Does a dense CRF add to basic?",
        "Is the basic context module better than aspp?",
        "Is basic-random better than none?",
        "Is basic-undilated better than none?",
        "Is aspp better than none?",
        "Is basic-crf better than none?",
    ]
    first = result.answers[0]
    assert first.is_shown
    assert first.verdict.startswith("basic is better than none: the interval of the difference in mean IoU")


@pytest.mark.parametrize("others", [("aspp",), ("basic_random", "basic_undilated"), ("aspp", "basic_crf")])
def test_two_arms_are_compared_once_without_the_front_end_too(others: tuple[str, ...]) -> None:
    result = make_study(basic=BETTER, **dict.fromkeys(others, MIXED))
    pairs = [frozenset((answer.candidate, answer.baseline)) for answer in result.answers]
    assert len(pairs) == len(set(pairs)) == len(others)


def test_an_interval_that_holds_zero_is_not_shown() -> None:
    result = make_study(none=WORSE, basic=MIXED)
    (answer,) = result.answers
    assert answer.difference.low < 0 < answer.difference.high
    assert not answer.is_shown
    expected = f"not shown, the interval over groups (one image each) contains 0 ({answer.difference:+.3f})."
    assert result.not_shown[0] == f"Does the context module add to the front end (basic): {expected}"


def test_fewer_than_three_seeds_show_no_way_of_training() -> None:
    result = make_study(none=WORSE, basic=BETTER, seeds=2)
    assert result.answers[0].difference.excludes_zero
    assert not result.answers[0].is_shown
    assert "fewer than 3 seeds, and another seed is another network" in result.not_shown[0]


def test_one_film_shows_nothing_of_others() -> None:
    result = make_study(FILM, none=WORSE, basic=BETTER)
    assert any(line.startswith("Other films or sites than these: not shown.") for line in result.not_shown)


def test_several_comparisons_and_the_length_of_trainings_are_said() -> None:
    lines = make_study(none=WORSE, basic=BETTER, aspp=MIXED).not_shown
    assert any(line.startswith("These are 3 comparisons, each with an interval of 95%") for line in lines)
    assert lines[-1].startswith("Trainings of another length than 400 steps")


def test_the_baseline_is_none_or_else_the_first_that_was_measured() -> None:
    assert make_study(basic=BETTER, none=WORSE).baseline is not None
    named = make_study(basic=BETTER, none=WORSE).baseline
    assert named is not None
    assert named.name == "none"
    first = make_study(aspp=MIXED, basic=BETTER).baseline
    assert first is not None
    assert first.name == "aspp"


def test_seeds_that_differ_widen_the_interval() -> None:
    arms = (
        ArmResult("none", "", (measure(WORSE),)),
        ArmResult("basic", "", (measure(BETTER),)),
    )
    steady = StudyResult(SETTINGS, arms).differences["basic"]
    varied = (measure([1] * 8), measure(BETTER), measure([8] * 8))
    wide = StudyResult(SETTINGS, (arms[0], ArmResult("basic", "", varied))).differences["basic"]
    assert wide.high - wide.low > 2 * (steady.high - steady.low)


def test_figures_are_plain_json_and_a_line_per_training(tmp_path: Path) -> None:
    study = make_study(none=WORSE, basic=BETTER)
    result = StudyResult(SETTINGS, (*study.arms, ArmResult("psp", "head psp", problem="cannot run: no memory")), False)
    table = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert [arm["problem"] for arm in table["arms"]] == [None, None, "cannot run: no memory"]
    assert table["arms"][1]["mean_iou"] == pytest.approx(result.arms[1].mean_iou)
    result.write_csv(tmp_path / "results.csv")
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 + 3 + 1
    assert lines[0].startswith("arm,seed,mean_iou,pixel_accuracy,sky,road,parameters")
    assert lines[-1].startswith("psp,,")
    assert lines[-1].endswith("cannot run: no memory")
    assert "not measured: psp: cannot run: no memory" in str(result)


def test_nothing_measured_is_no_error() -> None:
    result = StudyResult(SETTINGS, (ArmResult("none", "", problem="not done with 3 of 3 seeds"),), False)
    assert result.baseline is None
    assert result.answers == []
    assert result.to_dict()["baseline"] is None
