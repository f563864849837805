"""DICOM as images of gray values or colors, by the files that pydicom brings along."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dilated.data.band_header import read_band_header
from dilated.data.images import image_size, read_image
from dilated.data.raster.bands import read_bands
from dilated.errors import InputError
from dilated.input_config import InputConfig

pydicom = pytest.importorskip("pydicom", reason="DICOM needs the extra `dicom`")
FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def change(path: Path, name: str = "CT_small.dcm", **values: Any) -> Path:
    """A copy of one of pydicom's files with other attributes."""
    dataset = pydicom.dcmread(FILES / name)
    for key, value in values.items():
        setattr(dataset, key, value)
    dataset.save_as(path)
    return path


def read_gray(path: Path) -> np.ndarray[Any, Any]:
    header = read_band_header(path)
    assert header is not None
    return read_bands(path, InputConfig(header.bands, header.dtype))[:, :, 0]


def test_values_of_a_ct_are_hounsfield_units() -> None:
    header = read_band_header(FILES / "CT_small.dcm")
    assert header is not None
    assert (header.kind, header.size, header.bands, header.dtype) == ("DICOM", (128, 128), ("gray",), "float32")
    stored = pydicom.dcmread(FILES / "CT_small.dcm").pixel_array
    assert np.array_equal(read_gray(FILES / "CT_small.dcm"), stored.astype(np.int64) - 1024)


def test_a_slope_that_is_no_whole_number_gives_floats(tmp_path: Path) -> None:
    path = change(tmp_path / "pet.dcm", RescaleSlope="0.25", RescaleIntercept="1.5")
    stored = pydicom.dcmread(path).pixel_array
    values = read_gray(path)
    assert values.dtype == np.float32
    assert np.allclose(values, stored * 0.25 + 1.5)


def test_monochrome1_is_inverted_so_that_more_is_brighter(tmp_path: Path) -> None:
    path = change(
        tmp_path / "x.dcm",
        "MR_small.dcm",
        PhotometricInterpretation="MONOCHROME1",
        PixelRepresentation=0,
        BitsStored=12,
        HighBit=11,
    )
    plain = change(tmp_path / "y.dcm", "MR_small.dcm", PixelRepresentation=0, BitsStored=12, HighBit=11)
    assert np.array_equal(read_gray(path).astype(int), 4095 - read_gray(plain).astype(int))


def test_padding_has_no_data(tmp_path: Path) -> None:
    path = change(tmp_path / "x.dcm", PixelPaddingValue=175)
    header = read_band_header(path)
    assert header is not None
    assert header.nodata == 175 - 1024


def test_colors_are_plain_rgb() -> None:
    path = FILES / "examples_rgb_color.dcm"
    pixels = read_image(path)
    assert pixels.shape[2] == 3
    assert np.array_equal(pixels, pydicom.dcmread(path).pixel_array)
    assert image_size(path) == pixels.shape[:2]


def test_ybr_becomes_rgb() -> None:
    path = FILES / "SC_ybr_full_422_uncompressed.dcm"
    assert read_image(path)[5, 50].tolist() == pytest.approx([255, 0, 0], abs=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("examples_ybr_color.dcm", "found 30 frames"),
        ("examples_palette.dcm", "PALETTE COLOR"),
        ("rtplan.dcm", "DICOM without an image"),
        ("SC_rgb_rle_16bit.dcm", "found DICOM of 3 x 16 bits"),
        ("MR_truncated.dcm", "cannot be decoded"),
    ],
)
def test_what_is_no_single_image_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_gray(FILES / name)
    assert name in str(error.value)


def test_hounsfield_units_are_not_read_as_8_bit_rgb() -> None:
    with pytest.raises(InputError, match=r"found 1 band \(gray\) of float32; expected 8-bit RGB"):
        read_image(FILES / "CT_small.dcm")


def test_every_file_that_pydicom_brings_is_read_or_refused() -> None:
    """By an error of ours, never a traceback or a partial image."""
    read = 0
    for path in sorted(FILES.glob("*.dcm")):
        try:
            header = read_band_header(path)
            if header is not None:
                assert read_bands(path, InputConfig(header.bands, header.dtype)).shape[:2] == header.size
                read += 1
        except InputError:
            continue
    assert read > 20


def test_a_data_set_of_ct_slices_is_described(tmp_path: Path) -> None:
    from PIL import Image

    from dilated import check

    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        shutil.copy(FILES / "CT_small.dcm", tmp_path / "images" / split / f"{split}.dcm")
        label = np.zeros((128, 128), np.uint8)
        label[40:80, 40:80] = 1
        Image.fromarray(label).save(tmp_path / "labels" / split / f"{split}.png")
    (tmp_path / "classes.toml").write_text(
        '[[class]]\nname = "air"\ncolor = [0, 0, 0]\n[[class]]\nname = "body"\ncolor = [255, 0, 0]\n'
    )
    report = check(tmp_path)
    assert report.input is not None
    assert report.input.describe().startswith("1 band (gray) of float32 from ")
    assert report.splits["train"].formats == {"DICOM": 1}
