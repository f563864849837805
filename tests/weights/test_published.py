import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from by_definition import released_tile_probabilities
from caffe_writer import write_caffemodel
from torch import nn

from dilated import InputError, published, receptive_field
from dilated.palettes import voc_color
from dilated.paper import VGGSegmenter
from dilated.weights.published import PUBLISHED_NETWORKS, _caffe_layer_names, from_caffe

VOC, CAMVID, KITTI, CITYSCAPES = NAMES = (
    "dilation8_pascal_voc",
    "dilation8_camvid",
    "dilation7_kitti",
    "dilation10_cityscapes",
)
FRONT_END = [
    *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv4_1", "conv4_2", "conv4_3"),
    *("conv5_1", "conv5_2", "conv5_3", "fc6", "fc7"),
]
# name: dilation / padding / maps, as in models/*.prototxt
CONTEXT = {
    VOC: """ct_conv1_1: 1/33/42  ct_conv1_2: 1/0/42  ct_conv2_1: 2/0/84  ct_conv3_1: 4/0/168  ct_conv4_1: 8/0/336
        ct_conv5_1: 16/0/672  ct_fc1: 1/0/672  ct_final: 1/0/21""",
    CAMVID: """ctx_conv1_1: 1/1/11  ctx_conv1_2: 1/1/11  ctx_conv2_1: 2/2/11  ctx_conv3_1: 4/4/11  ctx_conv4_1: 8/8/11
        ctx_conv5_1: 16/16/11  ctx_fc1: 1/1/11  ctx_final: 1/0/11""",
    KITTI: """ctx_conv1_1: 1/1/11  ctx_conv1_2: 1/1/11  ctx_conv2_1: 2/2/11  ctx_conv3_1: 4/4/11  ctx_conv4_1: 8/8/11
        ctx_fc1: 1/1/11  ctx_final: 1/0/11""",
    CITYSCAPES: """ctx_conv1_1: 1/1/19  ctx_conv1_2: 1/1/19  ctx_conv2_1: 2/2/19  ctx_conv3_1: 4/4/19
        ctx_conv4_1: 8/8/19  ctx_conv5_1: 16/16/19  ctx_conv6_1: 32/32/19  ctx_conv7_1: 64/64/19  ctx_fc1: 1/1/19
        ctx_final: 1/0/19""",
}
STREET = {
    "Building": (128, 0, 0),
    "Tree": (128, 128, 0),
    "Sky": (128, 128, 128),
    "Car": (64, 0, 128),
    "Sign": (192, 128, 128),
    "Road": (128, 64, 128),
    "Pedestrian": (64, 64, 0),
    "Fence": (64, 64, 128),
    "Pole": (192, 192, 128),
    "Sidewalk": (0, 0, 192),
    "Bicyclist": (0, 128, 192),
}
VOC_COLORS = {
    "background": (0, 0, 0),
    "aeroplane": (128, 0, 0),
    "bicycle": (0, 128, 0),
    "bird": (128, 128, 0),
    "boat": (0, 0, 128),
    "bottle": (128, 0, 128),
    "bus": (0, 128, 128),
    "car": (128, 128, 128),
    "cat": (64, 0, 0),
    "chair": (192, 0, 0),
    "cow": (64, 128, 0),
    "diningtable": (192, 128, 0),
    "dog": (64, 0, 128),
    "horse": (192, 0, 128),
    "motorbike": (64, 128, 128),
    "person": (192, 128, 128),
    "pottedplant": (0, 64, 0),
    "sheep": (128, 64, 0),
    "sofa": (0, 192, 0),
    "train": (128, 192, 0),
    "tvmonitor": (0, 64, 128),
}
CITYSCAPES_COLORS = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}


def meta(name: str, classes: Any = None) -> VGGSegmenter:
    """A released network that has shapes but no values."""
    with torch.device("meta"):
        return published(name, classes)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def context(network: VGGSegmenter) -> nn.Module:
    assert network.context is not None
    return network.context


def test_there_are_four() -> None:
    assert tuple(PUBLISHED_NETWORKS) == NAMES


@pytest.mark.parametrize(
    ("name", "front_end", "after"),
    [
        (VOC, 134_346_581, 6_803_139),
        (CAMVID, 134_305_611, 7_832),
        (KITTI, 134_305_611, 6_732),
        (CITYSCAPES, 134_338_387, 29_792),
    ],
)
def test_they_have_the_parameters_of_the_released_networks(name: str, front_end: int, after: int) -> None:
    network = meta(name)
    assert (count(network.frontend), count(context(network)), count(network)) == (front_end, after, front_end + after)


@pytest.mark.parametrize(
    ("name", "cells", "pixels"), [(VOC, 67, 908), (CAMVID, 67, 908), (KITTI, 35, 652), (CITYSCAPES, 259, 2444)]
)
def test_their_fields_are_those_of_the_paper(name: str, cells: int, pixels: int) -> None:
    network = meta(name)
    assert receptive_field(context(network))[-1].field == cells
    last = receptive_field(nn.Sequential(network.frontend, context(network)))[-1]
    assert last.field == pixels == 380 + 8 * (cells - 1)
    assert (last.jump, last.start, network.frontend.margin) == (8, 189.5, 186)


@pytest.mark.parametrize(
    ("name", "tile", "answer"),
    [
        (VOC, (900, 900), (66, 66)),
        (CAMVID, (900, 1100), (66, 91)),
        (KITTI, (852, 1640), (60, 159)),
        (CITYSCAPES, (1396, 1396), (1024, 1024)),
    ],
)
def test_a_tile_becomes_what_it_does_in_caffe(name: str, tile: tuple[int, int], answer: tuple[int, int]) -> None:
    network = meta(name)
    assert network.config.tile == tile
    assert released_tile_probabilities(network, torch.empty(1, 3, *tile, device="meta")).shape == (
        1,
        len(network.classes),
        *answer,
    )
    zoomed = network.config.upsampling == "interpolation"
    assert zoomed == (name != CITYSCAPES)
    assert network.config.inference == "authors"


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        (VOC, (102.93, 111.36, 116.52)),
        (CAMVID, (110.70313206, 108.77808759, 105.41212523)),
        (KITTI, (96.19429688, 95.55136972, 91.34692262)),
        (CITYSCAPES, (72.39, 82.91, 73.16)),
    ],
)
def test_blue_green_and_red_of_the_mean_are_the_authors(name: str, mean: tuple[float, float, float]) -> None:
    assert PUBLISHED_NETWORKS[name].config.mean == mean


@pytest.mark.parametrize(
    ("name", "classes"), [(VOC, VOC_COLORS), (CAMVID, STREET), (KITTI, STREET), (CITYSCAPES, CITYSCAPES_COLORS)]
)
def test_classes_and_colors_are_the_authors_in_their_order(name: str, classes: dict[str, tuple[int, int, int]]) -> None:
    network = meta(name)
    assert network.classes == tuple(classes)
    assert network.colors == tuple(classes.values())


def test_the_colors_of_voc_go_on_and_never_repeat() -> None:
    colors = [voc_color(i) for i in range(256)]
    assert colors[:21] == list(VOC_COLORS.values())
    assert colors[255] == (224, 224, 192)
    assert len(set(colors)) == 256


@pytest.mark.parametrize("name", NAMES)
def test_layers_have_the_names_that_they_have_in_caffe(name: str) -> None:
    final = "fc-final" if name == VOC else "final"
    expected = [*FRONT_END, final, *(layer.partition(":")[0] for layer in CONTEXT[name].split()[::2])]
    assert list(_caffe_layer_names(name).values()) == expected
    modules = [n for n, module in meta(name).named_modules() if isinstance(module, nn.Conv2d)]
    assert list(_caffe_layer_names(name)) == modules


@pytest.mark.parametrize("name", NAMES)
def test_the_context_module_is_the_released_one_layer_for_layer(name: str) -> None:
    network = meta(name)
    assert network.context is not None
    names = {place: caffe for place, caffe in _caffe_layer_names(name).items() if place.startswith("context.")}
    found = []
    for i, (place, caffe) in enumerate(names.items()):
        layer = network.get_submodule(place)
        assert isinstance(layer, nn.Conv2d)
        assert layer.kernel_size == ((1, 1) if caffe.endswith("_final") else (3, 3))
        assert layer.bias is not None
        pad = layer.padding[0] if isinstance(layer.padding, tuple) else layer.padding
        assert pad == 0 or network.context.input_padding == 0
        found += [f"{caffe}:", f"{layer.dilation[0]}/{network.context.input_padding if i == 0 and not pad else pad}"]
        found[-1] += f"/{layer.out_channels}"
    assert found == CONTEXT[name].split()


@pytest.mark.parametrize("name", NAMES)
def test_the_borders_are_zeros_once_for_voc_and_at_each_layer_for_streets(name: str) -> None:
    network = meta(name)
    assert network.context is not None
    assert (network.config.padding, network.context.input_padding) == (("once", 33) if name == VOC else ("same", 0))
    logits = torch.empty(1, len(network.classes), 66, 91, device="meta")
    assert network.apply_context(logits).shape == logits.shape


def test_a_number_of_classes_gives_names_and_colors_of_voc() -> None:
    network = meta(KITTI, 5)
    assert network.classes == tuple(f"class {i}" for i in range(5))
    assert network.colors == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
    assert count(network.frontend) == 134_260_544 + 4097 * 5
    assert count(context(network)) == 6 * (9 * 5 * 5 + 5) + 5 * 5 + 5
    assert network.config == PUBLISHED_NETWORKS[KITTI].config


@pytest.mark.parametrize("names", [["sky", "road"], ("sky", "road")])
def test_classes_of_ones_own_keep_their_names_and_order(names: Any) -> None:
    network = meta(VOC, names)
    assert network.classes == ("sky", "road")
    assert network.colors == ((0, 0, 0), (128, 0, 0))
    assert count(context(network)) == 15_422 * 2**2 + (2 + 2 + 4 + 8 + 16 + 32 + 32 + 1) * 2
    assert network.config == PUBLISHED_NETWORKS[VOC].config


@pytest.mark.parametrize("name", ["dilation8", "", "Dilation8_camvid"])
def test_an_unknown_network_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(InputError, match=f"network: {name!r} is not one of .*{'.*'.join(NAMES)}"):
        published(name)


@pytest.mark.parametrize("classes", [0, [], -1])
def test_no_class_is_refused(classes: Any) -> None:
    with pytest.raises(ValueError, match="classes"):
        meta(VOC, classes)


def test_a_released_file_with_nan_weights_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = PUBLISHED_NETWORKS["dilation7_kitti"]
    small = dataclasses.replace(network, config=dataclasses.replace(network.config, width=1 / 64))
    monkeypatch.setitem(PUBLISHED_NETWORKS, "dilation7_kitti", small)
    weights = published("dilation7_kitti")
    weights.get_submodule("frontend.fc7").weight.data[0] = float("nan")
    layers = {
        caffe_name: [p.detach().numpy() for p in weights.get_submodule(name).parameters()]
        for name, caffe_name in _caffe_layer_names("dilation7_kitti").items()
    }
    write_caffemodel(tmp_path / "net.caffemodel", layers)
    with pytest.raises(InputError, match=r"net\.caffemodel: NaN or infinite values in the weights frontend\.fc7\."):
        from_caffe(tmp_path / "net.caffemodel", "dilation7_kitti")
