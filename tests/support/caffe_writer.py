"""Caffe weight files as Caffe writes them, for the reader to read: protobuf's encoding, layers, released networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.files import atomic_path
from dilated.models.paper import bilinear_kernel
from dilated.paper import VGGSegmenter
from dilated.weights.ports import UPSAMPLING_LAYER
from dilated.weights.protobuf import DELIMITED, VARINT
from dilated.weights.published import _layers_by_caffe_name


def encode_varint(value: int) -> bytes:
    """An integer in as few bytes as it takes; a negative one as its 64-bit two's complement, in ten."""
    value %= 2**64
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_varint_field(number: int, value: int) -> bytes:
    return encode_varint(number << 3 | VARINT) + encode_varint(value)


def encode_delimited(number: int, *parts: bytes) -> bytes:
    """A length-delimited field: a text, a message, packed numbers."""
    data = b"".join(parts)
    return encode_varint(number << 3 | DELIMITED) + encode_varint(len(data)) + data


def encode_packed_varints(number: int, values: Iterable[int]) -> bytes:
    return encode_delimited(number, *map(encode_varint, values))


def encode_packed_floats(number: int, values: NDArray[Any]) -> bytes:
    """A packed field of 32-bit floats, in row order."""
    return encode_delimited(number, np.ascontiguousarray(values, dtype="<f4").tobytes())


def write_caffemodel(
    path: Path, layers: Mapping[str, Sequence[NDArray[Any]]], name: str = "dilated", v1: bool = False
) -> None:
    """Write layers by name, each with its blobs, weight first; `v1` writes them as in 2014 (`layers`, four axes)."""
    encode = _encode_v1_layer if v1 else _encode_layer
    with atomic_path(path) as temporary:  # a file that is mapped must not be shortened
        temporary.write_bytes(encode_delimited(1, name.encode()) + b"".join(encode(k, v) for k, v in layers.items()))


def to_caffe(segmenter: VGGSegmenter, name: str, path: Path) -> None:
    """Write the weights of a released network under the authors' layer names."""
    layers = _layers_by_caffe_name(segmenter, name)
    blobs = {n: [p.detach().cpu().float().numpy() for p in layer.parameters()] for n, layer in layers.items()}
    if segmenter.config.upsampling == "deconvolution":
        blobs[UPSAMPLING_LAYER] = [bilinear_kernel(8).expand(len(segmenter.classes), 1, -1, -1).numpy()]
    write_caffemodel(path, blobs, name)


def _encode_layer(layer: str, arrays: Sequence[NDArray[Any]]) -> bytes:
    parts = [encode_delimited(1, layer.encode())]
    kind = {4: b"Convolution", 2: b"InnerProduct"}.get(np.ndim(arrays[0]))
    parts += [encode_delimited(2, kind)] if kind else []
    for array in arrays:
        shape = encode_delimited(7, encode_packed_varints(1, np.shape(array)))
        parts.append(encode_delimited(7, encode_packed_floats(5, array), shape))
    return encode_delimited(100, *parts)


def _encode_v1_layer(layer: str, arrays: Sequence[NDArray[Any]]) -> bytes:
    parts = [encode_delimited(4, layer.encode())]
    kind = {4: 4, 2: 14}.get(np.ndim(arrays[0]))
    parts += [encode_varint_field(5, kind)] if kind else []
    for array in arrays:
        shape = (1,) * (4 - np.ndim(array)) + np.shape(array)
        lengths = [encode_varint_field(i, length) for i, length in enumerate(shape, 1)]
        parts.append(encode_delimited(6, *lengths, encode_packed_floats(5, array)))
    return encode_delimited(2, *parts)
