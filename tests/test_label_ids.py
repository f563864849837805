"""More than 255 classes: ids of 16 bits, 65535 ignored, and the same arithmetic as for few."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dilated.data.augment import AugmentConfig, ReflectCropConfig
from dilated.data.labels import Classes, draft_classes, load_classes_file, read_values, save_classes
from dilated.data.statistics import count_pixels, measure_region_areas
from dilated.errors import InputError
from dilated.evaluation.boundary import boundary_counts, trimap_counts
from dilated.evaluation.calibration import reliability_counts
from dilated.evaluation.confusion import ConfusionMatrix
from dilated.evaluation.evaluate import build_class_id_lut
from dilated.evaluation.label_files import LabelCounter
from dilated.evaluation.suspects import AuditConfig, find_suspects
from dilated.label_ids import ignore_id, ignore_id_of, label_dtype
from dilated.palettes import distinct_colors
from dilated.tensors import to_label_tensor
from dilated.training.losses import (
    LossConfig,
    combined_loss,
    cross_entropy,
    dice,
    focal,
    jaccard,
    loss_normalizer,
    lovasz,
    ohem,
)

EDGES = [1, 2, 254, 255, 256, 257, 300, 5_000, 65_534, 65_535]


def make_classes(count: int) -> Classes:
    return Classes(tuple(map(str, range(count))), tuple(distinct_colors(count)))


def draw_ids(count: int, seed: int, shape: tuple[int, int] = (9, 13)) -> np.ndarray:
    """Ids of so many classes, of which the first and the last occur, and some pixels are ignored."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, count, shape).astype(label_dtype(count))
    ids[0, 0], ids[0, 1] = 0, count - 1
    ids[random.random(shape) < 0.2] = ignore_id(count)
    ids[1, :2] = 0, count - 1
    return ids


@pytest.mark.parametrize("count", EDGES)
def test_the_type_holds_all_ids_and_the_ignored_one_is_no_class(count: int) -> None:
    assert ignore_id(count) >= count
    assert np.iinfo(label_dtype(count)).max == ignore_id(count) == ignore_id_of(np.zeros(1, label_dtype(count)))
    assert label_dtype(count) == (np.uint8 if count <= 255 else np.uint16)
    tensor = to_label_tensor(np.array([0, count - 1, ignore_id(count)], label_dtype(count)))
    assert tensor.tolist() == [0, count - 1, ignore_id(count)]
    assert ignore_id_of(tensor) == ignore_id(count)


@pytest.mark.parametrize("count", EDGES)
def test_a_label_file_keeps_its_ids(count: int, tmp_path: Path) -> None:
    ids, classes = draw_ids(count, count), make_classes(count)
    for suffix in ("png", "tif"):
        path = tmp_path / f"label.{suffix}"
        Image.fromarray(ids).save(path)
        decoded = classes.decode(read_values(path))
        assert decoded.dtype == ids.dtype
        assert np.array_equal(decoded, ids)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([254, 255, 256, 257, 400]), st.integers(0, 2**32 - 1))
def test_classes_with_any_values_keep_them(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).permutation(65_535)[:count].tolist()
    classes = Classes(tuple(map(str, range(count))), tuple(distinct_colors(count)), tuple((v,) for v in values))
    ids = draw_ids(count, seed)
    stored = np.append(values, np.zeros(65_536 - count, np.int64))
    stored[ignore_id(count)] = 65_535 if count > 255 else next(v for v in (255, 65_535) if v not in values)
    if stored[ignore_id(count)] == 65_535 and count <= 255:
        with pytest.raises(InputError, match="found the value 65535"):
            classes.decode(stored[ids])
    else:
        assert np.array_equal(classes.decode(stored[ids]), ids)


def test_classes_toml_of_many_classes_is_read_back(tmp_path: Path) -> None:
    classes = make_classes(300)
    save_classes(classes, tmp_path / "classes.toml")
    assert load_classes_file(tmp_path / "classes.toml").classes == classes


def test_255_is_a_class_where_there_are_more_and_ignored_where_there_are_not() -> None:
    assert make_classes(300).decode(np.array([[255, 65_535]])).tolist() == [[255, 65_535]]
    assert make_classes(255).decode(np.array([[254, 255]])).tolist() == [[254, 255]]
    with pytest.raises(InputError, match="found the value 65535"):
        make_classes(255).decode(np.array([[65_535]]))
    with pytest.raises(InputError, match=r"found the value 300 .* 254 254, and 45 more; ignored: \[255, 65535\]"):
        make_classes(300).decode(np.array([[300]]))


def test_a_draft_of_many_values_has_255_among_them() -> None:
    classes = draft_classes([*range(300), 65_535])
    assert len(classes) == 300
    assert classes.decode(np.array([[255, 65_535]])).tolist() == [[255, 65_535]]
    assert len(draft_classes([*range(255), 255])) == 255


def widen(ids: np.ndarray, offset: int) -> np.ndarray:
    """The same label map with ids that are higher by an offset, of more than 255 classes."""
    return np.where(ids == 255, 65_535, ids.astype(np.uint16) + offset).astype(np.uint16)


def test_metrics_of_high_ids_are_those_of_low_ones() -> None:
    random = np.random.default_rng(0)
    for seed in range(20):
        target = draw_ids(4, seed, (20, 17))
        labels = random.integers(0, 4, target.shape).astype(np.uint8)
        few, many = ConfusionMatrix(4), ConfusionMatrix(300)
        few.update(labels, target)
        many.update(widen(labels, 296), widen(target, 296))
        assert np.array_equal(many.counts[296:, 296:], few.counts)
        assert many.counts.sum() == few.counts.sum()
        narrow = boundary_counts(labels, target, 4, width=2)
        wide = boundary_counts(widen(labels, 296), widen(target, 296), 300, width=2)
        assert np.array_equal(wide.union[296:], narrow.union)
        assert np.array_equal(wide.intersection[296:], narrow.intersection)
        narrow_bands = trimap_counts(labels, target, 4, (1, 3)).counts
        wide_bands = trimap_counts(widen(labels, 296), widen(target, 296), 300, (1, 3)).counts
        assert np.array_equal(wide_bands[..., 296:], narrow_bands)
        assert count_pixels(widen(target, 296), 300)[296:].tolist() == count_pixels(target, 4).tolist()
        areas = [(i - 296, a.tolist()) for i, a in measure_region_areas(widen(target, 296))]
        assert areas == [(i, a.tolist()) for i, a in measure_region_areas(target)]


@pytest.mark.parametrize(("count", "wrong"), [(254, 254), (256, 256), (256, 255 + 1000), (300, 65_534)])
def test_an_id_beyond_the_classes_is_an_error_and_no_ignored_pixel(count: int, wrong: int) -> None:
    for labels, target in (([0], [wrong]), ([wrong], [0])):
        with pytest.raises(ValueError, match=f"found the id {wrong}"):
            ConfusionMatrix(count).update(labels, target)


TERMS = {
    "cross_entropy": cross_entropy,
    "smoothed": lambda x, y: cross_entropy(x, y, weights=[1.0] * x.shape[1]),
    "ohem": lambda x, y: ohem(x, y, 0.4),
    "focal": focal,
    "dice": dice,
    "jaccard": jaccard,
    "lovasz": lovasz,
    "all": lambda x, y: combined_loss(x, y, LossConfig(focal=1, dice=1, lovasz=1, ohem=0.5)),
}


@pytest.mark.parametrize("name", TERMS)
def test_losses_of_high_ids_are_those_of_low_ones(name: str) -> None:
    """The other classes have a logit so low that they take no probability."""
    target = draw_ids(4, 5, (6, 7))
    few = torch.randn(1, 4, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    many = torch.cat([few.new_full((1, 296, 6, 7), -1e4), few.detach()], 1).requires_grad_()
    low, high = (to_label_tensor(t)[None].long() for t in (target, widen(target, 296)))
    expected, found = TERMS[name](few, low), TERMS[name](many, high)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    expected.backward()
    found.backward()
    assert few.grad is not None
    assert many.grad is not None
    torch.testing.assert_close(many.grad[:, 296:], few.grad)
    assert bool((many.grad[:, :, torch.from_numpy(target == 255)] == 0).all())


def test_parts_of_a_batch_of_many_classes_add_up() -> None:
    target = to_label_tensor(np.stack([draw_ids(300, s, (4, 5)) for s in (0, 1)])).long()
    logits = torch.randn(2, 300, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for options in (LossConfig(), LossConfig(class_weights=tuple(1 + i % 3 for i in range(300)))):
        normalizer = loss_normalizer(target, options, ignore_id(300))
        parts = [combined_loss(logits[i : i + 1], target[i : i + 1], options, normalizer) for i in (0, 1)]
        torch.testing.assert_close(sum(parts), combined_loss(logits, target, options))


def test_augmentation_of_many_classes_fills_with_the_ignored_id_and_invents_none() -> None:
    ids = draw_ids(300, 3, (30, 40))
    image, known = torch.zeros(3, 30, 40, dtype=torch.uint8), {*ids.ravel().tolist(), 65_535}
    for config in (AugmentConfig(crop=(64, 64)), ReflectCropConfig(crop=(388, 388), scale=(0.5, 2.0))):
        torch.manual_seed(0)
        _, label = config.build(None, 65_535)(image, to_label_tensor(ids))
        assert label.dtype == torch.int32
        assert set(label.unique().tolist()) <= known
    _, label = AugmentConfig(crop=(300, 300)).build(None, 65_535)(image, to_label_tensor(ids))
    assert int((label == 65_535).sum()) > 300 * 300 - 4 * ids.size


def test_reliability_and_suspects_of_many_classes() -> None:
    target = np.full((20, 20), 299, np.uint16)
    logits = torch.zeros(300, 20, 20)
    logits[299] = 9.0
    logits[298, 5:15, 5:15] = 20.0
    labels = logits.argmax(0).numpy().astype(np.uint16)
    target[0] = 65_535
    assert reliability_counts(logits, labels, target).pixels.sum() == 380
    regions, pairs = find_suspects(logits.log_softmax(0).numpy(), target, AuditConfig(band=1))
    assert [(r.labeled, r.suggested, r.pixels) for r in regions] == [(299, 298, 100)]
    assert np.array_equal(regions[0].read_prediction(), labels)
    assert regions[0].read_prediction().dtype == np.uint16
    assert set(pairs.truth.tolist()) == {299}


def test_orders_of_names_are_translated() -> None:
    names = [str(i) for i in range(300)]
    lut = build_class_id_lut(names, names[::-1])
    assert lut[[0, 255, 299, 65_535]].tolist() == [299, 44, 0, 65_535]
    assert lut.dtype == np.uint16


@pytest.mark.parametrize("values", ["file", "ids"])
def test_label_files_of_many_classes_are_counted(values: str) -> None:
    classes = make_classes(300)
    counter = LabelCounter(classes, values)
    truth, prediction = draw_ids(300, 1), draw_ids(300, 2)
    pairs = counter.count(truth, classes.value_table(), prediction, (Path("t"), Path("p")))
    confusion = ConfusionMatrix(300)
    confusion.add(pairs)
    both = (truth != 65_535) & (prediction != 65_535)
    expected = ConfusionMatrix(300)
    expected.update(prediction[both], truth[both])
    assert np.array_equal(confusion.counts, expected.counts)
    assert confusion.unpredicted.sum() == ((truth != 65_535) & (prediction == 65_535)).sum()
    assert np.array_equal(confusion.class_counts, pairs.class_counts)
    assert np.array_equal(counter.decode(prediction), prediction)
