"""What the command line prints and writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated import load
from dilated.cli.console import make_table, write_table
from dilated.cli.main import VERBS, main


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main([str(a) for a in arguments])
    return capsys.readouterr().out


def test_a_narrow_table_cuts_nothing_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    word = "0123456789abcdef" * 4
    write_table(make_table(("", ""), [("network", word)], left=range(2)))
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert word in "".join(character for character in shown if character.isascii() and character.isalnum())


def test_the_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert (
        capsys.readouterr().out
        == """\
usage: dilated VERB ...

Semantic segmentation with dilated convolutions.

  demo          label the sample photographs with a bundled network
  check         read a data set: layout, classes, statistics, and everything that is wrong with it
  split         divide a data set by film, patient or site into train and val, or into folds
  train         train a network on a folder of images and labels
  evaluate      measure a network: mean IoU, per class, pixel accuracy
  compare       tell whether one network, or one way of training, is better than another
  study         compare context modules, rivals and modules of yours by trainings on equal footing: one page, a verdict
  audit         find where labels are probably wrong, by networks that were trained without them
  score         measure the label images of any tool against the truth: our figures, and what other tools print
  tune          fit class biases, a temperature and thresholds of risk on held-out images, and keep what helps
  report        write a page about a run: metrics, curves, best and worst images
  predict       label images, folders, videos, rasters of any size
  export        write a network for another runtime (ONNX, OpenVINO, pt2), and measure what that changes
  serve         label images over HTTP, with a page to try networks in a browser
  bench         time a network on this machine, from the image's file to the labels' file
  convert       convert the authors' .caffemodel files to network files
  convert-data  convert a data set to another layout: VOC, COCO, YOLO, LabelMe, CVAT, ...
  info          show what a network file holds: classes, layers, receptive field, card
  field         draw receptive fields: the paper's Figure 1, or the effective field of a network
  networks      list the bundled networks: license, size, mean IoU
  recipes       list the bundled recipes, and what each is for
  completion    print the script that completes this command in bash, zsh or fish

`dilated VERB --help` or `dilated help VERB` shows the options; -V prints the version.
"""
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"usage: dilated {verb}" in capsys.readouterr().out


def test_evaluate_prints_and_writes_the_same_figures(
    capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path, tmp_path: Path
) -> None:
    text = printed(capsys, "evaluate", network_file, folder, "--json", tmp_path / "f.json", "--device", "cpu")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert set(figures) == {
        "mean_iou", "pixel_accuracy", "mean_dice", "mean_boundary_iou",
        "mean_iou_interval", "pixel_accuracy_interval", "mean_dice_interval", "mean_boundary_iou_interval",
        "iou", "dice", "precision", "recall", "boundary_iou", "boundary_width",
        "iou_intervals", "dice_intervals", "boundary_iou_intervals",
        "classes", "foreground", "confusion", "images", "unlabeled_images", "pixels",
        "groups", "effective_n", "interval_over", "trimap", "ece", "reliability", "per_image", "decoding",
    }  # fmt: skip
    assert figures["images"] == 2
    assert figures["pixels"] == 2 * (40 * 56 - 9)  # all but the corners that are not labelled
    counts = np.array(figures["confusion"])
    assert counts.sum() == figures["pixels"]
    assert figures["pixel_accuracy"] == pytest.approx(np.trace(counts) / counts.sum())
    hits = np.diag(counts)
    iou = hits / (counts.sum(0) + counts.sum(1) - hits)
    assert list(figures["iou"].values()) == pytest.approx(iou)
    assert figures["mean_iou"] == pytest.approx(iou.mean())
    assert f"{figures['mean_iou']:.4f}" in text


def test_classes_are_matched_by_name_not_by_place(
    capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path, tmp_path: Path
) -> None:
    printed(capsys, "evaluate", network_file, folder, "--json", tmp_path / "a.json")
    (folder / "classes.toml").write_text(
        "ignore = [9]\n"
        '[[class]]\nname = "bar"\ncolor = [0, 0, 1]\nvalues = [2]\n'
        '[[class]]\nname = "field"\ncolor = [0, 0, 2]\nvalues = [0]\n'
        '[[class]]\nname = "disc"\ncolor = [0, 0, 3]\nvalues = [1]\n'
    )
    printed(capsys, "evaluate", network_file, folder, "--json", tmp_path / "b.json")
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads((tmp_path / "b.json").read_text())


def test_predict_follows_the_names(
    capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    text = printed(capsys, "predict", network_file, folder / "images" / "val", "--out", out)
    assert text == f"2 of 2 images labelled in {out}/\n"
    assert sorted(p.name for p in out.glob("[!.]*")) == ["p0.png", "p1.png"]
    with Image.open(out / "p0.png") as label:
        assert (label.mode, label.size) == ("P", (56, 40))


def test_info_shows_the_context_modules_field(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, network_file: Path
) -> None:
    path = tmp_path / "context.safetensors"
    load(network_file).rebuild(context="basic").save(str(path))
    text = printed(capsys, "info", path, "--layers")
    assert "field, disc, bar" in text
    rows = [line.split() for line in text.splitlines() if "layers." in line or "final" in line]
    assert [row[-4] for row in rows] == ["3", "5", "9", "17", "33", "65", "67", "67"]


def test_the_demo_says_what_is_what(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = printed(capsys, "demo", "--out", tmp_path / "demo")
    assert "street_camvid.jpg, 640x480" in text
    road = next(line for line in text.splitlines() if "Road" in line)
    assert "bottom" in road
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == [
        "street_camvid.overlay.jpg",
        "street_camvid.png",
        "street_kitti.overlay.jpg",
        "street_kitti.png",
    ]
    with Image.open(tmp_path / "demo" / "street_kitti.png") as label:
        assert (label.mode, label.size) == ("P", (1226, 370))
