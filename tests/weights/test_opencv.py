"""The released networks here against OpenCV, which runs Caffe's own description of them from the weights we write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from by_definition import released_tile_probabilities
from caffe_writer import to_caffe
from numpy.typing import NDArray
from torch import Tensor, nn

from dilated import published
from dilated.paper import VGGSegmenter
from dilated.weights import caffe
from dilated.weights.ports import UPSAMPLING_LAYER
from dilated.weights.published import PUBLISHED_NETWORKS, _caffe_layer_names, from_caffe

cv2 = pytest.importorskip("cv2", reason="needs OpenCV")
if not hasattr(cv2.dnn, "readNetFromCaffe"):
    pytest.skip("this OpenCV reads no Caffe networks; 4.x does", allow_module_level=True)

VOC, CAMVID, KITTI, CITYSCAPES = PUBLISHED_NETWORKS
MAPS = [  # input, then logits: as many as the module's dilations reach, at least along one axis
    (VOC, (436, 604), (8, 29)),
    (CAMVID, (444, 596), (9, 28)),
    (KITTI, (440, 600), (9, 29)),  # 8.5 and 28.5, rounded up
    (CITYSCAPES, (436, 932), (8, 70)),
]


class Answers(NamedTuple):
    """What a network says about a tile: (C, h, w) before and after the last softmax, which may be 8 times as fine."""

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)


def narrow(name: str) -> VGGSegmenter:
    """A released network with a sixteenth of the maps and five of the classes."""
    return spread(drawn(name))


def drawn(name: str) -> VGGSegmenter:
    """The same as it is drawn; also without numbers, on the device `meta`."""
    facts = PUBLISHED_NETWORKS[name]
    classes = dict(list(facts.classes.items())[:5])
    network = replace(facts.config, width=1 / 16, init="random")
    return VGGSegmenter(list(classes), list(classes.values()), network)


@torch.no_grad()
def spread(network: VGGSegmenter) -> VGGSegmenter:
    """Biases that count, and logits that differ from class to class and from place to place."""
    torch.manual_seed(0)
    assert network.context is not None
    layers = [*network.frontend.convolutions().values(), *network.context.convolutions()]
    for layer in layers:
        assert layer.bias is not None
        layer.bias.normal_(0, 0.1)
    blob = tile(network, 500, 500)
    for last, run in ((layers[15], network.frontend), (layers[-1], nn.Sequential(network.frontend, network.context))):
        assert last.bias is not None
        logits = run.eval()(blob).transpose(0, 1).flatten(1)
        last.weight *= (3 / logits.std(1))[:, None, None, None]
        last.bias -= 3 * logits.mean(1) / logits.std(1)
    return network.eval()


def tile(network: VGGSegmenter, height: int, width: int) -> Tensor:
    """Patches of 20 x 20 pixels and noise on them, as the layers read them: (1, 3, H, W)."""
    random = np.random.default_rng(1)
    patches = random.random((3, height // 20 + 1, width // 20 + 1)).repeat(20, 1).repeat(20, 2)
    values = 0.8 * patches[:, :height, :width] + 0.2 * random.random((3, height, width))
    return network.preprocess(torch.from_numpy(values)[None].float())


def prototxt(network: VGGSegmenter, name: str, height: int, width: int) -> str:
    """The network in Caffe's own language, layer for layer as it was released."""
    names = _caffe_layer_names(name)
    shape = f"shape {{ dim: 1 dim: 3 dim: {height} dim: {width} }}"
    text = [f'layer {{ name: "data" type: "Input" top: "data" input_param {{ {shape} }} }}']
    bottom = "data"

    def add(layer: str, kind: str, parameters: str = "", in_place: bool = False) -> None:
        nonlocal bottom
        top = bottom if in_place else layer
        text.append(f'layer {{ name: "{layer}" type: "{kind}" bottom: "{bottom}" top: "{top}" {parameters} }}')
        bottom = top

    def convolution(place: str, pad_once: int = 0) -> None:
        layer = network.get_submodule(place)
        assert isinstance(layer, nn.Conv2d)
        assert isinstance(layer.padding, tuple)
        numbers = (layer.out_channels, layer.kernel_size[0], layer.dilation[0], layer.padding[0] + pad_once)
        keys = ("num_output", "kernel_size", "dilation", "pad")
        listed = " ".join(f"{key}: {number}" for key, number in zip(keys, numbers, strict=True))
        add(names[place], "Convolution", f"convolution_param {{ {listed} }}")

    for child, module in network.frontend.named_children():
        if isinstance(module, nn.Conv2d):
            convolution(f"frontend.{child}")
        elif isinstance(module, nn.MaxPool2d):
            add(child, "Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
        elif isinstance(module, nn.Dropout):
            add(child, "Dropout", "dropout_param { dropout_ratio: 0.5 }", in_place=True)
        else:
            add(child, "ReLU", in_place=True)
    assert network.context is not None
    for i in range(len(network.context.layers)):
        convolution(f"context.layers.{i}", network.context.input_padding if i == 0 else 0)
        add(f"context relu {i}", "ReLU", in_place=True)
    convolution("context.final")
    if network.config.upsampling == "deconvolution":
        classes = len(network.classes)
        kernel = f"num_output: {classes} group: {classes} kernel_size: 16 stride: 8 pad: 4 bias_term: false"
        add(UPSAMPLING_LAYER, "Deconvolution", f"convolution_param {{ {kernel} }}")
    add("prob", "Softmax")
    return "\n".join(text)


def in_opencv(text: str, weights: Path, last: str, blob: Tensor) -> Answers:
    """A description and its weights, run on a tile."""
    description = weights.with_suffix(".prototxt")
    description.write_text(text, encoding="utf-8")
    network = cv2.dnn.readNetFromCaffe(str(description), str(weights))
    network.enableWinograd(False)  # its rounding is three to five times that of a sum of products
    network.setInput(blob.numpy(), "data")
    logits, probabilities = network.forward([last, "prob"])
    return Answers(logits[0], probabilities[0])


@torch.no_grad()
def here(network: VGGSegmenter, blob: Tensor) -> Answers:
    logits = network.apply_context(network.frontend(blob))[0].numpy()
    probabilities = released_tile_probabilities(network, blob)[0].numpy()
    for labels in (logits.argmax(0), probabilities.argmax(0)):
        assert len(np.unique(labels)) > 1  # or the comparison would say little
    return Answers(logits, probabilities)


def error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The greatest difference, relative to the greatest value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(("name", "size", "logits"), MAPS)
def test_opencv_gives_the_same_logits_and_probabilities(
    name: str, size: tuple[int, int], logits: tuple[int, int], tmp_path: Path
) -> None:
    network = narrow(name)
    to_caffe(network, name, tmp_path / "net.caffemodel")
    blob = tile(network, *size)
    text = prototxt(network, name, *size)
    theirs = in_opencv(text, tmp_path / "net.caffemodel", _caffe_layer_names(name)["context.final"], blob)
    ours = here(network, blob)
    factor = 8 if name == CITYSCAPES else 1
    assert ours.logits.shape == (5, *logits)
    assert ours.probabilities.shape == (5, factor * logits[0], factor * logits[1])
    assert error(ours.logits, theirs.logits) < 1e-4
    assert error(ours.probabilities, theirs.probabilities) < 1e-4


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        (VOC, "dilation: 16 pad: 0", "dilation: 15 pad: 0"),
        (CAMVID, "dilation: 16 pad: 16", "dilation: 15 pad: 15"),
        (KITTI, "dilation: 4 pad: 0", "dilation: 3 pad: 0"),
        (CITYSCAPES, "dilation: 64 pad: 64", "dilation: 63 pad: 63"),
    ],
)
def test_a_dilation_that_is_off_by_one_would_be_noticed(name: str, right: str, wrong: str, tmp_path: Path) -> None:
    network = narrow(name)
    to_caffe(network, name, tmp_path / "net.caffemodel")
    height, width = {n: size for n, size, _ in MAPS}[name]
    text = prototxt(network, name, height, width)
    assert text.count(right) == 1
    blob = tile(network, height, width)
    last = _caffe_layer_names(name)["context.final"]
    theirs = in_opencv(text.replace(right, wrong), tmp_path / "net.caffemodel", last, blob).logits
    ours = here(network, blob).logits
    assert error(ours, theirs[:, : ours.shape[1], : ours.shape[2]]) > 1e-2


@pytest.mark.parametrize("name", PUBLISHED_NETWORKS)
def test_weights_come_back_bit_for_bit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = narrow(name)
    path = tmp_path / "net.caffemodel"
    to_caffe(network, name, path)
    stored = [*_caffe_layer_names(name).values(), *([UPSAMPLING_LAYER] if name == CITYSCAPES else [])]
    assert list(caffe.read_caffemodel(path)) == stored
    monkeypatch.setattr("dilated.weights.published.published", unlike)
    back = from_caffe(path, name)
    assert not back.training
    same(back, network)


@torch.no_grad()
def unlike(name: str) -> VGGSegmenter:
    """The same build and other weights."""
    network = drawn(name)
    for parameter in network.parameters():
        parameter.add_(1)
    return network


def same(a: VGGSegmenter, b: VGGSegmenter) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(ours[key].equal(theirs[key]) for key in ours)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_voc_network_is_that_of_opencv_on_a_whole_tile(tmp_path: Path) -> None:
    path = tmp_path / "voc.caffemodel"
    network = spread(published(VOC))
    to_caffe(network, VOC, path)
    same(from_caffe(path, VOC), network)
    blob = tile(network, 900, 900)
    theirs = in_opencv(prototxt(network, VOC, 900, 900), path, "ct_final", blob)
    ours = here(network, blob)
    assert ours.probabilities.shape == (21, 66, 66)
    assert error(ours.logits, theirs.logits) < 1e-4
    assert error(ours.probabilities, theirs.probabilities) < 1e-4
