import io
import itertools
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from caffe_bytes import Layers, field, net, packed, same, sample, shape
from caffe_writer import write_caffemodel
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file

from dilated.errors import InputError
from dilated.weights.caffe import match_layers, read_caffemodel

shapes = st.lists(st.integers(1, 4), max_size=4).map(tuple)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
networks = st.dictionaries(names, st.lists(shapes, min_size=1, max_size=3), min_size=1, max_size=3)


@pytest.fixture
def reads(tmp_path: Path) -> Callable[[bytes], Layers]:
    """Read bytes as a file."""

    def read_bytes(data: bytes) -> Layers:
        path = tmp_path / "net.caffemodel"
        path.write_bytes(data)
        return read_caffemodel(path)

    return read_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caffe")


@settings(deadline=None, max_examples=40)
@given(network=networks, v1=st.booleans(), bits=st.randoms(use_true_random=False))
def test_what_was_written_comes_back_to_the_last_bit(folder: Path, network: Any, v1: bool, bits: Any) -> None:
    layers = {
        name: [np.frombuffer(bits.randbytes(4 * int(np.prod(s, dtype=int))), np.float32).reshape(s) for s in blobs]
        for name, blobs in network.items()
    }
    write_caffemodel(folder / "net.caffemodel", layers, v1=v1)
    found = read_caffemodel(folder / "net.caffemodel")
    if v1:
        layers = {name: [b.reshape((1,) * (4 - b.ndim) + b.shape) for b in blobs] for name, blobs in layers.items()}
    same(found, layers)


@settings(deadline=None, max_examples=20)
@given(network=networks, v1=st.booleans())
def test_fit_gives_the_written_shapes_back_from_either_generation(folder: Path, network: Any, v1: bool) -> None:
    layers = {name: [np.zeros(s, np.float32) for s in blobs] for name, blobs in network.items()}
    write_caffemodel(folder / "net.caffemodel", layers, v1=v1)
    same(match_layers(read_caffemodel(folder / "net.caffemodel"), network, "net.caffemodel"), layers)


def test_a_file_is_to_the_byte_what_protobuf_says(tmp_path: Path) -> None:
    layers = {"c": [np.array([[[[1]]]], np.float32), np.array([2], np.float32)]}
    write_caffemodel(tmp_path / "new", layers, name="n")
    blobs = [field(5, packed(1)) + shape(1, 1, 1, 1), field(5, packed(2)) + shape(1)]
    layer = field(1, b"c") + field(2, b"Convolution") + b"".join(field(7, blob) for blob in blobs)
    assert (tmp_path / "new").read_bytes() == field(1, b"n") + field(100, layer)
    write_caffemodel(tmp_path / "old", layers, name="n", v1=True)
    ones = b"".join(field(i, 1) for i in (1, 2, 3, 4))
    layer = field(4, b"c") + field(5, 4) + field(6, ones + field(5, packed(1))) + field(6, ones + field(5, packed(2)))
    assert (tmp_path / "old").read_bytes() == field(1, b"n") + field(2, layer)


def test_an_inner_product_and_a_vector_are_labelled_as_such_or_not_at_all(tmp_path: Path) -> None:
    write_caffemodel(tmp_path / "net", {"a": [np.ones((2, 2), np.float32)], "b": [np.ones(2, np.float32)]})
    data = (tmp_path / "net").read_bytes()
    assert data.count(field(1, b"a") + field(2, b"InnerProduct")) == 1
    assert data.count(field(1, b"b") + field(7, field(5, packed(1, 1)) + shape(2))) == 1


@pytest.mark.parametrize("v1", [False, True], ids=["layer", "layers"])
def test_opencv_computes_with_a_written_file_what_torch_computes(tmp_path: Path, v1: bool) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV, the independent reader, is not installed")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("this OpenCV has no readNetFromCaffe; version 5 dropped it")
    random = np.random.default_rng(1)
    w1, b1, w2, b2, image = (
        random.normal(size=s).astype(np.float32) for s in ((4, 3, 3, 3), (4,), (2, 4, 1, 1), (2,), (1, 3, 9, 11))
    )
    (tmp_path / "net.prototxt").write_text(
        """
        name: "tiny" input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 11 }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
                convolution_param { num_output: 4 kernel_size: 3 dilation: 2 pad: 2 } }
        layer { name: "final" type: "Convolution" bottom: "conv" top: "final"
                convolution_param { num_output: 2 kernel_size: 1 } }
        """,
        encoding="utf-8",
    )
    write_caffemodel(tmp_path / "net.caffemodel", {"conv": [w1, b1], "final": [w2, b2]}, v1=v1)
    network = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    network.setInput(image)
    x, *weights = map(torch.from_numpy, (image, w1, b1, w2, b2))
    expected = F.conv2d(F.conv2d(x, weights[0], weights[1], dilation=2, padding=2), weights[2], weights[3])
    np.testing.assert_allclose(network.forward(), expected.numpy(), rtol=0, atol=1e-5)


LEGACY = field(1, 1) + field(2, 1) + field(3, 2) + field(4, 3)
SIX = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
FORMS = {
    "packed": field(5, packed(*SIX)) + shape(2, 3),
    "shape first": shape(2, 3) + field(5, packed(*SIX)),
    "loose floats": b"".join(field(5, v) for v in SIX) + shape(2, 3),
    "packed and loose": field(5, packed(1, 2)) + field(5, 3.0) + field(5, 4.0) + field(5, packed(5, 6)) + shape(2, 3),
    "packed in two": field(5, packed(1, 2, 3)) + field(5, b"") + shape(2, 3) + field(5, packed(4, 5, 6)),
    "loose dimensions": field(7, field(1, 2) + field(1, 3)) + field(5, packed(*SIX)),
    "dimensions in two messages": shape(2) + shape(3) + field(5, packed(*SIX)),
    "legacy": LEGACY + field(5, packed(*SIX)),
    "legacy and shape": shape(2, 3) + LEGACY + field(5, packed(*SIX)),
    "doubles": shape(2, 3) + field(8, packed(*SIX, kind="d")),
    "loose doubles": shape(2, 3) + b"".join(b"\x41" + packed(v, kind="d") for v in SIX),
    "doubles before floats": shape(2, 3) + field(5, packed(0, 0)) + field(8, packed(*SIX, kind="d")),
    "with gradients": field(6, packed(*SIX)) + shape(2, 3) + field(5, packed(*SIX)) + field(9, packed(7, kind="d")),
    "with unknown fields": field(15, b"x") + field(15, 3) + field(14, 1.5) + shape(2, 3) + field(5, packed(*SIX)),
    "floats and no double": shape(2, 3) + field(8, b"") + field(5, packed(*SIX)),
    "dimensions of another type": field(7, field(1, 1.0)) + shape(2, 3) + field(5, packed(*SIX)),
    "known numbers of other types": b"".join(field(i, v) for i, v in ((5, 7), (7, 7), (1, b"x"), (7, 1.0), (8, 1.0)))
    + field(5, packed(*SIX))
    + shape(2, 3),
}


@pytest.mark.parametrize("blob", FORMS.values(), ids=FORMS)
def test_every_form_of_a_blob_gives_its_values(reads: Callable[[bytes], Layers], blob: bytes) -> None:
    (found,) = reads(net(blob))["c"]
    assert found.dtype == np.float32
    assert found.shape == ((1, 1, 2, 3) if LEGACY in blob else (2, 3))
    assert found.ravel().tolist() == list(SIX)


def test_a_blob_without_shape_is_one_number(reads: Callable[[bytes], Layers]) -> None:
    assert reads(net(field(5, packed(2.5))))["c"][0].shape == ()


BLOB = field(5, packed(1.5)) + shape(1)
GENERATIONS = {
    "layer": field(100, field(1, b"c") + field(2, b"Convolution") + field(7, BLOB)),
    "layers": field(2, field(4, b"c") + field(5, 4) + field(6, BLOB)),
    "layers of layers": field(2, field(1, field(1, b"c") + field(2, b"conv") + field(11, 1) + field(50, BLOB))),
    "blobs before the name": field(100, field(7, BLOB) + field(1, b"c")),
    "a name that is replaced": field(100, field(1, b"old") + field(7, BLOB) + field(1, b"c")),
}


@pytest.mark.parametrize("data", GENERATIONS.values(), ids=GENERATIONS)
def test_every_generation_of_layers_is_read(reads: Callable[[bytes], Layers], data: bytes) -> None:
    assert {name: [b.tolist() for b in blobs] for name, blobs in reads(data).items()} == {"c": [[1.5]]}


def test_layers_without_blobs_and_unknown_fields_are_passed_over(reads: Callable[[bytes], Layers]) -> None:
    relu = field(100, field(1, b"relu") + field(2, b"ReLU"))
    data = field(1, b"n") + field(3, b"data") + field(4, 1) + relu + net(BLOB) + relu + field(99, 2.0)
    assert list(reads(data)) == ["c"]


def test_order_is_that_of_the_file(reads: Callable[[bytes], Layers]) -> None:
    found = reads(net(BLOB, name=b"z") + net(field(5, packed(2)) + shape(1), BLOB, name=b"a"))
    assert [(name, [b.tolist() for b in blobs]) for name, blobs in found.items()] == [
        ("z", [[1.5]]),
        ("a", [[2.0], [1.5]]),
    ]


HUGE = struct.pack("<d", 1e39)
FAULTS = {
    "fewer values": (net(field(5, packed(1, 2)) + shape(3)), "layer 'c', blob 0: 8 bytes of values, .* takes 12"),
    "more values": (net(BLOB, field(5, packed(1, 2)) + shape(1)), "layer 'c', blob 1: 8 bytes of values, .* takes 4"),
    "values cut within": (net(field(5, packed(1, 2)[:-1]) + shape(2)), "7 bytes of values, .* takes 8"),
    "no values": (net(shape(3)), "0 bytes of values, .* takes 12"),
    "an empty blob": (net(b""), "0 bytes of values, .* takes 4"),
    "no shape": (net(field(5, packed(1, 2))), "8 bytes of values, .* takes 4"),
    "a half legacy shape": (net(field(1, 1) + field(5, packed(1))), r"a shape \(1, 0, 0, 0\)"),
    "a zero": (net(shape(0)), r"a shape \(0,\)"),
    "a negative length": (net(field(7, field(1, b"\xff" * 9 + b"\x01"))), r"a shape \(-1,\)"),
    "many axes": (net(shape(*[1] * 33) + field(5, packed(1))), "of 33 axes"),
    "huge and zero": (net(field(7, field(1, b"\0" + (b"\xff" * 8 + b"\x7f") * 2))), "a shape"),
    "huge": (net(field(7, field(1, (b"\xff" * 8 + b"\x7f") * 9)) + field(5, packed(1))), "4 bytes of values"),
    "a cut length": (net(field(7, field(1, b"\xff")) + field(5, packed(1))), "byte .*ends within an integer"),
    "too large a double": (net(field(8, HUGE) + shape(1)), "too large for float32"),
    "no name": (field(100, field(7, BLOB)), "has no name"),
    "no text for a name": (net(BLOB, name=b"\xff"), "byte 5: .*not UTF-8"),
    "one name twice": (net(BLOB) + net(BLOB), "second layer with weights is called 'c'"),
    "one name in two generations": (net(BLOB) + GENERATIONS["layers"], "second layer with weights is called 'c'"),
    "no layer": (field(1, b"net"), "no layer with weights"),
    "no blob": (net(), "no layer with weights"),
    "a mean image": (FORMS["legacy"], "no layer with weights"),
}


@pytest.mark.parametrize(("data", "error"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named(reads: Callable[[bytes], Layers], tmp_path: Path, data: bytes, error: str) -> None:
    with pytest.raises(InputError, match=error) as caught:
        reads(data)
    assert str(tmp_path / "net.caffemodel") in str(caught.value)


def test_doubles_that_are_not_finite_stay_so(reads: Callable[[bytes], Layers]) -> None:
    values = reads(net(field(8, packed(np.inf, -np.inf, np.nan, 1e-60, kind="d")) + shape(4)))["c"][0]
    np.testing.assert_array_equal(values, np.array([np.inf, -np.inf, np.nan, 0], np.float32))


def test_a_file_cut_anywhere_is_refused_or_between_two_layers_has_the_first(
    reads: Callable[[bytes], Layers], tmp_path: Path
) -> None:
    write_caffemodel(tmp_path / "whole", sample())
    whole = (tmp_path / "whole").read_bytes()
    between = whole.index(b"\xa2\x06", whole.index(b"\xa2\x06") + 1)
    for cut in range(len(whole)):
        if cut == between:
            assert list(reads(whole[:cut])) == ["conv1_1"]
        else:
            with pytest.raises(InputError):
                reads(whole[:cut])


edits = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 2), st.binary(min_size=1, max_size=3)), max_size=4)


@settings(deadline=None, max_examples=300)
@given(edits=edits, v1=st.booleans(), cut=st.none() | st.integers(1, 600))
def test_a_damaged_file_is_refused_or_read_and_nothing_else(folder: Path, edits: Any, v1: bool, cut: Any) -> None:
    write_caffemodel(folder / "whole", {name: [b[:2] for b in blobs] for name, blobs in sample().items()}, v1=v1)
    data = bytearray((folder / "whole").read_bytes())
    for place, kind, new in edits:
        at = place % len(data)
        data[at : at + (len(new) * (kind > 0))] = b"" if kind == 2 and len(data) > len(new) else new
    (folder / "damaged").write_bytes(data[:cut])
    try:
        layers = read_caffemodel(folder / "damaged")
    except InputError as error:
        assert str(folder / "damaged") in str(error)  # noqa: PT017
        return
    assert layers
    assert "" not in layers
    for blob in itertools.chain.from_iterable(layers.values()):
        assert blob.dtype == np.float32
        assert blob.size


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=64))
def test_any_bytes_are_refused_or_read(folder: Path, data: bytes) -> None:
    (folder / "any").write_bytes(data)
    try:
        assert read_caffemodel(folder / "any")
    except InputError as error:
        assert str(folder / "any") in str(error)  # noqa: PT017


def foreign(kind: str, path: Path) -> bytes:
    values = np.arange(600, dtype=np.float32)
    stream = io.BytesIO()
    if kind == "PNG":
        Image.fromarray(values.reshape(20, 30).astype(np.uint8)).save(stream, "png")
    elif kind == "zip":
        torch.save({"weight": torch.ones(600)}, stream)
    elif kind == "safetensors":
        save_file({"weight": values}, path)
        return path.read_bytes()
    elif kind == "pickle":
        pickle.dump({"weight": values}, stream)
    elif kind == "HDF5":
        stream.write(b"\x89HDF\r\n\x1a\n" + b"\0" * 5 + b"\x08\x08\0\x04\0\x10\0" + b"\0" * 100)
    elif kind == "text":
        stream.write(b'\nname: "VGG"\nlayer {\n  name: "conv1_1"\n  type: "Convolution"\n}\n')
    elif kind == "web page":
        stream.write("<!doctype html><title>404 – nicht gefunden</title>".encode())
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "zip", "safetensors", "pickle", "HDF5", "text", "web page"])
def test_a_foreign_file_is_called_what_it_is(reads: Callable[[bytes], Layers], tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=f"looks like .*{kind}"):
        reads(foreign(kind, tmp_path / "x"))


def test_a_damaged_weight_file_is_not_called_something_else(reads: Callable[[bytes], Layers]) -> None:
    with pytest.raises(InputError) as caught:
        reads(field(1, b"n" * 60) + net(BLOB)[:-1])
    assert "looks like" not in str(caught.value)


def test_a_missing_and_an_empty_file_and_a_folder_are_refused(reads: Callable[[bytes], Layers], tmp_path: Path) -> None:
    for path in (tmp_path / "none.caffemodel", tmp_path):
        with pytest.raises(InputError, match="no such file"):
            read_caffemodel(path)
    with pytest.raises(InputError, match="empty"):
        reads(b"")


def test_arrays_are_read_only_views_onto_one_map_that_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, sample())
    layers = read_caffemodel(str(path))
    write_caffemodel(path, {"other": [np.zeros(3, np.float32)]})
    path.unlink()
    same(layers, sample())
    for blob in itertools.chain.from_iterable(layers.values()):
        owner: Any = blob
        while isinstance(owner, np.ndarray):
            assert not owner.flags.owndata
            owner = owner.base
        assert type(owner.obj).__name__ == "mmap"
        assert not blob.flags.writeable
        copy = torch.tensor(blob)
        copy += 1
        assert torch.equal(copy, torch.from_numpy(blob + np.float32(1)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident memory from /proc")
def test_a_large_file_takes_no_memory_before_its_values_are_used(tmp_path: Path) -> None:
    size = 200 * 2**20

    def varint(value: int) -> bytes:
        return bytes([value >> 7 * i & 127 | 128 * (i < 4) for i in range(5)])

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    dims = field(7, field(1, varint(size // 4)))
    blob = dims + b"\x2a" + varint(size)
    layer = field(1, b"fc6") + b"\x3a" + varint(len(blob) + size) + blob
    with (tmp_path / "big").open("wb") as file:
        file.write(b"\xa2\x06" + varint(len(layer) + size) + layer)
        file.truncate(file.tell() + size)
    before = resident()
    (values,) = read_caffemodel(tmp_path / "big")["fc6"]
    assert resident() - before < size // 8
    assert values.shape == (size // 4,)
    assert values[-1] == 0
