"""The protobuf wire format, the little of it that files of weights need: no library, no schema.

    >>> message = b"".join(encode_delimited(1, b"conv1")) + encode_varint_field(2, 300)
    >>> [(field.number, field.value if field.wire == VARINT else bytes(field.value)) for field in read_fields(message)]
    [(1, b'conv1'), (2, 300)]

A message is a row of fields. A field is a key (its number and its wire type, in one varint) and a value. What a number
means is the caller's to know; a number that the caller does not know is skipped, as protobuf asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dilated.errors import InputError

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
_MAX_FIELD_NUMBER = 2**29 - 1

BytesLike = bytes | memoryview


class Field(NamedTuple):
    """One field of a message.

    `value` is the unsigned integer of a varint, and the bytes of any other wire type (8, 4 or as many as it says), as a
    slice that shares the message's memory. `offset` is where the value begins.
    """

    number: int
    wire: int
    value: int | memoryview
    offset: int


def read_fields(data: bytes | memoryview, offset: int = 0) -> Iterator[Field]:
    """The fields of a message, one after the other; nothing is copied.

    Args:
        data: the message; a memoryview must be of bytes.
        offset: where the message begins in its file, for the offsets of the fields and of errors.

    Raises:
        InputError: the bytes are no message, or end within a field; with the offset.

    Example:
        >>> list(read_fields(bytes([0x08, 0x96, 0x01])))
        [Field(number=1, wire=0, value=150, offset=1)]
    """
    data = memoryview(data)
    position = 0
    while position < len(data):
        start = position
        key, position = _decode_varint(data, position, offset)
        number, wire = key >> 3, key & 7
        if not 1 <= number <= _MAX_FIELD_NUMBER:
            raise InputError(f"byte {offset + start}: found field number {number}; expected 1 to {_MAX_FIELD_NUMBER}")
        begin = position
        if wire == VARINT:
            value, position = _decode_varint(data, position, offset)
            yield Field(number, wire, value, offset + begin)
            continue
        if wire == DELIMITED:
            size, begin = _decode_varint(data, position, offset)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise InputError(f"byte {offset + start}: found wire type {wire} in field {number}; expected 0, 1, 2 or 5")
        if size > len(data) - begin:
            raise InputError(
                f"byte {offset + begin}: field {number} should be {size} bytes long; found {len(data) - begin} before "
                "the end"
            )
        position = begin + size
        yield Field(number, wire, data[begin:position], offset + begin)


def read_delimited_fields(data: bytes | memoryview, offset: int = 0) -> Iterator[tuple[int, memoryview, int]]:
    """Only the length-delimited fields of a message (strings, messages, packed numbers): number, bytes and offset.

    Raises:
        InputError: as `read_fields`.

    Example:
        >>> [(number, bytes(value)) for number, value, _ in read_delimited_fields(encode_varint_field(1, 5) + b"".join(encode_delimited(2, b"a")))]
        [(2, b'a')]
    """
    for field in read_fields(data, offset):
        if field.wire == DELIMITED and isinstance(field.value, memoryview):
            yield field.number, field.value, field.offset


def read_varints(data: bytes | memoryview, offset: int = 0) -> Iterator[int]:
    """The unsigned integers of a packed field.

    Raises:
        InputError: the last one is cut short, or one is longer than 64 bits; with the offset.

    Example:
        >>> list(read_varints(encode_varint(3) + encode_varint(300)))
        [3, 300]
    """
    data = memoryview(data)
    position = 0
    while position < len(data):
        value, position = _decode_varint(data, position, offset)
        yield value


def to_signed(value: int) -> int:
    """The unsigned integer of a varint as what an `int32` or `int64` field means by it.

    Example:
        >>> to_signed(2**64 - 1), to_signed(7)
        (-1, 7)
    """
    return value - 2**64 if value >= 2**63 else value


def _decode_varint(data: memoryview, position: int, offset: int) -> tuple[int, int]:
    """The varint at `at`, and where it ends."""
    value = 0
    for i, byte in enumerate(data[position : position + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            if value >= 2**64:
                break
            return value, position + i + 1
    if len(data) - position < 10:
        raise InputError(
            f"byte {offset + position}: found the end within an integer; expected {len(data) - position + 1} bytes"
        )
    raise InputError(f"byte {offset + position}: found an integer of more than 64 bits; expected at most 64")


def encode_varint(value: int) -> bytes:
    """An integer in as few bytes as it takes; a negative one as its 64-bit two's complement, in ten.

    Raises:
        ValueError: it needs more than 64 bits.

    Example:
        >>> encode_varint(150).hex()
        '9601'
    """
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"varint: found {value}; expected an integer of 64 bits")
    value %= 2**64
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_varint_field(number: int, value: int) -> bytes:
    """A varint field.

    Example:
        >>> encode_varint_field(1, 150).hex()
        '089601'
    """
    return encode_varint(number << 3 | VARINT) + encode_varint(value)


def encode_delimited(number: int, *parts: BytesLike) -> list[BytesLike]:
    """A length-delimited field, as parts to write one after the other: its head, then `parts` as they are.

    Parts nest: the parts of a field may be the parts of a message's field. Large ones are never joined.

    Example:
        >>> b"".join(encode_delimited(2, *encode_delimited(1, b"abc"))).hex()
        '12050a03616263'
    """
    return [encode_varint(number << 3 | DELIMITED) + encode_varint(sum(len(part) for part in parts)), *parts]


def encode_packed_varints(number: int, values: Iterable[int]) -> bytes:
    """A packed field of varints.

    Example:
        >>> encode_packed_varints(1, (3, 300)).hex()
        '0a0303ac02'
    """
    return b"".join(encode_delimited(number, *(encode_varint(value) for value in values)))


def encode_packed_floats(number: int, values: NDArray[Any]) -> list[BytesLike]:
    """A packed field of 32-bit floats, as parts; the second one shares the memory of a C-contiguous float32 array.

    Example:
        >>> b"".join(encode_packed_floats(5, np.array([1.0, -2.0], dtype=np.float32))).hex()
        '2a080000803f000000c0'
    """
    flat = np.asarray(values, dtype="<f4", order="C").reshape(-1)
    return encode_delimited(number, flat.view(np.uint8).data)
