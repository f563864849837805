"""A module of the user's as the head of a segmenter: built by name, only where its package is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dilated import InputError, Segmenter, SegmenterConfig, load

MODULE = """
from torch import nn

def widen(channels, output_stride):
    return nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, padding=output_stride // 8), nn.ReLU())

def shrink(channels, output_stride):
    return nn.MaxPool2d(2)

def fail(channels, output_stride):
    return nn.Conv2d(channels + 1, channels, 1)

def half(channels, output_stride):
    class Half(nn.Identity):
        def forward(self, features):
            return features.half()
    return Half()

def leave(channels, output_stride):
    raise SystemExit(3)

def none_needed():
    return nn.Identity()

def nothing(channels, output_stride):
    return 3
"""


@pytest.fixture
def my_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fcn_heads_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DILATED_TRUST", "fcn_heads_of_mine")


def build(name: str) -> Segmenter:
    torch.manual_seed(0)
    config = SegmenterConfig("test_efficientnet", features=8, head=f"fcn_heads_of_mine:{name}")
    return Segmenter(["a", "b"], config=config).eval()


@pytest.mark.usefixtures("my_heads")
def test_a_head_of_ones_own_is_built_run_and_read_back(tmp_path: Path) -> None:
    segmenter = build("widen")
    assert segmenter.classifier.in_channels == 16
    segmenter.save(tmp_path / "own.safetensors", half=False)
    images = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "own.safetensors")(images), segmenter(images))


@pytest.mark.usefixtures("my_heads")
def test_a_file_with_a_head_of_ones_own_is_refused_without_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("widen").save(tmp_path / "own.safetensors")
    monkeypatch.delenv("DILATED_TRUST")
    with pytest.raises(InputError, match=r"would run code of 'fcn_heads_of_mine'.*DILATED_TRUST=fcn_heads_of_mine"):
        load(tmp_path / "own.safetensors")


@pytest.mark.usefixtures("my_heads")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shrink", r"shrink makes \(1, 8, 8, 9\) of features \(1, 8, 17, 19\)\. Return features"),
        ("fail", r"fail fails on features \(1, 8, 17, 19\)"),
        ("nothing", r"network\.head: \S+:nothing gave a int\. Name what gives a torch\.nn\.Module"),
        ("missing", r"network\.head: 'fcn_heads_of_mine:missing' cannot be imported .* Name a function or class of"),
        ("half", r"half makes torch\.float16 of torch\.float32\. Return the type"),
        ("leave", r"network\.head: \S+:leave failed with .*SystemExit: 3\)\. Give what it takes, or mend it"),
        ("none_needed", r"none_needed failed with .*unexpected keyword argument 'channels'\)\. Give what it takes"),
    ],
)
def test_what_is_no_head_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(name)


def test_an_unknown_head_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        InputError, match=r"network\.head: found asp\. Give one of none, aspp, .*unet, pup, or a module:name"
    ):
        SegmenterConfig(head="asp")
