"""Images of bands: written without the program, and the values that they hold kept by their bytes.

write_tiff(path, values)                             # (H, W, n) uint16
kept_bands(path)                                     # those values, as long as nobody has changed the file
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from fuzz_picks import pick
from fuzz_sets import Set

_written: dict[bytes, np.ndarray] = {}


def kept_bands(path: Path) -> np.ndarray | None:
    """The bands of an image: of an NPY file what NumPy reads, of others what was written, or None."""
    if path.suffix.lower() == ".npy" and path.read_bytes().startswith(b"\x93NUMPY"):
        values = np.load(path, allow_pickle=False)
        return np.moveaxis(values, 0, 2) if values.shape[0] <= 20 < values.shape[2] else values
    return _written.get(hashlib.sha256(path.read_bytes()).digest())


def _remember(path: Path, values: np.ndarray) -> None:
    _written[hashlib.sha256(path.read_bytes()).digest()] = values


def write_tiff(path: Path, values: np.ndarray) -> None:
    """Write a TIFF of one strip, its bands side by side in each pixel."""
    height, width, bands = values.shape
    data = values.astype("<u2").tobytes()
    extra = 8 + len(data)  # after the pixels: the bits, then the formats of each band
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, bands, extra), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, bands), (278, 3, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1)]
    entries += [(338, 3, bands - 1, extra + 2 * bands), (339, 3, bands, extra + 2 * bands + 2 * (bands - 1))]
    arrays = struct.pack(f"<{3 * bands - 1}H", *[16] * bands, *[0] * (bands - 1), *[1] * bands)
    directory = extra + len(arrays)
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<I", directory)
    path.write_bytes(head + data + arrays + struct.pack("<H", len(entries)) + body + b"\0" * 4)
    _remember(path, values)


def write_deep_png(path: Path, values: np.ndarray) -> None:
    """Write a PNG of three channels of 16 bits."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    _remember(path, values)


def numpy_file(data: Set, random: Random, kind: str) -> bool:
    """Another array in an NPY file."""
    path = pick(random, [p for p in data.images if p.suffix == ".npy"])
    if path is None:
        return False
    try:
        values = np.load(path)
    except Exception:
        return False
    if values.ndim != 3:
        return False
    changed = {
        "object": np.array([{"a": 1}, None], dtype=object),
        "bands": values[..., : random.choice([0, 1, 2, 3])],
        "size": values[: random.choice([0, 1, 39])],
        "one axis": values.ravel(),
        "first axis": values.transpose(2, 0, 1),
        "Fortran": np.asfortranarray(values),
        "big-endian": values.astype(values.dtype.newbyteorder(">")),
        "type": values.astype(random.choice(["u1", "i2", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "?", "S4"])),
        "not finite": np.where(values == values.flat[3], random.choice([np.nan, np.inf]), values.astype(np.float32)),
        "negative": -values.astype(np.float32 if values.dtype.kind == "f" else np.int32),
    }[kind]
    np.save(path, changed, allow_pickle=True)
    return True
