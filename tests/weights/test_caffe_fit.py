"""`match_layers`, which finds a network's layers among those of a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe_bytes import Layers, same
from caffe_writer import write_caffemodel

from dilated.errors import InputError
from dilated.weights.caffe import Blob, match_layers, read_caffemodel


def test_an_array_of_any_layout_is_written_in_row_order(tmp_path: Path) -> None:
    weight = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1).transpose(1, 0, 3, 2)[::-1]
    half = np.array([1.5, -2], np.float16)
    write_caffemodel(tmp_path / "net", {"c": [weight, half, np.float32(3)]})
    same(read_caffemodel(tmp_path / "net"), {"c": [weight.copy(), half.astype(np.float32), np.array(3, np.float32)]})


def test_five_axes_are_read(tmp_path: Path) -> None:
    layers = {"c": [np.ones((1, 2, 1, 2, 1), np.float32)]}
    write_caffemodel(tmp_path / "net", layers)
    same(read_caffemodel(tmp_path / "net"), layers)


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


def test_unused_layers_are_refused() -> None:
    assert "1 unused: 'left'" in refused({"a": zeros((1,)), "left": zeros((1,))}, {"a": [(1,)]})


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
