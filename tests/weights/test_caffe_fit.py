"""What `write` refuses, and `fit`, which holds a file against a network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe_bytes import Layers, same, sample

from dilated.errors import InputError
from dilated.weights.caffe import Blob, match_layers, read_caffemodel, write_caffemodel


def test_an_array_of_any_layout_is_written_in_row_order(tmp_path: Path) -> None:
    weight = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1).transpose(1, 0, 3, 2)[::-1]
    half = np.array([1.5, -2], np.float16)
    write_caffemodel(tmp_path / "net", {"c": [weight, half, np.float32(3)]})
    same(read_caffemodel(tmp_path / "net"), {"c": [weight.copy(), half.astype(np.float32), np.array(3, np.float32)]})


UNFIT = {
    "no layer": ({}, "no layer"),
    "no blob": ({"c": []}, "layer 'c': found 0 blobs"),
    "no name": ({"": [np.ones(1, np.float32)]}, "expected a name"),
    "no text": ({"\ud800": [np.ones(1, np.float32)]}, "cannot be written"),
    "doubles": ({"c": [np.ones(1)]}, "layer 'c', blob 0: found float64"),
    "integers": ({"c": [np.ones(1, np.float32), np.ones(1, np.int64)]}, "layer 'c', blob 1: found int64"),
    "complex": ({"c": [np.ones(1, np.complex64)]}, "found complex64"),
    "empty": ({"c": [np.ones((3, 0), np.float32)]}, r"found the shape \(3, 0\)"),
    "a late fault": ({**sample(), "z": [np.ones(1)]}, "layer 'z'"),
    "more than 2 GiB": ({"c": [np.broadcast_to(np.float32(0), (2**29,))]}, "found 2147483648 bytes"),
}


@pytest.mark.parametrize(("layers", "error"), UNFIT.values(), ids=UNFIT)
def test_what_cannot_be_written_leaves_the_old_file_and_no_other(tmp_path: Path, layers: Layers, error: str) -> None:
    (tmp_path / "net").write_bytes(b"old")
    with pytest.raises(InputError, match=error):
        write_caffemodel(tmp_path / "net", layers)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("net", b"old")]


def test_five_axes_are_written_as_layer_and_not_as_layers(tmp_path: Path) -> None:
    layers = {"c": [np.ones((1, 2, 1, 2, 1), np.float32)]}
    write_caffemodel(tmp_path / "net", layers)
    same(read_caffemodel(tmp_path / "net"), layers)
    with pytest.raises(InputError, match="at most 4 axes"):
        write_caffemodel(tmp_path / "net", layers, v1=True)


def test_a_path_that_takes_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "net", tmp_path / "file" / "net", tmp_path / "folder", tmp_path / ("n" * 300)):
        with pytest.raises(InputError, match="cannot be written"):
            write_caffemodel(path, sample())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def zeros(*shapes: tuple[int, ...]) -> list[Blob]:
    return [np.zeros(s, np.float32) for s in shapes]


def refused(layers: Layers, expected: dict[str, list[tuple[int, ...]]], **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        match_layers(layers, expected, "x.caffemodel", **options)
    assert str(caught.value).startswith("x.caffemodel: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ((4, 3, 2, 2), (4, 3, 2, 2)),
        ((1, 1, 1, 4), (4,)),
        ((1, 1, 4, 12), (4, 12)),
        ((4, 12), (4, 3, 2, 2)),
        ((1, 1, 4, 12), (4, 3, 2, 2)),
        ((4, 12), (4, 12, 1, 1)),
        ((1, 1, 1, 1), ()),
    ],
)
def test_a_shape_that_means_the_same_is_taken_in_the_expected_form(
    found: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    blob = np.arange(np.prod(found), dtype=np.float32).reshape(found)
    (fitted,) = match_layers({"c": [blob]}, {"c": [wanted]}, "x")["c"]
    assert fitted.shape == wanted
    assert np.shares_memory(fitted, blob)
    assert np.array_equal(fitted.ravel(), blob.ravel())


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ((4, 3, 2, 2), (3, 4, 2, 2)),
        ((4, 3, 2, 2), (4, 12)),
        ((4, 1, 1, 1), (4,)),
        ((1, 4), (4,)),
        ((4,), (1, 4)),
        ((12, 4), (4, 3, 2, 2)),
        ((1, 4, 1, 12), (4, 3, 2, 2)),
        ((48,), (4, 3, 2, 2)),
        ((1, 1, 1, 1, 4), (4,)),
        ((4, 12, 1, 1), (4, 3, 2, 2)),
        ((2,), (3,)),
    ],
)
def test_another_shape_is_refused_with_both(found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    assert f"1 of another shape: 'c' (found {found}, expected {wanted})" in refused(
        {"c": zeros(found)}, {"c": [wanted]}
    )


def test_another_number_of_blobs_is_refused() -> None:
    assert "found (2,), expected (2,) and (2,)" in refused({"c": zeros((2,))}, {"c": [(2,), (2,)]})
    assert "found (2,) and (2,), expected (2,)" in refused({"c": zeros((2,), (2,))}, {"c": [(2,)]})


def test_all_that_is_wrong_is_told_at_once() -> None:
    layers = {"a": zeros((1,)), "b": zeros((2,)), "left": zeros((1,)), "over": zeros((1,))}
    message = refused(layers, {"a": [(1,)], "b": [(3,)], "c": [(1,)], "d": [(1,)]}, aliases={"d": ["d1", "d2"]})
    assert "2 missing: 'c', 'd' or 'd1' or 'd2'" in message
    assert "1 of another shape: 'b' (found (2,), expected (3,))" in message
    assert "2 unused: 'left', 'over'" in message
    assert "'a'" not in message


def test_unused_layers_are_refused_unless_they_may_be_there() -> None:
    layers = {"a": zeros((1,)), "left": zeros((1,))}
    assert "1 unused: 'left'" in refused(layers, {"a": [(1,)]})
    assert list(match_layers(layers, {"a": [(1,)]}, "x", ignore_unused=True)) == ["a"]


def test_order_and_names_are_the_expected_ones_whatever_the_file_calls_them() -> None:
    layers = {"ct_conv1_1": zeros((1,)), "fc-final": zeros((2,)), "conv": zeros((3,))}
    aliases = {"final": ["logit", "fc-final"], "ctx_conv1_1": ["ct_conv1_1"], "absent": ["conv"]}
    fitted = match_layers(layers, {"conv": [(3,)], "final": [(2,)], "ctx_conv1_1": [(1,)]}, "x", aliases)
    assert [(name, blobs[0].shape) for name, blobs in fitted.items()] == [
        ("conv", (3,)),
        ("final", (2,)),
        ("ctx_conv1_1", (1,)),
    ]


def test_the_own_name_comes_before_an_alias_and_the_other_layer_is_unused() -> None:
    layers = {"fc-final": [np.ones(1, np.float32)], "final": zeros((1,))}
    assert "1 unused: 'fc-final'" in refused(layers, {"final": [(1,)]}, aliases={"final": ["fc-final"]})


def test_one_layer_is_not_taken_twice() -> None:
    expected: dict[str, list[tuple[int, ...]]] = {"a": [(1,)], "b": [(1,)]}
    assert "1 missing: 'b'" in refused({"x": zeros((1,))}, expected, aliases={"a": ["x"], "b": ["x"]})
    assert "1 missing: 'b'" in refused({"a": zeros((1,))}, expected, aliases={"b": ["a"]})
    assert "1 missing: 'a'" in refused({"b": zeros((1,))}, expected, aliases={"a": ["b"]})
