"""The protobuf wire format, as far as reading files of weights needs it: no library, no schema.

    >>> [(field.number, field.wire == VARINT) for field in read_fields(b"\\n\\1a\\x10\\7")]
    [(1, False), (2, True)]

A message is a row of fields. A field is a key (its number and its wire type, in one varint) and a value. What a number
means is the caller's to know; a number that the caller does not know is skipped, as protobuf asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dilated.errors import InputError

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
_MAX_FIELD_NUMBER = 2**29 - 1


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
    """Iterate over the fields of a message; nothing is copied.

    Args:
        data: the message; a memoryview must be of bytes.
        offset: where the message begins in its file, for the offsets of the fields and of errors.

    Raises:
        InputError: the bytes are not a message, or end within a field; with the offset.

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
            raise InputError(f"byte {offset + start}: field number {number} is not in 1 to {_MAX_FIELD_NUMBER}")
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
            raise InputError(f"byte {offset + start}: wire type {wire} in field {number} is not 0, 1, 2 or 5")
        if size > len(data) - begin:
            raise InputError(
                f"byte {offset + begin}: field {number} should be {size} bytes long, and the message ends after "
                f"{len(data) - begin}"
            )
        position = begin + size
        yield Field(number, wire, data[begin:position], offset + begin)


def read_delimited_fields(data: bytes | memoryview, offset: int = 0) -> Iterator[tuple[int, memoryview, int]]:
    """Iterate over the strings, messages and packed numbers of a message: number, bytes and offset of each.

    Raises:
        InputError: as `read_fields`.
    """
    for field in read_fields(data, offset):
        if field.wire == DELIMITED and isinstance(field.value, memoryview):
            yield field.number, field.value, field.offset


def read_varints(data: bytes | memoryview, offset: int = 0) -> Iterator[int]:
    """Iterate over the unsigned integers of a packed field.

    Raises:
        InputError: the last one is cut short, or one is longer than 64 bits; with the offset.

    Example:
        >>> list(read_varints(bytes([3, 0xAC, 2])))
        [3, 300]
    """
    data = memoryview(data)
    position = 0
    while position < len(data):
        value, position = _decode_varint(data, position, offset)
        yield value


def to_signed(value: int) -> int:
    """Convert the unsigned integer of a varint to what an `int32` or `int64` field means by it.

    Example:
        >>> to_signed(2**64 - 1), to_signed(7)
        (-1, 7)
    """
    return value - 2**64 if value >= 2**63 else value


def _decode_varint(data: memoryview, position: int, offset: int) -> tuple[int, int]:
    """The varint at a position, and where it ends."""
    value = 0
    for i, byte in enumerate(data[position : position + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            if value >= 2**64:
                break
            return value, position + i + 1
    if len(data) - position < 10:
        raise InputError(f"byte {offset + position}: the message ends within an integer")
    raise InputError(f"byte {offset + position}: an integer of more than 64 bits")
