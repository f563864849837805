"""The ways in which `fuzz_data.py` damages a data set. Each takes the set and a `Random`, and says whether it could.

change = CHANGES["pictures: truncate"]
change(data, Random(0))                              # True: a file of the set is now shorter
"""

from __future__ import annotations

import json
import os
import struct
import unicodedata
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz_sets import Set
from fuzz_truth import remember
from PIL import Image

Change = Callable[[Set, Random], bool]


def pick(random: Random, paths: tuple[Path, ...] | list[Path]) -> Path | None:
    """One of the files that are still there."""
    there = [p for p in paths if p.is_file()]
    return random.choice(there) if there else None


def of(data: Set, kind: str) -> tuple[Path, ...] | list[Path]:
    return data.files() if kind == "any" else getattr(data, kind)


def flat(path: Path) -> tuple[np.ndarray, Image.Image] | None:
    """The values of a picture, if it can be read and has one page."""
    try:
        with Image.open(path) as picture:
            picture.load()
            if getattr(picture, "n_frames", 1) > 1:
                return None
            return np.asarray(picture), picture.copy()
    except Exception:
        return None


# Files


def truncate(data: Set, random: Random, kind: str) -> bool:
    path = pick(random, of(data, kind))
    if path is None:
        return False
    content = path.read_bytes()
    path.write_bytes(content[: random.randrange(len(content) + 1)])
    return True


def empty(data: Set, random: Random, kind: str) -> bool:
    path = pick(random, of(data, kind))
    if path is None:
        return False
    path.write_bytes(b"")
    return True


def flip(data: Set, random: Random, kind: str) -> bool:
    path = pick(random, of(data, kind))
    if path is None or not path.stat().st_size:
        return False
    content = bytearray(path.read_bytes())
    most = random.choice([32, len(content)])
    for _ in range(random.randint(1, 8)):
        content[random.randrange(min(most, len(content)))] = random.randrange(256)
    path.write_bytes(content)
    return True


def by_text(data: Set, random: Random) -> bool:
    path = pick(random, data.files())
    if path is None:
        return False
    path.write_bytes(
        random.choice([b"no picture\n", b"{}", b"[]", b"null", b"<html>", b"\0" * 64, b"\xff\xfe\0a", b"0"])
    )
    return True


def delete(data: Set, random: Random) -> bool:
    path = pick(random, data.files())
    if path is None:
        return False
    path.unlink()
    return True


def rename(data: Set, random: Random) -> bool:
    path = pick(random, data.files())
    if path is None:
        return False
    odd = ["other", "a b", "a\nb", "é", unicodedata.normalize("NFD", "é"), "ü" * 60, "#x", "a.b", "-", "'q'", '"', "%s"]
    target = path.with_name(random.choice([*odd, f"{path.stem}.1", f" {path.stem}", f"{path.stem}_mask"]) + path.suffix)
    if target.exists():
        return False
    path.rename(target)
    return True


def rename_both(data: Set, random: Random) -> bool:
    """The picture and the files that belong to it get another stem."""
    path = pick(random, data.pictures)
    if path is None:
        return False
    stem = path.stem
    odd = random.choice(
        [
            "a b",
            "a\nb",
            "é",
            unicodedata.normalize("NFD", "é"),
            "a.b",
            "#x",
            "%s",
            "a\u2028b",
            "[b]",
            os.fsdecode(b"\xff"),
        ]
    )
    found = [p for p in data.files() if p.is_file() and (p.stem == stem or p.stem.startswith(f"{stem}_"))]
    for one in found:
        one.rename(one.with_name(odd + one.name[len(stem) :]))
    return True


def mixed_forms(data: Set, random: Random) -> bool:
    """The picture's name is composed (NFC), its label's is decomposed (NFD)."""
    path, stem = pick(random, data.pictures), ""
    if path is None:
        return False
    stem = path.stem
    forms = ["NFC", "NFD"]
    random.shuffle(forms)
    for one in [p for p in data.files() if p.is_file() and (p.stem == stem or p.stem.startswith(f"{stem}_"))]:
        name = unicodedata.normalize(forms[one in data.pictures], f"é{one.name}")
        one.rename(one.with_name(name))
    return True


def duplicate(data: Set, random: Random) -> bool:
    path = pick(random, data.files())
    if path is None:
        return False
    name = random.choice([f"{path.stem}_copy{path.suffix}", f"{path.stem}{path.suffix.upper()}", f"{path.stem}.bmp"])
    path.with_name(name).write_bytes(path.read_bytes())
    return True


def swap(data: Set, random: Random, kind: str) -> bool:
    one, other = pick(random, of(data, kind)), pick(random, of(data, kind))
    if one is None or other is None or one == other:
        return False
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return True


def move(data: Set, random: Random) -> bool:
    one, other = pick(random, data.files()), pick(random, data.files())
    if one is None or other is None or one.parent == other.parent or (other.parent / one.name).exists():
        return False
    one.rename(other.parent / one.name)
    return True


def folder_instead(data: Set, random: Random) -> bool:
    path = pick(random, data.files())
    if path is None:
        return False
    path.unlink()
    path.mkdir()
    return True


def file_instead(data: Set, random: Random) -> bool:
    folders = sorted({p.parent for p in data.files() if p.exists() and p.parent != data.root})
    if not folders:
        return False
    folder = random.choice(folders)
    folder.rename(data.root / "elsewhere") if not (data.root / "elsewhere").exists() else None
    if folder.exists():
        return False
    folder.write_bytes(b"")
    return True


def link(data: Set, random: Random, kind: str) -> bool:
    path = pick(random, data.files())
    if path is None:
        return False
    folder = path.parent
    if kind == "loop folder":
        (folder / "loop").symlink_to(folder)
        return True
    path.unlink()
    path.symlink_to({"loop": path, "broken": folder / "nowhere.png", "folder": data.root}[kind])
    return True


def upper(data: Set, random: Random) -> bool:
    path = pick(random, data.files())
    if path is None:
        return False
    path.rename(path.with_suffix(path.suffix.upper()))
    return True


def extra(data: Set, random: Random) -> bool:
    """A file or a folder that does not belong there."""
    path = pick(random, data.files())
    if path is None:
        return False
    name = random.choice(
        [".DS_Store", "Thumbs.db", "._x.png", "new.png", "a.json", "data.yaml", "labelmap.txt", "x.txt"]
    )
    target = random.choice([path.parent, data.root]) / name
    if target.exists():
        return False
    if random.random() < 0.3:
        target.mkdir()
    else:
        target.write_bytes(random.choice([b"", b"names:\n", b'{"shapes": []}', b"x:1,2,3::\n"]))
    return True


# Label pictures


def save_as(array: np.ndarray, like: Image.Image, path: Path) -> None:
    """Write values over a label, with the palette that it had."""
    picture = Image.fromarray(np.ascontiguousarray(array))
    if like.mode == "P" and array.dtype == np.uint8 and array.ndim == 2:
        palette = like.getpalette()
        picture.putpalette(palette if palette else [0, 0, 0])
    picture.save(path)


def reshape(data: Set, random: Random, kind: str) -> bool:
    path = pick(random, of(data, kind))
    found = flat(path) if path else None
    if path is None or found is None:
        return False
    array, picture = found
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
    save_as(array, picture, path)
    return True


def smooth(data: Set, random: Random) -> bool:
    path = pick(random, data.labels)
    found = flat(path) if path else None
    if path is None or found is None or found[0].dtype != np.uint8:
        return False
    array, picture = found
    grey = Image.fromarray(array)
    small = grey.resize((grey.width // 2 + 1, grey.height // 2 + 1), Image.Resampling.BILINEAR)
    save_as(np.asarray(small.resize(grey.size, Image.Resampling.BILINEAR)), picture, path)
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
    array, picture = found
    new = random.choice(["RGB", "L", "P", "P other", "I;16", "1", "RGBA", "F", "I", "LA", "CMYK", "web"])
    ending = "PNG"
    if new == "P other":
        picture = Image.fromarray(
            array if array.dtype == np.uint8 and array.ndim == 2 else np.asarray(picture.convert("L"))
        )
        picture.putpalette([random.randrange(256) for _ in range(768)])
    elif new == "web":
        picture = picture.convert("RGB").convert(
            "P", palette=Image.Palette.ADAPTIVE, colors=random.choice([2, 16, 256])
        )
    elif new == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * random.choice([1, 1, 257]))
    elif new in ("F", "I", "CMYK"):
        base = picture.convert("L") if picture.mode != "P" and new != "CMYK" else picture.convert("RGB").convert("L")
        picture, ending = base.convert(new), "TIFF"
    else:
        picture = picture.convert("RGB").convert(new) if picture.mode.startswith("I;16") else picture.convert(new)
    picture.save(path, format=ending)
    return True


def values(data: Set, random: Random, kind: str) -> bool:
    path = pick(random, data.labels)
    found = flat(path) if path else None
    if path is None or found is None or found[0].ndim != 2 or found[0].dtype == bool:
        return False
    array, picture = found[0].copy(), found[1]
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
    save_as(array, picture, path)
    return True


def color(data: Set, random: Random) -> bool:
    """Some pixels of a mask of colours get another."""
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
    """A mask of colours with 16 bits a channel, of which pillow drops the lower eight."""
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
    path = pick(random, [*data.pictures, *data.labels])
    found = flat(path) if path else None
    if path is None or found is None or found[1].mode not in ("L", "P", "RGB"):
        return False
    picture = found[1]
    other = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    form = random.choice(["PNG", "GIF", "TIFF", "WEBP"])
    picture.save(
        path, format=form, save_all=True, append_images=[other], **({"lossless": True} if form == "WEBP" else {})
    )
    return True


def bomb(data: Set, random: Random) -> bool:
    path = pick(random, [*data.pictures, *data.labels])
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


# Texts


def text(data: Set, random: Random, kind: str) -> bool:
    path = pick(random, data.texts)
    if path is None:
        return False
    content = path.read_bytes()
    lines = content.split(b"\n")
    if kind == "CRLF":
        content = content.replace(b"\n", b"\r\n")
    elif kind == "BOM":
        content = b"\xef\xbb\xbf" + content
    elif kind == "UTF-16":
        content = content.decode("utf-8", "replace").encode("utf-16")
    elif kind == "Latin-1":
        content = content.replace(b"a", b"\xe4", 1)
    elif kind == "NUL":
        at = random.randrange(len(content) + 1)
        content = content[:at] + b"\0" + content[at:]
    elif kind == "blank lines":
        content = content.replace(b"\n", random.choice([b"\n\n", b"\n  \n", b"  \n", b"\n\t\n"]))
    elif kind == "huge line":
        at = random.randrange(len(lines) + 1)
        long = [
            b"x" * 100_000,
            b"9" * 5_000,
            b"[" * 3_000,
            b"a/" * 3_000,
            b"x " * 9_000,
            b"y" * 300 + b" z",
            b"1:" + b"9" * 5000 + b",1,1::",
        ]
        lines.insert(at, random.choice(long))
        content = b"\n".join(lines)
    elif kind == "lose a line":
        del lines[random.randrange(len(lines))]
        content = b"\n".join(lines)
    elif kind == "twice a line":
        at = random.randrange(len(lines))
        lines.insert(at, lines[at])
        content = b"\n".join(lines)
    elif kind == "swap lines":
        random.shuffle(lines)
        content = b"\n".join(lines)
    elif kind == "character":
        at = random.randrange(len(content) + 1)
        new = random.choice(
            [b'"', b"'", b"{", b"]", b":", b",", b" ", b"-", b"#", b"9", b"\\", b"\xc3\xa9", b"\n", b".", b"/"]
        )
        content = content[:at] + new + content[at + random.randint(0, 1) :]
    elif kind == "number":
        spots = [i for i, c in enumerate(content) if chr(c).isdigit()]
        if not spots:
            return False
        at = random.choice(spots)
        new = random.choice(
            [b"-1", b"nan", b"inf", b"1e9", b"0.5", b"99999999999999999999", b"300", b"true", b'"1"', b"0"]
        )
        content = content[:at] + new + content[at + 1 :]
    path.write_bytes(content)
    return True


TOMLS = (
    b"",
    b"class = 5\n",
    b"class = [5]\n",
    b"class = [{}]\n",
    b"[class]\nname = 'a'\n",
    b"[[class]]\nname = 'a'\n",
    b"[[class]]\nname = 5\ncolor = [0, 0, 0]\n",
    b"[[class]]\nname = ['a']\ncolor = [0, 0, 0]\n",
    b"[[class]]\nname = ''\ncolor = [0, 0, 0]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 256]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, -1]\n",
    b"[[class]]\nname = 'a'\ncolor = [0.0, 0, 0]\n",
    b"[[class]]\nname = 'a'\ncolor = [[0], 0, 0]\n",
    b"[[class]]\nname = 'a'\ncolor = 'red'\n",
    b"[[class]]\nname = 'a'\ncolor = [true, false, true]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [-1]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [65536]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [true]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [[0]]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = 0\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = []\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [0.0]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [99999999999999999999]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [" + b"9" * 5000 + b"]\n",
    b"ignore = [[1]]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore = [{}]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore = 'all'\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore = ['1']\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore = [true]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore = [0]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore = [1, 2]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"read = 5\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"read = []\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"read = 'colors'\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore_colors = [1]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore_colors = [[1]]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore_colors = [[[1], 2, 3]]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"colour = 1\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n" * 2,
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n[[class]]\nname = 'b'\ncolor = [0, 0, 0]\nvalues = [0]\n",
    b"a = " + b"[" * 3000,
    b"a = 2020-01-01\n",
    b"\xff\xfe",
)


def toml(data: Set, random: Random) -> bool:
    """Another classes.toml, or another line in it."""
    path = data.root / "classes.toml"
    choice = random.randrange(len(TOMLS) + 12)
    if choice < len(TOMLS):
        path.write_bytes(TOMLS[choice])
    elif choice == len(TOMLS):
        entries = (f"[[class]]\nname = 'c{i}'\ncolor = [{i}, 0, 0]\n" for i in range(random.choice([254, 255, 256])))
        path.write_text("".join(entries))
    elif choice == len(TOMLS) + 1 or not path.is_file():
        path.unlink(missing_ok=True)
    else:
        content = path.read_text(errors="replace")
        old, new = random.choice(
            [
                ("values = [1]", "values = [2]"),
                ("values = [1]", "values = [1, 7]"),
                ("values = [1]", ""),
                ("values = [1]", "values = [1.0]"),
                ('"disc"', '"bar"'),
                ('"disc"', '"Disc"'),
                ("color = ", "colour = "),
                ("[[class]]", "[class]"),
                ("ignore = [", "ignore = [0, "),
                ("ignore = [", "ignore = [255, 77, "),
                ("name = ", "name = 3 #"),
                ("color = [", "color = [1, "),
            ]
        )
        path.write_text(content.replace(old, new, random.choice([1, -1])))
    return True


# JSON


def spots(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: what it is in, and its key there."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        found.append((value, key))
        found += spots(inner)
    return found


def loaded(data: Set, random: Random) -> tuple[Path, Any] | None:
    path = pick(random, [p for p in data.texts if p.suffix == ".json"])
    if path is None:
        return None
    try:
        return path, json.loads(path.read_bytes())
    except ValueError:
        return None


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def json_value(data: Set, random: Random, kind: str) -> bool:
    found = loaded(data, random)
    if found is None:
        return False
    path, value = found
    places = spots(value)
    if not places:
        return False
    shallow = [place for place in places if isinstance(place[0], dict)]
    where, key = random.choice(shallow if shallow and random.random() < 0.6 else places)
    if kind == "missing":
        del where[key]
    elif kind == "deep":
        where[key] = nested(random.choice([30, 70, 400, 900]))
    elif kind == "number":
        numbers = [(w, k) for w, k in places if isinstance(w[k], int | float) and not isinstance(w[k], bool)]
        if not numbers:
            return False
        where, key = random.choice(numbers)
        where[key] = random.choice([-1, 0, 1, 2, where[key] + 1, where[key] - 1, 1e9, 1e308, 10**40, where[key] + 0.5])
    else:
        odd = [None, True, False, "", "a", "1", "\ud800", "a\0b", "x" * 5000, [], {}, [[]], [1], [None], {"a": 1}]
        odd += [float("nan"), float("inf"), -1, 0, 1, 1.5, 10**30, 10**400, "../../x", "/etc", "."]
        where[key] = random.choice(odd)
    path.write_text(json.dumps(value))
    return True


def shapes(data: Set, random: Random, kind: str) -> bool:
    """Damage that keeps the form of an instances file or of labelme's."""
    found = loaded(data, random)
    if found is None or not isinstance(found[1], dict):
        return False
    path, value = found
    things = value.get("annotations", value.get("shapes"))
    if not isinstance(things, list) or not things or not all(isinstance(thing, dict) for thing in things):
        return False
    thing = random.choice(things)
    coco = "annotations" in value
    points = thing.get("segmentation" if coco else "points")
    if kind == "polygon":
        if not isinstance(points, list) or not points:
            return False
        flat_points = points[0] if coco else points
        if not isinstance(flat_points, list) or len(flat_points) < 6:
            return False
        how = random.choice(["two", "one", "far", "cross", "half", "none", "odd", "outside"])
        unit = 2 if coco else 1
        if how in ("two", "one", "none"):
            del flat_points[unit * {"two": 2, "one": 1, "none": 0}[how] :]
        elif how == "odd":
            del flat_points[-1]
        else:
            numbers = np.array(flat_points, dtype=float).reshape(-1, 2)
            if how == "cross":
                numbers = numbers[np.random.default_rng(random.randrange(99)).permutation(len(numbers))] + 0.25
            else:
                numbers = (
                    numbers * {"far": 1e5, "half": 0.37, "outside": 1}[how]
                    + {"far": 0.1, "half": 0.01, "outside": 200}[how]
                )
            flat_points[:] = numbers.ravel().tolist() if coco else numbers.tolist()
    elif kind == "runs":
        masks = [t["segmentation"] for t in things if coco and isinstance(t.get("segmentation"), dict)]
        if not masks:
            return False
        mask = random.choice(masks)
        if random.random() < 0.5 and isinstance(mask.get("counts"), str) and mask["counts"]:
            counts = mask["counts"]
            at = random.randrange(len(counts))
            mask["counts"] = counts[:at] + random.choice(["", "0", "o", "\x00", "é", "P"]) + counts[at + 1 :]
        else:
            height, width = mask["size"] if isinstance(mask.get("size"), list) and len(mask["size"]) == 2 else (40, 56)
            whole = height * width if isinstance(height, int) and isinstance(width, int) else 2240
            mask["counts"] = random.choice(
                [[whole], [whole - 1], [0, whole], [0, whole + 1], [3, 9, whole - 12], [-1, whole + 1]]
            )
    elif kind == "ids":
        if not coco or not isinstance(value.get("images"), list) or not value["images"]:
            return False
        images, categories = value["images"], value.get("categories") or [{}]
        how = random.randrange(7)
        if how == 0:
            images.append(dict(images[0]))
        elif how == 1:
            images.append({**images[0], "id": 77})
        elif how == 2:
            categories.append(dict(categories[0]))
        elif how == 3:
            thing["category_id"] = random.choice([0, 9, -1, "1"])
        elif how == 4:
            thing["image_id"] = random.choice([0, 99, -1, "1"])
        elif how == 5:
            thing["iscrowd"] = random.choice([1, "0", "1", None, [], 2, False])
        else:
            categories.reverse()
    else:
        entries = value.get("images", [value])
        entry = random.choice(entries) if isinstance(entries, list) and entries else None
        if not isinstance(entry, dict):
            return False
        names = ("height", "width") if coco else ("imageHeight", "imageWidth")
        one, other = entry.get(names[0]), entry.get(names[1])
        entry[names[0]] = random.choice([other, 0, -40, 41, 39, 10**9, 40.0])
        entry[names[1]] = random.choice([other, one, 0, 57])
    path.write_text(json.dumps(value))
    return True


def _named(prefix: str, function: Callable[..., bool], kinds: tuple[str, ...]) -> dict[str, Change]:
    return {f"{prefix}: {kind}": partial(function, kind=kind) for kind in kinds}


CHANGES: dict[str, Change] = {
    **{f"truncate {kind}": partial(truncate, kind=kind) for kind in ("pictures", "labels", "texts")},
    **{f"empty {kind}": partial(empty, kind=kind) for kind in ("pictures", "labels", "texts")},
    **{f"flip bytes of {kind}": partial(flip, kind=kind) for kind in ("pictures", "labels", "texts")},
    "replace by text": by_text,
    "delete": delete,
    "rename": rename,
    "rename picture and label": rename_both,
    "NFC and NFD": mixed_forms,
    "duplicate": duplicate,
    **{f"swap {kind}": partial(swap, kind=kind) for kind in ("pictures", "labels", "any")},
    "move": move,
    "folder instead of file": folder_instead,
    "file instead of folder": file_instead,
    **_named("link", link, ("loop", "broken", "folder", "loop folder")),
    "upper-case suffix": upper,
    "extra file": extra,
    "size of picture": partial(reshape, kind="pictures"),
    "size of label": partial(reshape, kind="labels"),
    "smooth label": smooth,
    "JPEG label": jpeg,
    "mode of picture": partial(mode, kind="pictures"),
    "mode of label": partial(mode, kind="labels"),
    **_named("values", values, ("shift", "swap", "outside", "binary", "all one")),
    "other colour": color,
    **{f"label stored as {form}": partial(few_bits, form=form) for form in ("1", "2", "4", "PGM", "white is 0")},
    "16-bit colours": deep_color,
    "EXIF of picture": partial(exif, kind="pictures"),
    "EXIF of label": partial(exif, kind="labels"),
    "several frames": frames,
    "bomb": bomb,
    **_named(
        "text",
        text,
        (
            *("CRLF", "BOM", "UTF-16", "Latin-1", "NUL", "blank lines", "huge line", "lose a line", "twice a line"),
            *("swap lines", "character", "number"),
        ),
    ),
    "classes.toml": toml,
    **_named("JSON", json_value, ("missing", "type", "number", "deep")),
    **_named("shapes", shapes, ("polygon", "runs", "ids", "size")),
}
