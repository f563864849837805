"""Caffe weight files (`.caffemodel`), read without Caffe.

    layers = read_caffemodel("net.caffemodel")           # layer name -> its blobs: weight, then bias

A file is one protobuf message: layers, each with a name and its blobs (weight, then bias). Three generations of layers
exist, and two ways to give a blob's shape; all are read. Which network the weights are for is not in the file:
`match_layers` compares the names and shapes with those of a network.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dilated.errors import InputError
from dilated.weights.protobuf import (
    DELIMITED,
    FIXED32,
    FIXED64,
    read_delimited_fields,
    read_fields,
    read_varints,
    to_signed,
)

Blob = NDArray[np.float32]

_MAX_AXES = 32  # Caffe's own bound


class _LayerFormat(NamedTuple):
    """The field numbers of one generation of layers; `inner` holds a layer of the generation before."""

    name: int
    blobs: int
    inner: int = 0


_V0 = _LayerFormat(name=1, blobs=50)
_LAYER_FORMATS = {2: _LayerFormat(name=4, blobs=6, inner=1), 100: _LayerFormat(name=1, blobs=7)}


def read_caffemodel(path: Path | str) -> dict[str, list[Blob]]:
    """The weights in a Caffe weight file, by layer.

    The file is mapped, not loaded: an array takes memory when it is first used. The arrays are read-only views onto the
    map, perhaps unaligned, and keep it open as long as one of them lives; copy one (`torch.tensor(array)`) to change it
    or to be rid of the file. Meanwhile the file may be replaced or deleted, but must not be shortened in place. Only
    data that is stored in pieces or in double precision is copied.

    A file that was cut between two layers is a complete file of fewer layers; `match_layers` finds what is missing.

    Args:
        path: a `.caffemodel` in Caffe's binary format, of any generation.

    Returns:
        Layer name -> its blobs, float32, in the file's order; only layers that have any. A shape is as the file gives
        it: four numbers in old files, such as (1, 1, 1, 64) for a bias.

    Raises:
        InputError: no such file, one that is empty, cut short, damaged or of another kind, a blob whose values do not
            fill its shape, two layers of one name, no layer with blobs.
    """
    path = Path(path)
    data = _map_file(path)
    layers: dict[str, list[Blob]] = {}
    try:
        for number, message, offset in read_delimited_fields(data):
            if number not in _LAYER_FORMATS:
                continue
            name, blobs = _parse_layer(message, offset, _LAYER_FORMATS[number])
            if not blobs:
                continue
            if not name:
                raise InputError(f"byte {offset}: a layer with weights has no name")
            if name in layers:
                raise InputError(f"byte {offset}: a second layer with weights is called {name!r}")
            layers[name] = [_parse_blob(*blob, f"layer {name!r}, blob {i}") for i, blob in enumerate(blobs)]
        if not layers:
            raise InputError(f"no layer with weights in {len(data)} bytes")
    except InputError as error:
        raise InputError(
            f"{path}: not a complete Caffe weight file: {error}{_describe_foreign_file(bytes(data[:256]))}",
            hint="give a binary .caffemodel; copy or download it again",
        ) from error
    return layers


def match_layers(
    layers: Mapping[str, Sequence[Blob]],
    expected: Mapping[str, list[tuple[int, ...]]],
    path: Path | str,
    aliases: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, list[Blob]]:
    """Find the layers of a network among those of a file, by name and shape.

    A shape must be the expected one, but for two ways to write the same values in the same order: the leading ones of
    old files, as in (1, 1, 1, 64) for (64,), and an inner product (out, c * h * w) for a convolution (out, c, h, w).

    Args:
        layers: as `read_caffemodel` returns them.
        expected: layer name -> the shapes of its blobs.
        path: the file, for errors.
        aliases: expected name -> other names that files have for it; the first that the file has counts.

    Returns:
        Expected name -> its arrays in the expected shapes, sharing the memory of `layers`; in the order of
        `expected`.

    Raises:
        InputError: a layer is missing, has another shape or another number of blobs, or is unused; with all of them.

    Example:
        >>> layers = {"fc-final": [np.ones((1, 1, 2, 12), np.float32), np.zeros((1, 1, 1, 2), np.float32)]}
        >>> matched = match_layers(layers, {"final": [(2, 3, 2, 2), (2,)]}, "net.caffemodel", {"final": ["fc-final"]})
        >>> [blob.shape for blob in matched["final"]]
        [(2, 3, 2, 2), (2,)]
    """
    matched: dict[str, list[Blob]] = {}
    missing, mismatched, used = [], [], set()
    for name, shapes in expected.items():
        expected_shapes = [tuple(shape) for shape in shapes]
        others = [other for other in (aliases or {}).get(name, ()) if other not in expected and other not in used]
        source = next((candidate for candidate in (name, *others) if candidate in layers), None)
        if source is None:
            missing.append(" or ".join(repr(candidate) for candidate in (name, *others)))
            continue
        used.add(source)
        actual = [blob.shape for blob in layers[source]]
        if len(actual) == len(expected_shapes) and all(map(_is_same_layout, actual, expected_shapes)):
            matched[name] = [blob.reshape(shape) for blob, shape in zip(layers[source], expected_shapes, strict=True)]
        else:
            mismatched.append(
                f"{source!r} (found {_format_shapes(actual)}, expected {_format_shapes(expected_shapes)})"
            )
    unused = [repr(name) for name in layers if name not in used]
    if missing or mismatched or unused:
        problems = (("missing", missing), ("of another shape", mismatched), ("unused", unused))
        listed = "; ".join(f"{len(names)} {problem}: {_abbreviate(names)}" for problem, names in problems if names)
        raise InputError(
            f"{path}: its layers are not the network's {len(expected)}: {listed}",
            hint="give the file that belongs to this network",
        )
    return matched


def _map_file(path: Path) -> memoryview:
    """The bytes of a file; the map closes when the last view onto it is gone."""
    if not path.is_file():
        raise InputError(f"{path}: no such file", hint="give a .caffemodel")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b"")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})", hint="give a .caffemodel") from error
    if not size:
        raise InputError(f"{path}: the file is empty", hint="copy or download it again")
    return data


def _parse_layer(message: memoryview, offset: int, kind: _LayerFormat) -> tuple[str, list[tuple[memoryview, int]]]:
    """The name of a layer and its blobs' messages with their offsets."""
    name = ""
    blobs = []
    for number, value, position in read_delimited_fields(message, offset):
        if number == kind.name:
            try:
                name = str(value, "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"byte {position}: a layer's name is not UTF-8 text") from error
        elif number == kind.blobs:
            blobs.append((value, position))
        elif number == kind.inner:
            inner_name, inner_blobs = _parse_layer(value, position, _V0)
            name = inner_name or name
            blobs += inner_blobs
    return name, blobs


def _parse_blob(message: memoryview, offset: int, where: str) -> Blob:
    """The array of a BlobProto."""
    legacy: dict[int, int] = {}
    shape: list[int] = []
    single: list[memoryview | bytearray] = []
    double: list[memoryview | bytearray] = []
    for number, wire, value, position in read_fields(message, offset):
        if isinstance(value, int):
            if 1 <= number <= 4:
                legacy[number] = to_signed(value)
        elif number == 5 and wire in (DELIMITED, FIXED32):
            _append_values(single, value, wire)
        elif number == 7 and wire == DELIMITED:
            shape += _read_dimensions(value, position)
        elif number == 8 and wire in (DELIMITED, FIXED64):
            _append_values(double, value, wire)
    if legacy:  # before `shape`, as in Caffe
        shape = [legacy.get(axis, 0) for axis in (1, 2, 3, 4)]
    if len(shape) > _MAX_AXES or any(length < 1 for length in shape):
        actual = tuple(shape) if len(shape) <= _MAX_AXES else f"of {len(shape)} axes"
        raise InputError(f"byte {offset}: {where}: a shape {actual} is not of at most {_MAX_AXES} axes, each >= 1")
    pieces, itemsize = (double, 8) if double else (single, 4)
    size = sum(len(piece) for piece in pieces)
    if size != math.prod(shape) * itemsize:
        raise InputError(
            f"byte {offset}: {where}: {size} bytes of values, where the shape {tuple(shape)} takes "
            f"{math.prod(shape) * itemsize}"
        )
    values = np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), dtype=f"<f{itemsize}").reshape(shape)
    if not double:
        return values.astype(np.float32, copy=False)
    with np.errstate(all="ignore"):
        rounded = values.astype(np.float32)
    if (np.isfinite(values) & ~np.isfinite(rounded)).any():
        raise InputError(f"byte {offset}: {where}: a value is too large for float32")
    return rounded


def _append_values(pieces: list[memoryview | bytearray], value: memoryview, wire: int) -> None:
    """Add packed numbers as they are, and loose ones to a buffer: a view of each would take fifty times its size."""
    last = pieces[-1] if pieces else None
    if wire == DELIMITED:
        pieces += [value] if len(value) else []
    elif isinstance(last, bytearray):
        last.extend(value)
    else:
        pieces.append(bytearray(value))


def _read_dimensions(message: memoryview, offset: int) -> Iterator[int]:
    """The numbers of a BlobShape, packed or loose."""
    for number, wire, value, position in read_fields(message, offset):
        if number == 1 and isinstance(value, int):
            yield to_signed(value)
        elif number == 1 and wire == DELIMITED and isinstance(value, memoryview):
            yield from map(to_signed, read_varints(value, position))


def _describe_foreign_file(head: bytes) -> str:
    """What else a file is by its first bytes, or nothing."""
    text = min(head) >= 9 and not set(head) & {*range(14, 32), 127}
    kinds = (
        (head.startswith(b"\x89PNG"), "a PNG image"),
        (head.startswith(b"\x89HDF"), "an HDF5 file, such as a .caffemodel.h5 (save it as binaryproto)"),
        (head.startswith(b"PK\x03\x04"), "a zip file, such as weights of PyTorch"),
        (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"), "a pickle of Python"),
        (head[8:9] == b"{" and head[6:8] == b"\0\0", "a safetensors file"),
        (text and head.lstrip().startswith(b"<"), "a web page (the address gave no file)"),
        (text, "text, such as a .prototxt, which has no weights"),
    )
    return next((f"; it looks like {what}" for applies, what in kinds if applies), "")


def _is_same_layout(actual: tuple[int, ...], expected_shapes: tuple[int, ...]) -> bool:
    """Whether a blob of one shape holds the values of the other in the same order, and is known to be written so."""
    if actual == expected_shapes:
        return True
    if len(expected_shapes) == 4:
        rows = (expected_shapes[0], math.prod(expected_shapes[1:]))
        return actual in (rows, (1, 1, *rows))
    return actual == (1,) * (4 - len(expected_shapes)) + expected_shapes


def _format_shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(str(tuple(shape)) for shape in shapes) or "no blob"


def _abbreviate(items: Sequence[str], limit: int = 40) -> str:
    return ", ".join(items[:limit]) + (f" and {len(items) - limit} more" if len(items) > limit else "")
