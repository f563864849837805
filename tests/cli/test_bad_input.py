"""Bad input: one message with the file, what was found, what was expected, what to do; no traceback, exit status 1."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dilated.cli.main import main

Run = Callable[..., subprocess.CompletedProcess[str]]


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 1) -> str:
    """What the command prints on the error stream as it fails."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert stop.value.code == status
    return " ".join(capsys.readouterr().err.split())


def test_a_missing_data_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = complaint(capsys, "train", tmp_path / "nowhere", "--out", tmp_path / "run", "--recipe", "quick")
    assert text == f"error: {tmp_path}/nowhere: no such folder hint: give a data folder with images and labels"
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_layout(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "misc").mkdir()
    (tmp_path / "misc" / "notes.txt").touch()
    text = complaint(capsys, "train", tmp_path / "misc", "--out", tmp_path / "run")
    assert "found notes.txt hint: expected images/ and labels/" in text


def test_a_data_folder_without_classes_gets_a_table_to_start_from(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    (folder / "classes.toml").unlink()
    text = complaint(capsys, "train", folder, "--out", tmp_path / "run")
    assert "classes.toml: no such file" in text
    assert "[0, 1, 2, 9]" in text
    assert "[[class]]" in text


def test_an_empty_split(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        for path in (folder / kind / "val").iterdir():
            path.unlink()
    text = complaint(capsys, "train", folder, "--out", tmp_path / "run")
    assert text.startswith(f"error: {folder}: the split 'val' is empty; expected at least one image")
    assert "`dilated split`" in text


def test_a_missing_split(capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path) -> None:
    text = complaint(capsys, "evaluate", network_file, folder, "--split", "test")
    assert text == f"error: {folder}: has no split 'test'; found train, val"


def test_an_image_that_is_no_image(capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path) -> None:
    bad = folder / "images" / "val" / "p0.png"
    bad.write_text("not an image")
    text = complaint(capsys, "evaluate", network_file, folder)
    assert f"error: {bad}: the file has 12 bytes that are no image format" in text


def test_a_truncated_image(capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path) -> None:
    bad = folder / "images" / "val" / "p1.png"
    bad.write_bytes(bad.read_bytes()[:-400])
    text = complaint(capsys, "evaluate", network_file, folder)
    assert f"error: {bad}: the image is damaged" in text


def test_a_label_of_another_size_before_anything_is_trained(
    capsys: pytest.CaptureFixture[str], folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    bad = folder / "labels" / "train" / "p3.png"
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(bad)
    text = complaint(capsys, "train", folder, "--out", tmp_path / "run", "--recipe", recipe_file)
    assert f"error: {bad}: found a label of 12x10; expected 56x40, the size of its image" in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_wrong_label_that_a_worker_finds(
    capsys: pytest.CaptureFixture[str], folder: Path, recipe_file: Path, tmp_path: Path, workers: int
) -> None:
    bad = folder / "labels" / "train" / "p3.png"
    Image.fromarray(np.full((40, 56), 50, np.uint8)).save(bad)
    text = complaint(
        capsys, "train", folder, "--out", tmp_path / "run", "--recipe", recipe_file, "--set", f"workers={workers}"
    )
    assert f"error: {bad}: found the value 50 at x=0, y=0 (2240 such pixels)" in text
    assert "Traceback" not in text


def test_a_label_value_outside_the_classes(
    capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path
) -> None:
    bad = folder / "labels" / "val" / "p0.png"
    label = np.array(Image.open(bad))
    label[20, 30] = 77
    Image.fromarray(label).save(bad)
    text = complaint(capsys, "evaluate", network_file, folder)
    assert f"error: {bad}: found the value 77 at x=30, y=20 (1 such pixels); expected one of: 0 field, 1 disc" in text
    assert "classes.toml" in text


def test_a_color_image_as_label(capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path) -> None:
    bad = folder / "labels" / "val" / "p0.png"
    pixels = np.array(Image.open(bad).convert("RGB"))
    pixels[0, 0] = 9, 0, 0  # of equal channels it would be read as values
    Image.fromarray(pixels).save(bad)
    assert f"error: {bad}: found a label of mode 'RGB' (colors)" in complaint(capsys, "evaluate", network_file, folder)


def test_an_image_without_label(capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path) -> None:
    (folder / "labels" / "val" / "p1.png").unlink()
    text = complaint(capsys, "evaluate", network_file, folder)
    assert f"{folder}/images/val/p1.png: has no label; expected {folder}/labels/val/p1.png" in text


def test_a_network_file_of_another_program(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, foreign, metadata={"format": "pt"})
    text = complaint(capsys, "evaluate", foreign, folder)
    assert f"error: {foreign}: a safetensors file of another program (metadata: ['format'])" in text


def test_a_file_that_is_no_network_file(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    text = complaint(capsys, "evaluate", folder / "classes.toml", folder)
    assert "not a complete safetensors file" in text


def test_a_network_that_is_not_there(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    text = complaint(capsys, "evaluate", "streat", folder)
    assert "streat: no such file, and no network of that name is bundled" in text
    assert "street" in text


def test_a_network_of_other_classes(capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path) -> None:
    table = folder / "classes.toml"
    table.write_text(table.read_text().replace('"disc"', '"disk"'))
    text = complaint(capsys, "evaluate", network_file, folder)
    assert "only the data has ['disk'], only the network has ['disc']" in text


def test_a_recipe_with_a_misspelt_key(
    capsys: pytest.CaptureFixture[str], folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("epochs = 1", "epohcs = 1"))
    text = complaint(capsys, "train", folder, "--out", tmp_path / "run", "--recipe", recipe_file)
    assert f"error: {recipe_file}: stage.1: unknown key 'epohcs' hint: did you mean 'epochs'? Known: " in text


def test_a_misspelt_override(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    run = ("train", folder, "--out", tmp_path / "run", "--recipe", "quick")
    assert "a recipe has no key 'sed'" in complaint(capsys, *run, "--set", "sed=1")
    assert "seed: found 'two'; expected int" in complaint(capsys, *run, "--set", "seed=two")
    assert "KEY=VALUE" in complaint(capsys, *run, "--set", "seed")
    assert "a number from 0 to 0" in complaint(capsys, *run, "--set", "stage.4.epochs=1")


def test_a_recipe_that_is_not_there(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    text = complaint(capsys, "train", folder, "--out", tmp_path / "run", "--recipe", "quik")
    assert "there is none called 'quik' (there are context, default, paper-camvid, " in text
    assert ", paper-voc-frontend, quick, street)" in text


def test_a_backbone_that_does_not_exist(
    capsys: pytest.CaptureFixture[str], folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    run = ("train", folder, "--out", tmp_path / "run", "--recipe", recipe_file, "--set")
    assert "timm has no 'resnet5000'" in complaint(capsys, *run, "network.backbone=resnet5000")


def test_a_folder_with_nothing_to_predict(
    capsys: pytest.CaptureFixture[str], network_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    text = complaint(capsys, "predict", network_file, tmp_path / "empty", "--out", tmp_path / "out")
    assert "holds no image" in text


def test_nothing_to_predict(capsys: pytest.CaptureFixture[str], network_file: Path, tmp_path: Path) -> None:
    assert "no input is given" in complaint(capsys, "predict", network_file, "--out", tmp_path / "out")


def test_two_images_with_one_name(capsys: pytest.CaptureFixture[str], network_file: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    text = complaint(capsys, "predict", network_file, tmp_path / "a.png", tmp_path / "a.jpg", "--out", tmp_path / "o")
    assert "would both become" in text
    assert not (tmp_path / "o").exists()


def test_bad_images_are_reported_and_the_others_labelled(
    dilated: Run, folder: Path, network_file: Path, tmp_path: Path
) -> None:
    photos = folder / "images" / "train"
    (photos / "p1.png").write_bytes((photos / "p1.png").read_bytes()[:900])
    (photos / "p2.png").write_text("no image")
    (photos / "p4.png").write_bytes(b"")
    done = dilated("predict", network_file, photos, "--out", tmp_path / "out", "--overlay")
    assert done.returncode == 1
    assert "3 of 6 images labelled" in done.stdout
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["p0.png", "p3.png", "p5.png"]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.jpg")) == [f"p{i}.overlay.jpg" for i in (0, 3, 5)]
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 3
    assert "p1.png: the image is damaged" in lines[0]
    assert "p2.png: the file has 8 bytes that are no image format" in lines[1]
    assert "p4.png: the file is empty" in lines[2]
    assert "Traceback" not in done.stderr


def test_a_verb_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no verb 'trian' (there are demo, check, split, train, " in complaint(capsys, "trian", status=2)


def test_resuming_nothing(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    text = complaint(capsys, "train", folder, "--out", tmp_path / "run", "--resume")
    assert "so there is no run to resume" in text
    assert "hint: start a new run" in text
