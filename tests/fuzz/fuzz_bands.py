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


def write_dicom(path: Path, values: np.ndarray, **changed: bytes) -> None:
    """Write a DICOM image of one channel of 16 bits, 12 of which may be used.

    Args:
        changed: other contents of attributes, by their keywords.
    """
    numbers = {"SamplesPerPixel": 1, "Rows": values.shape[0], "Columns": values.shape[1], "BitsAllocated": 16}
    numbers |= {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}
    contents = {name: struct.pack("<H", number) for name, number in numbers.items()}
    contents["PhotometricInterpretation"] = b"MONOCHROME2 "
    contents["PixelData"] = values.astype("<u2").tobytes()
    contents |= changed
    head = b"".join(_element(0x0002, *element) for element in DICOM_HEAD)
    head = _element(0x0002, 0x0000, b"UL", struct.pack("<I", len(head))) + head
    body = b"".join(
        _element(group, number, kind, contents[name])
        for name, (group, number, kind) in DICOM_BODY.items()
        if name in contents
    )
    path.write_bytes(b"\0" * 128 + b"DICM" + head + body)
    if not changed:
        _remember(path, values)


DICOM_HEAD = (
    (0x0002, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
    (0x0003, b"UI", b"1.2.3.4\0"),
    (0x0010, b"UI", b"1.2.840.10008.1.2.1\0"),
)
DICOM_BODY = {
    "SamplesPerPixel": (0x0028, 0x0002, b"US"),
    "PhotometricInterpretation": (0x0028, 0x0004, b"CS"),
    "NumberOfFrames": (0x0028, 0x0008, b"IS"),
    "Rows": (0x0028, 0x0010, b"US"),
    "Columns": (0x0028, 0x0011, b"US"),
    "BitsAllocated": (0x0028, 0x0100, b"US"),
    "BitsStored": (0x0028, 0x0101, b"US"),
    "HighBit": (0x0028, 0x0102, b"US"),
    "PixelRepresentation": (0x0028, 0x0103, b"US"),
    "RescaleIntercept": (0x0028, 0x1052, b"DS"),
    "RescaleSlope": (0x0028, 0x1053, b"DS"),
    "PixelData": (0x7FE0, 0x0010, b"OW"),
}


def _element(group: int, number: int, kind: bytes, content: bytes) -> bytes:
    """An element of explicit type, little-endian."""
    length = struct.pack("<HI", 0, len(content)) if kind == b"OW" else struct.pack("<H", len(content))
    return struct.pack("<HH", group, number) + kind + length + content


def dicom_file(data: Set, random: Random) -> bool:
    """Another attribute in a DICOM file."""
    path = pick(random, [p for p in data.images if p.suffix == ".dcm"])
    if path is None or (values := kept_bands(path)) is None:
        return False
    name = random.choice([name for name in DICOM_BODY if name != "PixelData"])
    kind = DICOM_BODY[name][2]
    if kind == b"US":
        content = struct.pack("<H", random.choice([0, 1, 2, 3, 8, 11, 12, 15, 16, 32, 39, 41, 57, 65535]))
    else:
        content = random.choice(
            [b"MONOCHROME1 ", b"RGB ", b"YBR_FULL", b"0 ", b"2 ", b"-1", b"1e9 ", b"nan ", b"0.25", b""]
        )
    write_dicom(path, values, **{name: content})
    return True


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
