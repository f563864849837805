"""ImageNet's VGG-16 in the paper's front end, against torchvision's own network, sixteen times narrower."""

from __future__ import annotations

import gc
import urllib.error
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from caffe_writer import write_caffemodel
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from dilated.errors import InputError
from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.weights import caffe
from dilated.weights.backbones import load_pretrained

MEAN, STD = (torch.tensor(v).double().view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
NAMES = [f"conv{block}_{i}" for block, depth in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, depth + 1)]
NAMES += ["fc6", "fc7"]
Blob = NDArray[np.float32]


class Classifier(nn.Module):
    """torchvision's VGG-16 with all maps but the image's divided by 16; the names of the layers are its."""

    def __init__(self) -> None:
        super().__init__()
        self.features = make_layers([m if isinstance(m, str) else m // 16 for m in cfgs["D"]])
        self.classifier = nn.Sequential(
            nn.Linear(32 * 7 * 7, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(),
            nn.Linear(256, 10),
        )  # fmt: skip
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.normal_(parameter, std=0.5)


@pytest.fixture(scope="module")
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier().eval()


def build(width: float = 1 / 16, **settings: Any) -> VGGSegmenter:
    torch.manual_seed(1)
    return VGGSegmenter(["a", "b"], [(0, 0, 0)] * 2, VGGConfig(width=width, **settings)).eval()


def kept(segmenter: VGGSegmenter) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in segmenter.state_dict().items()}


def fresh(segmenter: VGGSegmenter, before: dict[str, Tensor]) -> list[str]:
    """The layers of the front end that are as they were."""
    after = segmenter.state_dict()
    layers = [*NAMES, "final"]
    return [n for n in layers if all(torch.equal(before[f"frontend.{n}.{p}"], after[f"frontend.{n}.{p}"])
                                     for p in ("weight", "bias"))]  # fmt: skip


def numpy(model: Classifier) -> dict[str, Blob]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def caffe_layers(seed: int = 0) -> dict[str, list[Blob]]:
    """Random layers of Caffe's names, fc6 and fc7 as the inner products that they are there."""
    random = np.random.default_rng(seed)
    layers: dict[str, list[Blob]] = {}
    for name, layer in build().frontend.convolutions().items():
        shape = tuple(layer.weight.shape)
        shape = (shape[0], int(np.prod(shape[1:]))) if name.startswith("fc") else shape
        layers[name] = [random.normal(size=s).astype(np.float32) * 0.05 for s in (shape, shape[:1])]
    del layers["final"]
    return layers | {"fc8": [random.normal(size=s).astype(np.float32) for s in ((10, 256), (10,))]}


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    assert theirs.abs().max() > 0.1
    assert theirs.std() > 0.01


def before_final(segmenter: VGGSegmenter, images: Tensor) -> Tensor:
    """What fc7 answers to RGB in 0..1, computed in double precision."""
    *layers, final = segmenter.double().frontend
    assert final.out_channels == 2
    return nn.Sequential(*layers)(segmenter.preprocess(images))


@torch.no_grad()
@pytest.mark.parametrize("mean", [(102.93, 111.36, 116.52), (0.0, 0.0, 0.0), (10.0, 120.0, 250.0)])
def test_the_front_end_answers_to_bgr_less_its_mean_what_torchvisions_layers_answer_to_theirs(
    model: Classifier, mean: tuple[float, float, float], tmp_path: Path
) -> None:
    torch.save(model.state_dict(), tmp_path / "vgg16.pth")
    segmenter = build(mean=mean)
    load_pretrained(segmenter, str(tmp_path / "vgg16.pth"))
    images = torch.rand(1, 3, 388, 380, dtype=torch.float64)

    weights = {name: value.double() for name, value in model.state_dict().items()}
    x, pools, pads = (images - MEAN) / STD, 0, 0  # by hand, as no layer is padded and two poolings are gone
    for place, layer in enumerate(model.features):
        if isinstance(layer, nn.Conv2d):
            dilation = 2 if pools == 4 else 1
            x = F.conv2d(x, weights[f"features.{place}.weight"], weights[f"features.{place}.bias"], dilation=dilation)
            x, pads = x.relu(), pads + 1
        elif isinstance(layer, nn.MaxPool2d):
            pools += 1
            x = F.max_pool2d(x, 2) if pools <= 3 else x
    assert (pools, pads) == (5, 13)
    x = F.conv2d(x, weights["classifier.0.weight"].view(256, 32, 7, 7), weights["classifier.0.bias"], dilation=4).relu()
    x = F.conv2d(x, weights["classifier.3.weight"].view(256, 256, 1, 1), weights["classifier.3.bias"]).relu()
    assert x.shape[-2:] == (2, 1)
    close(before_final(segmenter, images), x)


@torch.no_grad()
def test_with_its_poolings_and_padding_it_is_torchvisions_network_as_it_stands(
    model: Classifier, tmp_path: Path
) -> None:
    torch.save(model.state_dict(), tmp_path / "vgg16.pth")
    mean = tuple((255 * MEAN).flatten().flip(0).tolist())  # zeros around the image then mean the same to both
    segmenter = build(pools="kept", frontend_padding="same", mean=mean)
    load_pretrained(segmenter, str(tmp_path / "vgg16.pth"))
    images = torch.rand(1, 3, 224, 224, dtype=torch.float64)
    double = Classifier().double().eval()
    double.load_state_dict(model.state_dict())
    answer = double.classifier[:5](double.features((images - MEAN) / STD).flatten(1))
    close(before_final(segmenter, images)[:, :, 3, 3], answer)  # the place whose fc6 sees all that the classifier sees


def test_torchvisions_weights_are_asked_for_by_their_name(model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def supplied(*, weights: object) -> nn.Module:
        asked.append(weights)
        return model

    monkeypatch.setattr(torchvision.models, "vgg16", supplied)
    segmenter = build()
    before = kept(segmenter)
    line = load_pretrained(segmenter, "torchvision:vgg16")
    assert asked == [torchvision.models.VGG16_Weights.IMAGENET1K_V1]
    assert line == "VGG-16: conv1_1 to fc7, 15 layers, from torchvision:vgg16; fresh: final"
    assert fresh(segmenter, before) == ["final"]
    assert torch.equal(segmenter.frontend.get_parameter("conv3_2.weight"), model.features[12].weight)


def test_without_a_network_it_says_where_the_file_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: object) -> nn.Module:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torchvision.models, "vgg16", offline)
    segmenter = build()
    before = kept(segmenter)
    with pytest.raises(InputError, match=r"could not supply VGG-16 \(URLError: .*no route.*\)") as error:
        load_pretrained(segmenter, "torchvision:vgg16")
    url = torchvision.models.VGG16_Weights.IMAGENET1K_V1.url
    assert f"{url} elsewhere and give the file's path" in str(error)
    assert fresh(segmenter, before) == [*NAMES, "final"]


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".npz"])
def test_every_kind_of_file_fills_the_same(model: Classifier, suffix: str, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "reference.pth")
    reference = build()
    load_pretrained(reference, str(tmp_path / "reference.pth"))
    path = tmp_path / f"vgg16{suffix}"
    if suffix == ".safetensors":
        save_file(model.state_dict(), path)
    elif suffix == ".npz":
        np.savez(path, **numpy(model))
    else:
        torch.save(model.state_dict(), path)
    segmenter = build()
    before = kept(segmenter)
    assert load_pretrained(segmenter, str(path)) == f"VGG-16: conv1_1 to fc7, 15 layers, from {path}; fresh: final"
    assert fresh(segmenter, before) == ["final"]
    assert all(torch.equal(a, b) for a, b in zip(segmenter.parameters(), reference.parameters(), strict=True))


@pytest.mark.parametrize("prefix", ["features", "frontend"])
def test_a_file_of_the_first_four_blocks_leaves_the_others_fresh_and_says_so(
    model: Classifier, prefix: str, tmp_path: Path
) -> None:
    path = tmp_path / "vgg16-conv1-4.npz"
    first = {k: v for k, v in numpy(model).items() if k.startswith("features.") and int(k.split(".")[1]) <= 21}
    np.savez(path, **{k.replace("features", prefix): v for k, v in first.items()})
    segmenter = build()
    before = kept(segmenter)
    assert load_pretrained(segmenter, str(path)) == (
        f"VGG-16: conv1_1 to conv4_3, 10 layers, from {path}; fresh: conv5_1, conv5_2, conv5_3, fc6, fc7, final"
    )
    assert fresh(segmenter, before) == ["conv5_1", "conv5_2", "conv5_3", "fc6", "fc7", "final"]


@pytest.mark.parametrize("v1", [False, True], ids=["layer", "layers"])
def test_a_caffemodel_is_taken_as_it_is_with_its_inner_products_as_convolutions(v1: bool, tmp_path: Path) -> None:
    layers, path = caffe_layers(), tmp_path / "VGG_ILSVRC_16_layers.caffemodel"
    write_caffemodel(path, layers, v1=v1)
    assert caffe.read_caffemodel(path)["fc6"][0].shape == ((1, 1) if v1 else ()) + (256, 32 * 49)
    segmenter = build()
    before = kept(segmenter)
    assert load_pretrained(segmenter, str(path)) == f"VGG-16: conv1_1 to fc7, 15 layers, from {path}; fresh: final"
    assert fresh(segmenter, before) == ["final"]
    for name in NAMES:  # Caffe's reads blue, green, red too: conv1_1 stays as well
        layer = segmenter.frontend.get_submodule(name)
        assert torch.equal(layer.weight.flatten(), torch.tensor(layers[name][0]).flatten())
        assert torch.equal(layer.bias, torch.tensor(layers[name][1]))
    maps = torch.rand(1, 32, 7, 7)
    product = torch.tensor(layers["fc6"][0]) @ maps.flatten() + torch.tensor(layers["fc6"][1])
    fc6 = segmenter.frontend.get_submodule("fc6")
    assert torch.allclose(F.conv2d(maps, fc6.weight, fc6.bias).flatten(), product, atol=1e-5)


@pytest.mark.parametrize("suffix", [".pth", ".caffemodel"])
def test_deeplabs_fc6_and_fc7_are_not_vggs_and_stay_fresh(model: Classifier, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"vgg16{suffix}"
    if suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        write_caffemodel(path, caffe_layers())
    segmenter = build(fc6="large_fov")
    before = kept(segmenter)
    assert load_pretrained(segmenter, str(path)) == (
        f"VGG-16: conv1_1 to conv5_3, 13 layers, from {path}; fresh: fc6, fc7, final"
    )
    assert fresh(segmenter, before) == ["fc6", "fc7", "final"]


@pytest.mark.parametrize("layer", ["features.0", "features.19", "classifier.0", "classifier.3"])
def test_a_layer_of_another_shape_is_refused_by_file_and_name(model: Classifier, layer: str, tmp_path: Path) -> None:
    odd = {"weight": torch.zeros(5, *model.get_parameter(f"{layer}.weight").shape[1:]), "bias": torch.zeros(5)}
    torch.save({**model.state_dict(), **{f"{layer}.{k}": v for k, v in odd.items()}}, tmp_path / "odd.pth")
    name = {"features.0": "conv1_1", "features.19": "conv4_2", "classifier.0": "fc6", "classifier.3": "fc7"}[layer]
    with pytest.raises(InputError, match=rf"odd\.pth: {name} is \(5, .*\); the network's is \("):
        load_pretrained(build(), str(tmp_path / "odd.pth"))


def test_weights_of_another_width_are_refused(model: Classifier, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "a.pth")
    with pytest.raises(
        InputError, match=r"a\.pth: conv1_1 is \(4, 3, 3, 3\).*; the network's is \(2, 3, 3, 3\).*network\.width"
    ):
        load_pretrained(build(1 / 32), str(tmp_path / "a.pth"))


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.safetensors", "a.npz", "a.caffemodel"])
def test_a_missing_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{tmp_path}/{name}: no such file"):
        load_pretrained(build(), str(tmp_path / name))


@pytest.mark.parametrize("content", [b"", b"not weights"])
@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.safetensors", "a.npz", "a.caffemodel"])
def test_a_damaged_file_is_refused_by_name(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{tmp_path}/{name}: "):
        load_pretrained(build(), str(tmp_path / name))


@pytest.mark.parametrize("source", ["vgg16", "bundled", "timm:vgg16", "weights.h5"])
def test_a_source_of_another_kind_is_refused_with_those_there_are(source: str) -> None:
    with pytest.raises(
        InputError, match=rf"'{source}' is not a source of weights.*torchvision:vgg16, random, or a \.safetensors,"
    ):
        load_pretrained(build(), source)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.npz", "a.caffemodel"])
def test_a_file_without_a_layer_of_vgg_is_refused(name: str, tmp_path: Path) -> None:
    path, weights = tmp_path / name, {"conv1.weight": torch.zeros(64, 3, 7, 7), "conv1.bias": torch.zeros(64)}
    if path.suffix == ".pth":
        torch.save(weights, path)
    elif path.suffix == ".safetensors":
        save_file(weights, path)
    elif path.suffix == ".npz":
        np.savez(path, **{k: v.numpy() for k, v in weights.items()})
    else:
        write_caffemodel(path, {"conv1": [v.numpy() for v in weights.values()]})
    segmenter = build()
    before = kept(segmenter)
    with pytest.raises(InputError, match=rf"{path} holds no layer of VGG-16.*torchvision's or Caffe's names"):
        load_pretrained(segmenter, str(path))
    assert fresh(segmenter, before) == [*NAMES, "final"]


def test_random_and_start_are_no_weights_of_vgg() -> None:
    segmenter = build()
    before = kept(segmenter)
    assert load_pretrained(segmenter, "random") == "random weights"
    with pytest.raises(InputError, match="Give it as --init-from NETWORK"):
        load_pretrained(segmenter, "init-from")
    assert fresh(segmenter, before) == [*NAMES, "final"]


def refused(tmp_path: Path, layers: dict[str, list[Blob]], name: str, **settings: Any) -> None:
    path = tmp_path / "a.caffemodel"
    write_caffemodel(path, layers)
    segmenter = build(**settings)
    before = kept(segmenter)
    with pytest.raises(InputError, match=rf"a\.caffemodel.*{name}"):
        load_pretrained(segmenter, str(path))
    assert fresh(segmenter, before) == [*NAMES, "final"]


def test_an_inner_product_that_lies_on_its_side_is_refused(tmp_path: Path) -> None:
    layers = caffe_layers()
    refused(tmp_path, layers | {"fc6": [layers["fc6"][0].T.copy(), layers["fc6"][1]]}, "fc6")


@pytest.mark.parametrize("numbers", [1, 5])
def test_a_bias_of_another_length_is_refused(numbers: int, tmp_path: Path) -> None:
    layers = caffe_layers()
    refused(tmp_path, layers | {"conv1_1": [layers["conv1_1"][0], np.zeros(numbers, np.float32)]}, "conv1_1")


def test_a_file_of_nothing_that_deeplabs_network_can_use_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, {"fc6": caffe_layers()["fc6"]}, "", fc6="large_fov")


@pytest.mark.parametrize(("weight", "bias"), [((4,), 4), ((5, 3, 3, 3), 4), ((4, 3, 3, 3), 5)])
def test_a_first_layer_of_another_shape_is_refused(weight: tuple[int, ...], bias: int, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"features.0.weight": np.zeros(weight), "features.0.bias": np.zeros(bias)})
    with pytest.raises(InputError, match=r"a\.npz: conv1_1"):
        load_pretrained(build(), str(tmp_path / "a.npz"))


def test_a_damaged_zip_is_refused_and_closed(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no zip")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with suppress(InputError):
            load_pretrained(build(), str(tmp_path / "a.npz"))
        gc.collect()
    assert not said
