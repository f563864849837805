import copy
import itertools
import pickle
import warnings

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dilated.dilation.dilate import dilate
from dilated.dilation.rewrite import original_type
from dilated.dilation.trace import DilationError, network_state
from dilated.dilation.verify import _random_state
from dilated.errors import InputError

# From a CPU library that timm's networks do not use here.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

TIMM = [
    "tf_efficientnet_lite0",  # TensorFlow's padding
    "resnet26d",  # average pools that round up
    "resnetblur18",  # blur pools, padded by reflection
    "eca_nfnet_l0",  # standardised weights
    "convnext_atto",  # channels last
    "convnextv2_atto",  # response norms
    "hrnet_w18_small",  # branches that go up again
    "seresnet18",
    "ghostnet_050",
    "gcresnext26ts",  # a weighted mean over the map
    "tf_mixnet_s",
    "xception41",
    "dla46_c",
]
TORCHVISION = [
    "resnet18",
    "densenet121",
    "mobilenet_v3_small",
    "googlenet",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "regnet_y_400mf",
]


def error(found: Tensor, wanted: Tensor) -> float:
    """The greatest difference, relative to the greatest value; maps are compared at the samples."""
    if found.shape != wanted.shape:
        assert found.shape[:2] == wanted.shape[:2]
        grids = itertools.product(*(rates(a, b) for a, b in zip(found.shape[2:], wanted.shape[2:], strict=True)))
        return min(error(found[..., ::down, ::across], wanted) for down, across in grids)
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def rates(found: int, wanted: int) -> list[int]:
    """How far apart the samples may be in a map of that many rows."""
    return [rate for rate in range(1, found + 1) if len(range(0, found, rate)) == wanted]


def holds(network: nn.Module, fine: nn.Module, size: tuple[int, int], dtype: torch.dtype, channels: int = 3) -> bool:
    """Whether a dilated copy gives what its original gives, with other weights than it was checked with."""
    torch.manual_seed(1)
    network, fine = copy.deepcopy(network).eval().to(dtype), copy.deepcopy(fine).eval().to(dtype)
    weights = _random_state(network)
    with torch.no_grad():
        for name, value in network_state(network).items():
            value.copy_(weights[name])
    fine.load_state_dict(network.state_dict())
    image = torch.rand(2, channels, *size, dtype=dtype)
    with torch.no_grad():
        left, right = network(image), fine(image)
    lists = isinstance(left, list | tuple)
    pairs = list(zip(right, left, strict=True)) if lists else [(right, left)]
    return all(error(a, b) < (1e-10 if dtype == torch.float64 else 1e-4) for a, b in pairs)


def test_heads_that_run_in_training_only_are_refused() -> None:
    network = torchvision.models.googlenet(init_weights=False)
    with pytest.raises(DilationError, match=r"aux1.* runs in training only.*aux_logits=False"):
        dilate(network)


def strided(*layers: nn.Module) -> nn.Sequential:
    """A network whose first layer has stride 2."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), *layers)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(4, 4, 3, stride=2)],
        [nn.Conv2d(4, 4, 2, stride=2), nn.Conv2d(4, 4, 2, padding=1)],
        [nn.Conv2d(4, 4, (1, 5), stride=(1, 2), padding=(0, 2)), nn.Conv2d(4, 4, (3, 1), padding=(1, 0))],
        [nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 4, padding="same")],
        [nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")],
        [nn.Conv2d(4, 4, 3, stride=2, padding=1, padding_mode="circular")],
        [nn.Conv2d(4, 4, 3, stride=2, padding=2, dilation=2, groups=2)],
        [nn.Conv2d(4, 4, 7, stride=4, padding=3), nn.Conv2d(4, 4, 3, padding=1)],
        [nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(2, 1, 1)],
        [nn.MaxPool2d(2, 2, ceil_mode=True), nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)],
        [nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(3, 1, 1, divisor_override=2)],
        [nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AvgPool2d(3, 1, 1, count_include_pad=False)],
        [nn.AvgPool2d(3, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3)],
        [nn.LPPool2d(2, 2), nn.LPPool2d(2, 2)],
        [nn.MaxPool2d(2), nn.ZeroPad2d((1, 0, 0, 1)), nn.ReflectionPad2d(1), nn.Conv2d(4, 4, 3)],
        [nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3)],
        [nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 4, 3)],
        [nn.MaxPool2d(4), nn.ConvTranspose2d(4, 4, 2, stride=2), nn.Conv2d(4, 4, 3)],
        [nn.ConstantPad2d((0, 1, 0, 0), 0.5), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.PixelShuffle(2)],
        [nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 2)],
        [nn.MaxPool2d(2), nn.AdaptiveAvgPool2d((1, None))],
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(40, 56), (47, 61)])
def test_the_definition_holds_for_every_kind_of_layer(layers: list[nn.Module], size: tuple[int, int]) -> None:
    network = strided(*layers)
    assert holds(network, dilate(network, 2), size, torch.float64)


def test_a_strided_layer_keeps_the_rate_of_its_input() -> None:
    network = strided(nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1))
    fine = dilate(nn.Sequential(*network, nn.Conv2d(4, 4, 3, padding=1)), 2)
    assert [layer.dilation for layer in fine] == [(1, 1), (1, 1), (2, 2), (4, 4)]
    assert [layer.stride for layer in fine] == [(2, 2), (1, 1), (1, 1), (1, 1)]
    assert type(fine[3]) is nn.Conv2d  # an ordinary layer does it


layers = st.one_of(
    st.tuples(
        st.just("conv"),
        st.integers(1, 4),
        st.integers(1, 3),
        st.integers(1, 2),
        st.integers(0, 3),
        st.sampled_from([1, 2, 4]),
    ),
    st.tuples(st.just("max"), st.integers(1, 3), st.integers(1, 3), st.booleans()),
    st.tuples(st.just("avg"), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans()),
    st.tuples(st.sampled_from(["residual", "concat", "squeeze"])),
)


class Residual(nn.Module):
    """x + conv(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x).relu()


class Concat(Residual):
    """conv beside an average, then 1x1."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.mix = nn.AvgPool2d(3, 1, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(torch.cat([self.conv(x), self.pool(x)], 1))


class Squeeze(nn.Module):
    """A gate from the mean and the maximum over the map."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean((2, 3), keepdim=True) + x.amax((-1, -2), keepdim=True)).sigmoid()


def build(plan: list[tuple]) -> nn.Sequential:  # type: ignore[type-arg]
    made: list[nn.Module] = []
    for kind, *rest in plan:
        if kind == "conv":
            kernel, stride, dilation, padding, groups = rest
            made.append(nn.Conv2d(4, 4, kernel, stride, padding, dilation, groups))
        elif kind == "max":
            made.append(nn.MaxPool2d(rest[0], rest[1], rest[0] // 2, ceil_mode=rest[2]))
        elif kind == "avg":
            made.append(nn.AvgPool2d(rest[0], rest[1], rest[0] // 2, ceil_mode=rest[2], count_include_pad=rest[3]))
        else:
            made.append({"residual": Residual, "concat": Concat, "squeeze": Squeeze}[kind]())
    return nn.Sequential(nn.Conv2d(3, 4, 1), *made)


@settings(max_examples=40, deadline=None)
@given(st.lists(layers, min_size=1, max_size=6), st.integers(60, 90), st.integers(60, 90), st.sampled_from([1, 2, 3]))
def test_the_definition_holds_for_random_networks(plan: list[tuple], height: int, width: int, stride: int) -> None:  # type: ignore[type-arg]
    network = build(plan)
    try:
        fine = dilate(network, stride, check=False)
    except DilationError as refusal:
        expected = ("does not divide", "on the way", "failed on every image")
        if not any(words in str(refusal) for words in expected):
            raise
        return
    try:
        network(torch.rand(1, 3, height, width))
    except RuntimeError:
        return  # too small for the original
    assert holds(network, fine, (height, width), torch.float64)


@pytest.mark.parametrize("name", TIMM)
def test_the_definition_holds_for_networks_of_timm(name: str) -> None:
    network = timm.create_model(name).eval()
    assert holds(network, dilate(network, 8, check=False), (96, 160), torch.float32)


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_definition_holds_for_networks_of_torchvision(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        heads = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        network = torchvision.models.get_model(name, **heads).eval()
    assert holds(network, dilate(network, 8, check=False), (109, 83), torch.float32)


def test_pixels_that_move_into_channels_do_so_at_every_position() -> None:
    network = strided(nn.PixelUnshuffle(2), nn.Conv2d(16, 4, 3))
    assert holds(network, dilate(network, 2), (40, 56), torch.float64)


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_feature_maps_come_at_the_output_stride_and_say_so(stride: int) -> None:
    network = timm.create_model("resnet10t", features_only=True)
    fine = dilate(network, stride)
    assert holds(network, fine, (77, 93), torch.float64)
    assert fine.feature_info.reduction() == [min(r, stride) for r in (2, 4, 8, 16, 32)]
    assert network.feature_info.reduction() == [2, 4, 8, 16, 32]


def test_the_copy_has_the_same_type_and_parameters_and_the_original_stays() -> None:
    network = timm.create_model("seresnet18")
    before = str(network)
    fine = dilate(network, 8, check=False)
    assert type(fine) is type(network)
    assert str(network) == before
    assert list(fine.state_dict()) == list(network.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(fine.state_dict().values(), network.state_dict().values(), strict=True)
    )
    assert fine.training


def test_gradients_reach_every_parameter_in_training_mode() -> None:
    network = strided(nn.MaxPool2d(2), Squeeze(), nn.AvgPool2d(2), nn.LPPool2d(2, 2), Residual())
    fine = dilate(network, 2)
    fine.train()(torch.rand(1, 3, 40, 40)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in fine.parameters())


def test_a_dilated_network_can_be_copied_and_pickled() -> None:
    network = strided(nn.MaxPool2d(2), Squeeze(), nn.LPPool2d(2, 2), nn.AvgPool2d(3, 2))
    fine = dilate(network, 2)
    x = torch.rand(1, 3, 40, 40)
    assert torch.equal(copy.deepcopy(fine)(x), fine(x))
    assert torch.equal(pickle.loads(pickle.dumps(fine))(x), fine(x))


def test_a_network_that_is_fine_enough_is_copied() -> None:
    network = strided(nn.ReLU())
    fine = dilate(network, 2)
    assert fine is not network
    assert str(fine) == str(network)


class Twice(nn.Module):
    """The same convolution at two strides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 3, 3, padding=1), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pool(self.conv(x)))


class Shifts(nn.Module):
    """A rolled map between strides, all in the network's own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, stride=2), nn.Conv2d(3, 3, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)).roll(1, 2)


@pytest.mark.parametrize(
    ("network", "stride", "message"),
    [
        (lambda: Twice(), 1, r"conv \(Conv2d\): it runs at several strides"),
        (lambda: Shifts(), 2, r"the network itself \(Shifts\): it has operations of its own .*\(roll\)"),
        (lambda: strided(nn.MaxPool2d(3)), 4, r"1 \(MaxPool2d\): output_stride=4 does not divide its stride of 6"),
        (lambda: strided(nn.MaxPool2d(2, return_indices=True)), 2, r"1 \(MaxPool2d\): it returns indices"),
        (lambda: strided(nn.Linear(1, 1)), 1, "failed on every image"),
        (lambda: strided(), 0, "output_stride=0. Give at least 1"),
        (lambda: timm.create_model("test_vit"), 8, r"blocks\.0\.attn \(Attention\): attention"),
        (lambda: timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)), 8, r"layers\.2.*attention"),
        (lambda: timm.create_model("coat_tiny"), 8, r"serial_blocks1.*attention.* of which the stride is unknown"),
        (lambda: timm.create_model("botnet26t_256"), 8, r"stages\.2\.1\.self_attn \(BottleneckAttn\): attention"),
        (lambda: timm.create_model("mobilevit_xxs"), 8, r"stages\..*attention"),
    ],
)
def test_what_cannot_hold_is_refused_by_name(network, stride: int, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DilationError, match=message):
        dilate(network(), stride)


class Noise(nn.Module):
    """Gives something else each time."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


def test_a_fault_is_found_by_the_check_and_named() -> None:
    network = strided(nn.MaxPool2d(2), Noise(), nn.Conv2d(4, 4, 1))
    with pytest.raises(DilationError, match=r"2 \(Noise\): its output differs from the original's by "):
        dilate(network, 2)


def test_a_fault_at_the_border_only_says_so_and_survives_pickling() -> None:
    fault = DilationError("it differs", "choose another", layer=("conv", nn.Conv2d), only_at_border=True)
    assert str(fault) == "dilate: conv (Conv2d): it differs. Choose another."
    for error in (fault, pickle.loads(pickle.dumps(fault))):
        assert (str(error), error.hint, error.only_at_border) == (str(fault), "choose another", True)


def test_a_rewritten_layer_is_still_named_by_its_own_class() -> None:
    fine = dilate(strided(nn.MaxPool2d(2), nn.LPPool2d(2, 2), Squeeze(), nn.ReLU()), 2, check=False)
    assert [original_type(layer) for layer in fine] == [nn.Conv2d, nn.MaxPool2d, nn.LPPool2d, Squeeze, nn.ReLU]
    assert [type(layer) is original_type(layer) for layer in fine] == [True, False, False, False, True]


def test_a_dilated_layer_with_other_arguments_than_before_is_a_named_error() -> None:
    pool = dilate(strided(nn.LPPool2d(2, 2)), 2, check=False)[1]
    with pytest.raises(InputError, match=r"dilated layer \(LPPool2d\): 2 tensors among the arguments, and 1 when"):
        pool(torch.rand(1, 4, 8, 8), torch.rand(1, 4, 8, 8))
