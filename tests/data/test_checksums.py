"""Labels whose own sums and sizes say that they were damaged are refused, though pillow reads them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hostile_tiffs import LONG, build, plain
from PIL import Image

from dilated.data.labels import read_values
from dilated.errors import InputError

VALUES = np.kron(np.arange(12).reshape(3, 4), np.ones((8, 8), int)).astype(np.uint8)


def test_a_chunk_of_pixels_with_another_sum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(VALUES).save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"IEND") - 5] ^= 1  # the last byte of the sum of IDAT
    path.write_bytes(content)
    assert (np.asarray(Image.open(path)) == VALUES).all()
    with pytest.raises(InputError, match=r"a\.png: the label is damaged \(the checksum of IDAT is wrong\)"):
        read_values(path)


def test_a_deflated_tile_with_another_sum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VALUES, compression="zlib", tile=(16, 16))
    assert (read_values(path) == VALUES).all()
    with tifffile.TiffFile(path) as file:
        last = file.pages[0].dataoffsets[0] + file.pages[0].databytecounts[0] - 1
    content = bytearray(path.read_bytes())
    content[last] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif: the (label|image) is damaged"):
        read_values(path)


def without_depth(**changes: tuple[int, int, int]) -> dict[int, tuple[int, int, int | bytes]]:
    return {number: entry for number, entry in plain(**changes).items() if number != 258}


TIFFS: dict[str, tuple[Callable[[], bytes], str]] = {
    "too few strips": (lambda: build(plain(t278=(LONG, 1, 4)), bytes(384)), "1 strips or tiles, and 4 are expected"),
    "a short strip": (lambda: build(plain(t279=(LONG, 1, 100)), bytes(384)), "100 bytes in strip or tile 0"),
    "a strip that unpacks to more": (
        lambda: build(plain(data=zlib.compress(bytes(10**7)), t259=(3, 1, 8)), zlib.compress(bytes(10**7))),
        "more than 384 bytes",
    ),
    "no depth": (lambda: build(without_depth(), bytes(384)), "BitsPerSample is missing, and 384 bytes"),
    "a depth of no number": (lambda: build(plain(t258=(3, 0, 8)), bytes(384)), "BitsPerSample is missing"),
    "a depth of an unknown type": (lambda: build(plain(t258=(259, 1, 8)), bytes(384)), "BitsPerSample is missing"),
    "no depth, and LZW": (lambda: build(without_depth(t259=(3, 1, 5)), bytes(384)), "BitsPerSample is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", TIFFS)
def test_strips_that_are_not_those_of_the_image_are_refused(name: str, tmp_path: Path) -> None:
    make, message = TIFFS[name]
    path = tmp_path / "a.tif"
    path.write_bytes(make())
    with pytest.raises(InputError, match=f"the label is damaged .*{message}"):
        read_values(path)


@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 5}, {"tile": (16, 16)}, {"compression": "zlib"}])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_whole_labels_are_read(options: dict[str, object], dtype: type, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", VALUES.astype(dtype), **options)
    assert (read_values(tmp_path / "a.tif") == VALUES).all()


def test_a_file_of_one_bit_needs_no_depth(tmp_path: Path) -> None:
    values = VALUES % 2
    path = tmp_path / "a.tif"
    tags = {number: entry for number, entry in plain(32, 24, bytes(96)).items() if number != 258}
    path.write_bytes(build(tags, np.packbits(values, axis=1).tobytes()))
    assert (read_values(path) == values).all()


def test_a_label_that_its_orientation_mirrors_is_read_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(build(plain(32, 24, t274=(3, 1, 2)), VALUES.tobytes()))
    assert (read_values(path) == VALUES[:, ::-1]).all()


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_label_whose_rows_are_columns_is_refused(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(build(plain(32, 24, t274=(3, 1, orientation)), VALUES.tobytes()))
    with pytest.raises(InputError, match=rf"a\.tif: found a label of orientation {orientation}"):
        read_values(path)


@pytest.mark.parametrize("chunk", [b"tEXt", b"zzzz"])
def test_sums_of_chunks_that_hold_no_pixels_are_not_looked_at(chunk: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(VALUES).save(path)
    content = path.read_bytes()
    other = struct.pack(">I", 3) + chunk + b"a\0b" + bytes(4)
    path.write_bytes(content[:-12] + other + content[-12:])
    assert (read_values(path) == VALUES).all()
