import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dilated import ContextModule, receptive_field
from dilated.models.context import _fill_identity

PAPER_LARGE = [2, 2, 4, 8, 16, 32, 32]


def equation_5(c_out: int, c_in: int, channels: int) -> Tensor:
    """The central tap, written from the formula map by map."""
    center = torch.zeros(c_out, c_in)
    for b in range(c_out):
        for a in range(c_in):
            if math.floor(a * channels / c_in) == math.floor(b * channels / c_out):
                center[b, a] = channels / c_out
    return center


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"channels": 0}, "channels=0"),
        ({"channels": 2, "dilations": ()}, r"dilations=\(\)"),
        ({"channels": 2, "dilations": (1, 0)}, r"dilations=\(1, 0\)"),
        ({"channels": 2, "width": "huge"}, "'huge'"),
        ({"channels": 2, "width": (1, 2)}, r"\(1, 2\)"),
        ({"channels": 2, "width": (1, 1, 1, 1, 1, 1, 0)}, r"\(1, 1, 1, 1, 1, 1, 0\)"),
        ({"channels": 2, "padding": "reflect"}, "'reflect'"),
        ({"channels": 2, "init": "zero"}, "'zero'"),
    ],
)
def test_a_bad_argument_is_a_value_error_that_names_it(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ContextModule(**settings)


def test_widths_that_the_channels_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="4 channels in and 5 out"):
        _fill_identity(torch.empty(5, 4, 3, 3), channels=2)


@pytest.mark.parametrize(("width", "channels", "expected"), [("basic", 21, 28392), ("large", 21, 6803139)])
def test_parameters_are_as_many_as_in_table_1(width: str, channels: int, expected: int) -> None:
    with torch.device("meta"):
        module = ContextModule(channels, width)
    assert sum(p.numel() for p in module.parameters()) == expected
    if width == "basic":
        assert expected == 64 * channels**2 + 8 * channels


def test_large_is_as_wide_as_table_1() -> None:
    module = ContextModule(3, "large")
    assert [layer.out_channels for layer in module.convolutions()] == [3 * m for m in PAPER_LARGE] + [3]


@pytest.mark.parametrize("width", ["basic", "large", (1, 3, 2, 2, 1, 4, 1)])
@pytest.mark.parametrize("padding", ["same", "once"])
def test_a_fresh_module_without_noise_is_the_identity_on_non_negative_maps(width: str, padding: str) -> None:
    torch.manual_seed(0)
    module = ContextModule(2, width, padding=padding, sigma=0.0)
    x = torch.rand(2, 2, 9, 5)
    torch.testing.assert_close(module(x), x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("width", ["basic", "large"])
def test_a_fresh_module_without_noise_cuts_what_is_negative(width: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(ContextModule(3, width, sigma=0.0)(x), x.relu(), atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3, 5]))
def test_weights_are_laid_out_as_in_equation_5(channels: int, out_of_c: int, in_of_c: int, kernel: int) -> None:
    weight = _fill_identity(torch.full((out_of_c * channels, in_of_c * channels, kernel, kernel), 7.0), channels)
    expected = torch.zeros_like(weight)
    expected[:, :, kernel // 2, kernel // 2] = equation_5(*weight.shape[:2], channels)
    assert torch.equal(weight, expected)


def test_noise_is_of_sigma_and_never_on_the_identity() -> None:
    torch.manual_seed(0)
    weight = _fill_identity(torch.empty(64, 32, 3, 3), channels=16, sigma=0.01)
    center = equation_5(64, 32, 16)
    on = torch.zeros_like(weight, dtype=torch.bool)
    on[:, :, 1, 1] = center > 0
    assert torch.equal(weight[on], torch.full((int(on.sum()),), 0.25))
    assert weight[~on].std().item() == pytest.approx(0.01, rel=0.03)
    assert abs(weight[~on].mean().item()) < 5e-4


def test_biases_start_at_zero_and_reset_starts_anew() -> None:
    module = ContextModule(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(3.0)
    module.reset_parameters("identity", sigma=0.0)
    x = torch.rand(1, 2, 5, 5)
    torch.testing.assert_close(module(x), x, atol=1e-6, rtol=0)
    assert all(not layer.bias.any() for layer in module.convolutions())


def test_paddings_differ_in_the_size_of_the_output() -> None:
    x = torch.rand(1, 2, 70, 67)
    sizes = {padding: ContextModule(2, padding=padding)(x).shape for padding in ("same", "once", "valid")}
    assert sizes == {"same": (1, 2, 70, 67), "once": (1, 2, 70, 67), "valid": (1, 2, 4, 1)}


def test_padding_once_is_valid_on_an_image_with_zeros_around() -> None:
    torch.manual_seed(0)
    once = ContextModule(2, padding="once", sigma=0.3)
    valid = ContextModule(2, padding="valid")
    valid.load_state_dict(once.state_dict())
    x = torch.randn(1, 2, 12, 17)
    assert torch.equal(once(x), valid(F.pad(x, (33, 33, 33, 33))))


def test_padding_same_is_once_away_from_borders_and_differs_at_them() -> None:
    torch.manual_seed(0)
    same = ContextModule(2, padding="same", init="random")
    once = ContextModule(2, padding="once")
    with torch.no_grad():
        for layer in same.convolutions():
            layer.bias.uniform_(0.1, 0.2)  # without biases zeros beyond the border stay zeros, and nothing differs
    once.load_state_dict(same.state_dict())
    x = torch.rand(1, 2, 72, 70)
    a, b = same(x), once(x)
    torch.testing.assert_close(a[..., 33:-33, 33:-33], b[..., 33:-33, 33:-33], rtol=1e-4, atol=1e-5)
    assert (a[..., 0, 0] - b[..., 0, 0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("dilations", "field", "greatest"),
    [((1, 1, 2, 4, 8, 1), 35, 16), ((1, 1, 2, 4, 8, 16, 32, 64, 1), 259, 128)],
)
def test_other_depths_see_less_and_more_and_start_as_the_identity(
    dilations: tuple[int, ...], field: int, greatest: int
) -> None:
    assert receptive_field(ContextModule(1, dilations=dilations))[-1].field == field
    x = torch.rand(1, 1, 6, 7, dtype=torch.float64)
    for padding in ("same", "once"):
        module = ContextModule(1, "large", dilations, padding, sigma=0.0).double()
        torch.testing.assert_close(module(x), x, atol=1e-6, rtol=0)
        assert max(layer.out_channels for layer in module.convolutions()) == greatest


def test_a_random_start_is_not_the_identity() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 3, 10, 10)
    module = ContextModule(3, init="random")
    assert (module(x) - x).abs().mean() > 0.05
    assert module.layers[0].weight.std().item() == pytest.approx(math.sqrt(2 / 27), rel=0.2)
