"""Images that pillow alone does not read, and files that hold several."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import healthy
import numpy as np
import pytest
from PIL import Image

from dilated.data.check.check import check
from dilated.data.decoders import count_frames, count_tiff_pages
from dilated.data.images import image_size, open_image, read_image
from dilated.data.labels import read_values
from dilated.errors import InputError

PIXELS = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
HEIF_HEAD = b"\0\0\0\x18ftypheic" + b"\0" * 200


def frames(path: Path) -> int:
    with open_image(path) as image:
        return count_frames(image)


@pytest.mark.parametrize("name", ["a.heic", "photo.jpg"])
def test_heif_without_its_plugin_says_how_to_install_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / name).write_bytes(HEIF_HEAD)
    with pytest.raises(InputError, match="HEIF needs the package pillow-heif") as caught:
        read_image(tmp_path / name)
    assert "dilated[heif]" in caught.value.hint


def test_heif_is_read_where_its_plugin_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    large = np.full((64, 96, 3), (200, 90, 30), np.uint8)
    heif.from_pillow(Image.fromarray(large)).save(tmp_path / "a.heic", quality=100)
    assert image_size(tmp_path / "a.heic") == (64, 96)
    assert np.abs(read_image(tmp_path / "a.heic").astype(int) - large).max() <= 6


def test_the_frames_of_an_animation_are_counted(tmp_path: Path) -> None:
    images = [Image.fromarray(PIXELS + 40 * i) for i in range(3)]
    for name in ("a.gif", "a.tif", "a.png", "a.webp"):
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:])
        assert frames(tmp_path / name) == 3, name
    images[0].save(tmp_path / "one.tif")
    assert frames(tmp_path / "one.tif") == 1


def test_a_smaller_copy_in_a_tiff_and_a_phones_second_image_are_no_frames(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(PIXELS, photometric="rgb")
        writer.write(PIXELS[::2, ::2], photometric="rgb", subfiletype=1)
    assert frames(tmp_path / "a.tif") == 1
    image = Image.fromarray(PIXELS)
    image.save(tmp_path / "a.mpo", save_all=True, append_images=[image])
    assert frames(tmp_path / "a.mpo") == 1


def test_check_says_that_only_the_first_frame_is_used(tmp_path: Path) -> None:
    root = healthy.save(tmp_path, healthy.CELLS, map(healthy.street, range(4)))
    path = min((root / "images" / "train").iterdir())
    first = Image.open(path)
    first.save(path.with_suffix(".gif"), save_all=True, append_images=[first.rotate(180)])
    path.unlink()
    findings = [f for f in check(root).findings if f.kind == "several frames"]
    assert [(f.severity, f.text) for f in findings] == [
        ("warning", f"{path.with_suffix('.gif')}: holds 2 frames or pages, of which the first is used")
    ]


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_an_image_with_a_mask_page_is_one_image(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    kinds = {"driver": "GTiff", "height": 6, "width": 8, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "a.tif", "w", **kinds) as file:
        file.write(PIXELS.transpose(2, 0, 1))
        file.write_mask(np.ones((6, 8), bool))
    assert frames(tmp_path / "a.tif") == 1
    with pytest.raises(InputError, match="a label with a mask of its own"):
        read_values(tmp_path / "a.tif")


def test_a_label_with_smaller_copies_is_read(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = PIXELS[..., 0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(values, photometric="minisblack", metadata=None)
        writer.write(values[::2, ::2], photometric="minisblack", subfiletype=1)
    assert np.array_equal(read_values(tmp_path / "a.tif"), values)


@pytest.mark.parametrize("number", [65_536, 2**40, 2**63])
def test_a_directory_of_too_many_entries_is_the_last(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, number) + bytes(64))
    assert count_tiff_pages(path) == 1
