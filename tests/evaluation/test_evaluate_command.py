"""What `dilated evaluate` prints and writes."""

from __future__ import annotations

import csv
import gc
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dilated
from dilated import Classes, Segmenter, SegmenterConfig
from dilated.cli.main import main
from dilated.data.labels import save_classes
from dilated.evaluation.evaluate import MetricsConfig


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main(["evaluate", *map(str, arguments), "--device", "cpu"])
    return capsys.readouterr().out


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *map(str, arguments)])
    assert stop.value.code == 1
    return capsys.readouterr().err


def network(path: Path, classes: Classes, seed: int = 1) -> Path:
    torch.manual_seed(seed)
    net = SegmenterConfig(backbone="test_efficientnet", features=8)
    Segmenter(classes.names, classes.colors, net).save(str(path))
    return path


def binary(tmp_path: Path, names: tuple[str, ...]) -> tuple[Path, Path]:
    """A data folder of two images and a network, of these classes."""
    classes = Classes(names, tuple((i, 9, 9) for i in range(len(names))))
    random = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind / "val").mkdir(parents=True)
    for i in range(2):
        label = random.integers(0, len(names), (24, 32)).astype(np.uint8)
        Image.fromarray(label).save(tmp_path / "data" / "labels" / "val" / f"p{i}.png")
        Image.fromarray(np.stack([label * 100] * 3, -1)).save(tmp_path / "data" / "images" / "val" / f"p{i}.png")
    save_classes(classes, tmp_path / "data" / "classes.toml")
    return tmp_path / "data", network(tmp_path / "net.safetensors", classes)


def test_all_that_can_be_measured_is_printed_and_written(
    capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path, tmp_path: Path
) -> None:
    files = ("--json", tmp_path / "f.json", "--csv", tmp_path / "f.csv")
    text = printed(
        capsys, network_file, folder, "--trimap", 1, 2, "--calibration", "--worst", 1, "--boundary-width", 2, *files
    )
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["mean_iou_interval"] is None
    assert f"mean IoU {found['mean_iou']:.4f}, pixel" in text
    assert f"{found['mean_boundary_iou']:.3f}" in text
    assert found["boundary_width"] == 2
    assert [row["width"] for row in found["trimap"]] == [1, 2]
    assert all(f"{row['pixels']:,}" in text for row in found["trimap"])
    assert f"calibration error (ECE, 15 bins): {found['ece']:.4f}" in text
    assert sum(row["pixels"] for row in found["reliability"]) == found["pixels"]
    assert found["interval_over"]["text"] == "No intervals: 2 images say nothing of chance."
    assert found["interval_over"]["text"] in text
    least = min(found["per_image"], key=lambda row: row["mean_iou"])
    assert f"{least['name']}" in text.split("the 1 worst images")[1]
    with (tmp_path / "f.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean_iou"]) for row in rows] == [row["mean_iou"] for row in found["per_image"]]


def test_the_boundary_can_be_left_out(
    capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path, tmp_path: Path
) -> None:
    assert "boundary IoU" in printed(capsys, network_file, folder)
    text = printed(capsys, network_file, folder, "--no-boundary", "--json", tmp_path / "f.json")
    assert "boundary" not in text
    assert json.loads((tmp_path / "f.json").read_text())["boundary_iou"] is None


def test_a_network_against_another_and_against_itself(
    capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path, tmp_path: Path
) -> None:
    classes = Classes(("field", "disc", "bar"), ((40, 90, 40), (220, 60, 60), (60, 60, 220)))
    other = network(tmp_path / "other.safetensors", classes)
    text = printed(capsys, network_file, folder, "--baseline", other, "--json", tmp_path / "f.json")
    found = json.loads((tmp_path / "f.json").read_text())["comparison"]
    assert f"{found['changed_pixels']['changed']:,} of 4,462 labelled pixels change label" in text
    assert f"{found['difference']['mean_iou']['value']:+.4f}" in text
    own = json.loads((tmp_path / "f.json").read_text())["mean_iou"]
    assert found["difference"]["mean_iou"]["value"] == pytest.approx(own - found["baseline"]["mean_iou"])
    text = printed(capsys, network_file, folder, "--baseline", network_file)
    assert "label every labelled pixel the same" in text
    assert "*" not in text
    assert "A is " in text


def test_two_classes_begin_with_the_foreground(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data, net = binary(tmp_path, ("background", "nucleus"))
    text = printed(capsys, net, data, "--json", tmp_path / "f.json")
    found = json.loads((tmp_path / "f.json").read_text())
    assert text.startswith(f"nucleus: IoU {found['iou']['nucleus']:.4f}, F1")
    assert f"F1 {found['dice']['nucleus']:.4f}" in text.splitlines()[0]
    for name in ("background", "nucleus"):
        lines = text.split("precision")[1].splitlines()
        row = next(line.split() for line in lines if line.strip().startswith(name))
        assert [row[1], row[2]] == [f"{found[key][name]:.3f}" for key in ("precision", "recall")]


def test_one_class_alone_says_that_it_measures_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data, net = binary(tmp_path, ("cell",))
    text = printed(capsys, net, data)
    assert text.startswith("cell is the only class, so every labelled pixel is right whatever the network does.")
    assert "nan" not in text


def test_what_cannot_be_measured_is_said_before_anything_is(
    capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path, tmp_path: Path
) -> None:
    assert "trimap: [4, 2] are not increasing widths" in complaint(capsys, network_file, folder, "--trimap", 4, 2)
    assert "boundary width: 1.5 is neither" in complaint(capsys, network_file, folder, "--boundary-width", 1.5)
    assert "worst: -1 is not a number of images" in complaint(capsys, network_file, folder, "--worst", -1)
    gone = tmp_path / "gone" / "f.json"
    assert f"error: {gone}: its folder is not there" in complaint(capsys, network_file, folder, "--json", gone)
    assert "format: 'vok' is not a known format" in complaint(capsys, network_file, folder, "--format", "vok")


def test_the_network_is_checked_before_the_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    error = complaint(capsys, tmp_path / "no.safetensors", tmp_path / "no-data")
    assert "no.safetensors" in error
    assert "no-data" not in error


def test_names_of_classes_are_not_read_as_markup(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data, net = binary(tmp_path, ("background", "a[/x]"))
    text = printed(capsys, net, data, "--worst", 2, "--baseline", net)
    assert text.startswith("a[/x]: IoU ")
    assert text.count("a[/x]") >= 4


def test_the_command_measures_what_the_function_measures(
    capsys: pytest.CaptureFixture[str], folder: Path, network_file: Path, tmp_path: Path
) -> None:
    printed(capsys, network_file, folder, "--baseline", network_file, "--trimap", 1, "--json", tmp_path / "f.json")
    found = json.loads((tmp_path / "f.json").read_text())
    metrics = MetricsConfig(boundary=True, trimap=(1,))
    expected = dilated.compare(network_file, network_file, folder, metrics=metrics, device="cpu")
    names = {"candidate": str(network_file), "baseline_network": str(network_file)}
    assert found.pop("comparison") == json.loads(json.dumps({**names, **expected.to_dict()}))
    assert found.pop("decoding") == {"decode": "argmax"}
    assert found == json.loads(json.dumps(expected.candidate.to_dict(per_image=True)))


def test_a_bar_ends_with_the_error_and_says_nothing_later(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data, net = binary(tmp_path, ("field", "disc"))
    (data / "images" / "val" / "p1.png").write_text("some text")
    gc.collect()  # what other tests left behind speaks now or never
    capsys.readouterr()
    error = complaint(capsys, net, data, "--device", "cpu")
    assert error.startswith("error: ")
    assert "p1.png" in error
    gc.collect()
    assert capsys.readouterr() == ("", "")
