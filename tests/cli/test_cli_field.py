"""`dilated field`: the figures that it writes and the fields that it prints."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dilated import Segmenter, SegmenterConfig, load
from dilated.cli.field import sample_image
from dilated.cli.main import main
from dilated.models.field_of_view import measure_field_of_view
from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.report.receptive_field import draw_field_growth, save_figure

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 88, 3), dtype=np.uint8)).save(path)
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main(["field", *map(str, arguments)])
    return capsys.readouterr().out


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["field", *map(str, arguments)])
    assert stop.value.code == 1
    return " ".join(capsys.readouterr().err.split())


def test_without_a_network_it_draws_figure_1(dilated: Run, tmp_path: Path) -> None:
    out = tmp_path / "new" / "figure.svg"
    done = dilated("field", "--out", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"The figure is {out}\n", "")
    assert out.read_text().startswith("<?xml")


def test_the_dilations_are_those_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    printed(capsys, "--out", tmp_path / "given.svg", "--dilations", 3, 1)
    save_figure(draw_field_growth((3, 1)), tmp_path / "expected.svg")
    assert (tmp_path / "given.svg").read_bytes() == (tmp_path / "expected.svg").read_bytes()


def test_with_a_network_it_draws_and_prints_its_fields(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, network_file: Path, photo: Path
) -> None:
    context = tmp_path / "context.safetensors"
    torch.manual_seed(0)
    load(network_file).rebuild(context="basic").save(str(context))
    out = tmp_path / "field.png"
    text = printed(capsys, context, "--out", out, "--image", photo)
    rows = [line.strip("│ ").split() for line in text.splitlines() if "layers." in line or "final" in line]
    assert [(row[-3], row[-1]) for row in rows][-2:] == [("67", "529"), ("67", "529")]
    assert "photo.png, 88x64" in text
    assert "the same backbone and weights without the context module" in text
    for start in ("whole network", "without context"):
        (row,) = (line for line in text.splitlines() if line.startswith(f"│ {start}"))
        cells = [cell.strip() for cell in row.strip("│").split("│")]
        assert cells[1] in ("field", "disc", "bar")
        assert cells[2] == "whole image"
        assert 1 <= int(cells[3]) <= int(cells[4]) <= 89
    with Image.open(out) as image:
        assert image.format == "PNG"


def test_a_network_without_a_context_module_has_one_row(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, network_file: Path, photo: Path
) -> None:
    text = printed(capsys, network_file, "--out", tmp_path / "field.pdf", "--image", photo)
    assert "whole network" in text
    assert "context" not in text


def test_an_unknown_suffix_is_an_error_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = complaint(capsys, "street", "--out", tmp_path / "figure.gif")
    assert (
        text == f"error: write a figure to {tmp_path}/figure.gif: the suffix '.gif' is not one of a figure "
        "hint: give one of .svg, .png, .pdf"
    )
    assert not list(tmp_path.iterdir())


def test_options_that_mean_nothing_together_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, network_file: Path, photo: Path
) -> None:
    out = tmp_path / "figure.svg"
    assert "given without a network" in complaint(capsys, "--out", out, "--image", photo)
    assert "given with a network, which has its own" in complaint(
        capsys, network_file, "--out", out, "--dilations", 1, 2
    )
    assert "give 1 to 12 dilations of at least 1" in complaint(capsys, "--out", out, "--dilations", 1, 0)
    assert "nowhere.png: no such file" in complaint(capsys, network_file, "--out", out, "--image", "nowhere.png")
    assert not out.exists()


def test_an_image_too_large_for_a_gradient_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, network_file: Path
) -> None:
    Image.new("L", (2049, 1024)).save(tmp_path / "large.png")
    text = complaint(capsys, network_file, "--out", tmp_path / "a.svg", "--image", tmp_path / "large.png")
    assert "2049x1024 pixels, and the gradient takes too much memory above 2,097,152" in text


def test_the_default_image_is_a_sample_of_the_package() -> None:
    assert sample_image().name == "street_camvid.jpg"


def test_theory_is_the_front_ends_field_and_eight_pixels_for_each_cell_of_context() -> None:
    colors = [(0, 0, 0), (255, 0, 0)]
    paper = VGGSegmenter(["a", "b"], colors, VGGConfig(width=1 / 32, context="basic"))
    assert (paper.rebuild(context="none").theoretical_field(), paper.theoretical_field()) == (380, 380 + 8 * 66)
    lite = Segmenter(["a", "b"], colors, SegmenterConfig(backbone="tf_efficientnet_lite0", levels=4, features=8))
    assert (lite.theoretical_field(), lite.rebuild(context="basic").theoretical_field()) == (339, 339 + 8 * 66)


def test_the_logit_that_is_looked_at_is_the_nearest_to_the_middle() -> None:
    torch.manual_seed(0)
    network = SegmenterConfig(backbone="resnet18", levels=3, features=8)
    segmenter = Segmenter(["a", "b"], [(0, 0, 0), (255, 0, 0)], network).eval()
    for size in ((5, 7), (40, 56), (41, 63)):
        one = measure_field_of_view(segmenter, torch.rand(1, 3, *size))
        assert one.field.shape == size
        for place, side in zip(one.center, size, strict=True):
            assert place % 8 == 0  # resnet18's logits sit at 0, 8, 16, ...
            assert abs(place - side // 2) <= 4
        assert one.theoretical_size == 99
        assert one.class_name in ("a", "b")
