"""The same figures as other programs have."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dilated.evaluation.confusion import ConfusionMatrix

NAMES = ["sky", "road", "tree", "car"]


def cases(seed: int) -> tuple[ConfusionMatrix, list[tuple[np.ndarray, np.ndarray]]]:
    """Three images; by the seed, of all four classes or fewer."""
    random = np.random.default_rng(seed)
    found, confusion = [], ConfusionMatrix(NAMES)
    for _ in range(3):
        labels = random.integers(0, 4 - seed % 3, (20, 30))
        target = np.where(random.random((20, 30)) < 0.2, 255, random.integers(0, 4 - seed % 3, (20, 30)))
        confusion.update(labels, target)
        found.append((labels, target))
    return confusion, found


def values(found: dict[str, float]) -> list[float]:
    """With 0 for a class that never occurs, as the others have it when asked by class."""
    return [0.0 if math.isnan(value) else value for value in found.values()]


@pytest.mark.parametrize("seed", range(3))
def test_by_class_as_torchmetrics(seed: int) -> None:
    classification = pytest.importorskip("torchmetrics.classification")
    confusion, images = cases(seed)
    metrics = {
        "iou": classification.MulticlassJaccardIndex(4, average="none", ignore_index=255),
        "dice": classification.MulticlassF1Score(4, average="none", ignore_index=255),
        "precision": classification.MulticlassPrecision(4, average="none", ignore_index=255),
        "recall": classification.MulticlassRecall(4, average="none", ignore_index=255),
    }
    for name, metric in metrics.items():
        for labels, target in images:
            metric.update(torch.tensor(labels)[None], torch.tensor(target)[None])
        assert values(getattr(confusion, name)) == pytest.approx(metric.compute().tolist(), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_as_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    confusion, images = cases(seed)
    labels = np.concatenate([one[target != 255] for one, target in images])
    target = np.concatenate([target[target != 255] for _, target in images])
    by_class = {"labels": range(4), "average": None, "zero_division": 0}
    assert np.array_equal(confusion.counts, metrics.confusion_matrix(target, labels, labels=range(4)))
    assert values(confusion.iou) == pytest.approx(metrics.jaccard_score(target, labels, **by_class).tolist())
    assert values(confusion.dice) == pytest.approx(metrics.f1_score(target, labels, **by_class).tolist())
    assert values(confusion.precision) == pytest.approx(metrics.precision_score(target, labels, **by_class).tolist())
    assert values(confusion.recall) == pytest.approx(metrics.recall_score(target, labels, **by_class).tolist())
    assert confusion.pixel_accuracy == pytest.approx(metrics.accuracy_score(target, labels))


def test_as_the_formula_of_cityscapes() -> None:
    """Its matrix is over all ids; a class's false positives leave out true void, its misses count what went to void."""
    random = np.random.default_rng(0)
    ids, void = [7, 8, 11, 26], [0, 4]  # of classes that count and of classes that do not
    truth, guess = random.choice(ids + void, 5000), random.choice(ids, 5000)
    everything = np.zeros((34, 34), np.int64)
    np.add.at(everything, (truth, guess), 1)
    place = np.full(34, 255)
    place[ids] = range(4)
    confusion = ConfusionMatrix(NAMES)
    confusion.update(place[guess], place[truth])
    for one, value in zip(ids, confusion.iou.values(), strict=True):
        tp = everything[one, one]
        fn = everything[one].sum() - tp
        fp = everything[[other for other in ids if other != one], one].sum()
        assert value == tp / (tp + fp + fn)


def test_as_the_scripts_of_cityscapes() -> None:
    scripts = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    random = np.random.default_rng(1)
    truth, guess = random.choice([7, 8, 11, 26, 0, 4], 5000), random.choice([7, 8, 11, 26], 5000)
    matrix = scripts.generateMatrix(scripts.args)
    np.add.at(matrix, (truth, guess), 1)
    place = np.full(34, 255)
    place[[7, 8, 11, 26]] = range(4)
    confusion = ConfusionMatrix(NAMES)
    confusion.update(place[guess], place[truth])
    theirs = [scripts.getIouScoreForLabel(one, matrix, scripts.args) for one in (7, 8, 11, 26)]
    assert list(confusion.iou.values()) == pytest.approx(theirs)


def test_a_label_that_is_no_class_of_the_data_is_an_error_and_no_silent_miss() -> None:
    with pytest.raises(ValueError, match="found the id 255 in labels"):
        ConfusionMatrix(NAMES).update(np.array([255]), np.array([0]))
