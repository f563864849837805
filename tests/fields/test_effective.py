"""The effective field against what can be counted: paths of ones, known gradients, averaging layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dilated import Segmenter, SegmenterConfig, effective_field
from dilated.errors import InputError
from dilated.fields import coverage
from dilated.fields.effective import effective_field_size


def ones(dilations: list[int], channels: int = 3) -> nn.Sequential:
    """A linear chain whose every weight is 1."""
    layers = [nn.Conv2d(channels, channels, 3, padding=d, dilation=d, bias=False) for d in dilations]
    for layer in layers:
        nn.init.ones_(layer.weight)
    return nn.Sequential(*layers).double()


class Power(nn.Module):
    """x to a power, so that the gradient depends on x."""

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.exponent = exponent

    def forward(self, x: Tensor) -> Tensor:
        return x**self.exponent


class Weigh(nn.Module):
    """Two logits at one place: the mean of the first channel, and three times that of the second."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0].mean((1, 2)), 3 * x[:, 1].mean((1, 2))], 1)[:, :, None, None]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 3), st.integers(1, 2))
def test_the_field_of_ones_is_the_share_of_paths_and_zero_outside(
    dilations: list[int], above: int, beside: int, images: int
) -> None:
    paths = torch.tensor(coverage(dilations), dtype=torch.float64)
    reach = len(paths) // 2
    shape = (len(paths) + 2 * above, len(paths) + 2 * beside)
    expected = torch.zeros(shape, dtype=torch.float64)
    expected[above : above + len(paths), beside : beside + len(paths)] = paths[:, None] * paths[None, :]
    field = effective_field(ones(dilations), torch.rand(images, 3, *shape, dtype=torch.float64))
    assert torch.equal(field, expected / expected.sum())
    assert effective_field_size(field, 1.0) == 2 * reach + 1


def test_the_field_sums_to_one_and_has_the_images_size() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 2, 3, stride=2))
    field = effective_field(network, torch.rand(2, 3, 17, 23))
    assert (field.shape, field.dtype) == ((17, 23), torch.float64)
    assert field.sum().item() == pytest.approx(1, abs=1e-12)
    assert field.min() >= 0


def test_images_and_their_channels_are_averaged_by_absolute_gradient() -> None:
    images = torch.tensor([[1.0, 2.0, 3.0], [-5.0, 0.0, -1.0]]).view(2, 3, 1, 1).repeat(1, 1, 1, 2)
    images[..., 0] = 9.0  # not the middle: (1, 2) has its middle at (0, 1)
    assert effective_field(Power(2.0), images).tolist() == [[0.0, 1.0]]
    network = nn.Sequential(Power(2.0), ones([1]).float())
    rising = torch.tensor([[[[1.0, -2.0, 5.0]] * 3], [[[3.0, 0.0, 0.0]] * 3]]).expand(2, 3, 3, 3)
    assert torch.equal(effective_field(network, rising), torch.tensor([[4.0, 2, 5]] * 3).double() / 33)


def test_sum_adds_the_classes_and_max_takes_the_greatest() -> None:
    images = torch.zeros(1, 3, 1, 2)
    images[0, 0, 0, 0], images[0, 1, 0, 1] = 8.0, 2.0  # logits 4 and 3
    parts = nn.Sequential(Power(2.0), Weigh())  # gradients: 8 at the first pixel, 6 at the second; logits 32 and 6
    assert effective_field(parts, images, reduce="sum").tolist() == [[8 / 14, 6 / 14]]
    assert effective_field(parts, images, reduce="max").tolist() == [[1.0, 0.0]]


def test_another_place_of_the_output_can_be_asked_for() -> None:
    field = effective_field(ones([1]), torch.rand(1, 3, 7, 9, dtype=torch.float64), position=(0, 4))
    assert field.nonzero().min(0).values.tolist() == [0, 3]
    assert field.nonzero().max(0).values.tolist() == [1, 5]


def half_frozen() -> nn.Sequential:
    """In training but for one layer, with a parameter that is frozen and one that has a gradient."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1))
    network.train()
    network[1].eval()
    network[3].weight.requires_grad_(False)
    network[0].bias.grad = torch.full((4,), 7.0)
    return network


@pytest.mark.parametrize("at", [None, (99, 99)], ids=["done", "refused"])
def test_modes_parameters_and_gradients_are_as_before(at: tuple[int, int] | None) -> None:
    network, images = half_frozen(), torch.rand(1, 3, 6, 6, requires_grad=True)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    try:
        effective_field(network, images, position=at)
    except InputError:
        assert at is not None
    assert [module.training for module in network] == [True, False, True, True]
    assert [p.requires_grad for p in network.parameters()] == [True, True, True, True, False, True]
    assert [name for name, p in network.named_parameters() if p.grad is not None] == ["0.bias"]
    assert network[0].bias.grad.tolist() == [7.0] * 4
    assert images.grad is None
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_evaluation_mode_makes_it_the_same_each_time_even_without_gradients_around() -> None:
    network, images = half_frozen(), torch.rand(2, 3, 6, 6)
    first = effective_field(network, images)
    with torch.no_grad():
        assert torch.equal(effective_field(network, images), first)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 5, 5), r"images \(3, 5, 5\)"),
        (torch.rand(0, 3, 5, 5), r"images \(0, 3, 5, 5\)"),
        (torch.zeros(1, 3, 5, 5, dtype=torch.uint8), "of torch.uint8"),
    ],
    ids=["no batch", "empty", "bytes"],
)
def test_images_of_another_form_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        effective_field(ones([1]), images)


def test_networks_whose_gradient_says_nothing_are_refused() -> None:
    images = torch.rand(1, 3, 5, 5)
    dead = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    nn.init.constant_(dead[0].bias, -99.0)
    with pytest.raises(InputError, match="add up to 0, not"):
        effective_field(dead, images)
    with pytest.raises(InputError, match="add up to nan, not"):
        effective_field(Power(0.5), images * 0 - 1)
    with pytest.raises(InputError, match=r"the output is \(1, 75\)"):
        effective_field(nn.Flatten(), images)
    with pytest.raises(InputError, match="reduce='mean'"):
        effective_field(nn.Identity(), images, reduce="mean")  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_the_size_is_that_of_the_smallest_square_that_holds_the_fraction(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    counts = data.draw(st.lists(st.integers(0, 9), min_size=height * width, max_size=height * width).filter(any))
    center = (data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1)))
    share = data.draw(st.sampled_from([0.25, 0.5, 0.75, 1.0]))  # exact in floating point
    field = torch.tensor(counts, dtype=torch.float64).view(height, width)

    def held(side: int) -> float:
        reach = side // 2
        top, left = max(center[0] - reach, 0), max(center[1] - reach, 0)
        return field[top : center[0] + reach + 1, left : center[1] + reach + 1].sum().item()

    side = effective_field_size(field, share, center)
    assert side % 2 == 1
    assert held(side) >= share * sum(counts)
    assert side == 1 or held(side - 2) < share * sum(counts)


@pytest.mark.parametrize(
    ("field", "share"), [(torch.ones(3), 0.5), (torch.zeros(3, 3), 0.5), (torch.ones(3, 3), 0.0), (torch.ones(3, 3), 2)]
)
def test_the_size_of_nothing_is_refused(field: Tensor, share: float) -> None:
    with pytest.raises(InputError, match="effective_field_size: a field"):
        effective_field_size(field, share)


def test_a_segmenter_is_looked_at_through_its_logits_at_every_pixel_or_on_its_own_grid() -> None:
    torch.manual_seed(0)
    config = SegmenterConfig(backbone="resnet18", levels=3, features=8)
    segmenter = Segmenter(["a", "b"], [(0, 0, 0), (255, 0, 0)], config).train()
    images = torch.rand(1, 3, 64, 80)
    on_grid = effective_field(segmenter.logits, images, position=(4, 5))
    assert segmenter.training  # the module of a method is put into evaluation mode, and back
    torch.testing.assert_close(effective_field(segmenter, images, position=(32, 40)), on_grid)
    assert torch.equal(effective_field(segmenter.eval().logits, images, position=(4, 5)), on_grid)


def test_a_function_of_no_module_is_differentiated_as_it_is() -> None:
    images = torch.rand(1, 3, 2, 3)
    assert effective_field(lambda x: x**2, images, position=(1, 2)).nonzero().tolist() == [[1, 2]]
