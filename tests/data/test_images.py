import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.Image import Transpose

from dilated.data.images import image_size, list_image_files, read_image
from dilated.errors import InputError

TURNS = {
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def noise(shape: tuple[int, ...], kind: type[np.generic] = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


@pytest.fixture
def png(tmp_path: Path) -> Path:
    Image.fromarray(noise((40, 30, 3))).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    refused(tmp_path / "none.png", "no such file")


def test_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder")


def test_an_empty_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    refused(tmp_path / "a.png", "the file is empty")


def test_text_under_an_image_name_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not an image")
    refused(tmp_path / "a.png", "has 12 bytes that are no image")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_a_truncated_image_is_refused_and_never_read_in_part(suffix: str, keep: float, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    Image.fromarray(noise((40, 30, 3))).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    refused(path, "damaged|no image format")


def test_a_png_with_a_flipped_bit_is_refused(png: Path) -> None:
    data = bytearray(png.read_bytes())
    data[len(data) // 2] ^= 1
    png.write_bytes(bytes(data))
    refused(png, "damaged")


@pytest.mark.parametrize(("mode", "numbers"), [("I", "signed integers of 32 bits"), ("F", "float32")])
def test_a_mode_without_an_agreed_range_is_refused(mode: str, numbers: str, tmp_path: Path) -> None:
    Image.new(mode, (3, 2)).save(tmp_path / "a.tif")
    refused(tmp_path / "a.tif", numbers)


@pytest.mark.parametrize(("most", "size"), [(1000, "1200 pixels"), (500, "1200 pixels")])
def test_an_image_too_large_to_be_trusted_is_refused(
    png: Path, monkeypatch: pytest.MonkeyPatch, most: int, size: str
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)  # pillow warns, here an error, or beyond twice that refuses
    refused(png, rf"an image of too many pixels \(.*{size}.*\) exceeds the {most} pixels.*--tile N")


@pytest.mark.filterwarnings("ignore")
def test_where_pillow_only_warns_a_large_image_is_refused_by_its_size(
    png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1199)
    refused(png, "an image of 30x40 exceeds the 1199 pixels")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1200)
    assert read_image(png).shape == (40, 30, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(png).shape == (40, 30, 3)


def test_a_header_of_many_pixels_allocates_none(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    data = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    tracemalloc.start()
    refused(tmp_path / "bomb.png", "an image of too many pixels .*3600000000 pixels")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_an_image_is_read_by_its_content_not_its_suffix(png: Path) -> None:
    path = png.rename(png.with_suffix(".jpg"))
    assert np.array_equal(read_image(path), noise((40, 30, 3)))
    path = path.rename(path.with_suffix(""))
    assert np.array_equal(read_image(path), noise((40, 30, 3)))


def test_a_file_without_permission_is_refused_by_name(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", denied)  # root may read anything
    refused(png, "permission denied")


@settings(max_examples=60, deadline=None)
@given(data=st.data(), suffix=st.sampled_from(["png", "jpeg", "tiff", "gif", "webp", "bmp", "ppm"]))
def test_whatever_happens_to_a_file_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, suffix: str
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise((6, 5, 3))).save(buffer, format=suffix)
    content = bytearray(buffer.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "a"
    path.write_bytes(content)
    try:
        pixels, complaint = read_image(path), str(path)
    except InputError as error:
        pixels, complaint = np.zeros((1, 1, 3), np.uint8), str(error)
    assert str(path) in complaint
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] == (3,)


def test_a_palette_with_many_transparent_colors_is_read_without_them(tmp_path: Path) -> None:
    indices, palette = noise((5, 7)) % 4, noise((4, 3))
    image = Image.fromarray(indices)
    image.putpalette(palette.flatten().tolist())
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 7]))
    assert np.array_equal(read_image(tmp_path / "a.png"), palette[indices])


def test_rgb_is_read_as_it_is(png: Path) -> None:
    pixels = read_image(png)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, noise((40, 30, 3)))
    assert np.array_equal(read_image(str(png)), pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("orientation", "turn"), TURNS.items())
def test_images_are_turned_upright(orientation: int, turn: Transpose | None, suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(noise((4, 6, 3)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"image{suffix}"
    image.save(path, exif=exif)
    upright = image if turn is None else image.transpose(turn)
    assert np.array_equal(read_image(path), np.asarray(upright))
    assert image_size(path) == (upright.height, upright.width)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_becomes_three_equal_channels(mode: str, tmp_path: Path) -> None:
    gray = Image.fromarray(noise((5, 7)) // 128 * 255)
    gray.convert(mode).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.repeat(np.asarray(gray)[:, :, None], 3, axis=2))


def test_alpha_is_dropped_and_blends_with_nothing(tmp_path: Path) -> None:
    pixels = noise((5, 7, 4))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), pixels[:, :, :3])


def test_palette_images_are_read_as_their_colors(tmp_path: Path) -> None:
    indices = noise((5, 7)) % 4
    palette = noise((4, 3))
    image = Image.fromarray(indices, mode=None).convert("P")
    image.putdata(indices.flatten().tolist())
    image.putpalette(palette.flatten().tolist())
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), palette[indices])


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 3), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").tolist() == [[[255, 0, 0]] * 4] * 3


def test_16_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    values = np.array([[0, 128, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[:, :, 0].tolist() == [[0, 0, 1, 128, 255]]
    assert read_image(tmp_path / "a.png").shape == (1, 5, 3)


def test_the_images_of_a_folder_are_sorted_and_nothing_hidden_or_foreign(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", ".hidden.png", "notes.txt", "c.tif"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder").mkdir()
    assert [path.name for path in list_image_files(tmp_path)] == ["a.jpeg", "b.PNG", "c.tif"]


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_means_nothing_turns_nothing(orientation: int, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.new("RGB", (5, 3)).save(tmp_path / "a.jpg", exif=tags)
    assert image_size(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").shape[:2] == (3, 5)


@pytest.mark.parametrize("form", ["open file", "bytes"])
def test_an_open_file_is_read_as_its_path_is(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)).save(path)
    with path.open("rb") if form == "open file" else io.BytesIO(path.read_bytes()) as file:
        assert np.array_equal(read_image(file), read_image(path))


@pytest.mark.parametrize(
    ("content", "what"), [(b"", "the file is empty"), (b"no image", "the file has 8 bytes that are no image")]
)
def test_an_open_file_that_is_not_an_image_is_an_input_error(content: bytes, what: str) -> None:
    with pytest.raises(InputError, match=f"image: {what}"):
        read_image(io.BytesIO(content))
