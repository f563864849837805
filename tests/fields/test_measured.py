from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from footprint import linear
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dilated import ContextModule, Segmenter, SegmenterConfig, receptive_field
from dilated.errors import InputError
from dilated.fields.measured import find_global_layers, measure_field, measure_margin
from dilated.paper import VGGConfig, VGGSegmenter


def maps(*layers: nn.Module):  # type: ignore[no-untyped-def]
    network = nn.Sequential(*layers).eval()
    return lambda images: [network(images)]


def conv(kernel: int, stride: int = 1, dilation: int = 1, padding: int | None = None) -> nn.Conv2d:
    around = dilation * (kernel - 1) // 2 if padding is None else padding
    return nn.Conv2d(3, 3, kernel, stride, around, dilation)


class Gate(nn.Module):
    """Squeeze-and-excitation."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True).sigmoid()


class Rows(nn.Module):
    """Attention of each row to the whole row."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean(-1, keepdim=True)


class Cat(nn.Module):
    """A clean map beside those of another layer, then all mixed place by place."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.mix = Gate(), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(torch.cat([x, self.gate(x)], 1))


@pytest.mark.parametrize(
    ("layers", "stride", "expected"),
    [
        ([conv(1)], 1, 0),
        ([conv(3)], 1, 1),
        ([conv(3, dilation=4)], 1, 4),
        ([conv(3, dilation=4), nn.ReLU(), conv(5, dilation=3)], 1, 10),
        ([nn.MaxPool2d(5, 1, 2)], 1, 2),
        ([nn.AvgPool2d(3, 1, 1)], 1, 1),
        ([conv(2, 2, padding=0)], 2, 0),  # patches see themselves only
        ([nn.MaxPool2d(2)], 2, 0),
        ([conv(4, 4, padding=0)], 4, 0),
        ([conv(3, 2)], 2, 2),  # value k sees pixels 2k - 1 to 2k + 1: one before its own two
        ([nn.MaxPool2d(3, 2, 1)], 2, 2),
        ([conv(3, 2), conv(3)], 2, 4),  # 2k - 3 to 2k + 3
        ([conv(3, 2), conv(3, 2)], 4, 4),  # 4k - 3 to 4k + 3
        ([conv(7, 2), nn.MaxPool2d(3, 2, 1)], 4, 8),  # 4k - 5 to 4k + 5
        ([conv(3, 2), conv(3, dilation=16)], 2, 34),
        ([nn.ZeroPad2d((1, 2, 1, 2)), conv(4, padding=0)], 1, 2),
        ([nn.ZeroPad2d((3, 0, 0, 0)), conv(1, padding=0), nn.AvgPool2d((1, 4), 1)], 1, 3),  # only to the left
        ([nn.ZeroPad2d((0, 3, 0, 0)), nn.AvgPool2d((1, 4), 1)], 1, 3),
        ([nn.ZeroPad2d((0, 0, 5, 0)), nn.AvgPool2d((6, 1), 1)], 1, 5),  # only upwards
        ([nn.ZeroPad2d((0, 0, 0, 5)), nn.AvgPool2d((6, 1), 1)], 1, 5),
        ([nn.ZeroPad2d((0, 1, 0, 1)), conv(3, 2, padding=0)], 2, 2),  # TensorFlow's: 2k to 2k + 2
        ([nn.Conv2d(3, 3, (1, 9), padding=(0, 4))], 1, 4),
        ([nn.Conv2d(3, 3, (301, 1), padding=(150, 0))], 1, 150),  # farther than the first image is wide
    ],
)
def test_reach_of_known_chains(layers: list[nn.Module], stride: int, expected: int) -> None:
    assert measure_margin(maps(*layers), stride, stride) == expected


def test_weights_of_zero_count_too() -> None:
    layer = conv(3, dilation=4)
    nn.init.zeros_(layer.weight)
    assert measure_margin(maps(layer)) == 4


@pytest.mark.parametrize(("alignment", "expected"), [(1, 5), (2, 6), (5, 5), (32, 32)])
def test_reach_is_rounded_up_to_the_alignment(alignment: int, expected: int) -> None:
    assert measure_margin(maps(conv(3, dilation=5)), 1, alignment) == expected


def test_the_widest_of_several_maps_counts() -> None:
    wide, coarse = conv(3, dilation=9), conv(3, 4)
    assert measure_margin(lambda images: [coarse(images), wide(images)], 4, 4) == 12
    assert measure_margin(lambda images: [wide(images), coarse(images)], 4, 4) == 12


def test_branches_count_as_far_as_the_farther() -> None:
    near, far = conv(3), conv(3, dilation=20)
    assert measure_margin(lambda images: [near(images) + far(images)]) == 20


def test_a_network_is_left_as_it_was() -> None:
    norm = nn.BatchNorm2d(3).eval()
    assert measure_margin(maps(norm)) == 0
    assert norm.running_mean is not None
    assert norm.running_mean.isfinite().all()
    assert not norm.training


@pytest.mark.parametrize(
    "layers",
    [
        [Gate()],
        [conv(3), Gate(), conv(3)],
        [Rows()],
        [nn.GroupNorm(1, 3)],
        [nn.InstanceNorm2d(3)],
        [nn.AdaptiveAvgPool2d(1), nn.Upsample(size=(64, 64))],
    ],
    ids=str,
)
def test_a_network_that_sees_the_whole_image_has_no_reach(layers: list[nn.Module]) -> None:
    network = nn.Sequential(*layers).eval()

    def as_large(images: Tensor) -> list[Tensor]:
        return [network(images).mean((2, 3), keepdim=True).expand(-1, -1, *images.shape[-2:])]

    assert measure_margin(as_large if "Adaptive" in str(layers) else maps(*layers), max_side=1024) is None


def test_one_axis_that_sees_all_is_enough() -> None:
    assert measure_margin(lambda images: [images + images.mean(-2, keepdim=True)], max_side=1024) is None


def test_what_sees_farther_than_is_tried_has_no_reach() -> None:
    network = maps(nn.Conv2d(3, 1, (1, 601), padding=(0, 300)))
    assert measure_margin(network, max_side=512) is None
    assert measure_margin(network, max_side=1024) == 300


def test_an_alignment_that_the_stride_does_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match=r"alignment=12 is not a multiple of the stride 8"):
        measure_margin(maps(conv(3)), 8, 12)


def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match="a map of 254 values for 256 pixels"):
        measure_margin(maps(conv(3, padding=0)))


layers = st.fixed_dictionaries(
    {
        "kernel": st.integers(1, 5),
        "dilation": st.integers(1, 3),
        "stride": st.sampled_from([1, 1, 2]),
        "before": st.floats(0, 1),
        "kind": st.sampled_from(["conv", "average", "max"]),
    }
)


@settings(deadline=None, max_examples=40)
@given(st.lists(layers, min_size=1, max_size=4))
def test_reach_is_what_the_gradient_shows(chain: list[dict[str, float | str]]) -> None:
    """Exactly so where no pooling hides places that a maximum might have been at."""
    exact, step = True, 1

    def run(x: Tensor) -> Tensor:
        for layer in chain:
            kernel, dilation, stride = int(layer["kernel"]), int(layer["dilation"]), int(layer["stride"])
            dilation = 1 if layer["kind"] == "average" else dilation
            total = (kernel - 1) * dilation
            before = round(total * float(layer["before"]))
            x = F.pad(x, (before, total - before, before, total - before))
            if layer["kind"] == "conv":
                x = F.conv2d(x, torch.ones(3, 1, kernel, kernel, dtype=x.dtype), None, stride, 0, dilation, 3)
            elif layer["kind"] == "average":
                x = F.avg_pool2d(x, kernel, stride)
            else:
                x = F.max_pool2d(x, kernel, stride, dilation=dilation)
        return x

    for layer in chain:
        exact &= layer["kind"] != "max" or layer["kernel"] == 1
        step *= int(layer["stride"])
    found = measure_margin(lambda images: [run(images)], step, step)
    assert found is not None
    image = torch.rand(1, 3, 16 * step, 256, dtype=torch.float64, requires_grad=True)
    middle = 128 // step
    (gradient,) = torch.autograd.grad(run(image)[0, :, :, middle].sum(), image)
    seen = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
    most = max(0, step * middle - int(seen[0]), int(seen[-1]) - (step * middle + step - 1))
    least = -(-most // step) * step
    assert found == least if exact else found >= least


def test_layers_that_see_the_whole_image_are_named() -> None:
    network = nn.Sequential(conv(3), Gate(), conv(3), nn.Sequential(conv(1), Gate()))
    assert find_global_layers(network, torch.zeros(1, 3, 32, 128)) == ["1", "3.1"]


@pytest.mark.parametrize(("backbone", "gates"), [("efficientnet_b0", 16), ("seresnet18", 8)])
def test_every_gate_of_a_backbone_is_named_however_many_come_before_it(backbone: str, gates: int) -> None:
    network = timm.create_model(backbone, features_only=True).train()
    expected = [
        name for name, module in network.named_modules() if type(module).__name__.startswith(("SqueezeE", "SEM"))
    ]
    assert len(expected) == gates
    assert find_global_layers(network, torch.zeros(1, 3, 64, 2048)) == expected
    assert network.training
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_a_layer_that_holds_a_gate_and_reads_the_whole_image_by_itself_is_named_too() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Gate()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) + x.mean()

    assert find_global_layers(nn.Sequential(Outer()), torch.zeros(1, 3, 32, 128)) == ["0.inner", "0"]


def test_the_innermost_layer_is_named() -> None:
    network = nn.Sequential(conv(3), nn.Sequential(conv(1), nn.Sequential(nn.Identity(), Gate())))
    assert find_global_layers(network, torch.zeros(1, 3, 32, 128)) == ["1.1.1"]


def test_layers_side_by_side_are_all_named() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = Gate(), Gate()

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) + self.other(x)

    assert find_global_layers(nn.Sequential(Both()), torch.zeros(1, 3, 32, 128)) == ["0.one", "0.other"]


def test_layers_that_only_see_far_are_not_named() -> None:
    network = nn.Sequential(conv(3, dilation=20), nn.ReLU(), conv(3, dilation=30), nn.MaxPool2d(9, 1, 4))
    assert find_global_layers(network, torch.zeros(1, 3, 32, 256)) == []


def test_a_layer_that_reads_spoilt_maps_beside_clean_ones_is_not_named() -> None:
    assert find_global_layers(nn.Sequential(Cat()), torch.zeros(1, 3, 32, 128)) == ["0.gate"]


def test_the_network_is_left_without_hooks_and_the_image_as_it_was() -> None:
    network, image = nn.Sequential(Gate()), torch.zeros(1, 3, 8, 64)
    find_global_layers(network, image)
    assert not network[0]._forward_hooks
    assert image.isfinite().all()


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (conv(3), 3),
        (conv(3, dilation=4), 9),
        (nn.Sequential(conv(3, 2), conv(3, dilation=16)), 67),
        (nn.Sequential(nn.ZeroPad2d((3, 0, 0, 0)), nn.AvgPool2d((1, 4), 1)), 4),  # to the left only
        (nn.Conv2d(3, 3, (301, 1), padding=(150, 0)), 301),
        (nn.Sequential(nn.MaxPool2d(2), conv(3), nn.Upsample(scale_factor=2)), 6),
        (nn.Sequential(nn.Conv2d(3, 2, 1), ContextModule(2, padding="once")), 67),
        (Gate(), None),
        (Rows(), None),
    ],
    ids=str,
)
def test_the_field_of_known_networks(network: nn.Module, expected: int | None) -> None:
    assert measure_field(network, max_side=1024) == expected


def test_a_field_wider_than_is_tried_is_not_told() -> None:
    network = nn.Conv2d(3, 1, (1, 601), padding=(0, 300))
    assert measure_field(network, max_side=512) is None
    assert measure_field(network, max_side=1024) == 601


def test_the_wider_of_two_branches_counts() -> None:
    near, far = conv(3), conv(3, dilation=20)
    assert measure_field(lambda images: near(images) + far(images)) == 41


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.sampled_from([1, 1, 2])), min_size=1, max_size=4))
def test_the_measured_field_of_a_chain_is_the_computed_one(chain: list[tuple[int, int, int]]) -> None:
    network = nn.Sequential(*(nn.Conv2d(3, 3, k, s, d * (k - 1) // 2, d) for k, d, s in chain))
    assert measure_field(network) == receptive_field(network)[-1].field


@pytest.mark.parametrize(
    ("backbone", "levels", "field"), [("resnet18", 3, 99), ("tf_efficientnet_lite0", 3, 67), ("resnet26", 3, 51)]
)
def test_the_field_of_a_backbone_is_that_of_its_footprint(backbone: str, levels: int, field: int) -> None:
    segmenter = Segmenter(["a"], [(0, 0, 0)], SegmenterConfig(backbone=backbone, levels=levels, features=8))
    assert segmenter.theoretical_field() == field
    assert segmenter.training
    strip = torch.zeros(1, 3, 16, 256, dtype=torch.float64, requires_grad=True)
    logits = linear(segmenter.backbone)(strip)[-1]
    seen = torch.autograd.grad(logits[0, 0, 0, logits.shape[-1] // 2], strip)[0][0].sum((0, 1)).nonzero()
    assert int(seen.max() - seen.min()) + 1 == field


def test_a_backbone_with_squeeze_and_excitation_has_no_theoretical_field() -> None:
    config = SegmenterConfig(backbone="test_efficientnet", features=8)
    assert Segmenter(["a"], [(0, 0, 0)], config).theoretical_field() is None


@pytest.mark.parametrize("context", ["none", "basic"])
@pytest.mark.parametrize("pools", ["removed", "kept"])
def test_the_computed_field_of_the_paper_is_the_measured_one(context: str, pools: str) -> None:
    config = VGGConfig(width=1 / 32, context=context, pools=pools, dilations=(1, 2))
    segmenter = VGGSegmenter(["a", "b"], [(0, 0, 0), (255, 0, 0)], config).eval()
    assert segmenter.theoretical_field() == measure_field(segmenter.logits)
