from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated import Classes, ConfusionMatrix, InputError, ScoreOptions, score
from dilated.data.labels import save_classes
from dilated.evaluation.label_files import LabelCounter
from dilated.evaluation.metrics import compute_metrics
from dilated.evaluation.pair_counts import count_pairs
from dilated.report.score_page import render_score_page

NAMES = ("road", "sky", "car")
CLASSES = Classes(NAMES, ((1, 0, 0), (2, 0, 0), (3, 0, 0)), values=((7,), (23,), (26, 27)), ignore=(0,))


def write(folder: Path, names: list[str], seed: int, values: tuple[int, ...], size: tuple[int, int] = (12, 16)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for name in names:
        blocks = random.choice(np.array(values, np.uint8), (size[0] // 4, size[1] // 4))
        Image.fromarray(blocks.repeat(4, 0).repeat(4, 1)).save(folder / f"{name}.png")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    names = [f"p{i}" for i in range(5)]
    write(tmp_path / "data" / "labels" / "val", names, 0, (7, 23, 26, 27, 0))
    for name in names:
        (tmp_path / "data" / "images" / "val").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12), (90, 90, 90)).save(tmp_path / "data" / "images" / "val" / f"{name}.png")
    save_classes(CLASSES, tmp_path / "data" / "classes.toml")
    write(tmp_path / "masks", names, 1, (7, 23, 26))
    return tmp_path / "data"


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_the_figures_are_those_of_a_confusion_matrix_over_the_decoded_labels(data: Path, tmp_path: Path) -> None:
    scored = score(tmp_path / "masks", data)
    expected = ConfusionMatrix(NAMES)
    for sample in scored.samples:
        expected.update(
            CLASSES.decode(read(tmp_path / "masks" / f"{sample.name}.png")), CLASSES.decode(read(sample.label))
        )
    assert np.array_equal(scored.result.confusion.counts, expected.counts)
    assert scored.result.confusion.iou == expected.iou
    assert scored.result.boundary is not None
    found = scored.to_dict(per_image=True)
    json.dumps(found, allow_nan=False)
    assert found["mean_iou"] == found["variants"]["mean_iou"]["value"] == expected.mean_iou
    assert len(found["per_image"]) == 5
    assert "torchmetrics JaccardIndex" in str(scored)


def test_truth_as_predictions_is_perfect_in_every_variant(data: Path) -> None:
    scored = score(data / "labels" / "val", data, options=ScoreOptions())
    assert {variant.value for variant in scored.variants} == {1.0}
    assert scored.notes == ()


def test_predictions_may_hold_class_ids(data: Path, tmp_path: Path) -> None:
    (tmp_path / "ids").mkdir()
    for path in (tmp_path / "masks").iterdir():
        Image.fromarray(CLASSES.decode(read(path))).save(tmp_path / "ids" / f"{path.stem}_pred.png")
    by_value, by_id = score(tmp_path / "masks", data), score(tmp_path / "ids", data, options=ScoreOptions(values="ids"))
    assert np.array_equal(by_value.result.image_counts, by_id.result.image_counts)
    with pytest.raises(InputError, match=r"_pred\.png: found the value 1 .* expected the values of") as error:
        score(tmp_path / "ids", data)
    assert "--values ids" in (error.value.hint or "")


def test_a_pixel_without_a_class_in_the_prediction_is_wrong_and_is_said(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "masks" / "p0.png"
    values, truth = read(path).copy(), CLASSES.decode(read(data / "labels" / "val" / "p0.png"))
    before = score(tmp_path / "masks", data).result
    lost = truth == 0
    values[lost] = 0  # ignored in the truth's files
    Image.fromarray(values).save(path)
    scored = score(tmp_path / "masks", data)
    assert scored.result.confusion.unpredicted.tolist() == [int(lost.sum()), 0, 0]
    assert scored.result.confusion.pixels == before.confusion.pixels
    assert scored.result.value("recall", 0) <= before.value("recall", 0)
    assert f"{int(lost.sum()):,} labelled pixels" in scored.notes[0]
    iou = [row.iou["road"] for row in scored.result.image_results if row.name == "p0"]
    assert iou == [0.0] if lost.any() else [None]
    for sides in (scored.result.boundary, before.boundary):
        assert sides is not None
        assert (sides.intersection <= sides.union).all()


def test_what_does_not_fit_is_refused_by_file(data: Path, tmp_path: Path) -> None:
    (tmp_path / "masks" / "p3.png").rename(tmp_path / "masks" / "other.png")
    with pytest.raises(InputError, match="1 of 5 images have no prediction, first p3"):
        score(tmp_path / "masks", data)
    Image.new("L", (8, 12), 7).save(tmp_path / "masks" / "p3.png")
    with pytest.raises(InputError, match=r"p3\.png: found a label of 8x12; expected 16x12"):
        score(tmp_path / "masks", data)
    Image.new("L", (16, 12), 99).save(tmp_path / "masks" / "p3.png")
    with pytest.raises(InputError, match=r"p3\.png: found the value 99 at x="):
        score(tmp_path / "masks", data)
    Image.new("RGB", (16, 12), (9, 8, 7)).save(tmp_path / "masks" / "p3.png")
    with pytest.raises(InputError, match=r"p3\.png"):
        score(tmp_path / "masks", data)
    with pytest.raises(InputError, match="no such folder"):
        score(tmp_path / "nowhere", data)


def test_files_that_belong_to_no_image_are_named(data: Path, tmp_path: Path) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "masks" / "test_image.png")
    Image.new("RGB", (3, 3)).save(tmp_path / "masks" / "p0.overlay.png")
    (note,) = score(tmp_path / "masks", data).notes
    assert note.startswith("1 file left out that belong to no image")
    assert "test_image.png" in note


def test_a_plain_folder_needs_the_classes(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "truth", ["a", "b", "c"], 4, (0, 1, 2, 255))
    write(tmp_path / "guess", ["a", "b", "c"], 5, (0, 1, 2))
    with pytest.raises(InputError) as error:
        score(tmp_path / "guess", tmp_path / "truth")
    assert "--classes" in (error.value.hint or "")
    found = score(tmp_path / "guess", tmp_path / "truth", options=ScoreOptions(classes="3"))
    expected = ConfusionMatrix(3)
    for name in "abc":
        expected.update(read(tmp_path / "guess" / f"{name}.png"), read(tmp_path / "truth" / f"{name}.png"))
    assert np.array_equal(found.result.confusion.counts, expected.counts)


def test_categories_pool_their_classes(data: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('ground = ["road"]\nrest = ["sky", "car"]\n')
    scored = score(tmp_path / "masks", data, options=ScoreOptions(categories=tmp_path / "c.toml"))
    assert scored.categories is not None
    counts = scored.result.confusion.counts
    merged = np.array([[counts[0, 0], counts[0, 1:].sum()], [counts[1:, 0].sum(), counts[1:, 1:].sum()]])
    assert np.array_equal(scored.categories.confusion.counts, merged)
    assert "iIoU is left out" in scored.notes[-1]
    (tmp_path / "c.toml").write_text('ground = ["raod"]\n')
    with pytest.raises(InputError, match="'raod' is no class"):
        score(tmp_path / "masks", data, options=ScoreOptions(categories=tmp_path / "c.toml"))


def test_a_class_in_no_category_is_a_miss_where_it_is_predicted(data: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('ground = ["road"]\n')
    scored = score(tmp_path / "masks", data, options=ScoreOptions(categories=tmp_path / "c.toml"))
    assert scored.categories is not None
    counts = scored.result.confusion.counts
    assert scored.categories.value("recall") == counts[0, 0] / counts[0].sum()
    assert "In no category, and ignored by these figures: sky, car." in scored.notes


def test_two_tools_are_compared_on_the_same_images(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "others", [f"p{i}" for i in range(5)], 2, (7, 23, 26))
    both = score(tmp_path / "masks", data, tmp_path / "others")
    turned = score(tmp_path / "others", data, tmp_path / "masks")
    assert both.comparison is not None
    assert turned.comparison is not None
    assert both.comparison.baseline.to_dict() == turned.result.to_dict()
    a, b = (x.comparison.differences["mean_iou"][0] for x in (both, turned))
    assert (a.value, a.low) == pytest.approx((-b.value, -b.high))
    assert "not shown" in both.comparison.describe()
    same = score(tmp_path / "masks", data, tmp_path / "masks").comparison
    assert same is not None
    assert same.changed_pixels["changed"] == 0


def test_the_page_shows_the_worst_images_and_what_others_would_print(data: Path, tmp_path: Path) -> None:
    page = render_score_page(score(tmp_path / "masks", data), "masks")
    assert page.count("<img") == 5 * 4
    assert "PASCAL VOC development kit" in page
    plain = score(
        data / "labels" / "val", data / "labels" / "val", options=ScoreOptions(classes=str(data / "classes.toml"))
    )
    assert render_score_page(plain, "plain").count("<img") == 5 * 3


def test_pairs_are_counted_as_one_by_one() -> None:
    random = np.random.default_rng(0)
    for dtype in (np.uint8, np.uint16, np.int64):
        for noise in (True, False):
            pair = [random.integers(0, 9, (20, 30)).astype(dtype) for _ in range(2)]
            if not noise:
                pair = [np.sort(values, axis=None).reshape(20, 30) for values in pair]
            truth, prediction, pixels = count_pairs(*pair)
            expected = np.zeros((9, 9), np.int64)
            np.add.at(expected, tuple(pair), 1)
            found = np.zeros((9, 9), np.int64)
            found[truth, prediction] = pixels
            assert np.array_equal(found, expected)
    assert all(len(part) == 0 for part in count_pairs(np.zeros((0, 4), np.uint8), np.zeros((0, 4), np.uint8)))


def maps(count: int = 1000) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random (truth, prediction) of Cityscapes' label ids, with areas that are ignored; some lack classes."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(count):
        ids = random.choice([7, 8, 11, 23, 24, 25, 26, 33], random.integers(1, 8), replace=False)
        shape = random.integers(3, 14, 2)
        truth = random.choice([*ids, 0, 4], shape).astype(np.uint8)
        found.append((truth, random.choice(ids, shape).astype(np.uint8)))
    return found


def test_a_thousand_maps_as_cityscapes_scripts_classes_and_categories() -> None:
    scripts = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    labels = pytest.importorskip("cityscapesscripts.helpers.labels")
    from dilated.evaluation.variants import CITYSCAPES_CATEGORIES, find_category_ids

    valid = [label for label in labels.labels if not label.ignoreInEval]
    ignored = tuple(label.id for label in labels.labels if label.ignoreInEval and label.id >= 0)
    names = tuple(label.name for label in valid)
    assert {c: tuple(x.name for x in valid if x.category == c) for c in CITYSCAPES_CATEGORIES} == CITYSCAPES_CATEGORIES
    classes = Classes(names, tuple((0, 0, i) for i in range(19)), tuple((x.id,) for x in valid), ignored)
    counter, category_of = LabelCounter(classes, "file"), find_category_ids(names, CITYSCAPES_CATEGORIES)
    everything, pooled = scripts.generateMatrix(scripts.args), ConfusionMatrix(names)
    categories = ConfusionMatrix(list(CITYSCAPES_CATEGORIES))
    scripts.args.evalLabels = [label.id for label in labels.labels if label.id >= 0]
    for truth, prediction in maps():
        matrix = scripts.generateMatrix(scripts.args)
        np.add.at(matrix, (truth, prediction), 1)
        everything += matrix
        pairs = counter.count(truth, classes.value_table(), prediction, (Path("t"), Path("p")))
        confusion = ConfusionMatrix(names)
        confusion.add(pairs)
        pooled.add(pairs)
        categories.add(pairs.to_categories(category_of, len(CITYSCAPES_CATEGORIES)))
        theirs = [scripts.getIouScoreForLabel(label.id, matrix, scripts.args) for label in valid]
        assert list(confusion.iou.values()) == pytest.approx(theirs, rel=0, abs=0, nan_ok=True)
    theirs = [scripts.getIouScoreForLabel(label.id, everything, scripts.args) for label in valid]
    assert list(pooled.iou.values()) == pytest.approx(theirs, rel=0, abs=0, nan_ok=True)
    theirs = [scripts.getIouScoreForCategory(name, everything, scripts.args) for name in CITYSCAPES_CATEGORIES]
    assert list(categories.iou.values()) == pytest.approx(theirs, rel=0, abs=0, nan_ok=True)


def test_a_thousand_maps_as_torchmetrics_and_scikit_learn() -> None:
    torch = pytest.importorskip("torch")
    jaccard = pytest.importorskip("torchmetrics.classification").MulticlassJaccardIndex(
        4, ignore_index=255, average=None
    )
    metrics = pytest.importorskip("sklearn.metrics")
    classes = Classes(tuple("abcd"), tuple((0, 0, i) for i in range(4)))
    counter, random, pooled = LabelCounter(classes, "file"), np.random.default_rng(3), ConfusionMatrix("abcd")
    every: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(1000):
        shape, most = random.integers(2, 12, 2), random.integers(1, 5)
        truth = np.where(random.random(shape) < 0.2, 255, random.integers(0, most, shape)).astype(np.uint8)
        prediction = random.integers(0, most, shape).astype(np.uint8)
        pooled.add(counter.count(truth, classes.value_table(), prediction, (Path("t"), Path("p"))))
        every.append((truth[truth != 255], prediction[truth != 255]))
    jaccard.update(
        *(torch.tensor(np.concatenate(parts).astype(np.int64)) for parts in tuple(zip(*every, strict=True))[::-1])
    )
    truth, prediction = (np.concatenate(parts) for parts in zip(*every, strict=True))
    assert np.array_equal(jaccard.confmat.numpy(), pooled.counts)
    assert jaccard.compute().numpy() == pytest.approx(np.array(list(pooled.iou.values()), np.float32), rel=1e-7)
    assert np.array_equal(metrics.confusion_matrix(truth, prediction), pooled.counts)
    assert list(pooled.iou.values()) == metrics.jaccard_score(truth, prediction, average=None).tolist()


def test_a_thousand_maps_as_the_boundary_iou_of_its_authors() -> None:
    """Their `mask_to_boundary` on each class's mask; what is ignored is filled, so that it makes no border."""
    cv2 = pytest.importorskip("cv2")
    from dilated.evaluation.boundary import boundary_counts

    def mask_to_boundary(mask: np.ndarray, ratio: float = 0.02) -> np.ndarray:
        height, width = mask.shape
        dilation = max(round(ratio * np.sqrt(height**2 + width**2)), 1)
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=dilation)
        return mask - eroded[1 : height + 1, 1 : width + 1]

    random = np.random.default_rng(5)
    for _ in range(1000):
        shape, coarse = random.integers(4, 40, 2), int(random.integers(1, 8))
        truth, prediction = (
            random.integers(0, 4, shape // coarse + 1).repeat(coarse, 0).repeat(coarse, 1)[: shape[0], : shape[1]]
            for _ in range(2)
        )
        valid = random.random(shape) < random.choice([1.0, 0.9, 0.5])
        target = np.where(valid, truth, 255).astype(np.uint8)
        ratio = float(random.choice([0.02, 0.1]))
        found = boundary_counts(prediction.astype(np.uint8), target, 4, ratio)
        for i in range(4):
            bands = [
                mask_to_boundary(((ids == i) | ~valid).astype(np.uint8), ratio) & valid for ids in (truth, prediction)
            ]
            assert found.intersection[i] == (bands[0] & bands[1]).sum()
            assert found.union[i] == (bands[0] | bands[1]).sum()


def test_the_variants_differ_where_a_class_is_absent() -> None:
    from dilated.evaluation.result import EvaluationResult
    from dilated.evaluation.variants import compute_variants

    counts = np.array([[8, 2, 0], [2, 4, 0], [0, 0, 0]])
    rows = np.array([[8, 0, 0, 10, 0, 0, 8, 2, 0], [0, 4, 0, 0, 6, 0, 2, 4, 0]])
    result = EvaluationResult(("background", "a", "b"), ("x", "y"), (0, 1), 2, counts, rows)
    found = {variant.key: variant.value for variant in compute_variants(result)}
    assert found["mean_iou"] == pytest.approx((8 / 12 + 4 / 8) / 2)
    assert np.isnan(found["mean_iou_all_classes"])
    assert found["mean_iou_absent_as_0"] == pytest.approx((8 / 12 + 4 / 8) / 3)
    assert found["ade20k_score"] == pytest.approx((12 / 16 + (8 / 12 + 4 / 8) / 3) / 2)
    assert found["mean_accuracy"] == pytest.approx((0.8 + 4 / 6) / 2)
    assert found["frequency_weighted_iou"] == pytest.approx(10 / 16 * 8 / 12 + 6 / 16 * 4 / 8)
    by_image = [(8 / 10 + 0) / 2, (0 + 4 / 6) / 2]
    assert found["mean_over_images"] == pytest.approx(np.mean(by_image))
    assert found["mean_over_images_then_classes"] == pytest.approx((8 / 10 + 4 / 6) / 2)
    assert found["mean_dice_by_image"] == pytest.approx((0 + 2 * 4 / 10) / 2)
    assert compute_metrics(rows.sum(0), 3)["mean_iou"][0] == found["mean_iou"]
