"""The header of a network file: what is read without its weights, and what a damaged one is answered with."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path

import pytest

from dilated import InputError, SegmenterConfig, load
from dilated.models.network_file import read_description
from dilated.weights.catalog import BUNDLED_NETWORKS, find_network


@pytest.mark.parametrize("name", BUNDLED_NETWORKS)
def test_the_header_agrees_with_the_loaded_network(name: str) -> None:
    described, segmenter = read_description(find_network(name)), load(name)
    assert described.classes == segmenter.classes
    assert described.colors == tuple(map(tuple, segmenter.colors))
    config = json.loads(json.dumps(dataclasses.asdict(segmenter.config)))
    defaults = json.loads(json.dumps(dataclasses.asdict(SegmenterConfig())))
    assert defaults | described.config == config  # settings that are younger than the file have their defaults
    assert described.card["val"]["mean_iou"] == segmenter.card["val"]["mean_iou"]
    counts = {part: sum(p.numel() for p in child.parameters()) for part, child in segmenter.named_children()}
    assert described.parameters_by_part() == {part: count for part, count in counts.items() if count}


@pytest.mark.parametrize(
    "content",
    [b"", b"12", struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 9) + b"[1, 2, 3]", struct.pack("<Q", 2) + b"no",
     struct.pack("<Q", 20) + b'{"a":{"dtype":"F3"}}'],
)  # fmt: skip
def test_a_file_that_is_none_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a complete safetensors file"):
        read_description(path)


def test_a_truncated_file_is_an_input_error(tmp_path: Path, network_file: Path) -> None:
    network_file.write_bytes(network_file.read_bytes()[:-1])
    with pytest.raises(InputError, match="not a complete safetensors file"):
        read_description(network_file)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "of another program"),
        ({"dilated": "{"}, "the metadata is damaged"),
        ({"dilated": '{"version": 99}'}, "of version 99"),
        ({"dilated": '{"version": 1}'}, "the metadata lacks 'config'"),
        ({"dilated": '{"version": 1, "config": 3}'}, "the metadata is damaged"),
    ],
)
def test_metadata_of_another_kind_is_an_input_error(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    path, header = tmp_path / "a.safetensors", json.dumps({"__metadata__": metadata}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError, match=message):
        read_description(path)
