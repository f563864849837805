from __future__ import annotations

import json
import math

import numpy as np
import pytest
from brute_force import CLASSES, NAMES, Told, drawn, images, pairs_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dilated import Classes
from dilated.evaluation.evaluate import EvaluationAccumulator, MetricsConfig, evaluate
from dilated.evaluation.result import EvaluationResult

ALL = MetricsConfig(boundary=True, boundary_width=1, trimap=(1, 2), calibration=True)
Image = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def measured(cases: list[Image], metrics: MetricsConfig = ALL) -> EvaluationResult:
    """Of (labels, target) pairs."""
    return evaluate(Told([c[0] for c in cases]), pairs_of([c[1] for c in cases]), CLASSES, metrics)


def numbers(found: object) -> list[float]:
    """All numbers in a table of figures that are shares."""
    if isinstance(found, dict):
        return [
            n
            for key, value in found.items()
            if key not in ("confusion", "pixels", "width", "groups", "effective_n", "interval_over")
            for n in numbers(value)
        ]
    if isinstance(found, list):
        return [n for value in found for n in numbers(value)]
    return [found] if isinstance(found, float) else []


def test_images_without_labels_are_counted_and_are_no_figure() -> None:
    empty = (np.zeros((3, 4), np.uint8), np.full((3, 4), 255, np.uint8))
    full = (np.zeros((3, 4), np.uint8), np.zeros((3, 4), np.uint8))
    both, one = measured([empty, full]).to_dict(per_image=True), measured([full]).to_dict()
    assert (both["images"], both["unlabeled_images"]) == (2, 1)
    for name in ("mean_iou", "iou", "dice", "boundary_iou", "pixel_accuracy", "confusion", "ece", "pixels"):
        assert both[name] == one[name]
    assert both["per_image"][0] == {
        "name": "p0", "mean_iou": None, "pixel_accuracy": None, "pixels": 0, "iou": dict.fromkeys(NAMES)
    }  # fmt: skip


def test_nothing_labelled_at_all_is_null_and_is_json() -> None:
    found = measured([(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))] * 2).to_dict(per_image=True)
    assert found["mean_iou"] is found["pixel_accuracy"] is found["mean_boundary_iou"] is found["ece"] is None
    assert found["mean_iou_interval"] is None
    json.dumps(found, allow_nan=False)


def test_what_was_not_asked_for_is_null() -> None:
    found = measured([(np.zeros((2, 2), np.uint8),) * 2] * 3, MetricsConfig()).to_dict()
    for name in ("boundary_iou", "mean_boundary_iou", "boundary_iou_intervals", "trimap", "ece", "reliability"):
        assert found[name] is None
    assert found["iou_intervals"] == {"sky": [1.0, 1.0], "road": None, "tree": None, "car": None}
    assert "per_image" not in found


def test_one_image_has_no_interval() -> None:
    found = measured([(np.zeros((2, 2), np.uint8),) * 2]).to_dict()
    assert found["mean_iou_interval"] is found["iou_intervals"]["sky"] is None
    assert found["mean_iou"] == 1.0


def test_one_class_alone_is_always_right() -> None:
    one = Classes(("cell",), ((1, 1, 1),))
    target = np.array([[0, 0, 255]], np.uint8)
    result = evaluate(
        Told([np.zeros((1, 3), np.uint8)], ("cell",)), pairs_of([target]), one, MetricsConfig(boundary=True)
    )
    found = result.to_dict()
    assert found["iou"] == found["dice"] == found["recall"] == found["boundary_iou"] == {"cell": 1.0}
    assert found["foreground"] is None


def test_the_foreground_of_two_classes_is_the_one_beside_the_background() -> None:
    two = Classes(("nucleus", "Background"), ((1, 1, 1), (2, 2, 2)))
    target, labels = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8)
    found = evaluate(Told([labels], two.names), pairs_of([target]), two).to_dict()
    assert found["foreground"] == "nucleus"
    assert (found["precision"]["nucleus"], found["recall"]["nucleus"], found["iou"]["nucleus"]) == (1.0, 0.5, 0.5)
    assert found["dice"]["nucleus"] == pytest.approx(2 / 3)


def test_indices_choose_images_and_keep_their_places() -> None:
    targets, answers = drawn(5)
    result = evaluate(Told(answers), pairs_of(targets), CLASSES, indices=[3, 1])
    assert (result.names, result.indices, result.dataset_size) == (("p3", "p1"), (3, 1), 5)


def test_logits_are_asked_for_where_calibration_is_measured() -> None:
    with pytest.raises(ValueError, match="found no logits"):
        EvaluationAccumulator(NAMES, 1, ALL).add(0, np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))


def test_the_loops_call_measures_the_confusion_alone() -> None:
    targets, answers = drawn(3)
    steps: list[tuple[int, int]] = []
    result = evaluate(Told(answers), pairs_of(targets), CLASSES, on_progress=lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert result.boundary is result.trimap is result.calibration is None
    assert result.confusion.mean_iou == result.to_dict()["mean_iou"]
    assert list(result.confusion.dice.values()) == list(result.to_dict()["dice"].values())


@settings(deadline=None, max_examples=25)
@given(st.lists(images, min_size=1, max_size=3), st.integers(0, 3))
def test_what_is_predicted_where_nothing_is_labelled_changes_nothing(cases: list[Image], other: int) -> None:
    changed = [(np.where(target == 255, np.uint8(other), labels), target) for labels, target in cases]
    assert measured(changed).to_dict(per_image=True) == measured(cases).to_dict(per_image=True)


@settings(deadline=None, max_examples=25)
@given(st.lists(images, min_size=2, max_size=4), st.randoms())
def test_the_order_of_images_changes_no_pooled_figure(cases: list[Image], random: object) -> None:
    order = list(cases)
    random.shuffle(order)  # type: ignore[attr-defined]
    a, b = measured(order).to_dict(), measured(cases).to_dict()
    drawn_anew = [name for name in a if "interval" in name]  # the draws go by place
    for found in (a, b):
        for name in drawn_anew:
            del found[name]
    assert a == b


@settings(deadline=None, max_examples=25)
@given(st.lists(images, min_size=1, max_size=3))
def test_figures_are_shares_and_a_perfect_prediction_has_all(cases: list[Image]) -> None:
    found = measured(cases).to_dict(per_image=True)
    assert all(0 <= number <= 1 for number in numbers(found))
    perfect = measured([(np.where(target == 255, 0, target).astype(np.uint8), target) for _, target in cases]).to_dict()
    for name in ("iou", "dice", "precision", "recall", "boundary_iou"):
        assert set(perfect[name].values()) <= {1.0, None}
    assert {row["mean_iou"] for row in perfect["trimap"]} <= {1.0, None}
    labelled = sum(int((target != 255).sum()) for _, target in cases)
    assert perfect["pixels"] == labelled
    assert not math.isnan(perfect["mean_iou"] or 0)


def test_each_prediction_is_handed_on_with_the_index_of_its_image() -> None:
    targets, answers = drawn(4)
    seen: list[tuple[int, NDArray[np.uint8]]] = []
    samples = pairs_of(targets)
    evaluate(Told(answers), samples, CLASSES, on_prediction=lambda i, p: seen.append((i, p.labels)), indices=[2, 0])
    assert [index for index, _ in seen] == [2, 0]
    assert all(np.array_equal(labels, answers[index]) for index, labels in seen)


def test_a_result_prints_its_means_and_the_iou_of_each_class_with_intervals() -> None:
    targets, answers = drawn(5)
    result = evaluate(Told(answers), pairs_of(targets), CLASSES)
    lines = str(result).splitlines()
    assert lines[0].startswith(f"mean IoU {result.intervals['mean_iou'][0]:.3f}, pixel accuracy 0.")
    assert [line.split()[0] for line in lines[1:5]] == list(NAMES)
    assert f"{result.intervals['iou'][0]:.3f}" in lines[1]
    assert lines[5:] == result.notes == [result.units.describe()]
    assert repr(result) == f"EvaluationResult(5 images, 4 classes, mean_iou={result.confusion.mean_iou:.3f})"
