"""Whole-slide images as rasters, read by the real openslide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dilated.cli.main import main
from dilated.data.raster.slide import SlideRaster, is_slide
from dilated.errors import InputError

pytest.importorskip("openslide", reason="whole-slide images need the extra `slide`", exc_type=ImportError)
from slide_files import save_slide

PIXELS = np.random.default_rng(0).integers(0, 256, (700, 600, 3), dtype=np.uint8)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return save_slide(tmp_path / "biopsy.svs", PIXELS)


def test_windows_of_the_full_resolution_are_the_pixels_of_the_file(slide: Path) -> None:
    with SlideRaster(slide) as raster:
        assert (raster.height, raster.width) == (700, 600)
        assert np.array_equal(raster.read(123, 77, 300, 401), PIXELS[123:423, 77:478])
        assert raster.read_mask(0, 0, 700, 600) is None


def test_a_level_is_read_and_described(slide: Path) -> None:
    with SlideRaster(slide, level=1) as raster:
        assert np.array_equal(raster.read(10, 20, 100, 90), PIXELS[::4, ::4][10:110, 20:110])
        assert raster.describe() == "level 1 of 0 to 1: 150x175 pixels, 2 um per pixel"


def test_a_level_that_is_not_there_is_refused_with_those_that_are(slide: Path) -> None:
    with pytest.raises(InputError, match="has no level 2") as error:
        SlideRaster(slide, level=2)
    assert "0: 600x700, 1: 150x175" in str(error.value)


def test_what_is_no_slide_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.svs"
    path.write_text("no slide")
    with pytest.raises(InputError, match=r"notes\.svs: is not a whole-slide image"):
        SlideRaster(path)


def test_a_slide_is_labelled_at_a_level_that_is_said(
    slide: Path, network_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import tifffile

    out = tmp_path / "out"
    main(
        ["predict", str(network_file), str(slide), "--out", str(out), "--tile", "128", "--blend", "--slide-level", "1"]
    )
    assert "level 1 of 0 to 1: 150x175 pixels, 2 um per pixel" in capsys.readouterr().out
    assert tifffile.imread(out / "biopsy.tif").shape == (175, 150)


def test_a_slide_without_a_tile_is_refused_with_the_way_out(
    slide: Path, network_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["predict", str(network_file), str(slide), "--out", str(tmp_path / "out")])
    assert "give --tile" in capsys.readouterr().err


def test_names_tell_slides() -> None:
    assert [is_slide(Path(name)) for name in ("a.ndpi", "a.tiff", "a.mrxs")] == [True, False, True]
