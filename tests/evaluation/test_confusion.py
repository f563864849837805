import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from dilated.evaluation.confusion import ConfusionMatrix
from dilated.evaluation.metrics import compute_metrics, stack_image_counts

NAMES = ["sky", "road", "tree", "car"]
shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6)
images = shapes.flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.uint8, shape, elements=st.integers(0, 3)),
        hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 255])),
    )
)


def counted(*pairs: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> ConfusionMatrix:
    confusion = ConfusionMatrix(NAMES)
    for labels, target in pairs:
        confusion.update(labels, target)
    return confusion


def test_nothing_counted_has_no_mean_and_raises_no_warning() -> None:
    confusion = counted((np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)))
    assert confusion.pixels == 0
    assert math.isnan(confusion.mean_iou)
    assert math.isnan(confusion.pixel_accuracy)
    assert all(math.isnan(value) for value in confusion.iou.values())


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels \(2, 3\) and target \(3, 2\)"):
        ConfusionMatrix(NAMES).update(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))


@pytest.mark.parametrize("wrong", [4, 254, -1])
@pytest.mark.parametrize("where", ["labels", "target"])
def test_an_id_outside_the_classes_is_refused_by_its_value_and_counts_nothing(wrong: int, where: str) -> None:
    pair = {"labels": np.zeros((2, 2), np.int64), "target": np.zeros((2, 2), np.int64)}
    pair[where][0, 0] = wrong
    confusion = ConfusionMatrix(NAMES)
    with pytest.raises(ValueError, match=f"found the id {wrong} in {where}; expected 0 to 3"):
        confusion.update(**pair)
    assert confusion.pixels == 0


def test_what_is_predicted_at_ignored_pixels_counts_nowhere() -> None:
    target = np.array([[0, 255]], np.uint8)
    assert counted((np.array([[0, 200]], np.uint8), target)).counts.sum() == 1


def test_rows_are_the_truth() -> None:
    assert counted((np.array([1, 1]), np.array([0, 1]))).counts[:2, :2].tolist() == [[0, 1], [0, 1]]


def test_many_classes_in_bytes_do_not_overflow() -> None:
    confusion = ConfusionMatrix(list(map(str, range(200))))
    confusion.update(np.array([[199]], np.uint8), np.array([[198]], np.uint8))
    assert confusion.counts[198, 199] == 1


@pytest.mark.parametrize("already", [2**24, 2**31, 2**53])
def test_counting_goes_on_where_floats_and_32_bits_stop(already: int) -> None:
    counts = np.zeros((4, 4), np.int64)
    counts[0, 0] = already
    confusion = ConfusionMatrix(NAMES, counts)
    confusion.update(np.array([[0, 1]], np.uint8), np.array([[0, 0]], np.uint8))
    assert confusion.counts.dtype == np.int64
    assert confusion.counts[0, 0] == already + 1
    assert confusion.pixels == already + 2


@settings(deadline=None, max_examples=50)
@given(images)
def test_counts_and_figures_are_those_of_counting_by_hand(image: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    confusion = counted(image)
    pairs = [(int(t), int(p)) for p, t in zip(image[0].flat, image[1].flat, strict=True) if t != 255]
    assert confusion.counts.tolist() == [[pairs.count((t, p)) for p in range(4)] for t in range(4)]
    assert confusion.pixels == len(pairs)

    values = {}
    for i, name in enumerate(NAMES):
        union = sum(i in pair for pair in pairs)
        values[name] = pairs.count((i, i)) / union if union else math.nan
    assert confusion.iou == pytest.approx(values, nan_ok=True)
    occurring = [value for value in values.values() if not math.isnan(value)]
    mean = sum(occurring) / len(occurring) if occurring else math.nan
    assert confusion.mean_iou == pytest.approx(mean, nan_ok=True)
    accuracy = sum(t == p for t, p in pairs) / len(pairs) if pairs else math.nan
    assert confusion.pixel_accuracy == pytest.approx(accuracy, nan_ok=True)


@settings(deadline=None, max_examples=25)
@given(st.lists(images, min_size=2, max_size=4))
def test_images_counted_apart_and_merged_are_those_counted_together(
    pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> None:
    merged = counted(*pairs[:1]) + counted(*pairs[1:])
    assert np.array_equal(merged.counts, counted(*pairs).counts)
    assert merged.counts.dtype == np.int64


def test_counts_of_different_classes_are_not_merged() -> None:
    with pytest.raises(ValueError, match="different classes"):
        ConfusionMatrix(["a"]) + ConfusionMatrix(["b"])


def test_many_matrices_at_once_are_as_one_by_one() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (2, 3, 4, 4))
    counts[0, 0] = 0
    counts[1, 1, 2] = counts[1, 1, :, 2] = 0
    for i in range(2):
        for j in range(3):
            for name, values in compute_metrics(stack_image_counts(counts), 4).items():
                alone = compute_metrics(stack_image_counts(counts[i, j]), 4)[name]
                np.testing.assert_array_equal(values[i, j], alone)


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_is_that_of_torchmetrics(seed: int) -> None:
    from torchmetrics.classification import MulticlassJaccardIndex

    rng = np.random.default_rng(seed)
    occurring = 4 - seed % 3  # a class that never occurs must not count as 0
    metric = MulticlassJaccardIndex(num_classes=4, average="macro", ignore_index=255)
    confusion = ConfusionMatrix(NAMES)
    for _ in range(3):
        labels = rng.integers(0, occurring, (20, 30))
        target = np.where(rng.random((20, 30)) < 0.2, 255, rng.integers(0, occurring, (20, 30)))
        confusion.update(labels.astype(np.uint8), target.astype(np.uint8))
        metric.update(torch.tensor(labels)[None], torch.tensor(target)[None])
    assert confusion.mean_iou == pytest.approx(metric.compute().item(), abs=1e-6)


def test_tensors_and_a_number_of_classes_will_do() -> None:
    by_name, by_number = ConfusionMatrix(["0", "1"]), ConfusionMatrix(2)
    labels, target = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 255]])
    by_name.update(labels.numpy(), target.numpy())
    by_number.update(labels, target)
    assert by_number.classes == by_name.classes
    assert np.array_equal(by_number.counts, by_name.counts)
