import numpy as np
import pytest
from caffe_writer import (
    encode_delimited,
    encode_packed_floats,
    encode_packed_varints,
    encode_varint,
    encode_varint_field,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.errors import InputError
from dilated.weights.protobuf import read_delimited_fields, read_fields, read_varints, to_signed

KNOWN = {
    0: "00",
    1: "01",
    127: "7f",
    128: "8001",
    150: "9601",
    2**32: "8080808010",
    2**63: "80808080808080808001",
    2**64 - 1: "ffffffffffffffffff01",
    -1: "ffffffffffffffffff01",
    -(2**63): "80808080808080808001",
}


@pytest.mark.parametrize(("value", "encoded"), KNOWN.items())
def test_varints_are_those_of_the_format(value: int, encoded: str) -> None:
    assert encode_varint(value).hex() == encoded
    assert list(read_varints(bytes.fromhex(encoded))) == [value % 2**64]
    assert to_signed(value % 2**64) == (value if value < 2**63 else value - 2**64)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=5))
def test_packed_varints_come_back(values: list[int]) -> None:
    (field,) = read_fields(encode_packed_varints(3, values))
    assert isinstance(field.value, memoryview)
    assert (field.number, list(read_varints(field.value))) == (3, values)


def test_the_four_wire_types_are_told_apart_with_their_offsets() -> None:
    message = bytes.fromhex("0896011101020304050607081a0474657374250a0b0c0da006ff01")
    found = [
        (number, wire, value if isinstance(value, int) else value.hex(), at)
        for number, wire, value, at in read_fields(message, offset=100)
    ]
    assert found == [
        (1, 0, 150, 101),
        (2, 1, "0102030405060708", 104),
        (3, 2, "74657374", 114),
        (4, 5, "0a0b0c0d", 119),
        (100, 0, 255, 125),
    ]


def test_offsets_inside_a_message_are_those_of_the_file() -> None:
    data = b"\x08\x01" + encode_delimited(7, encode_delimited(9, b"abc"))
    ((number, value, offset),) = read_delimited_fields(data)
    ((inner, text, at),) = read_delimited_fields(value, offset)
    assert (number, inner, bytes(text), data[at : at + 3]) == (7, 9, b"abc", b"abc")


def test_values_share_the_memory_of_the_message() -> None:
    data = bytearray(encode_delimited(1, b"abc"))
    (field,) = read_fields(data)
    data[-1] = ord("z")
    assert isinstance(field.value, memoryview)
    assert bytes(field.value) == b"abz"


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("80", "byte 7: .*ends within an integer"),
        ("0880", "byte 8: .*ends within an integer"),
        ("08" + "80" * 10 + "01", "byte 8: .*more than 64 bits"),
        ("08" + "ff" * 9 + "02", "byte 8: .*more than 64 bits"),
        ("08010a", "byte 10: .*ends within an integer"),
        ("0a0361", "byte 9: field 1 should be 3 bytes long, and the message ends after 1"),
        (
            "0affffffffffffffffff01",
            "byte 18: field 1 should be 18446744073709551615 bytes long, and the message ends after 0",
        ),
        ("0d000000", "byte 8: field 1 should be 4 bytes long, and the message ends after 3"),
        ("0900000000000000", "byte 8: field 1 should be 8 bytes long, and the message ends after 7"),
        ("00", "byte 7: field number 0"),
        ("808080801000", "byte 7: field number 536870912"),
        ("0b", "byte 7: wire type 3 in field 1"),
        ("08010c", "byte 9: wire type 4 in field 1"),
        ("0e", "byte 7: wire type 6"),
        ("0f", "byte 7: wire type 7"),
    ],
)
def test_bytes_that_are_no_message_are_refused_with_the_offset(message: str, error: str) -> None:
    with pytest.raises(InputError, match=error):
        list(read_fields(bytes.fromhex(message), offset=7))


def test_the_largest_field_number_is_read() -> None:
    assert [field.number for field in read_fields(encode_varint_field(2**29 - 1, 5))] == [2**29 - 1]


def test_floats_are_written_in_row_order_whatever_the_strides() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert encode_packed_floats(5, values + 0)[:2] == b"\x2a\x18"
    assert encode_packed_floats(5, values.T) == encode_packed_floats(5, np.ascontiguousarray(values.T))
    assert encode_packed_floats(5, values[1, ::2]) == b"\x2a\x08\x00\x00\x40\x40\x00\x00\xa0\x40"  # 3, 5


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40))
def test_any_bytes_are_fields_or_an_input_error(data: bytes) -> None:
    try:
        found = list(read_fields(data))
    except InputError:
        return
    assert bool(found) == bool(data)
    for field in found:
        assert (
            isinstance(field.value, int) or bytes(field.value) == data[field.offset : field.offset + len(field.value)]
        )
