"""Images too large to be held, from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dilated
from dilated.cli.main import main
from dilated.cli.predict import _select_rasters
from dilated.prediction.sources import search_sources

SIDE = 70


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "local.safetensors"
    settings = dilated.SegmenterConfig(backbone="resnet18", features=8, levels=3, context="basic", dilations=(1, 2))
    dilated.Segmenter(["a", "b"], [(0, 0, 0), (200, 0, 0)], settings).save(str(path))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "city.tif"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, 90, 3)).astype(np.uint8)).save(path)
    return path


def run(*arguments: object) -> None:
    main([str(one) for one in arguments])


def test_a_raster_has_the_labels_of_the_whole_image(
    network: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("predict", network, image, "--out", tmp_path / "out", "--tile", 32, "--save", "tif", "--device", "cpu")
    assert f"city.tif: {SIDE}x90 pixels labelled; at a glance: " in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".predictions.json",
        "city.quicklook.png",
        "city.tif",
    ]
    run("predict", network, image, "--out", tmp_path / "whole", "--device", "cpu")
    with Image.open(tmp_path / "out" / "city.tif") as tif, Image.open(tmp_path / "whole" / "city.png") as png:
        assert np.array_equal(np.asarray(tif), np.asarray(png))


def test_an_image_above_the_limit_is_a_raster_if_there_is_a_tile(
    network: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (20, 10)).save(image.with_name("small.png"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    with pytest.raises(SystemExit, match="1"):
        run("predict", network, image.parent, "--out", tmp_path / "out", "--device", "cpu")
    assert "hint: label it with --tile N" in capsys.readouterr().err
    run("predict", network, image.parent, "--out", tmp_path / "out", "--tile", 32, "--device", "cpu")
    assert {p.name for p in (tmp_path / "out").glob("[!.]*")} == {"city.tif", "city.quicklook.png", "small.png"}


def test_forms_that_do_not_go_together_are_refused(image: Path) -> None:
    sources = search_sources([image]).sources
    assert _select_rasters(sources, [], None) == _select_rasters(sources, ["palette"], 32) == []
    with pytest.raises(dilated.InputError, match="tif alone"):
        _select_rasters(sources, ["tif", "csv"], 32)
    with pytest.raises(dilated.InputError, match="without --tile"):
        _select_rasters(sources, ["tif"], None)


def test_a_broken_raster_is_one_line_and_the_next_is_done(
    network: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image.with_name("a.tif").write_bytes(b"II*\x00broken")
    with pytest.raises(SystemExit, match="1"):
        run("predict", network, image.parent, "--out", tmp_path / "out", "--tile", 32, "--save", "tif")
    assert "a.tif" in capsys.readouterr().err
    assert (tmp_path / "out" / "city.tif").is_file()


def test_a_raster_that_is_there_is_labelled_again_if_its_image_or_the_network_is_another(
    network: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def label(*options: object) -> tuple[str, bytes]:
        run("predict", network, image, "--out", out, "--tile", 32, "--save", "tif", "--device", "cpu", *options)
        return capsys.readouterr().out, (out / "city.tif").read_bytes()

    first = label()[1]
    assert "is there already" in label("--skip-existing")[0]
    said, again = label("--skip-existing", "--flips")
    assert "again, for a changed image, another network or other settings" in said
    with Image.open(image) as pixels:
        changed = pixels.transpose(Image.Transpose.ROTATE_180)
    changed.save(image)
    said, other = label("--skip-existing", "--flips")
    assert "again, for a changed image" in said
    assert len({first, again, other}) > 1
    assert "is there already" in label("--skip-existing", "--flips")[0]
