"""Caffe weight files (`.caffemodel`), in and out, without Caffe.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write(f"{folder}/net.caffemodel", {"conv1": [np.ones((8, 3, 3, 3), np.float32), np.zeros(8, np.float32)]})
    ...     layers = read(f"{folder}/net.caffemodel")
    >>> {name: [blob.shape for blob in blobs] for name, blobs in layers.items()}
    {'conv1': [(8, 3, 3, 3), (8,)]}

A file is one protobuf message: layers, each with a name and its blobs (weight, then bias). Three generations of layers
are about, and two ways to give a blob's shape; all are read. Which network the weights are for is not in the file:
`fit` holds the names and shapes against those of a network.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dilated.errors import InputError
from dilated.weights.protobuf import (
    DELIMITED,
    FIXED32,
    FIXED64,
    Part,
    chunks,
    delimited,
    fields,
    floats,
    int64,
    integer,
    integers,
    varints,
)

Blob = NDArray[np.float32]

MOST_AXES = 32  # Caffe's own bound
MOST_BYTES = 2**31 - 1  # protobuf libraries, and so Caffe and OpenCV, read no larger message


class Generation(NamedTuple):
    """The field numbers of one generation of layers; `inner` holds a layer of the generation before."""

    name: int
    blobs: int
    inner: int = 0


V0 = Generation(name=1, blobs=50)
LAYERS = {2: Generation(name=4, blobs=6, inner=1), 100: Generation(name=1, blobs=7)}


def read(path: Path | str) -> dict[str, list[Blob]]:
    """The weights in a Caffe weight file, by layer.

    The file is mapped, not loaded: an array takes memory when it is first used. The arrays are read-only views onto the
    map, perhaps unaligned, and keep it open as long as one of them lives; copy one (`torch.tensor(array)`) to change it
    or to be rid of the file. Meanwhile the file may be replaced or deleted, but must not be shortened in place. Only
    data that is stored in pieces or in double precision is copied.

    A file that was cut between two layers is a whole file of fewer layers; `fit` finds what is missing.

    Args:
        path: a `.caffemodel` in Caffe's binary format, of any generation.

    Returns:
        Layer name -> its blobs, float32, in the file's order; only layers that have any. A shape is as the file gives
        it: four numbers in old files, such as (1, 1, 1, 64) for a bias.

    Raises:
        InputError: no such file, one that is empty, cut short, damaged or of another kind, a blob whose values are not
            as many as its shape says, two layers of one name, no layer with blobs.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write(f"{folder}/net.caffemodel", {"fc": [np.array([[1, 2]], np.float32)]})
        ...     layers = read(f"{folder}/net.caffemodel")
        >>> layers["fc"][0].tolist()
        [[1.0, 2.0]]
    """
    path = Path(path)
    data = _mapped(path)
    layers: dict[str, list[Blob]] = {}
    try:
        for number, message, offset in chunks(data):
            if number not in LAYERS:
                continue
            name, blobs = _layer(message, offset, LAYERS[number])
            if not blobs:
                continue
            if not name:
                raise InputError(f"byte {offset}: found a layer with weights and no name; expected a name")
            if name in layers:
                raise InputError(
                    f"byte {offset}: found a second layer {name!r} with weights; expected names that differ"
                )
            layers[name] = [_blob(*blob, f"layer {name!r}, blob {i}") for i, blob in enumerate(blobs)]
        if not layers:
            raise InputError(f"found no layer with weights in {len(data)} bytes; expected those of a trained network")
    except InputError as error:
        raise InputError(
            f"{path}: is no whole Caffe weight file: {error}. {_kind(bytes(data[:256]))}Expected a binary .caffemodel; "
            "copy or download it again, or give another file."
        ) from error
    return layers


def write(
    path: Path | str, layers: Mapping[str, Sequence[NDArray[Any]]], name: str = "dilated", v1: bool = False
) -> None:
    """Write a weight file that Caffe and OpenCV read; it appears whole or not at all.

    Values go from the arrays to the file; none are gathered in memory. Both readers match layers by name alone. A layer
    is labelled a convolution if its first blob has four axes, an inner product if two.

    Args:
        path: the file to write; one that is there is replaced.
        layers: layer name -> its blobs, weight first; float32, or what float32 holds exactly.
        name: the network's name, for people.
        v1: write the layers of 2014 (`layers`, shapes of four numbers with leading ones) for Caffe of that time.

    Raises:
        InputError: no layer, a layer without a name or blobs, an empty array, another type of number, too many axes,
            more than 2 GiB, a file that cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write(f"{folder}/old.caffemodel", {"fc": [np.zeros((10, 4), np.float32)]}, v1=True)
        ...     layers = read(f"{folder}/old.caffemodel")
        >>> layers["fc"][0].shape
        (1, 1, 10, 4)
    """
    path = Path(path)
    if not layers:
        raise InputError(f"{path}: found no layer to write; expected at least one")
    size = sum(4 * np.asarray(blob).size for blobs in layers.values() for blob in blobs)
    if size > MOST_BYTES:
        raise InputError(f"{path}: found {size} bytes of weights; expected at most {MOST_BYTES}, all that Caffe reads")
    partial = path.parent / f"{path.name}.{os.getpid()}.part"
    try:
        with partial.open("wb") as file:
            file.writelines(delimited(1, _encoded(path, "the network", name)))
            for layer, blobs in layers.items():
                file.writelines(_written(path, layer, blobs, v1))
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error}); expected the path of a file in a folder") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def fit(
    layers: Mapping[str, Sequence[Blob]],
    expected: Mapping[str, list[tuple[int, ...]]],
    path: Path | str,
    aliases: Mapping[str, Sequence[str]] | None = None,
    ignore_unused: bool = False,
) -> dict[str, list[Blob]]:
    """Hold the layers of a file against those of a network, by name and shape.

    A shape must be the expected one, but for two ways to write the same values in the same order: the leading ones of
    old files, as in (1, 1, 1, 64) for (64,), and an inner product (out, c * h * w) for a convolution (out, c, h, w).

    Args:
        layers: as `read` returns them.
        expected: layer name -> the shapes of its blobs.
        path: the file, for errors.
        aliases: expected name -> other names that files have for it; the first that is there counts.
        ignore_unused: allow the file to have layers that nothing asks for.

    Returns:
        Expected name -> its arrays in the expected shapes, sharing the memory of `layers`; in the order of `expected`.

    Raises:
        InputError: a layer is missing, has another shape or another number of blobs, or is unused; with all of them.

    Example:
        >>> layers = {"fc-final": [np.ones((1, 1, 2, 12), np.float32), np.zeros((1, 1, 1, 2), np.float32)]}
        >>> fitted = fit(layers, {"final": [(2, 3, 2, 2), (2,)]}, "net.caffemodel", {"final": ["fc-final"]})
        >>> [blob.shape for blob in fitted["final"]]
        [(2, 3, 2, 2), (2,)]
    """
    fitted: dict[str, list[Blob]] = {}
    missing, different, used = [], [], set()
    for name, shapes in expected.items():
        wanted = [tuple(shape) for shape in shapes]
        others = [other for other in (aliases or {}).get(name, ()) if other not in expected and other not in used]
        source = next((candidate for candidate in (name, *others) if candidate in layers), None)
        if source is None:
            missing.append(" or ".join(repr(candidate) for candidate in (name, *others)))
            continue
        used.add(source)
        found = [blob.shape for blob in layers[source]]
        if len(found) == len(wanted) and all(map(_same_values, found, wanted)):
            fitted[name] = [blob.reshape(shape) for blob, shape in zip(layers[source], wanted, strict=True)]
        else:
            different.append(f"{source!r} (found {_shapes(found)}, expected {_shapes(wanted)})")
    unused = [repr(name) for name in layers if name not in used]
    if missing or different or (unused and not ignore_unused):
        faults = (("missing", missing), ("of another shape", different), ("unused", unused))
        listed = "; ".join(f"{len(those)} {fault}: {_some(those)}" for fault, those in faults if those)
        raise InputError(
            f"{path}: its layers are not those of the network: {listed}. Expected exactly the network's "
            f"{len(expected)} layers; give the file that belongs to this network."
        )
    return fitted


def _mapped(path: Path) -> memoryview:
    """The bytes of a file; the map closes when the last view onto it is gone."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a .caffemodel")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b"")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a .caffemodel") from error
    if not size:
        raise InputError(f"{path}: the file is empty; expected a .caffemodel. Copy or download it again.")
    return data


def _layer(message: memoryview, offset: int, kind: Generation) -> tuple[str, list[tuple[memoryview, int]]]:
    """The name of a layer and its blobs' messages with their offsets."""
    name = ""
    blobs = []
    for number, value, at in chunks(message, offset):
        if number == kind.name:
            try:
                name = str(value, "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"byte {at}: found a layer's name that is no UTF-8; expected text") from error
        elif number == kind.blobs:
            blobs.append((value, at))
        elif number == kind.inner:
            inner_name, inner_blobs = _layer(value, at, V0)
            name = inner_name or name
            blobs += inner_blobs
    return name, blobs


def _blob(message: memoryview, offset: int, where: str) -> Blob:
    """The array of a BlobProto."""
    legacy: dict[int, int] = {}
    shape: list[int] = []
    single: list[memoryview | bytearray] = []
    double: list[memoryview | bytearray] = []
    for number, wire, value, at in fields(message, offset):
        if isinstance(value, int):
            if 1 <= number <= 4:
                legacy[number] = int64(value)
        elif number == 5 and wire in (DELIMITED, FIXED32):
            _gather(single, value, wire)
        elif number == 7 and wire == DELIMITED:
            shape += _dimensions(value, at)
        elif number == 8 and wire in (DELIMITED, FIXED64):
            _gather(double, value, wire)
    if legacy:  # before `shape`, as in Caffe
        shape = [legacy.get(axis, 0) for axis in (1, 2, 3, 4)]
    if len(shape) > MOST_AXES or any(length < 1 for length in shape):
        found = tuple(shape) if len(shape) <= MOST_AXES else f"of {len(shape)} axes"
        raise InputError(
            f"byte {offset}: {where}: found the shape {found}; expected at most {MOST_AXES} axes, each >= 1"
        )
    pieces, item = (double, 8) if double else (single, 4)
    size = sum(len(piece) for piece in pieces)
    if size != math.prod(shape) * item:
        raise InputError(
            f"byte {offset}: {where}: found {size} bytes of values; expected {math.prod(shape) * item} for the shape "
            f"{tuple(shape)}"
        )
    values = np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), dtype=f"<f{item}").reshape(shape)
    if not double:
        return values.astype(np.float32, copy=False)
    with np.errstate(all="ignore"):
        rounded = values.astype(np.float32)
    if (np.isfinite(values) & ~np.isfinite(rounded)).any():
        raise InputError(f"byte {offset}: {where}: found a value too large for float32; expected single precision")
    return rounded


def _gather(pieces: list[memoryview | bytearray], value: memoryview, wire: int) -> None:
    """Add packed numbers as they are, and loose ones to a buffer: a view of each would take fifty times its size."""
    last = pieces[-1] if pieces else None
    if wire == DELIMITED:
        pieces += [value] if len(value) else []
    elif isinstance(last, bytearray):
        last.extend(value)
    else:
        pieces.append(bytearray(value))


def _dimensions(message: memoryview, offset: int) -> Iterator[int]:
    """The numbers of a BlobShape, packed or loose."""
    for number, wire, value, at in fields(message, offset):
        if number == 1 and isinstance(value, int):
            yield int64(value)
        elif number == 1 and wire == DELIMITED and isinstance(value, memoryview):
            yield from map(int64, varints(value, at))


def _kind(head: bytes) -> str:
    """A sentence on what else a file is by its first bytes, or nothing."""
    text = min(head) >= 9 and not set(head) & {*range(14, 32), 127}
    kinds = (
        (head.startswith(b"\x89PNG"), "a PNG picture"),
        (head.startswith(b"\x89HDF"), "an HDF5 file, such as a .caffemodel.h5; save it as binaryproto"),
        (head.startswith(b"PK\x03\x04"), "a zip file, such as weights of PyTorch"),
        (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"), "a pickle of Python"),
        (head[8:9] == b"{" and head[6:8] == b"\0\0", "a safetensors file"),
        (text and head.lstrip().startswith(b"<"), "a web page; the address gave no file"),
        (text, "text, such as a .prototxt, which has no weights"),
    )
    return next((f"It looks like {what}. " for applies, what in kinds if applies), "")


def _encoded(path: Path, what: str, name: str) -> bytes:
    """A name as bytes."""
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: the name {name!r} of {what} cannot be written; expected text") from error


def _written(path: Path, layer: str, blobs: Sequence[NDArray[Any]], v1: bool) -> list[Part]:
    """The parts of one layer."""
    arrays = [np.asarray(blob) for blob in blobs]
    if not layer or not arrays:
        raise InputError(f"{path}: layer {layer!r}: found {len(arrays)} blobs; expected a name and at least one blob")
    most = 4 if v1 else MOST_AXES
    for i, array in enumerate(arrays):
        where = f"{path}: layer {layer!r}, blob {i}"
        if not np.can_cast(array.dtype, np.float32):
            raise InputError(f"{where}: found {array.dtype}; expected float32. Convert it first.")
        if array.ndim > most or not array.size:
            raise InputError(f"{where}: found the shape {array.shape}; expected at most {most} axes, each >= 1")
    title = _encoded(path, "a layer", layer)
    axes = arrays[0].ndim
    parts: list[Part] = []
    if v1:
        parts += delimited(4, title)
        parts += [integer(5, {4: 4, 2: 14}[axes])] if axes in (2, 4) else []
    else:
        parts += delimited(1, title)
        parts += delimited(2, {4: b"Convolution", 2: b"InnerProduct"}[axes]) if axes in (2, 4) else []
    for array in arrays:
        if v1:
            shape = (1,) * (4 - array.ndim) + array.shape
            parts += delimited(6, *(integer(i, length) for i, length in enumerate(shape, 1)), *floats(5, array))
        else:
            parts += delimited(7, *floats(5, array), *delimited(7, integers(1, array.shape)))
    return delimited(2 if v1 else 100, *parts)


def _same_values(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a blob of one shape holds the values of the other in the same order, and is known to be written so."""
    if found == wanted:
        return True
    if len(wanted) == 4:
        rows = (wanted[0], math.prod(wanted[1:]))
        return found in (rows, (1, 1, *rows))
    return found == (1,) * (4 - len(wanted)) + wanted


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(str(tuple(shape)) for shape in shapes) or "no blob"


def _some(items: Sequence[str], most: int = 40) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
