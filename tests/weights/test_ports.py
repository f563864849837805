"""The released networks' weights in the files of other libraries, as those libraries write them."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from caffe_writer import write_caffemodel
from torch import nn

from dilated import InputError
from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.weights.backbones import load_pretrained
from dilated.weights.published import PUBLISHED_NETWORKS, _layers_by_caffe_name, from_caffe

CAMVID, CITYSCAPES = "dilation8_camvid", "dilation10_cityscapes"


def narrow(name: str) -> VGGSegmenter:
    """A released network with few maps; VOC's with few classes too."""
    facts = PUBLISHED_NETWORKS[name]
    number = 2 if name == "dilation8_pascal_voc" else len(facts.classes)
    torch.manual_seed(len(name))
    config = dataclasses.replace(facts.config, width=1 / 32)
    network = VGGSegmenter(list(facts.classes)[:number], list(facts.classes.values())[:number], config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dilated.weights.published.published", narrow)


def layers_of(name: str) -> dict[str, list[np.ndarray]]:
    """Weight (out, in, rows, columns) and bias of each layer, other than what `narrow` gives."""
    network = narrow(name)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.25)
    layers = _layers_by_caffe_name(network, name)
    return {layer: [p.detach().numpy() for p in module.parameters()] for layer, module in layers.items()}


def assert_converted(path: Path, name: str, read_as: str) -> None:
    segmenter = from_caffe(path, name)
    assert read_as in str(segmenter.card["read_as"])
    for layer, module in _layers_by_caffe_name(segmenter, name).items():
        for found, expected in zip(module.parameters(), layers_of(name)[layer], strict=True):
            np.testing.assert_array_equal(found.detach().numpy(), expected)


def write_keras(path: Path, layers: dict[str, list[np.ndarray]], suffixes: str = "Wb", **attributes: Any) -> None:
    """As Keras 1 writes weights: a group per layer, the names of its arrays in an attribute."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in ("input_1", *layers)]
        file.attrs.update(attributes)
        file.create_group("input_1").attrs["weight_names"] = []
        for name, arrays in layers.items():
            group = file.create_group(name)
            names = [f"{name}_{suffix}" for suffix in suffixes[: len(arrays)]]
            group.attrs["weight_names"] = [n.encode() for n in names]
            for array_name, array in zip(names, arrays, strict=True):
                group.create_dataset(array_name, data=array)


@pytest.mark.parametrize("name", PUBLISHED_NETWORKS)
def test_keras_files_for_theano_are_turned_back(tmp_path: Path, name: str) -> None:
    theirs = {layer: [weight[..., ::-1, ::-1], bias] for layer, (weight, bias) in layers_of(name).items()}
    if name == CITYSCAPES:
        theirs["ctx_upsample"] = [np.ones((19, 19, 16, 16), np.float32)]
    write_keras(tmp_path / "theirs.h5", theirs)
    assert_converted(tmp_path / "theirs.h5", name, "turned by 180 degrees")


def test_keras_files_for_tensorflow_are_not_turned(tmp_path: Path) -> None:
    theirs = {layer: [weight.transpose(2, 3, 1, 0), bias] for layer, (weight, bias) in layers_of(CAMVID).items()}
    write_keras(tmp_path / "theirs.h5", theirs, backend="tensorflow")
    assert_converted(tmp_path / "theirs.h5", CAMVID, "as for TensorFlow")


def tensorflow_arrays(name: str) -> dict[str, np.ndarray]:
    arrays = {}
    for layer, (weight, bias) in layers_of(name).items():
        arrays[f"{layer}/kernel:0"] = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
        arrays[f"{layer}/bias:0"] = bias
    return arrays


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", [CAMVID, CITYSCAPES])
def test_pickles_of_arrays_are_read(tmp_path: Path, name: str, protocol: int) -> None:
    arrays = tensorflow_arrays(name)
    if name == CITYSCAPES:
        arrays["ctx_upsample/kernel:0"] = np.ones((16, 16, 19, 19), np.float32)
    (tmp_path / "theirs.pickle").write_bytes(pickle.dumps(arrays, protocol))
    assert_converted(tmp_path / "theirs.pickle", name, "TensorFlow")


class Calls:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Calls(), "the pickle calls posix.mkdir"),
        ({"a": Calls()}, "the pickle calls posix.mkdir"),
        ({"conv1_1/kernel:0": np.array([None])}, "an array of type 'O8'"),
        ([1], "holds a list"),
        ({"conv1_1": np.ones(2)}, "'conv1_1' is not an array of floats named"),
        ({"conv1_1/kernel:0": "text"}, "'conv1_1/kernel:0' is not an array"),
        (np.float32, r"the pickle calls numpy.float32"),
    ],
)
def test_pickles_of_anything_else_are_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.pickle").write_bytes(pickle.dumps(value, 2))
    with pytest.raises(InputError, match=f"theirs.pickle: .*{message}"):
        from_caffe(tmp_path / "theirs.pickle", CAMVID)
    assert not (tmp_path / "made-by-a-pickle").exists()


@pytest.mark.parametrize("suffix", [".pickle", ".h5", ".pth"])
def test_damaged_files_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    if suffix == ".h5":
        pytest.importorskip("h5py")
    path = tmp_path / f"theirs{suffix}"
    path.write_bytes(pickle.dumps(tensorflow_arrays(CAMVID), 2)[:5000])
    with pytest.raises(InputError, match=f"theirs{suffix}: not a"):
        from_caffe(path, CAMVID)


def test_a_pickle_of_another_protocol_is_refused_without_a_warning(tmp_path: Path) -> None:
    torch.save({"conv1_1.weight": torch.zeros(3)}, tmp_path / "new.pth", pickle_protocol=4)
    with pytest.raises(InputError, match=r"new\.pth: not a file of PyTorch weights.*without pickle_protocol"):
        from_caffe(tmp_path / "new.pth", CAMVID)  # a warning would be an error here


def test_state_dicts_are_read_by_name_and_by_order(tmp_path: Path) -> None:
    layers = layers_of(CAMVID)
    named = {
        f"module.{layer}.{kind}": torch.tensor(array)
        for layer, arrays in layers.items()
        for kind, array in zip(("weight", "bias"), arrays, strict=True)
    }
    shuffled = dict(sorted(named.items(), key=lambda item: item[0][::-1]))
    torch.save({"state_dict": shuffled, "epoch": 3}, tmp_path / "named.pth")
    assert_converted(tmp_path / "named.pth", CAMVID, "layers by name")
    modules: list[nn.Module] = []
    for weight, bias in layers.values():
        modules += [nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:]), nn.ReLU()]
        modules[-2].load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    torch.save(nn.ModuleDict({"features": nn.Sequential(*modules)}).state_dict(), tmp_path / "numbered.pth")
    assert_converted(tmp_path / "numbered.pth", CAMVID, "layers in their order")


def test_a_state_dict_with_another_order_or_number_of_layers_is_refused(tmp_path: Path) -> None:
    arrays = [torch.tensor(array) for pair in layers_of(CAMVID).values() for array in pair]
    numbered = {f"features.{i // 2}.{('weight', 'bias')[i % 2]}": array for i, array in enumerate(arrays)}
    torch.save({k: v for k, v in numbered.items() if not k.startswith("features.3.")}, tmp_path / "less.pth")
    with pytest.raises(InputError, match=r"less\.pth: \d+ layers with weights, where the network has \d+"):
        from_caffe(tmp_path / "less.pth", CAMVID)
    torch.save(dict(reversed(numbered.items())), tmp_path / "turned.pth")
    with pytest.raises(InputError, match=r"turned\.pth: its layers are not the network's"):
        from_caffe(tmp_path / "turned.pth", CAMVID)


def test_bytes_that_python_2_wrote_as_text_are_read() -> None:
    from dilated.weights.ports import _ArrayUnpickler

    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    # The array's bytes as a `str` of Python 2: SHORT_BINSTRING in place of a call of _codecs.encode.
    protocol2 = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02K\x03\x86"
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x18"
        + array.tobytes()
        + b"tb."
    )
    found = _ArrayUnpickler(io.BytesIO(protocol2), encoding="latin1").load()
    np.testing.assert_array_equal(found, array)


def test_vgg16_of_the_ilsvrc_with_inner_products_fills_the_front_end(tmp_path: Path) -> None:
    config = VGGConfig((1.0, 2.0, 3.0), "none", width=1 / 32)
    segmenter = VGGSegmenter(["a", "b"], [(0, 0, 0), (1, 1, 1)], config)
    layers = {}
    for name, layer in segmenter.frontend.convolutions().items():
        weight, bias = (np.random.default_rng(len(layers)).normal(size=p.shape) for p in layer.parameters())
        if name in ("fc6", "fc7"):  # InnerProduct of 2014: (1, 1, out, in)
            weight = weight.reshape(1, 1, len(weight), -1)
        if name != "final":
            layers[name] = [weight.astype(np.float32), bias.astype(np.float32).reshape(1, 1, 1, -1)]
    layers["fc8"] = [np.ones((1, 1, 1000, 128), np.float32), np.ones((1, 1, 1, 1000), np.float32)]
    write_caffemodel(tmp_path / "VGG_ILSVRC_16_layers.caffemodel", layers, v1=True)
    line = load_pretrained(segmenter, str(tmp_path / "VGG_ILSVRC_16_layers.caffemodel"))
    assert "conv1_1 to fc7, 15 layers" in line
    for name, layer in segmenter.frontend.convolutions().items():
        if name != "final":
            np.testing.assert_array_equal(layer.weight.detach().numpy().ravel(), layers[name][0].ravel())


@pytest.mark.parametrize(
    "state",
    [{0: torch.zeros(3)}, {"a.weight": torch.zeros(3, 3).to_sparse()}, {"a.weight": torch.zeros(3, device="meta")}],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_what_is_no_dense_tensor_by_name_is_refused(state: dict[Any, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "port.pth")
    with pytest.raises(InputError, match="holds something other than dense tensors by name"):
        from_caffe(tmp_path / "port.pth", CAMVID)
