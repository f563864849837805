import itertools
from functools import cache
from typing import Any

import pytest
import torch
from footprint import linear
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dilated import receptive_field
from dilated.fields import output_size
from dilated.models.vgg import FC6, Padding, Pools
from dilated.paper import VGGFrontEnd

POOLS: tuple[Pools, ...] = ("removed", "dense", "kept")
PADDINGS: tuple[Padding, ...] = ("none", "same")
FC6S: tuple[FC6, ...] = ("7x7", "large_fov")
VARIANTS = list(itertools.product(POOLS, PADDINGS, FC6S))

# name, kernel, dilation, maps: models/*.prototxt of the released networks
LAYERS = [
    ("conv1_1", 3, 1, 64),
    ("conv1_2", 3, 1, 64),
    ("conv2_1", 3, 1, 128),
    ("conv2_2", 3, 1, 128),
    ("conv3_1", 3, 1, 256),
    ("conv3_2", 3, 1, 256),
    ("conv3_3", 3, 1, 256),
    ("conv4_1", 3, 1, 512),
    ("conv4_2", 3, 1, 512),
    ("conv4_3", 3, 1, 512),
    ("conv5_1", 3, 2, 512),
    ("conv5_2", 3, 2, 512),
    ("conv5_3", 3, 2, 512),
    ("fc6", 7, 4, 4096),
    ("fc7", 1, 1, 4096),
    ("final", 1, 1, 21),
]
SIZES = [(500, 16), (628, 32), (852, 60), (884, 64), (900, 66), (1100, 91), (1396, 128), (1640, 159)]


def meta(classes: int = 1, **options: Any) -> VGGFrontEnd:
    """A front end that has shapes but no values."""
    with torch.device("meta"):
        return VGGFrontEnd(classes, **options)


def small(pools: Pools = "removed", padding: Padding = "none", fc6: FC6 = "7x7") -> VGGFrontEnd:
    """In double precision, with weights that are the same for every pooling and padding."""
    torch.manual_seed(0)
    front_end = VGGFrontEnd(3, pools, padding, fc6, width=1 / 32).double().eval()
    nn.init.normal_(front_end.get_submodule("final").weight)  # type: ignore[arg-type]
    for layer in front_end.convolutions().values():
        assert layer.bias is not None
        nn.init.normal_(layer.bias, std=0.1)
    return front_end


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5


def close(a: Tensor, b: Tensor) -> bool:
    assert a.shape == b.shape
    return bool((a - b).abs().max() <= 1e-12 * b.abs().max())


@pytest.mark.parametrize(("classes", "expected"), [(11, 134_305_611), (19, 134_338_387), (21, 134_346_581)])
def test_it_has_the_parameters_of_the_released_front_ends(classes: int, expected: int) -> None:
    assert sum(p.numel() for p in meta(classes).parameters()) == expected == 134_260_544 + 4097 * classes


def test_large_fov_has_a_seventh_of_the_parameters() -> None:
    fc6, fc7, final = 3 * 3 * 512 * 1024 + 1024, 1024 * 1024 + 1024, 1024 * 21 + 21
    assert sum(p.numel() for p in meta(21, fc6="large_fov").parameters()) == 14_714_688 + fc6 + fc7 + final


def test_its_convolutions_are_those_of_the_released_networks_and_none_is_padded() -> None:
    layers = meta(21).convolutions()
    assert [(n, c.kernel_size, c.dilation, c.out_channels) for n, c in layers.items()] == [
        (name, (kernel, kernel), (dilation, dilation), maps) for name, kernel, dilation, maps in LAYERS
    ]
    assert [c.in_channels for c in layers.values()] == [3, *(maps for *_, maps in LAYERS[:-1])]
    assert {(c.padding, c.stride, c.bias is not None) for c in layers.values()} == {((0, 0), (1, 1), True)}


def test_a_relu_follows_each_convolution_but_the_last_and_dropout_fc6_and_fc7() -> None:
    order = []
    for module in meta(21):
        if isinstance(module, nn.Conv2d):
            order.append("conv")
        elif isinstance(module, nn.Dropout):
            order.append(f"drop {module.p}")
        elif isinstance(module, nn.MaxPool2d):
            order.append(f"pool {module.kernel_size}/{module.stride} {'up' if module.ceil_mode else 'down'}")
        else:
            order.append(type(module).__name__)
    conv, pool, drop = ["conv", "ReLU"], ["pool 2/2 up"], ["drop 0.5"]
    convs = 2 * conv + pool + 2 * conv + pool + 3 * conv + pool + 3 * conv + 3 * conv
    assert order == convs + conv + drop + conv + drop + ["conv"]


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ("removed", {"pool1": (2, 2, 0), "pool2": (2, 2, 0), "pool3": (2, 2, 0)}),
        ("dense", {**{f"pool{i}": (2, 2, 0) for i in (1, 2, 3)}, "pool4": (3, 1, 0), "pool5": (3, 1, 0)}),
        ("kept", {f"pool{i}": (2, 2, 0) for i in (1, 2, 3, 4, 5)}),
    ],
)
def test_the_variants_differ_in_their_poolings(pools: Pools, expected: dict[str, tuple[int, int, int]]) -> None:
    found = {n: m for n, m in meta(pools=pools).named_children() if isinstance(m, nn.MaxPool2d)}
    assert {n: (m.kernel_size, m.stride, m.padding) for n, m in found.items()} == expected


@pytest.mark.parametrize(("pools", "dilations"), [("removed", (2, 4, 12)), ("dense", (2, 4, 12)), ("kept", (1, 1, 3))])
def test_what_follows_a_pooling_without_stride_is_dilated(pools: Pools, dilations: tuple[int, int, int]) -> None:
    whole, large_fov = (meta(pools=pools, fc6=fc6).convolutions() for fc6 in FC6S)
    assert (whole["conv5_1"].dilation[0], whole["fc6"].dilation[0], large_fov["fc6"].dilation[0]) == dilations
    assert (whole["fc6"].kernel_size[0], large_fov["fc6"].kernel_size[0]) == (7, 3)
    assert (whole["fc6"].out_channels, large_fov["fc6"].out_channels) == (4096, 1024)


def test_one_logit_sees_380_pixels_at_every_eighth() -> None:
    front_end = meta()
    last = receptive_field(front_end)[-1]
    assert (last.field, last.jump, last.start) == (380, 8, 189.5)
    assert (front_end.margin, front_end.stride) == (186, 8)


@pytest.mark.parametrize(("size", "expected"), SIZES)
def test_sizes_are_those_of_caffe(size: int, expected: int) -> None:
    front_end = meta(21)
    assert output_size(size, front_end) == expected
    assert front_end(torch.empty(1, 3, size, 500, device="meta")).shape == (1, 21, expected, 16)


@pytest.mark.parametrize(("size", "expected"), SIZES)
def test_real_images_have_these_sizes_too(size: int, expected: int) -> None:
    front_end = VGGFrontEnd(2, width=1 / 64).eval()
    with torch.no_grad():
        assert front_end(torch.zeros(1, 3, 380, size)).shape == (1, 2, 1, expected)


@cache
def thin(pools: Pools, padding: Padding, fc6: FC6) -> VGGFrontEnd:
    return meta(pools=pools, padding=padding, fc6=fc6, width=1 / 64)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(VARIANTS), st.integers(17, 1700), st.integers(300, 600))
def test_output_size_is_that_of_the_module_or_both_refuse(
    variant: tuple[Pools, Padding, FC6], height: int, width: int
) -> None:
    front_end = thin(*variant)
    try:
        expected = front_end(torch.empty(1, 3, height, width, device="meta")).shape[-2:]
    except RuntimeError:
        with pytest.raises(ValueError, match="input steps are too few"):
            output_size(min(height, width), front_end)
    else:
        assert (output_size(height, front_end), output_size(width, front_end)) == expected


@pytest.mark.parametrize("size", [1, 2, 9, 16])
def test_a_pooling_that_rounds_up_takes_a_single_row(size: int) -> None:
    front_end = thin("kept", "same", "7x7")
    assert front_end(torch.empty(1, 3, size, 40, device="meta")).shape[-2:] == (1, 2)
    assert output_size(size, front_end) == 1


@pytest.mark.parametrize(("pools", "padding", "fc6"), VARIANTS)
def test_margin_and_stride_of_every_variant(pools: Pools, padding: Padding, fc6: FC6) -> None:
    front_end = thin(pools, padding, fc6)
    assert front_end.margin == {"none": {"removed": 186, "dense": 202, "kept": 186}[pools], "same": 0}[padding]
    assert front_end.stride == (32 if pools == "kept" else 8)
    extended = (2 * front_end.stride + 2 * front_end.margin, 3 * front_end.stride + 2 * front_end.margin)
    assert front_end(torch.empty(1, 3, *extended, device="meta")).shape[-2:] == (2, 3)


@pytest.mark.parametrize(("pools", "padding", "fc6"), VARIANTS)
def test_a_logit_sees_exactly_the_pixels_of_its_field(pools: Pools, padding: Padding, fc6: FC6) -> None:
    front_end = VGGFrontEnd(1, pools, padding, fc6, width=1 / 64)
    last, stride, margin = receptive_field(front_end)[-1], front_end.stride, front_end.margin
    columns = 2 if padding == "none" else 480 // stride
    height, width = stride + 2 * margin, columns * stride + 2 * margin
    x = torch.zeros(1, 3, height, width, dtype=torch.float64, requires_grad=True)
    logits = linear(front_end)(x)
    assert logits.shape[-2:] == (1, columns)
    for column in {0, columns // 2, columns - 1}:
        (gradient,) = torch.autograd.grad(logits[0, 0, 0, column], x, retain_graph=True)
        top, left = (round(last.start + stride * k - (last.field - 1) / 2) for k in (0, column))
        expected = torch.zeros(height, width, dtype=torch.bool)
        expected[max(top, 0) : top + last.field, max(left, 0) : left + last.field] = True
        assert (gradient[0] > 0).equal(expected.expand(3, -1, -1))


@pytest.mark.parametrize("fc6", FC6S)
@pytest.mark.parametrize("pools", POOLS)
def test_far_from_the_border_padding_changes_nothing(pools: Pools, fc6: FC6) -> None:
    none, same = small(pools, "none", fc6), small(pools, "same", fc6)
    stride, margin = none.stride, none.margin
    first = -(-margin // stride)  # the first logit of `same` whose field lies inside the image
    shift = first * stride - margin
    x = noise(1, 3, shift + stride + 2 * margin, 448)
    x = torch.nn.functional.pad(x, (0, 0, 0, -x.shape[-2] % stride))
    with torch.no_grad():
        inside = none(x[..., shift : shift + stride + 2 * margin, shift : shift + 2 * stride + 2 * margin])
        padded = same(x)
    assert padded.shape[-2:] == (x.shape[-2] // stride, 448 // stride)
    assert close(padded[..., first : first + 1, first : first + 2], inside)
    assert not close(padded[..., :1, :2], inside)


def test_poolings_that_sample_give_every_fourth_logit_and_poolings_that_pool_do_not() -> None:
    removed, kept = small("removed"), small("kept")
    x = noise(1, 3, 372 + 32, 372 + 64)
    with torch.no_grad():
        dense = removed(x)[..., ::4, ::4]
        assert not close(kept(x), dense)
        for name in ("pool4", "pool5"):
            setattr(kept, name, nn.MaxPool2d(1, 2))  # takes every second value and no maximum
        assert close(kept(x), dense)


def test_a_logit_is_that_of_its_own_380_pixels() -> None:
    front_end = small()
    x = noise(1, 3, 380 + 8, 380 + 24)
    with torch.no_grad():
        logits = front_end(x)
        assert logits.shape[-2:] == (2, 4)
        for row, column in itertools.product(range(2), range(4)):
            alone = front_end(x[..., 8 * row : 8 * row + 380, 8 * column : 8 * column + 380])
            assert close(logits[..., row : row + 1, column : column + 1], alone)


def test_dropout_acts_in_training_only_and_can_be_off() -> None:
    x = noise(1, 3, 380, 380)
    with torch.no_grad():
        front_end = small()
        still = front_end(x)
        assert front_end(x).equal(still)
        assert not front_end.train()(x).equal(still)
    assert [m.p for m in meta(dropout=0.0).modules() if isinstance(m, nn.Dropout)] == [0.0, 0.0]


def test_fresh_weights_have_their_spread_and_biases_are_zero() -> None:
    torch.manual_seed(0)
    layers = VGGFrontEnd(21, width=1 / 4).convolutions()
    for name, layer in layers.items():
        inputs = layer.weight[0].numel()
        expected = 0.001 if name == "final" else (2 / inputs) ** 0.5
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.1)
        assert layer.weight.mean().abs() < 6 * expected / layer.weight.numel() ** 0.5
        assert layer.bias is not None
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"pools": "gone"}, "pools: 'gone'.*removed.*dense.*kept"),
        ({"padding": "valid"}, "padding: 'valid'.*none.*same"),
        ({"fc6": "5x5"}, "fc6: '5x5'.*7x7.*large_fov"),
        ({"classes": 0}, "classes=0"),
        ({"width": 0.0}, r"width=0\.0"),
        ({"width": -1.0}, r"width=-1\.0"),
    ],
)
def test_an_option_that_does_not_exist_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        VGGFrontEnd(**{"classes": 2, **options})


def test_width_scales_all_layers_but_the_last_and_leaves_one_map_at_least() -> None:
    assert [c.out_channels for c in meta(5, width=1 / 8).convolutions().values()] == [
        *(maps // 8 for *_, maps in LAYERS[:-1]),
        5,
    ]
    assert {c.out_channels for c in meta(5, width=1e-9).convolutions().values()} == {1, 5}
