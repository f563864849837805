"""Messages of Caffe's weight files, made by hand, and what holds two sets of layers against each other."""

import struct
from collections.abc import Mapping, Sequence

import numpy as np

from dilated.weights.caffe import Blob

Layers = dict[str, list[Blob]]


def field(number: int, value: int | bytes | float) -> bytes:
    """A field by hand: a small integer as a varint, bytes as length-delimited, a float as 32 bits."""
    wire = {int: 0, bytes: 2, float: 5}[type(value)]
    key = number << 3 | wire
    head = bytes([key]) if key < 128 else bytes([key & 127 | 128, key >> 7])
    if isinstance(value, float):
        return head + struct.pack("<f", value)
    number_of = value if isinstance(value, int) else len(value)
    assert number_of < 128
    return head + bytes([number_of]) + (b"" if isinstance(value, int) else value)


def net(*blobs: bytes, name: bytes = b"c") -> bytes:
    """A file with one layer of the current generation."""
    return field(100, field(1, name) + b"".join(field(7, blob) for blob in blobs))


def packed(*values: float, kind: str = "f") -> bytes:
    return struct.pack(f"<{len(values)}{kind}", *values)


def shape(*lengths: int) -> bytes:
    return field(7, field(1, bytes(lengths)))


def sample() -> Layers:
    random = np.random.default_rng(0)
    return {
        "conv1_1": [random.normal(size=s).astype(np.float32) for s in ((3, 2, 3, 3), (3,))],
        "fc": [random.normal(size=s).astype(np.float32) for s in ((4, 6), (4,))],
    }


def same(found: Mapping[str, Sequence[Blob]], expected: Mapping[str, Sequence[Blob]]) -> None:
    assert list(found) == list(expected)
    for name, blobs in expected.items():
        assert [(b.shape, b.dtype, b.tobytes()) for b in found[name]] == [
            (b.shape, b.dtype, b.tobytes()) for b in blobs
        ]
