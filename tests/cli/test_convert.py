"""`dilated convert`: the authors' files to network files, on networks 32 times narrower than theirs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from caffe_writer import to_caffe, write_caffemodel
from safetensors import safe_open
from safetensors.torch import load_file

from dilated import load
from dilated.cli.main import main
from dilated.models.paper import VGGSegmenter
from dilated.weights import caffe
from dilated.weights.published import PUBLISHED_NETWORKS

Run = Callable[..., subprocess.CompletedProcess[str]]
CAMVID = "dilation8_camvid"


def narrow(name: str) -> VGGSegmenter:
    """A released network with few maps; VOC's large context module with few classes too."""
    facts = PUBLISHED_NETWORKS[name]
    number = 2 if name == "dilation8_pascal_voc" else len(facts.classes)
    torch.manual_seed(len(name))
    network = VGGSegmenter(
        list(facts.classes)[:number],
        list(facts.classes.values())[:number],
        dataclasses.replace(facts.config, width=1 / 32),
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Released networks are narrow ones."""
    monkeypatch.setattr("dilated.weights.published.published", narrow)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.caffemodel"
    to_caffe(narrow(CAMVID), CAMVID, path)
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main([str(a) for a in arguments])
    return " ".join(capsys.readouterr().out.split())


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["convert", *map(str, arguments)])
    assert stop.value.code == 1
    text = " ".join(capsys.readouterr().err.split())
    assert text.startswith("error: ")
    assert "Traceback" not in text
    return text


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", PUBLISHED_NETWORKS)
def test_a_caffemodel_becomes_a_network_file_of_the_same_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    theirs, ours, again = tmp_path / "a.caffemodel", tmp_path / "b.safetensors", tmp_path / "c.caffemodel"
    network = narrow(name)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.25)  # not what `narrow` gives by itself
    to_caffe(network, name, theirs)
    count = sum(p.numel() for p in network.parameters())
    classes = len(network.classes)
    line = f"{name}: {count:,} parameters, {classes} classes: "
    assert printed(capsys, "convert", theirs, "--network", name, "--out", ours) == f"{line}{ours}"
    found = load(ours)
    assert isinstance(found, VGGSegmenter)
    assert (found.config, found.classes, found.colors) == (network.config, network.classes, network.colors)
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in found.state_dict().items())
    assert (found.card["network"], found.card["source"]) == (name, "a.caffemodel")
    to_caffe(found, name, again)
    assert again.read_bytes() == theirs.read_bytes()


@pytest.mark.usefixtures("small")
def test_info_tells_what_was_converted(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "network.safetensors"
    printed(capsys, "convert", model, "--network", CAMVID, "--out", out)
    text = printed(capsys, "info", out, "--layers")
    for fact in ("Building, Tree, Sky", "110.70313206", "context module", "theirs.caffemodel", CAMVID, "basic"):
        assert fact in text
    assert "0 + 8 k" in text  # where a logit sits
    assert "67" in text  # the context module's field, in logits
    count = sum(p.numel() for p in load(out).parameters())
    assert f"{count:,} (frontend " in text


@pytest.mark.usefixtures("small")
def test_half_stores_kernels_in_16_bits_and_only_if_asked(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    printed(capsys, "convert", model, "--network", CAMVID, "--out", whole)
    printed(capsys, "convert", model, "--network", CAMVID, "--out", half, "--half")
    whole_tensors, half_tensors = load_file(whole), load_file(half)
    assert {t.dtype for t in whole_tensors.values()} == {torch.float32}
    for name, tensor in half_tensors.items():
        assert tensor.dtype == (torch.float16 if tensor.ndim > 1 else torch.float32)
        assert torch.equal(tensor, whole_tensors[name].to(tensor.dtype))
    with safe_open(half, framework="pt") as file:
        assert json.loads(file.metadata()["dilated"])["config"]["kind"] == "vgg"


@pytest.mark.usefixtures("small")
def test_a_missing_layer_is_refused_by_name(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> None:
    layers = {name: [np.array(b) for b in blobs] for name, blobs in caffe.read_caffemodel(model).items()}
    del layers["ctx_conv3_1"]
    layers["ctx_conv4_1"] = layers["ctx_conv4_1"][:1]
    layers["stranger"] = layers["final"]
    write_caffemodel(tmp_path / "less.caffemodel", layers)
    text = complaint(capsys, tmp_path / "less.caffemodel", "--network", CAMVID, "--out", tmp_path / "o.safetensors")
    assert "less.caffemodel: its layers are not the network's" in text
    for name in ("ctx_conv3_1", "ctx_conv4_1", "stranger"):
        assert f"'{name}'" in text
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.usefixtures("small")
def test_the_file_of_another_network_is_refused(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.safetensors"
    assert "ctx_conv5_1" in complaint(capsys, model, "--network", "dilation7_kitti", "--out", out)
    assert "ctx_conv7_1" in complaint(capsys, model, "--network", "dilation10_cityscapes", "--out", out)
    assert not out.exists()


@pytest.mark.usefixtures("small")
def test_a_file_of_other_widths_is_refused(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> None:
    layers = {name: [np.array(b) for b in blobs] for name, blobs in caffe.read_caffemodel(model).items()}
    layers["conv1_2"] = [np.zeros((3, 2, 3, 3), np.float32), np.zeros(3, np.float32)]
    write_caffemodel(tmp_path / "wide.caffemodel", layers)
    text = complaint(capsys, tmp_path / "wide.caffemodel", "--network", CAMVID, "--out", tmp_path / "o.safetensors")
    assert "1 of another shape: 'conv1_2' (found (3, 2, 3, 3) and (3,), expected (2, 2, 3, 3) and (2,))" in text


def test_a_user_sees_one_message_and_no_traceback(dilated: Run, tmp_path: Path) -> None:
    (tmp_path / "page.caffemodel").write_text("<html>not found</html>")
    done = dilated("convert", tmp_path / "page.caffemodel", "--network", CAMVID, "--out", tmp_path / "o.safetensors")
    assert done.returncode == 1
    text = " ".join(done.stderr.split())
    assert text.startswith(f"error: {tmp_path}/page.caffemodel: not a complete Caffe weight file: ")
    assert "it looks like a web page" in text
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize("content", [None, b"", b"not weights"])
def test_a_foreign_file_is_refused_by_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes | None
) -> None:
    source, out = "a.caffemodel", "b.safetensors"
    if content is not None:
        (tmp_path / source).write_bytes(content)
    text = complaint(capsys, tmp_path / source, "--network", CAMVID, "--out", tmp_path / out)
    assert text.startswith(f"error: {tmp_path / source}: ")
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("a.caffemodel", "b.caffemodel"),
        ("a.safetensors", "b.safetensors"),
        ("a.safetensors", "b.caffemodel"),
        ("a.caffemodel", "b.pth"),
        ("a.caffemodel", "b"),
        ("a.prototxt", "b.safetensors"),
        ("a", "b"),
    ],
)
def test_other_kinds_of_files_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, source: str, out: str
) -> None:
    text = complaint(capsys, tmp_path / source, "--network", CAMVID, "--out", tmp_path / out)
    kinds = ".caffemodel (or .h5, .pickle, .pkl, .pth, .pt)"
    assert text == f"error: convert: {source} to {out} hint: give a {kinds}, and as --out a .safetensors file"


def test_a_network_that_was_not_released_is_refused_with_those_that_were(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    text = complaint(capsys, model, "--network", "dilation9_camvid", "--out", tmp_path / "b.safetensors")
    assert "network: 'dilation9_camvid' is not one of dilation8_pascal_voc, dilation8_camvid" in text
    assert "did you mean dilation8_camvid?" in text
    text = complaint(capsys, model, "--network", "resnet", "--out", tmp_path / "b.safetensors")
    assert "hint: give one of them" in text
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.usefixtures("small")
def test_a_folder_that_is_not_there_is_an_error(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "nowhere" / "b.safetensors"
    assert str(out) in complaint(capsys, model, "--network", CAMVID, "--out", out)
