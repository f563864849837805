import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from raster_files import HEIGHT, WIDTH, as_read_image, mask, noise, png_reader, whole, without  # noqa: F401

from dilated.data.raster import gdal, reader
from dilated.data.raster.reader import open_raster
from dilated.errors import InputError

rasterio = pytest.importorskip("rasterio")
tifffile = pytest.importorskip("tifffile")


@pytest.mark.usefixtures("png_reader")
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_png_has_the_pixels_of_read_image(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise(4)).convert(mode).save(path)
    assert as_read_image(path)
    if mode in ("LA", "RGBA"):
        assert np.array_equal(mask(path), noise(4)[:, :, 3] > 0)


@pytest.mark.usefixtures("png_reader")
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_16_bit_png_has_the_pixels_of_read_image(channels: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, channels)).astype(np.uint16)
    cv2.imwrite(str(path), values)
    assert as_read_image(path)


@pytest.mark.usefixtures("png_reader")
@pytest.mark.parametrize("color_type", [0, 4])
@pytest.mark.parametrize("bits", [1, 2, 4, 16])
def test_a_png_of_any_depth_of_grey_has_the_pixels_of_read_image(bits: int, color_type: int, tmp_path: Path) -> None:
    if color_type == 4 and bits < 8:
        return  # grey with alpha has 8 bits at least
    channels = 2 if color_type == 4 else 1
    row = -(-WIDTH * channels * bits // 8)
    rows = np.random.default_rng(bits).integers(0, 256, (HEIGHT, row + 1)).astype(np.uint8)
    rows[:, 0] = 0
    (tmp_path / "a.png").write_bytes(crafted(WIDTH, HEIGHT, rows.tobytes(), depth=bits, color_type=color_type))
    assert as_read_image(tmp_path / "a.png")


@pytest.mark.usefixtures("png_reader")
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_png_with_a_small_palette_has_the_pixels_of_read_image(bits: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise(3)).quantize(1 << bits).save(path, bits=bits, transparency=0)
    assert as_read_image(path)
    with Image.open(path) as image:
        assert np.array_equal(mask(path), np.asarray(image) != 0)


@pytest.mark.usefixtures("png_reader")
def test_a_palette_entry_is_data_unless_it_is_fully_transparent(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    alpha = [0, 128, 0, 7]
    Image.fromarray(noise(3)).quantize(4).save(path, transparency=bytes(alpha))
    assert as_read_image(path)
    with Image.open(path) as image:
        assert np.array_equal(mask(path), np.array(alpha)[np.asarray(image)] > 0)


@pytest.mark.usefixtures("png_reader")
def test_the_transparent_color_of_a_png_has_no_data(tmp_path: Path) -> None:
    pixels = noise(3)
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=tuple(pixels[3, 4].tolist()))
    assert np.array_equal(mask(tmp_path / "a.png"), (pixels != pixels[3, 4]).any(axis=2))
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "b.png", transparency=int(pixels[3, 4, 0]))
    assert np.array_equal(mask(tmp_path / "b.png"), pixels[:, :, 0] != pixels[3, 4, 0])


def test_a_png_beyond_the_limit_needs_rasterio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(3)).save(tmp_path / "a.png")
    monkeypatch.setattr(reader, "MAX_DECODED_PIXELS", HEIGHT * WIDTH - 1)
    without(monkeypatch, "rasterio")
    with pytest.raises(InputError, match=r"a\.png: a PNG of 53x67 pixels needs rasterio") as caught:
        open_raster(tmp_path / "a.png")
    assert caught.value.hint == "run: pip install 'dilated[geo]'"
    monkeypatch.setattr(reader, "MAX_DECODED_PIXELS", HEIGHT * WIDTH)
    assert as_read_image(tmp_path / "a.png")


@pytest.mark.parametrize("after_pixels", [False, True])
def test_a_png_beyond_the_limit_is_refused_if_exif_rotates_it(
    after_pixels: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(3)).save(tmp_path / "a.png", **({} if after_pixels else {"exif": exif}))
    if after_pixels:
        content = (tmp_path / "a.png").read_bytes()
        (tmp_path / "a.png").write_bytes(content[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + content[-12:])
    monkeypatch.setattr(reader, "MAX_DECODED_PIXELS", 0)
    with pytest.raises(InputError, match="EXIF orientation 6 cannot be rotated in windows"):
        open_raster(tmp_path / "a.png")


@pytest.mark.usefixtures("png_reader")
def test_an_interlaced_png_has_the_pixels_of_read_image(tmp_path: Path) -> None:
    rows = bytes([0, 10, 0, 20, 0, 30, 40, 0, 50, 0, 60, 0, 70, 80, 90])  # the passes of 3x3 pixels
    (tmp_path / "a.png").write_bytes(crafted(3, 3, rows, interlaced=1))
    assert as_read_image(tmp_path / "a.png")


@pytest.mark.usefixtures("png_reader")
def test_a_changed_byte_of_a_png_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise(3)).save(path)
    content = path.read_bytes()
    for place in range(8, len(content) - 13, 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(InputError, match=r"a\.png"):
            whole(path)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))


def crafted(width: int, height: int, rows: bytes, interlaced: int = 0, depth: int = 8, color_type: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, interlaced)
    return gdal.PNG_SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes|empty"),
        (b"hello, world, this is text", "no image format"),
        (b"II*\0\xff\xff\xff\x7f", "header is damaged"),
        (b"MM\0+" + bytes(12), "header is damaged"),
        (gdal.PNG_SIGNATURE, "ends early"),
        (crafted(2**31 - 1, 2**31 - 1, b""), "made to exhaust"),
        (crafted(0, 5, b""), "at least one"),
        (gdal.PNG_SIGNATURE + chunk(b"IEND", b""), "no header"),
        (crafted(3, 2, b"\5" + bytes(7)), "damaged|cannot be read"),
        (crafted(20_000, 20_000, b"", interlaced=1), "cannot be read"),
    ],
)
@pytest.mark.usefixtures("png_reader")
def test_a_broken_file_is_an_error_that_names_it(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"image.*({message})"):
        whole(path)


@pytest.mark.parametrize("size", [4, 12])
def test_rows_that_are_missing_or_too_many_are_read_as_read_image_does(size: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(crafted(3, 2, bytes(size)))
    assert as_read_image(tmp_path / "a.png")


def test_bands_of_a_png_cannot_be_chosen(tmp_path: Path) -> None:
    Image.fromarray(noise(3)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="only those of a TIFF"):
        open_raster(tmp_path / "a.png", bands=(1, 2, 3))
