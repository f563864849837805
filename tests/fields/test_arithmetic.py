import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import Tensor, nn

from dilated import ContextModule, receptive_field
from dilated.errors import InputError
from dilated.fields import Layer, coverage, output_size

TABLE_1 = [3, 5, 9, 17, 33, 65, 67, 67]

layers = st.builds(
    Layer,
    name=st.just("layer"),
    kernel=st.integers(1, 5),
    dilation=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 4),
)


def seen(chain: list[Layer], output: int, size: int = 1500) -> Tensor:
    """The input positions that one output of a chain with positive weights depends on."""
    x = torch.zeros(1, 1, size, dtype=torch.float64, requires_grad=True)
    y = x
    for layer in chain:
        ones = torch.ones(1, 1, layer.kernel, dtype=torch.float64)
        y = F.conv1d(y, ones, stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
    (gradient,) = torch.autograd.grad(y[0, 0, output], x)
    return gradient[0, 0].nonzero().flatten()


def vgg_front_end() -> nn.Sequential:
    """The paper's: VGG-16 without its last two poolings and without padding, fc6 and fc7 as convolutions."""
    plan = [(64, 2, 1), None, (128, 2, 1), None, (256, 3, 1), None, (512, 3, 1), (512, 3, 2)]
    modules: list[nn.Module] = []
    maps = 3
    for step in plan:
        if step is None:
            modules.append(nn.MaxPool2d(2, 2))
            continue
        width, depth, dilation = step
        for _ in range(depth):
            modules += [nn.Conv2d(maps, width, 3, dilation=dilation), nn.ReLU()]
            maps = width
    modules += [nn.Conv2d(maps, 4096, 7, dilation=4), nn.ReLU(), nn.Conv2d(4096, 4096, 1), nn.Conv2d(4096, 21, 1)]
    return nn.Sequential(*modules)


@pytest.mark.parametrize("chain", [[], nn.Sequential(nn.ReLU())])
def test_a_chain_without_layers_is_refused(chain: list[Layer] | nn.Module) -> None:
    with pytest.raises(InputError, match="no convolution or pooling"):
        receptive_field(chain)


def test_a_kernel_that_is_not_square_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"1: the kernel differs between the axes, \(1, 3\)"):
        receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, (1, 3))))


@pytest.mark.parametrize("width", ["basic", "large"])
@pytest.mark.parametrize("padding", ["same", "once", "valid"])
def test_the_context_module_has_the_fields_of_table_1(width: str, padding: str) -> None:
    assert [row.field for row in receptive_field(ContextModule(21, width, padding=padding))] == TABLE_1


@pytest.mark.parametrize(("padding", "start", "shrink"), [("same", 0.0, 0), ("once", 0.0, 0), ("valid", 33.0, 66)])
def test_paddings_of_the_context_module_differ_in_start_and_shrink(padding: str, start: float, shrink: int) -> None:
    last = receptive_field(ContextModule(2, padding=padding))[-1]
    assert (last.start, last.shrink, last.jump) == (start, shrink, 1)


def test_a_context_module_inside_a_chain_keeps_the_padding_it_does_once() -> None:
    last = receptive_field(nn.Sequential(nn.Conv2d(2, 2, 1), ContextModule(2, padding="once")))[-1]
    assert (last.start, last.shrink) == (0.0, 0)


@settings(deadline=None, max_examples=25)
@given(st.lists(layers, min_size=1, max_size=4))
def test_field_jump_and_start_are_what_the_gradient_shows(chain: list[Layer]) -> None:
    row = receptive_field(chain)[-1]
    output = 700 // row.jump
    here, next_one = seen(chain, output), seen(chain, output + 1)
    first, last = int(here.min()), int(here.max())
    assert last - first + 1 == row.field
    assert (first + last) / 2 == row.start + row.jump * output
    assert int(next_one.min()) - first == row.jump


@settings(deadline=None, max_examples=50)
@given(st.lists(layers, min_size=1, max_size=4), st.integers(1, 80))
def test_output_size_is_that_of_torch_or_a_named_error(chain: list[Layer], size: int) -> None:
    network = nn.Sequential(
        *(nn.Conv2d(1, 1, layer.kernel, layer.stride, layer.padding, layer.dilation) for layer in chain)
    )
    try:
        expected = network(torch.empty(1, 1, size, size)).shape[-1]  # torch 2.6 checks no sizes on `meta`
    except RuntimeError:
        for form in (chain, network):
            with pytest.raises(InputError, match="input steps are too few"):
                output_size(size, form)
    else:
        assert output_size(size, chain) == output_size(size, network) == expected


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(3, 2, padding=1),
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, dilation=2),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2, padding=1),
        nn.Conv2d(1, 1, 3, padding="same", dilation=2),
        nn.Conv2d(1, 1, 4, padding="valid"),
    ],
    ids=str,
)
def test_output_size_of_every_kind_of_layer_is_that_of_torch(layer: nn.Module) -> None:
    for size in (8, 9, 10, 11):
        assert output_size(size, nn.Sequential(layer)) == layer(torch.zeros(1, 1, size, size)).shape[-1]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_padding_that_is_wider_on_one_side_is_counted_as_torch_does() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 2, padding="same"))
    row = receptive_field(network)[-1]
    assert output_size(9, network) == network(torch.zeros(1, 1, 9, 9)).shape[-1]
    assert (row.start, row.shrink) == (0.5, 0)


@pytest.mark.parametrize("layer", [Conv2dSame(1, 1, 3, 2), Conv2dSame(1, 1, 4, 3, dilation=2), MaxPool2dSame(3, 2)])
def test_padding_of_tensorflow_is_counted_as_timm_does(layer: nn.Module) -> None:
    for size in (8, 9, 10, 11):
        assert output_size(size, nn.Sequential(layer)) == layer(torch.zeros(1, 1, size, size)).shape[-1]
    (row,) = receptive_field(layer)
    x = torch.zeros(1, 1, 12 * row.jump, 12 * row.jump, requires_grad=True)
    output = layer(x + torch.rand_like(x))
    (gradient,) = torch.autograd.grad(output[0, 0, 4, 4], x)
    if isinstance(layer, nn.Conv2d):
        seen = gradient[0, 0].sum(0).nonzero().flatten()
        assert (int(seen[0]) + int(seen[-1])) / 2 == row.start + 4 * row.jump


def test_a_module_that_lists_its_own_layers_is_counted_by_them() -> None:
    class Cropped(nn.Module):
        def receptive_field_layers(self) -> list[Layer]:
            return [Layer("crop", 1, padding=-2)]

    rows = receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), Cropped()))
    assert [(row.name, row.start, row.shrink) for row in rows] == [("0", 0.0, 0), ("1.crop", 2.0, 4)]


@pytest.mark.parametrize("missing", range(1, 4))
def test_the_named_least_size_is_enough_and_one_less_is_not(missing: int) -> None:
    chain = [Layer("wide", 5, dilation=2, padding=1)]
    assert output_size(7, chain) == 1
    with pytest.raises(InputError, match=r"wide: .* at least 7"):
        output_size(7 - missing, chain)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 6), max_size=4), st.integers(1, 4))
def test_coverage_counts_the_paths_that_a_convolution_with_ones_sums(dilations: list[int], kernel: int) -> None:
    paths = coverage(dilations, kernel)
    x = torch.zeros(1, 1, len(paths), dtype=torch.float64, requires_grad=True)
    y = x
    for dilation in dilations:
        y = F.conv1d(y, torch.ones(1, 1, kernel, dtype=torch.float64), dilation=dilation)
    assert y.numel() == 1
    assert torch.autograd.grad(y.sum(), x)[0].flatten().tolist() == paths


def test_the_paper_dilations_leave_no_hole_and_doubled_ones_do() -> None:
    assert min(coverage([1, 1, 2, 4, 8, 16, 1])) > 0
    assert 0 in coverage([2, 4, 8])


def test_the_front_end_of_the_paper_sees_380_pixels_at_every_eighth() -> None:
    with torch.device("meta"):
        network = vgg_front_end()
    last = receptive_field(network)[-1]
    assert (last.field, last.jump, last.start) == (380, 8, 189.5)


@pytest.mark.parametrize(("size", "expected"), [(900, 66), (500, 16)])
def test_the_front_end_of_the_paper_turns_900_pixels_into_66_logits(size: int, expected: int) -> None:
    with torch.device("meta"):
        network = vgg_front_end()
        assert network(torch.empty(1, 3, size, size)).shape[-1] == expected
    assert output_size(size, network) == expected
