"""Data sets as zip files, healthy and damaged, and whether unpacking kept to its folder.

path = pack(data, random, kind)                      # what is given to the program
assert_kept_apart(place, kind, reported)             # raises where it wrote elsewhere
"""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile
from pathlib import Path
from random import Random

from fuzz_sets import Set

KINDS = ("plain", "in a folder", "Mac files", "truncate", "flip", "leads out", "absolute", "twice", "bomb", "encrypted")
KINDS = (*KINDS, "link", "in a zip", "backslashes", "no end")
REFUSED = ("leads out", "absolute", "twice", "bomb", "encrypted", "link", "no end")
"""What may never be unpacked."""
EVIL = "evil-file.txt"


def pack(data: Set, random: Random, kind: str) -> Path:
    """Write a zip file of a data set beside it."""
    path = data.root.parent / "data.zip"
    prefix = "export/" if kind == "in a folder" else ""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in data.root.rglob("*") if p.is_file() and not p.is_symlink()):
            name = prefix + str(file.relative_to(data.root))
            name = name.replace("/", "\\") if kind == "backslashes" else name
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())  # the clock would change the digest
            archive.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED)
        if kind == "Mac files":
            archive.writestr("__MACOSX/._data.yaml", b"\0\5\x16\7")
            archive.writestr(".DS_Store", b"\0")
        elif kind == "leads out":
            archive.writestr(random.choice([f"../{EVIL}", f"images/../../../{EVIL}", f"..\\{EVIL}"]), b"x")
        elif kind == "absolute":
            archive.writestr(random.choice([str(data.root.parent / EVIL), f"C:\\{EVIL}"]), b"x")
        elif kind == "twice" and archive.infolist():
            same = zipfile.ZipInfo(archive.infolist()[0].filename)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr(same, b"x")
        elif kind == "link":
            info = zipfile.ZipInfo("images-link")
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc")
        elif kind == "in a zip":
            inner = io.BytesIO()
            with zipfile.ZipFile(inner, "w") as nested:
                nested.writestr("a.png", b"x")
            archive.writestr("more.zip", inner.getvalue())
    content = bytearray(path.read_bytes())
    start = content.find(b"PK\1\2")
    if kind == "truncate":
        del content[random.randrange(len(content)) :]
    elif kind == "no end":
        del content[content.rfind(b"PK\5\6") :]
    elif kind == "flip":
        for _ in range(random.randint(1, 8)):
            content[random.randrange(len(content))] = random.randrange(256)
    elif kind == "bomb" and start >= 0:
        size = struct.pack("<I", random.choice([2**31, 2**32 - 2]))
        while start >= 0:  # all entries: the first may be none of data
            content[start + 24 : start + 28] = size
            start = content.find(b"PK\1\2", start + 1)
    elif kind == "encrypted" and start >= 0:
        while start >= 0:  # all entries: the first may be none of data
            content[start + 8] |= 1
            start = content.find(b"PK\1\2", start + 1)
    path.write_bytes(content)
    return path


def assert_kept_apart(place: Path, kind: str, reported: bool) -> None:
    """Raise where a file was written outside of its folder, or what must be refused was read.

    Raises:
        AssertionError: with what happened.
    """
    leaked = [str(found) for found in place.rglob(EVIL)]
    assert not leaked, f"unpacked {leaked}"
    assert reported or kind not in REFUSED, f"a zip file was read that is {kind}"
