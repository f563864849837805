"""Images of 1 to 20 bands, of 8 and 16 bits and of floats, as their files have them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.band_files import HEIGHT, WIDTH, band_values, write_geotiff

import dilated.data.raster.bands as module
from dilated.data.band_header import read_band_header
from dilated.data.images import exceeds_pixel_limit, image_size, list_image_files, read_image
from dilated.data.raster.bands import open_band_raster, read_bands
from dilated.data.raster.reader import ScratchRaster, open_raster
from dilated.errors import InputError
from dilated.input_config import InputConfig

DTYPES = ("uint8", "uint16", "int16", "float32")


def names(count: int) -> tuple[str, ...]:
    return tuple(f"b{i}" for i in range(count))


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name in packages else find(name))


@pytest.mark.parametrize("reader", ["rasterio", "tifffile"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 2, 4, 20])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_a_geotiff_is_read_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, dtype: str, count: int, interleave: str
) -> None:
    values = band_values(count, dtype, 255 if dtype == "uint8" else 4095)
    path = write_geotiff(tmp_path / "a.tif", values, names(count), compress="deflate", interleave=interleave)
    without(monkeypatch, *({"rasterio", "tifffile"} - {reader}))
    bands = names(count) if count > 1 else ("gray",)
    config = InputConfig(bands, dtype)  # type: ignore[arg-type]
    assert np.array_equal(read_bands(path, config), values)
    with open_band_raster(path, config) as raster:
        assert np.array_equal(raster.read(5, 7, 11, 13), values[5:16, 7:20])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 5])
def test_an_array_is_read_with_its_bands_first_or_last(tmp_path: Path, dtype: str, count: int) -> None:
    values = band_values(count, dtype, 255)
    np.save(tmp_path / "last.npy", values)
    np.save(tmp_path / "first.npy", values.transpose(2, 0, 1))
    config = InputConfig(names(count), dtype)  # type: ignore[arg-type]
    for name in ("last.npy", "first.npy"):
        assert np.array_equal(read_bands(tmp_path / name, config), values)
        assert image_size(tmp_path / name) == (HEIGHT, WIDTH)


def test_float64_is_read_as_float32(tmp_path: Path) -> None:
    values = band_values(4, np.float64)
    np.save(tmp_path / "a.npy", values)
    write_geotiff(tmp_path / "a.tif", values)
    for name in ("a.npy", "a.tif"):
        image = read_bands(tmp_path / name, InputConfig(names(4), "float32"))
        assert image.dtype == np.float32
        assert np.array_equal(image, values.astype(np.float32))


@pytest.mark.parametrize(("count", "bands"), [(1, ("gray",)), (3, ("red", "green", "blue"))])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_16_bit_png_keeps_all_bits_and_its_transparent_pixels_lose_theirs(
    tmp_path: Path, count: int, bands: tuple[str, ...], alpha: bool
) -> None:
    values = band_values(count + alpha, np.uint16)
    if alpha:
        values[..., -1] = 65535
        values[3, 4, -1] = 0
    path = write_geotiff(tmp_path / "a.png", values, driver="PNG")
    expected = values[..., :count].copy()
    if alpha:
        expected[3, 4] = 0
    assert np.array_equal(read_bands(path, InputConfig(bands, "uint16", nodata=0)), expected)


def test_pixels_outside_the_mask_of_a_tiff_get_the_nodata_value(tmp_path: Path) -> None:
    values = band_values(5, np.uint16)
    values[..., 4] = 65535
    values[2, 3, 4] = 0
    path = tmp_path / "a.tif"
    extra = ["unspecified"] * 3 + ["unassalpha"]
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig", extrasamples=extra)
    with open_band_raster(path, InputConfig(("a", "b", "c", "d"), "uint16", nodata=7)) as raster:
        image, mask = raster.read(0, 0, HEIGHT, WIDTH), raster.read_mask(0, 0, HEIGHT, WIDTH)
    assert image[2, 3].tolist() == [7] * 4
    assert mask is not None
    assert (~mask).sum() == 1
    assert not mask[2, 3]


def test_the_header_says_names_numbers_and_nodata(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", band_values(4, np.int16), ("red", "green", "blue", "n&ir"), nodata=-999)
    header = read_band_header(path)
    assert header is not None
    assert (header.bands, header.dtype, header.nodata) == (("red", "green", "blue", "n&ir"), "int16", -999)


def test_an_alpha_band_is_read_as_a_band_where_it_is_asked_for(tmp_path: Path) -> None:
    values = band_values(4, np.uint8, 255)
    path = write_geotiff(tmp_path / "a.tif", values)  # GDAL says RGB and alpha
    assert read_band_header(path) is None
    for bands in (("red", "green", "blue", "nir"), names(4)):
        assert np.array_equal(read_bands(path, InputConfig(bands)), values)


def test_bands_are_taken_by_name_whatever_their_order(tmp_path: Path) -> None:
    values = band_values(4, np.uint16)
    path = write_geotiff(tmp_path / "a.tif", values, ("nir", "blue", "green", "red"))
    image = read_bands(path, InputConfig(("red", "green", "blue"), "uint16"))
    assert np.array_equal(image, values[..., [3, 2, 1]])


@pytest.mark.parametrize(
    ("bands", "dtype"), [(("red", "green", "x"), "uint16"), (("a", "b"), "uint16"), (("nir", "red"), "uint8")]
)
def test_other_bands_and_numbers_are_refused_with_both_described(
    tmp_path: Path, bands: tuple[str, ...], dtype: Any
) -> None:
    path = write_geotiff(tmp_path / "a.tif", band_values(3, np.uint16), ("nir", "red", "green"))
    with pytest.raises(InputError) as error:
        read_bands(path, InputConfig(bands, dtype))
    assert f"{path}: found 3 bands (nir, red, green) of uint16" in error.value.message
    assert f"expected {InputConfig(bands, dtype).describe()}" in error.value.message


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.complex64])
def test_numbers_that_no_network_reads_are_refused(tmp_path: Path, dtype: Any) -> None:
    path = write_geotiff(tmp_path / "a.tif", band_values(2, np.int16).astype(dtype))
    with pytest.raises(InputError, match="expected uint8, uint16, int16 or float32"):
        read_band_header(path)


def test_a_missing_reader_is_named_with_its_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = write_geotiff(tmp_path / "many.tif", band_values(4, np.uint16), names(4))
    single = write_geotiff(tmp_path / "single.tif", band_values(1, np.float32))
    without(monkeypatch, "rasterio", "tifffile")
    with pytest.raises(InputError, match=r"4 bands .* needs rasterio or tifffile") as error:
        read_bands(many, InputConfig(names(4), "uint16"))
    assert "pip install 'dilated[geo]'" in error.value.hint
    assert np.array_equal(read_bands(single, InputConfig(("gray",), "float32")), band_values(1, np.float32))


def test_plain_8_bit_images_have_no_header_and_keep_their_values(tmp_path: Path) -> None:
    values = band_values(3, np.uint8, 255)
    for suffix in ("png", "tif", "bmp"):
        Image.fromarray(values).save(tmp_path / f"a.{suffix}")
        assert read_band_header(tmp_path / f"a.{suffix}") is None
        assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), values)
        assert np.array_equal(read_bands(tmp_path / f"a.{suffix}", InputConfig()), values)
    np.save(tmp_path / "a.npy", values)
    assert np.array_equal(read_image(tmp_path / "a.npy"), values)


@pytest.mark.parametrize("greatest", [200, 4095])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("suffix", ["png", "npy", "tif"])
def test_values_of_12_bits_are_not_reduced_to_a_few_grey_levels(
    tmp_path: Path, greatest: int, count: int, suffix: str
) -> None:
    values = band_values(count, np.uint16, greatest)
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, values)
    elif suffix == "tif" and count == 3:
        pytest.skip("pillow reads no such TIFF")
    else:
        write_geotiff(path, values, driver="PNG" if suffix == "png" else "GTiff")
    with pytest.raises(InputError, match=r"16-bit values are 0 to \d+; as 8-bit RGB"):
        read_image(path)


def test_16_bits_in_full_become_8(tmp_path: Path) -> None:
    values = band_values(3, np.uint16, 65535)
    np.save(tmp_path / "a.npy", values)
    write_geotiff(tmp_path / "a.png", values, driver="PNG")
    for name in ("a.npy", "a.png"):
        assert np.array_equal(read_image(tmp_path / name), values >> 8)


def test_a_black_16_bit_image_is_black(tmp_path: Path) -> None:
    write_geotiff(tmp_path / "a.png", np.zeros((4, 5, 3), np.uint16), driver="PNG")
    assert not read_image(tmp_path / "a.png").any()


def test_other_bands_are_no_rgb(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", band_values(4, np.uint16), ("red", "green", "blue", "nir"))
    with pytest.raises(InputError, match=r"found 4 bands \(red, green, blue, nir\) of uint16; expected 8-bit RGB"):
        read_image(path)
    with pytest.raises(InputError, match="found 4 bands"):
        read_image(io.BytesIO(path.read_bytes()))


@pytest.mark.parametrize(
    "content", [b"\x93NUMPY\x01", b"\x93NUMPY\x01\x00\x76\x00{'descr': '<u2'", b"II*\0\x08\0\0\0\x01"]
)
def test_damaged_files_are_input_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npy"):
        read_image(path)


def test_a_truncated_array_is_an_input_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", band_values(4, np.uint16))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data[:-9])
    with pytest.raises(InputError, match=r"a\.npy: the array is damaged"):
        read_band_header(tmp_path / "a.npy")


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="damaged"):
        read_image(tmp_path / "a.npy")


def test_arrays_beside_other_images_are_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", band_values(1, np.uint8, 255))
    assert [path.name for path in list_image_files(tmp_path)] == ["a.npy"]
    Image.new("L", (4, 3)).save(tmp_path / "b.png")
    assert [path.name for path in list_image_files(tmp_path)] == ["b.png"]


def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_geotiff(tmp_path / "a.tif", band_values(4, np.uint16), names(4))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    assert exceeds_pixel_limit(path)
    with pytest.raises(InputError, match="exceeds the"):
        read_bands(path, InputConfig(names(4), "uint16"))


def test_a_large_16_bit_png_is_read_in_windows_with_the_same_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rasterio")
    values = band_values(4, np.uint16)
    values[:3, :5, 3] = 0  # alpha
    path = write_geotiff(tmp_path / "large.png", values, driver="PNG")
    config = InputConfig(("red", "green", "blue"), "uint16", nodata=0)
    whole = read_bands(path, config)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with open_band_raster(path, config) as raster:
        assert isinstance(raster, ScratchRaster)
        assert np.array_equal(raster.read(0, 0, *whole.shape[:2]), whole)
    assert (whole[:3, :5] == 0).all()


def test_8_bit_npy_is_labelled_in_windows_as_rgb(tmp_path: Path) -> None:
    values = band_values(3, np.uint8, 255)
    np.save(tmp_path / "a.npy", values)
    with open_raster(tmp_path / "a.npy") as raster:
        assert np.array_equal(raster.read(2, 3, 10, 11), values[2:12, 3:14])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_that_says_no_bytes_of_its_strips_never_loses_levels(tmp_path: Path, dtype: Any) -> None:
    values = band_values(1, dtype, 255 if dtype == np.uint8 else 4095)[:, :, 0]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values)
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags["StripByteCounts"].offset
    content = bytearray(path.read_bytes())
    content[place : place + 2] = (65000).to_bytes(2, "little")  # a tag that nobody knows
    path.write_bytes(content)
    if dtype == np.uint8:
        assert np.array_equal(read_image(path)[:, :, 0], values)
        return
    with pytest.raises(InputError, match=r"a\.tif: its header lists 1 strips and the bytes of 0; expected 1 .*gdal"):
        read_image(path)
