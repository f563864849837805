"""Ways to damage the files of a data set: cut, renamed, swapped, linked, in the way of one another."""

from __future__ import annotations

import os
import unicodedata
from random import Random

from fuzz_picks import of, pick
from fuzz_sets import Set


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
    path.write_bytes(random.choice([b"no image\n", b"{}", b"[]", b"null", b"<html>", b"\0" * 64, b"\xff\xfe\0a", b"0"]))
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
    """The image and the files that belong to it get another stem."""
    path = pick(random, data.images)
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
    """The image's name is composed (NFC), its label's is decomposed (NFD)."""
    path, stem = pick(random, data.images), ""
    if path is None:
        return False
    stem = path.stem
    forms = ["NFC", "NFD"]
    random.shuffle(forms)
    for one in [p for p in data.files() if p.is_file() and (p.stem == stem or p.stem.startswith(f"{stem}_"))]:
        name = unicodedata.normalize(forms[one in data.images], f"é{one.name}")
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
