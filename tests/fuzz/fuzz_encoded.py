"""Damaged image and label files: an `InputError` that names the file, or what the file holds.

    for outcome in run_images(seed=0, numbers=range(1000)): ...
    for outcome in run_labels(seed=0, numbers=range(1000)): ...

Labels that are read are compared with what another decoder makes of the same bytes: for PNG the few lines of
`read_png`, which check every sum, and for TIFF tifffile. Where that decoder refuses the file, only the values that
were in it before are right.
"""

from __future__ import annotations

import io
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
import tifffile
from fuzz_bytes import damage
from fuzz_outcome import Outcome, SilentError, examine
from hostile_tiffs import KINDS, make
from PIL import Image

from dilated.data.images import image_size, read_image
from dilated.data.input_description import describe_images
from dilated.data.labels import Classes, decode_label, read_values
from dilated.data.raster.reader import open_raster
from dilated.errors import InputError

CLASSES = Classes(tuple("abcdefgh"), tuple((i, i, i) for i in range(8)), tuple((i,) for i in range(8)), ignore=(9,))
"""Of the labels, most of whose damaged values are no class."""
HEIGHT, WIDTH = 33, 47


def encode(array: np.ndarray, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form, **options)
    return buffer.getvalue()


def encode_tiff(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def make_images() -> dict[str, bytes]:
    """An image in each form, by its suffix and what is particular."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    gray, deep = image[:, :, 0], random.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    npy = io.BytesIO()
    np.save(npy, image)
    files = {
        "rgb.png": encode(image, "PNG"),
        "gray.png": encode(gray, "PNG", compress_level=0),
        "16 bits.png": encode(deep, "PNG"),
        "alpha.png": encode(np.dstack([image, gray]), "PNG"),
        "photo.jpg": encode(image, "JPEG"),
        "progressive.jpg": encode(image, "JPEG", progressive=True),
        "image.bmp": encode(image, "BMP"),
        "image.gif": encode(gray, "GIF"),
        "image.webp": encode(image, "WEBP"),
        "image.ppm": encode(image, "PPM"),
        "image.pgm": encode(gray, "PPM"),
        "image.tga": encode(image, "TGA"),
        "image.jp2": encode(image, "JPEG2000"),
        "image.npy": npy.getvalue(),
        "strips.tif": encode_tiff(image, rowsperstrip=8),
        "tiles.tif": encode_tiff(image, tile=(16, 16), compression="zlib"),
        "16 bits.tif": encode_tiff(deep, photometric="minisblack"),
        "float.tif": encode_tiff(deep.astype(np.float32), photometric="minisblack"),
        "planes.tif": encode_tiff(image.transpose(2, 0, 1), planarconfig="separate", photometric="rgb"),
        "big.tif": encode_tiff(image, bigtiff=True),
        "lzw.tif": encode(image, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": encode(image, "TIFF", compression="jpeg"),
    }
    palette = Image.fromarray(gray % 8).convert("P")
    for name in ("palette.png", "palette.tif"):
        buffer = io.BytesIO()
        palette.save(buffer, Path(name).suffix[1:].replace("tif", "tiff"))
        files[name] = buffer.getvalue()
    return files


def make_labels() -> tuple[np.ndarray, dict[str, bytes]]:
    """The values, and a label file of them in each form."""
    random = np.random.default_rng(1)
    values = np.kron(random.integers(0, 8, (11, 16)), np.ones((3, 3), int))[:HEIGHT, :WIDTH].astype(np.uint8)
    palette = Image.fromarray(values).convert("P")
    palette.putdata(list(values.ravel()))
    indexed = io.BytesIO()
    palette.save(indexed, "PNG")
    return values, {
        "gray.png": encode(values, "PNG"),
        "stored.png": encode(values, "PNG", compress_level=0),
        "16 bits.png": encode(values.astype(np.uint16), "PNG"),
        "palette.png": indexed.getvalue(),
        "strips.tif": encode_tiff(values, rowsperstrip=8),
        "tiles.tif": encode_tiff(values, tile=(16, 16), compression="zlib"),
        "16 bits.tif": encode_tiff(values.astype(np.uint16)),
    }


def run_images(seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """The cases of these numbers; each depends on the seed and its number alone."""
    files = make_images()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in numbers:
            random = Random(f"images/{seed}/{number}")
            if random.random() < 0.3:
                kind = random.choice(list(KINDS))
                content, name, changes = make(kind, random), "hostile.tif", (f"TIFF: {kind}",)
            else:
                source = random.choice(sorted(files))
                content, changes = damage(files[source], random)
                name = f"image{Path(source).suffix}" if random.random() < 0.9 else "image.png"
                changes = (source, *changes)
            path = Path(folder, name)
            path.write_bytes(content)
            yield examine(number, changes, path, lambda path=path: look_at_image(path))  # type: ignore[misc]
            path.unlink()


def look_at_image(path: Path) -> None:
    """Read an image whole, as a raster and as one of any bands."""
    errors = []
    for read in (lambda: compare_size(path), lambda: read_window(path), lambda: describe_images([path])):
        try:
            read()
        except InputError as error:
            errors.append(error)
            if str(path) not in str(error):
                raise AssertionError(f"an error that does not name the file: {error}") from error
    if errors:
        raise errors[0]


def compare_size(path: Path) -> None:
    pixels = read_image(path)
    if pixels.dtype != np.uint8 or pixels.shape != (*image_size(path), 3):
        raise SilentError(f"read {pixels.dtype} {pixels.shape}, the header says {image_size(path)}")


def read_window(path: Path) -> None:
    """Read a corner of the image as a raster."""
    raster = open_raster(path)
    try:
        height, width = min(20, raster.height), min(20, raster.width)
        window = raster.read(raster.height - height, raster.width - width, height, width)
    finally:
        raster.close()
    if window.shape[:2] != (height, width):
        raise SilentError(f"a window of {window.shape}")


def run_labels(seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """The cases of these numbers; each depends on the seed and its number alone."""
    values, files = make_labels()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in numbers:
            random = Random(f"labels/{seed}/{number}")
            before: np.ndarray | None = values
            if random.random() < 0.15:
                kind = random.choice(list(KINDS))
                content, source, before, changes = make(kind, random), "hostile.tif", None, (f"TIFF: {kind}",)
            else:
                source = random.choice(sorted(files))
                content, changes = damage(files[source], random)
                changes = (source, *changes)
            path = Path(folder, f"label{Path(source).suffix}")
            path.write_bytes(content)
            look = lambda path=path, before=before: look_at_label(path, before)  # noqa: E731
            yield examine(number, changes, path, look)
            path.unlink()


def look_at_label(path: Path, before: np.ndarray | None) -> None:
    """Read a label, and compare its values with those that the file holds.

    Raises:
        SilentError: other values.
    """
    stored = read_values(path)
    ids = decode_label(stored, CLASSES, path=path)
    try:
        expected = read_png(path.read_bytes()) if path.suffix == ".png" else read_tiff(path)
    except Exception as error:
        expected, reason = before, f"{type(error).__name__}: {error}"
    else:
        reason = "decoded again"
    if expected is None:
        return
    if expected.shape != stored.shape or (expected != stored).any():
        raise SilentError(f"the values differ from those of the file ({reason}): {stored.shape}, {expected.shape}")
    known = np.isin(stored, (9, 255))
    if (ids[~known] != stored[~known]).any() or (ids[known] != 255).any():
        raise SilentError("the ids are not the values")


def read_tiff(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with tifffile.TiffFile(path) as file:
            if len(file.pages) != 1:
                raise ValueError("several pages")
            page = file.pages[0]
            if page.imagewidth * page.imagelength > 10**7:
                raise ValueError("too large")
            values = np.asarray(page.asarray())
            tag = page.tags.get("Orientation")
    return upright(values, int(tag.value) if tag is not None else 1)


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image as the TIFF specification says where its row 0 and its column 0 lie; tifffile does not."""
    if orientation not in range(1, 9):
        return values
    values = values.T if orientation > 4 else values
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return values[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def read_png(content: bytes) -> np.ndarray:
    """Decode a PNG of grays or indices of 8 or 16 bits, every sum checked.

    Raises:
        ValueError: anything that is not as the specification says.
    """
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("no PNG")
    at, head, data, kind = 8, b"", b"", b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        body = content[at + 8 : at + 8 + length]
        if zlib.crc32(kind + body) != struct.unpack(">I", content[at + 8 + length : at + 12 + length])[0]:
            raise ValueError(f"the sum of {kind!r}")
        head, data = (body if kind == b"IHDR" else head), data + (body if kind == b"IDAT" else b"")
        at += 12 + length
    width, height, depth, color, *rest = struct.unpack(">IIBBBBB", head)
    if color not in (0, 3) or depth not in (8, 16) or any(rest):
        raise ValueError(f"color {color}, {depth} bits, {rest}")
    step = depth // 8
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + width * step)
    above, result = np.zeros(width * step, np.int64), []
    for row in rows:
        above = unfilter(int(row[0]), row[1:].astype(np.int64), above, step)
        result.append(above)
    plane = np.array(result, np.uint8)
    return plane if step == 1 else plane.view(">u2").astype(np.int64)


def unfilter(kind: int, row: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    """Undo a filter of a row, by the specification."""
    if kind > 4:
        raise ValueError(f"filter {kind}")
    row = row.copy()
    for i in range(len(row)):
        left, up = (row[i - step] if i >= step else 0), above[i]
        corner = above[i - step] if i >= step else 0
        guess = left + up - corner
        nearest = min(((abs(guess - v), n) for n, v in enumerate((left, up, corner))))[1]
        row[i] += (0, left, up, (left + up) // 2, (left, up, corner)[nearest])[kind]
        row[i] %= 256
    return row
