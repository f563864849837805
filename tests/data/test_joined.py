"""Data sets of different classes as one, by the tables [[set]] of a classes.toml."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated import InputError, check, load, load_recipe, open_dataset
from dilated.data.dataset import Dataset
from dilated.data.labels import IGNORE
from dilated.data.manifest import make_manifest
from dilated.data.torch_dataset import TrainingSamples
from dilated.evaluation.evaluate import evaluate
from dilated.prediction.predictor import Predictor
from dilated.training.train import train

NUCLEI = Path(__file__).resolve().parents[2] / "examples" / "nuclei"
JOINED = """[[class]]
name = "background"
color = [0, 0, 0]
[[class]]
name = "disc"
color = [255, 0, 0]
[[class]]
name = "bar"
color = [0, 0, 255]
"""
SETS = '[[set]]\npath = "discs"\n[[set]]\npath = "bars"\nclasses = { strip = "bar" }\n'


def keep_class(source: Path, target: Path, kept: int, name: str) -> Path:
    """A copy of drawn data, of which one class is labelled and the rest is background."""
    shutil.copytree(source, target)
    for path in (target / "labels").rglob("*.png"):
        label = np.asarray(Image.open(path))
        Image.fromarray(np.where(label == 9, 255, label == kept).astype(np.uint8)).save(path)
    text = '[[class]]\nname = "background"\ncolor = [0, 0, 0]\n[[class]]\nname = "{}"\ncolor = [9, 9, 9]\n'
    (target / "classes.toml").write_text(text.format(name), encoding="utf-8")
    return target


@pytest.fixture
def joined(folder: Path, tmp_path: Path) -> Path:
    root = tmp_path / "joined"
    keep_class(folder, root / "discs", 1, "disc")
    keep_class(folder, root / "bars", 2, "strip")
    (root / "classes.toml").write_text(JOINED + SETS, encoding="utf-8")
    return root


def set_tables(root: Path, tables: str) -> None:
    (root / "classes.toml").write_text(JOINED + tables, encoding="utf-8")


def test_two_sets_are_one_with_the_classes_of_both(joined: Path) -> None:
    data = open_dataset(joined)
    assert (data.format, data.splits, data.classes.names) == ("joined", ("train", "val"), ("background", "disc", "bar"))
    assert len(data.samples("train")) == 12
    assert data.notes[0] == "discs (folders): background is background or bar; disc is disc."
    assert data.notes[1] == "bars (folders): background is background or disc; strip is bar."


def test_background_of_a_set_that_lacks_classes_is_never_background(joined: Path, folder: Path) -> None:
    samples = pickle.loads(pickle.dumps(open_dataset(joined).samples("train")))  # as a loader's workers get them
    original = {s.name: s.read_label() for s in open_dataset(folder).samples("train")}
    for sample in samples:
        kept = 1 if "discs" in str(sample.image) else 2
        expected = np.where(original[sample.name] == kept, kept, IGNORE)
        assert np.array_equal(sample.read_label(), expected)


def test_training_is_told_which_classes_a_pixel_may_have(joined: Path) -> None:
    samples = open_dataset(joined).samples("train")
    targets = TrainingSamples(samples, None)
    found = {s.image.parents[2].name: set(targets[(i, 0)][1].unique().tolist()) for i, s in enumerate(samples)}
    assert found["discs"] <= {-0b101, 1, IGNORE}
    assert found["bars"] <= {-0b011, 2, IGNORE}
    assert -0b101 in found["discs"]
    assert -0b011 in found["bars"]


def test_the_table_says_what_a_class_is(joined: Path) -> None:
    set_tables(joined, SETS.replace('strip = "bar"', 'strip = "ignore", background = "background"'))
    labels = [s.read_label() for s in open_dataset(joined).samples("val") if "bars" in str(s.image)]
    assert {int(value) for label in labels for value in np.unique(label)} == {0, IGNORE}


def test_a_set_may_be_a_zip_file(joined: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DILATED_CACHE", str(tmp_path / "cache"))
    shutil.make_archive(str(joined / "strips"), "zip", joined / "bars")
    set_tables(joined, SETS.replace('"bars"', '"strips.zip"'))
    assert len(open_dataset(joined).samples("train")) == 12


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (SETS.replace('strip = "bar"', ""), "its class 'strip' is 'strip', which is no"),
        (SETS.replace("strip =", "stripe ="), "the set has no class 'stripe'"),
        (SETS.replace('strip = "bar"', "strip = 2"), "classes.strip: found 2"),
        (SETS.replace('"bars"', '"discs"'), "the set 'discs' occurs twice"),
        (SETS.replace('"bars"', '"."'), "joins data sets itself"),
        (SETS.replace('"bars"', '"nowhere"'), "no such folder"),
    ],
)
def test_a_wrong_table_is_refused_with_its_place(joined: Path, tables: str, message: str) -> None:
    set_tables(joined, tables)
    with pytest.raises(InputError, match=message):
        open_dataset(joined)


def test_joined_classes_have_no_values(joined: Path) -> None:
    (joined / "classes.toml").write_text(JOINED.replace('"bar"', '"bar"\nvalues = [7]') + SETS, encoding="utf-8")
    with pytest.raises(InputError, match="values"):
        open_dataset(joined)


def test_check_reads_all_sets_and_says_what_each_labels(joined: Path) -> None:
    report = check(joined)
    assert report.format == "joined"
    assert report.splits["train"].images == 12
    assert "bars (folders): background is background or disc; strip is bar." in report.notes
    assert report.splits["train"].pixels[0] == 0
    assert not any("cannot be learnt" in finding.text for finding in report.findings)
    assert report.splits["train"].pixels[2] > 0


def test_groups_of_two_sets_are_apart(joined: Path) -> None:
    labels = open_dataset(joined).groups("train").labels
    assert {label.split(":")[0] for label in labels} == {"discs", "bars"}


SETTINGS = """batch=6 stage.0.epochs=100 stage.0.backbone_lr_factor=1.0 stage.0.val_interval=100 stage.0.output_stride=8
    augment.scale=[1.0,1.0] augment.crop=[40,56] augment.brightness=0.0 augment.contrast=0.0 augment.saturation=0.0
    augment.flip=false network.features=32 network.dropout=0.0 ema=0.0 workers=0"""


def test_a_step_on_joined_sets_has_a_loss_of_ambiguous_pixels(joined: Path, recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(recipe_file), ["stage.0.epochs=1", "workers=0"])
    data = open_dataset(joined)
    train(data, recipe, tmp_path / "run")
    result = evaluate(Predictor(load(tmp_path / "run"), device="cpu"), data.samples("val"), data.classes)
    assert result.confusion.counts[0].sum() == 0  # no pixel is background for certain
    assert result.confusion.counts[1:].sum() > 0


def test_a_changed_table_is_changed_data(joined: Path) -> None:
    before = make_manifest({"train": open_dataset(joined).samples("train")}, open_dataset(joined).classes, joined)
    set_tables(joined, SETS.replace('strip = "bar"', 'strip = "ignore"'))
    after = make_manifest({"train": open_dataset(joined).samples("train")}, open_dataset(joined).classes, joined)
    assert "classes.toml has changed" in before.describe_changes(after)


def full_labels(folder: Path) -> Dataset:
    """The drawn data with all classes under their joined names."""
    (folder / "classes.toml").write_text("ignore = [9]\n" + JOINED, encoding="utf-8")
    return open_dataset(folder)


def measure_iou(network: Path, data: Dataset) -> list[float]:
    """Of each class, over val."""
    predictor = Predictor(load(network), device="cpu")
    counts = evaluate(predictor, data.samples("val"), data.classes).confusion.counts.astype(float)
    return (np.diag(counts) / (counts.sum(0) + counts.sum(1) - np.diag(counts))).tolist()


@pytest.mark.slow
def test_classes_of_two_sets_are_learnt_and_so_is_what_neither_labels(
    joined: Path, folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(str(recipe_file), SETTINGS.split())
    recipe = replace(recipe, stage=recipe.stage[:1], network=replace(recipe.network, context="none"))
    iou = {}
    for name, rules in (("alternatives", ""), ("background", 'background = "background"')):
        set_tables(
            joined,
            f'[[set]]\npath = "discs"\nclasses = {{ {rules} }}\n'
            f'[[set]]\npath = "bars"\nclasses = {{ strip = "bar"{", " * bool(rules)}{rules} }}\n',
        )
        train(open_dataset(joined), recipe, tmp_path / name)
        iou[name] = measure_iou(tmp_path / name, full_labels(folder))
    assert min(iou["alternatives"]) > 0.3, iou
    assert np.mean(iou["alternatives"]) > np.mean(iou["background"]) + 0.05, iou
