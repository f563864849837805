from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from raster_files import HEIGHT, WIDTH, as_read_image, mask, noise, png_reader, whole, without  # noqa: F401

from dilated.data.band_header import to_rgb
from dilated.data.raster.base import select_bands
from dilated.data.raster.gdal import GDALRaster
from dilated.data.raster.reader import ScratchRaster, open_raster
from dilated.data.raster.tiff import TifffileRaster
from dilated.errors import InputError

rasterio = pytest.importorskip("rasterio")
tifffile = pytest.importorskip("tifffile")


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "webp"])
def test_a_format_without_windows_is_decoded_whole(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(3)).save(path)
    assert as_read_image(path)


def test_a_jpeg_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(3)).save(tmp_path / "a.jpg", exif=exif)
    assert whole(tmp_path / "a.jpg").shape == (WIDTH, HEIGHT, 3)
    assert as_read_image(tmp_path / "a.jpg")
    Image.fromarray(noise(3)).save(tmp_path / "a.png", exif=exif)
    assert as_read_image(tmp_path / "a.png")


LAYOUTS: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
    "one strip": (noise(3), {"rowsperstrip": HEIGHT}),
    "strips": (noise(3), {"rowsperstrip": 5, "compression": "zlib"}),
    "tiles": (noise(3), {"tile": (16, 32), "compression": "zlib", "predictor": True}),
    "big": (noise(3), {"tile": (16, 32), "bigtiff": True}),
    "planes": (noise(3).transpose(2, 0, 1), {"planarconfig": "separate", "rowsperstrip": 7}),
    "planes in tiles": (noise(3).transpose(2, 0, 1), {"planarconfig": "separate", "tile": (32, 16)}),
    "big-endian": (noise(3, np.uint16), {"byteorder": ">"}),
    "grey": (noise(1)[:, :, 0], {"photometric": "minisblack"}),
    "white is zero": (noise(1)[:, :, 0], {"photometric": "miniswhite"}),
    "16-bit grey": (noise(1, np.uint16)[:, :, 0], {"photometric": "minisblack"}),
    "16-bit color": (noise(3, np.uint16), {"compression": "zlib", "rowsperstrip": 9}),
    "one pixel": (noise(3)[:1, :1], {}),
}


@pytest.mark.parametrize("reader", [GDALRaster, TifffileRaster, ScratchRaster])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_tiff_has_the_pixels_of_read_image_with_every_reader(
    reader: type, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    pixels, layout = LAYOUTS[name]
    tifffile.imwrite(path, pixels, **({"photometric": "rgb"} | layout))
    without(monkeypatch, *{TifffileRaster: ["rasterio"], ScratchRaster: ["rasterio", "tifffile"]}.get(reader, []))
    with open_raster(path) as raster:
        assert type(raster) is reader
    assert as_read_image(path)


def test_a_palette_tiff_has_its_colors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(3)).quantize(30).save(tmp_path / "a.tif")
    assert as_read_image(tmp_path / "a.tif")
    without(monkeypatch, "rasterio")
    assert as_read_image(tmp_path / "a.tif")


windows = st.tuples(
    st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1), st.integers(1, HEIGHT), st.integers(1, WIDTH)
)


@pytest.mark.parametrize("reader", [GDALRaster, TifffileRaster, ScratchRaster])
def test_a_window_is_that_part_of_the_whole(reader: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ("a.png" if reader is ScratchRaster else "a.tif")
    if reader is ScratchRaster:
        Image.fromarray(noise(3)).save(path)
    else:
        tifffile.imwrite(path, noise(3), photometric="rgb", tile=(16, 32), compression="zlib")
    without(monkeypatch, *(["rasterio"] if reader is TifffileRaster else []))
    with open_raster(path) as raster:
        assert type(raster) is reader

        @settings(max_examples=30, deadline=None)
        @given(windows)
        def check(window: tuple[int, int, int, int]) -> None:
            top, left, height, width = window
            height, width = min(height, HEIGHT - top), min(width, WIDTH - left)
            expected = noise(3)[top : top + height, left : left + width]
            assert np.array_equal(raster.read(top, left, height, width), expected)

        check()


@pytest.mark.parametrize("window", [(-1, 0, 1, 1), (0, 0, 0, 1), (0, 0, HEIGHT + 1, 1), (0, WIDTH, 1, 1)])
def test_a_window_outside_is_refused(window: tuple[int, int, int, int], tmp_path: Path) -> None:
    Image.fromarray(noise(3)).save(tmp_path / "a.png")
    with open_raster(tmp_path / "a.png") as raster, pytest.raises(ValueError, match="expected one inside 67x53"):
        raster.read(*window)


@pytest.mark.parametrize("missing", [(), ("rasterio",)])
def test_bands_are_the_first_three_or_those_chosen(
    missing: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, *missing)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(5), photometric="minisblack", planarconfig="contig")
    assert np.array_equal(whole(path), noise(5)[:, :, :3])
    assert np.array_equal(whole(path, bands=(5, 1, 2)), noise(5)[:, :, [4, 0, 1]])
    assert np.array_equal(whole(path, bands=(4,)), noise(5)[:, :, [3, 3, 3]])
    for wrong in [(0,), (1, 2), (1, 2, 6)]:
        with pytest.raises(InputError, match="expected one or three of 1 to 5"):
            open_raster(path, bands=wrong)


def test_two_bands_without_alpha_need_a_choice() -> None:
    with pytest.raises(InputError, match="2 bands apart from alpha"):
        select_bands(Path("a.tif"), (1, 2), None, 2)
    assert select_bands(Path("a.tif"), (1,), None, 2) == (1,)


@pytest.mark.parametrize("missing", [(), ("rasterio",)])
def test_pixels_of_alpha_0_and_of_the_nodata_value_have_no_data(
    missing: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, *missing)
    pixels = noise(4)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(mask(tmp_path / "a.tif"), pixels[:, :, 3] > 0)
    colors = pixels[:, :, :3] % 2
    tags = [(42113, 2, 2, "0", True)]
    tifffile.imwrite(tmp_path / "b.tif", colors, photometric="rgb", extratags=tags)
    assert np.array_equal(mask(tmp_path / "b.tif"), colors.any(axis=2))
    tifffile.imwrite(tmp_path / "c.tif", colors + 1, photometric="rgb", extratags=tags)
    assert mask(tmp_path / "c.tif") is None


def test_every_16_bit_value_becomes_what_read_image_makes_of_it(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    expected = (values.astype(np.float32) / 257).round().astype(np.uint8)
    assert np.array_equal(to_rgb(values), np.repeat(expected, 3, axis=2))


def test_a_large_compressed_strip_is_unpacked_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(3), photometric="rgb", compression="zlib", rowsperstrip=HEIGHT)
    for name in ("reader", "tiff"):
        monkeypatch.setattr(f"dilated.data.raster.{name}.MAX_SEGMENT_BYTES", 1000)
    with open_raster(path) as raster:
        assert type(raster) is ScratchRaster
    assert as_read_image(path)
    without(monkeypatch, "rasterio")
    with pytest.raises(InputError, match=r"rio convert .*a\.tif tiled\.tif"):
        open_raster(path)


REFUSED: dict[str, tuple[NDArray[Any], dict[str, Any], str]] = {
    "floats": (noise(1)[:, :, 0].astype(np.float32), {}, "found floats"),
    "signed": (noise(1)[:, :, 0].astype(np.int16), {}, "found signed integers"),
    "32 bits": (noise(1)[:, :, 0].astype(np.uint32), {}, r"bands of \[32\] bits"),
    "CMYK": (noise(4), {"photometric": "separated"}, "color space CMYK"),
    "turned": (noise(3), {"photometric": "rgb", "extratags": [(274, 3, 1, 6, True)]}, "orientation 6"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_without_an_agreed_meaning_are_refused(name: str, tmp_path: Path) -> None:
    pixels, layout, message = REFUSED[name]
    tifffile.imwrite(tmp_path / "a.tif", pixels, **layout)
    with pytest.raises(InputError, match=message):
        open_raster(tmp_path / "a.tif")


@pytest.mark.usefixtures("png_reader")
@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
def test_a_file_that_ends_early_is_refused_wherever_it_ends(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, noise(3), photometric="rgb", tile=(16, 16), compression="zlib")
    else:
        Image.fromarray(noise(3)).save(path)
    content = path.read_bytes()
    for end in range(0, len(content) - 12, max(1, len(content) // 40)):
        path.write_bytes(content[:end])
        with pytest.raises(InputError, match=path.name):
            whole(path)


@pytest.mark.parametrize("missing", [(), ("rasterio",)])
def test_a_damaged_tile_is_an_error_that_names_the_file(
    missing: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, *missing)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(3), photometric="rgb", tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[3]
    content = bytearray(path.read_bytes())
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif: the TIFF cannot be read"):
        whole(path)


def test_a_tiff_whose_header_cannot_be_true_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(3), photometric="rgb", tile=(16, 16))
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags[257].valueoffset
    content = bytearray(path.read_bytes())
    content[place : place + 2] = b"\xff\x7f"
    path.write_bytes(content)
    with pytest.raises(InputError, match="its header lists 20 tiles and the bytes of 20; expected"):
        open_raster(path)


def test_a_jpeg_that_is_too_large_to_be_decoded_whole_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dilated.data.raster.reader.MAX_DECODED_PIXELS", 100)
    Image.fromarray(noise(3)).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"rio convert .*a\.jpg tiled\.tif --co tiled=true"):
        open_raster(tmp_path / "a.jpg")


@pytest.mark.parametrize("what", ["nothing", "folder"])
def test_a_path_without_an_image_is_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    if what == "folder":
        path.mkdir()
    with pytest.raises(InputError, match=r"a\.tif: found"):
        open_raster(path)


def test_what_is_unpacked_leaves_no_file(tmp_path: Path) -> None:
    Image.fromarray(noise(3)).save(tmp_path / "a.png")
    folder = tmp_path / "scratch"
    folder.mkdir()
    with open_raster(tmp_path / "a.png", scratch_folder=folder) as raster:
        assert raster.read(0, 0, 1, 1).shape == (1, 1, 3)
    assert not list(folder.iterdir())
