"""Ways to damage images and labels as images: size, mode, values, depth, orientation, frames."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from fuzz_picks import flat, of, pick
from fuzz_sets import Set
from fuzz_truth import remember
from PIL import Image


def save_as(array: np.ndarray, like: Image.Image, path: Path) -> None:
    """Write values over a label, with the palette that it had."""
    image = Image.fromarray(np.ascontiguousarray(array))
    if like.mode == "P" and array.dtype == np.uint8 and array.ndim == 2:
        palette = like.getpalette()
        image.putpalette(palette if palette else [0, 0, 0])
    image.save(path)


def reshape(data: Set, random: Random, kind: str) -> bool:
    path = pick(random, of(data, kind))
    found = flat(path) if path else None
    if path is None or found is None:
        return False
    array, image = found
    how = random.choice(["less", "more", "turned", "flipped", "crop", "half", "1x1", "1xN", "Nx1"])
    height, width = array.shape[:2]
    if how == "less":
        array = array[: max(1, height - 1)] if random.random() < 0.5 else array[:, : max(1, width - 1)]
    elif how == "more":
        edge = ((0, 1), (0, 0)) if random.random() < 0.5 else ((0, 0), (0, 1))
        array = np.pad(array, (*edge, *[(0, 0)] * (array.ndim - 2)), mode="edge")
    elif how == "turned":
        array = np.swapaxes(array, 0, 1)
    elif how == "flipped":
        array = array[::-1]
    elif how == "crop":
        array = array[height // 4 :, width // 4 :]
    elif how == "half":
        array = array[::2, ::2]
    else:
        array = array[: None if how == "Nx1" else 1, : None if how == "1xN" else 1]
    save_as(array, image, path)
    return True


def smooth(data: Set, random: Random) -> bool:
    path = pick(random, data.labels)
    found = flat(path) if path else None
    if path is None or found is None or found[0].dtype != np.uint8:
        return False
    array, image = found
    gray = Image.fromarray(array)
    small = gray.resize((gray.width // 2 + 1, gray.height // 2 + 1), Image.Resampling.BILINEAR)
    save_as(np.asarray(small.resize(gray.size, Image.Resampling.BILINEAR)), image, path)
    return True


def jpeg(data: Set, random: Random) -> bool:
    path = pick(random, data.labels)
    found = flat(path) if path else None
    if path is None or found is None or found[0].dtype != np.uint8:
        return False
    Image.fromarray(found[0]).save(path, format="JPEG", quality=random.choice([50, 90, 100]))
    return True


def mode(data: Set, random: Random, kind: str) -> bool:
    path = pick(random, of(data, kind))
    found = flat(path) if path else None
    if path is None or found is None:
        return False
    array, image = found
    new = random.choice(["RGB", "L", "P", "P other", "I;16", "1", "RGBA", "F", "I", "LA", "CMYK", "web"])
    ending = "PNG"
    if new == "P other":
        image = Image.fromarray(
            array if array.dtype == np.uint8 and array.ndim == 2 else np.asarray(image.convert("L"))
        )
        image.putpalette([random.randrange(256) for _ in range(768)])
    elif new == "web":
        image = image.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=random.choice([2, 16, 256]))
    elif new == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * random.choice([1, 1, 257]))
    elif new in ("F", "I", "CMYK"):
        base = image.convert("L") if image.mode != "P" and new != "CMYK" else image.convert("RGB").convert("L")
        image, ending = base.convert(new), "TIFF"
    else:
        image = image.convert("RGB").convert(new) if image.mode.startswith("I;16") else image.convert(new)
    image.save(path, format=ending)
    return True


def values(data: Set, random: Random, kind: str) -> bool:
    path = pick(random, data.labels)
    found = flat(path) if path else None
    if path is None or found is None or found[0].ndim != 2 or found[0].dtype == bool:
        return False
    array, image = found[0].copy(), found[1]
    present = np.unique(array).tolist()
    if kind == "shift":
        array = array + np.array(random.choice([1, -1])).astype(array.dtype)
    elif kind == "swap" and len(present) > 1:
        one, other = random.sample(present, 2)
        array = np.where(array == one, other, np.where(array == other, one, array)).astype(array.dtype)
    elif kind == "outside":
        y, x = random.randrange(array.shape[0]), random.randrange(array.shape[1])
        array[y : y + random.randint(1, 9), x : x + 3] = random.choice([3, 10, 33, 34, 77, 128, 200, 253, 254, 255, 0])
    elif kind == "binary":
        array = np.where(array > 0, 255, 0).astype(array.dtype)
    elif kind == "all one":
        array[:] = random.choice([0, 1, 2, 254, 255])
    save_as(array, image, path)
    return True


def color(data: Set, random: Random) -> bool:
    """Some pixels of a mask of colors get another."""
    path = pick(random, data.labels)
    found = flat(path) if path else None
    if path is None or found is None or found[0].ndim != 3:
        return False
    array = found[0].copy()
    array[random.randrange(array.shape[0]), random.randrange(array.shape[1])] = [
        random.randrange(256) for _ in range(array.shape[2])
    ]
    Image.fromarray(array).save(path)
    return True


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *, crc: bool = True) -> bytes:
    """A PNG file as its bytes; rows have their filter bytes."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def few_bits(data: Set, random: Random, form: str) -> bool:
    """A label in a form of which pillow stretches the values: their places here are values that the classes have."""
    path = pick(random, data.labels)
    found = flat(path) if path else None
    if path is None or found is None or found[0].ndim != 2 or found[0].dtype != np.uint8:
        return False
    array = found[0]
    if form == "PGM":
        most = random.choice([1, 2, 3, 15, 1000])
        array = np.minimum(array.astype(np.int64), most)
        body = array.astype(">u2" if most > 255 else np.uint8).tobytes()
        path.write_bytes(b"P5\n%d %d\n%d\n" % (array.shape[1], array.shape[0], most) + body)
    elif form == "white is 0":
        Image.fromarray(array).save(path, format="TIFF")
        array = 255 - array.astype(np.int64)
        content = path.read_bytes()
        spot = content.index(struct.pack("<HHI", 262, 3, 1))
        path.write_bytes(content[: spot + 8] + struct.pack("<H", 0) + content[spot + 10 :])
        array = found[0]
    else:
        depth = int(form)
        array = np.minimum(array, 2**depth - 1)
        bits = np.unpackbits(array[..., None], axis=2)[..., 8 - depth :].reshape(array.shape[0], -1)
        packed = np.packbits(bits, axis=1)
        rows = b"".join(b"\0" + row.tobytes() for row in packed)
        path.write_bytes(png(array.shape[1], array.shape[0], depth, 0, rows))
    remember(path, array.astype(np.int64))
    return True


def deep_color(data: Set, random: Random) -> bool:
    """A mask of colors with 16 bits a channel, of which pillow drops the lower eight."""
    path = pick(random, data.labels)
    found = flat(path) if path else None
    if path is None or found is None or found[0].ndim != 3 or found[0].shape[2] != 3:
        return False
    array = found[0].astype(np.int64) * random.choice([1, 257])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    path.write_bytes(png(array.shape[1], array.shape[0], 16, 2, rows))
    if array.max() < 256:
        remember(path, array)
    return True


def exif(data: Set, random: Random, kind: str) -> bool:
    path = pick(random, of(data, kind))
    found = flat(path) if path else None
    if path is None or found is None or path.suffix == ".tif":
        return False
    tags = Image.Exif()
    tags[0x0112] = random.choice([*range(10), 255, "6", (6, 6)])
    try:
        found[1].save(path, exif=tags)
    except Exception:
        return False
    return True


def frames(data: Set, random: Random) -> bool:
    path = pick(random, [*data.images, *data.labels])
    found = flat(path) if path else None
    if path is None or found is None or found[1].mode not in ("L", "P", "RGB"):
        return False
    image = found[1]
    other = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    form = random.choice(["PNG", "GIF", "TIFF", "WEBP"])
    image.save(
        path, format=form, save_all=True, append_images=[other], **({"lossless": True} if form == "WEBP" else {})
    )
    return True


def bomb(data: Set, random: Random) -> bool:
    path = pick(random, [*data.images, *data.labels])
    if path is None:
        return False
    side = random.choice([9_000, 50_000, 65_535, 2**31 - 1])
    form = random.choice(["png", "bmp", "pgm", "gif", "tif"])
    if form == "png":
        path.write_bytes(png(side, side, 8, random.choice([0, 2]), b"\0" * 99))
    elif form == "bmp":
        path.write_bytes(b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0))
    elif form == "pgm":
        path.write_bytes(b"P5\n%d %d\n255\n" % (side, side))
    elif form == "gif":
        path.write_bytes(
            b"GIF89a" + struct.pack("<HH", min(side, 65_535), min(side, 65_535)) + b"\x80\0\0" + b"\0" * 6 + b";"
        )
    else:
        entries = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, side), (279, 9)]
        body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
        path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + b"\0" * 4)
    return True
